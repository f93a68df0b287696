"""What is read besides GeoTIFF, what is not and why, and files with odd names."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given
from hypothesis import strategies as st
from rasterio import Affine

from geoseg.errors import UnreadableScene
from geoseg.raster.drivers import HEAD, driver_of, why_not
from geoseg.raster.scene import open_scene, read_patch, read_validity
from geoseg.testing import make_scene


def whole(scene):
    return read_patch(scene, scene.geobox.window, scene.geobox, [band.index for band in scene.bands])


def refused(path):
    with pytest.raises(UnreadableScene) as caught:
        open_scene(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def converted(path, driver, **options):
    source = make_scene(path.with_name("source.tif"), size=(61, 83))
    rasterio.shutil.copy(source, path, driver=driver, **options)
    return whole(open_scene(source))


# --- ENVI -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize(
    ("pixels", "header"),
    [
        ("scene.dat", "scene.hdr"),
        ("scene.dat", "scene.dat.hdr"),
        ("scene.img", "scene.HDR"),
        ("scene", "scene.hdr"),
        ("a.b.bsq", "a.b.hdr"),
    ],
)
def test_envi_is_read(tmp_path, pixels, header, interleave):
    expected = converted(tmp_path / "made.dat", "ENVI", interleave=interleave)
    (tmp_path / "made.dat").rename(tmp_path / pixels)
    (tmp_path / "made.hdr").rename(tmp_path / header)
    scene = open_scene(tmp_path / pixels)
    assert scene.driver == "ENVI"
    assert np.array_equal(whole(scene).pixels, expected.pixels)
    assert "32633" in scene.geobox.crs
    assert refused(tmp_path / header).startswith("is the header of an ENVI image")


def test_a_new_header_is_another_scene(tmp_path):
    converted(tmp_path / "scene.dat", "ENVI")
    before = open_scene(tmp_path / "scene.dat").fingerprint
    header = tmp_path / "scene.hdr"
    header.write_text(header.read_text().replace("500000", "500001"))
    assert open_scene(tmp_path / "scene.dat").fingerprint != before


@pytest.mark.parametrize("lost", [1, 61 * 83])
def test_envi_with_missing_pixels_is_refused(tmp_path, lost):
    converted(tmp_path / "scene.dat", "ENVI")
    whole_size = (tmp_path / "scene.dat").stat().st_size
    with (tmp_path / "scene.dat").open("r+b") as file:
        file.truncate(whole_size - lost)
    message = refused(tmp_path / "scene.dat")
    assert message == f"has {whole_size - lost} bytes, its header wants {whole_size}; is it complete?"


def test_envi_with_an_offset_counts_it(tmp_path):
    converted(tmp_path / "scene.dat", "ENVI")
    header = tmp_path / "scene.hdr"
    header.write_text(header.read_text().replace("header offset = 0", "header offset = 10"))
    assert "is it complete?" in refused(tmp_path / "scene.dat")


def test_envi_packed_as_a_whole_is_refused(tmp_path):
    converted(tmp_path / "scene.dat", "ENVI")
    with (tmp_path / "scene.hdr").open("a") as header:
        header.write("\nfile compression = 1\n")
    pixels = (tmp_path / "scene.dat").read_bytes()
    (tmp_path / "scene.dat").write_bytes(gzip.compress(pixels, 0))
    assert "compressed" in refused(tmp_path / "scene.dat")


@pytest.mark.parametrize("header", ["nrows 10\nncols 10\n", "", "ENV"])
def test_another_header_is_no_envi(tmp_path, header):
    (tmp_path / "scene.dat").write_bytes(bytes(range(100)))
    (tmp_path / "scene.hdr").write_text(header)
    assert refused(tmp_path / "scene.dat").startswith("not a raster of a format that geoseg reads")


def test_a_header_beside_other_formats_changes_nothing(tmp_path):
    path = make_scene(tmp_path / "scene.tif")
    path.with_suffix(".hdr").write_text("ENVI\nsamples = 1\nlines = 1\nbands = 1\n")
    assert open_scene(path).driver == "GTiff"


def test_a_vrt_does_not_reach_raw_pixels(tmp_path):
    converted(tmp_path / "scene.dat", "ENVI")
    rasterio.shutil.copy(tmp_path / "scene.dat", tmp_path / "scene.vrt", driver="VRT")
    assert "the ENVI source scene.dat" in refused(tmp_path / "scene.vrt")


# --- GeoPackage and MBTiles -------------------------------------------------------------------------


def test_a_raster_geopackage_is_read(tmp_path):
    expected = converted(tmp_path / "scene.gpkg", "GPKG", tile_format="PNG")
    scene = open_scene(tmp_path / "scene.gpkg")
    assert scene.driver == "GPKG"
    assert np.array_equal(whole(scene).pixels[:3], expected.pixels)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_geopackage_invents_no_pixels(tmp_path, part):
    source = make_scene(tmp_path / "source.tif", size=(600, 700))
    path = tmp_path / "scene.gpkg"
    rasterio.shutil.copy(source, path, driver="GPKG", tile_format="PNG")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(UnreadableScene):
        whole(open_scene(path))


def test_a_geopackage_with_a_view_is_refused(tmp_path):
    converted(tmp_path / "scene.gpkg", "GPKG")
    with sqlite3.connect(tmp_path / "scene.gpkg") as database:
        database.execute("ALTER TABLE scene RENAME TO hidden")
        database.execute("CREATE VIEW scene AS SELECT * FROM hidden")
    database.close()
    assert refused(tmp_path / "scene.gpkg").startswith("has the view scene, which is not accepted")


def test_a_geopackage_with_a_virtual_table_is_refused(tmp_path):
    converted(tmp_path / "scene.gpkg", "GPKG")
    with sqlite3.connect(tmp_path / "scene.gpkg") as database:
        database.execute("PRAGMA writable_schema = 1")
        database.execute(
            "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 0, "
            "'CREATE VIRTUAL TABLE x USING VirtualOGR(''/etc/passwd'')')"
        )
    database.close()
    assert "its table x is virtual" in refused(tmp_path / "scene.gpkg")


def test_of_several_rasters_one_has_to_be_chosen(tmp_path):
    source = make_scene(tmp_path / "source.tif")
    path = tmp_path / "scene.gpkg"
    for table, more in (("first", {}), ("second", {"append_subdataset": "YES"})):
        rasterio.shutil.copy(source, path, driver="GPKG", raster_table=table, **more)
    message = refused(path)
    assert message.startswith(
        "holds 2 rasters (FIRST, SECOND); make a GeoTIFF of one: gdal_translate -of COG "
    )


def test_databases_without_a_raster_are_named(tmp_path):
    import geopandas
    import shapely

    frame = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32633")
    frame.to_file(tmp_path / "areas.gpkg")
    assert refused(tmp_path / "areas.gpkg").startswith("holds no raster; give the scene")
    with sqlite3.connect(tmp_path / "scene.mbtiles") as database:
        database.execute("CREATE TABLE metadata (name, value)")
        database.execute("CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data)")
    database.close()
    advice = f"gdal_translate -of COG {tmp_path}/scene.mbtiles {tmp_path}/scene.tif"
    assert refused(tmp_path / "scene.mbtiles") == (
        f"is MBTiles, which geoseg does not read; convert it: {advice}"
    )
    (tmp_path / "broken.gpkg").write_bytes(b"SQLite format 3\0" + bytes(2000))
    assert refused(tmp_path / "broken.gpkg").startswith("cannot be read as a GeoPackage")


# --- what is not read -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.nc", b"CDF\1", "is netCDF or HDF, which geoseg does not read; gdalinfo lists its images; "
         "convert one: gdal_translate -of COG NETCDF:a.nc:VARIABLE a.tif"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "is netCDF or HDF"),
        ("a.grb2", b"GRIB\0\0\0\2", "is GRIB, which geoseg does not read; convert it: "
         "gdal_translate -of COG a.grb2 a.tif"),
        ("a.tif", b"GRIB\0\0\0\2", "convert it: gdal_translate -of COG a.tif new.tif"),
        ("a.zip", b"PK\3\4", "is a ZIP archive, which geoseg does not read; unzip it"),
        ("a.pmtiles", b"PMTiles\3", "is PMTiles, a map of polygons cut by tiles, which"),
        ("a.tif.gz", b"\x1f\x8b\x08", "unpack it: gunzip a.tif.gz"),
        ("a.tar", bytes(257) + b"ustar", "unpack it: tar -xf a.tar"),
        ("a.TIL", b'bandId = "Multi"\nnumTiles = 4;\n', "make a VRT of them: gdalbuildvrt a.vrt *.TIF"),
        ("DIM.XML", b'<?xml version="1.0"?><Dimap_Document name="x">', "is the metadata of a product"),
        ("MTD.xml", b"<n1:Level-2A_User_Product xmlns", "is the metadata of a product"),
        ("my scene.xyz", b"1 2 3", "not a raster of a format that geoseg reads; if GDAL does, convert it: "
         "gdal_translate -of COG 'my scene.xyz' 'my scene.tif'"),
        ("a.tif", b"text", "not a raster that GDAL can read"),
        ("a.vrt", b"text", "not a raster that GDAL can read"),
        ("a.tif", b"", "is empty (0 bytes)"),
        ("a.parquet", b"PAR1", "is no raster but a vector file (GeoParquet); give the scene"),
        ("a.geojson", b"{}", "is no raster but a vector file (GeoJSON)"),
    ],
)  # fmt: skip
def test_files_are_named_as_what_they_are(tmp_path, monkeypatch, name, content, says):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    assert says in refused(Path(name))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "tiles",
            "geoseg batch takes it; make a VRT of its images beside it: gdalbuildvrt tiles.vrt tiles/*.tif",
        ),
        ("S2.SAFE", "gdalbuildvrt -separate S2.vrt $(find S2.SAFE -name '*_B0[432]*.jp2' | sort -r)"),
        (".", "is a folder"),
        ("/", "is a folder"),
    ],
)
def test_folders_are_named_with_the_way_out(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir(exist_ok=True)
    assert says in refused(name)


@given(st.text(), st.binary(max_size=HEAD))
def test_any_file_gets_one_line(name, head):
    if driver_of(head) is None and "\n" not in name:
        assert len(why_not(name, head).split("\n")) == 1


# --- mosaics ----------------------------------------------------------------------------------------


def mosaic(path, sources, **band):
    """Write a VRT of bands from files, by GDAL's own hand."""
    with rasterio.open(path.parent / sources[0]) as first:
        height, width = first.shape
    bands = "".join(
        f'<VRTRasterBand dataType="{band.get(str(i), "Byte")}" band="{i}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{int(not str(source).startswith("/"))}">{source}</SourceFilename>'
        f"<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for i, source in enumerate(sources, 1)
    )
    path.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>')
    return path


def test_tiles_elsewhere_say_where_the_vrt_has_to_be(tmp_path, monkeypatch):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "mosaics").mkdir()
    make_scene(tmp_path / "tiles/a.tif")
    monkeypatch.chdir(tmp_path / "mosaics")
    says = "tiles/a.tif outside its folder; put the VRT above its tiles"
    assert says in refused(mosaic(Path("m.vrt"), ["../tiles/a.tif"]))
    monkeypatch.chdir(tmp_path)
    assert says in refused(mosaic(tmp_path / "mosaics/m.vrt", [tmp_path / "tiles/a.tif"]))
    assert open_scene(mosaic(tmp_path / "m.vrt", ["tiles/a.tif"])).driver == "VRT"
    assert open_scene(mosaic(tmp_path / "m.vrt", [tmp_path / "tiles/a.tif"])).driver == "VRT"


def test_what_is_wrong_with_a_source_of_a_mosaic_is_said(tmp_path):
    make_scene(tmp_path / "a.tif")
    wanted = mosaic(tmp_path / "m.vrt", ["a.tif", "b.nc"])
    assert refused(wanted) == "a VRT with the source b.nc: no such file"
    (tmp_path / "b.nc").write_bytes(b"CDF\1")
    assert refused(wanted).startswith("a VRT with the source b.nc: is netCDF or HDF")


def test_sentinel_bands_are_read_through_a_vrt_above_them(tmp_path):
    folder = tmp_path / "S2.SAFE/GRANULE/L1C/IMG_DATA"
    folder.mkdir(parents=True)
    source = make_scene(tmp_path / "source.tif", bands=1, size=(61, 83))
    names = [folder / f"T32_B0{band}.jp2" for band in (4, 3, 2)]
    for name in names:
        rasterio.shutil.copy(source, name, driver="JP2OpenJPEG", quality="100", reversible="YES")
    vrt = mosaic(tmp_path / "S2.vrt", [name.relative_to(tmp_path) for name in names])
    assert np.array_equal(whole(open_scene(vrt)).pixels[2], whole(open_scene(source)).pixels[0])


TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32", "float64": "Float64"}


@given(
    kinds=st.lists(st.sampled_from(sorted(TYPES)), min_size=2, max_size=4),
    nodata=st.sampled_from([0, 7, 0.1]),
)
def test_bands_of_several_types_are_read_in_the_common_one(tmp_path_factory, kinds, nodata):
    folder = tmp_path_factory.mktemp("types")
    stored = []
    for i, kind in enumerate(kinds):
        stored.append((np.arange(12).reshape(3, 4) * (1 + i)).astype(kind))
        stored[-1][0] = (kind.startswith("float") and nodata) or int(nodata)
        place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 5e5, 0, -1, 5e6), "height": 3, "width": 4}
        with rasterio.open(folder / f"{i}.tif", "w", driver="GTiff", count=1, dtype=kind, **place) as file:
            file.write(stored[-1], 1)
    vrt = mosaic(
        folder / "m.vrt",
        [f"{i}.tif" for i in range(len(kinds))],
        **{str(i): TYPES[kind] for i, kind in enumerate(kinds, 1)},
    )
    hidden = f"<NoDataValue>{nodata!r}</NoDataValue><SimpleSource>"
    vrt.write_text(vrt.read_text().replace("<SimpleSource>", hidden))
    scene = open_scene(vrt)
    patch = whole(scene)
    assert patch.pixels.dtype == np.result_type(*kinds)
    possible = all(nodata == int(nodata) or kind.startswith("float") for kind in kinds)
    assert patch.valid[0].all() != possible
    assert patch.valid[1:].sum() >= 7
    for band, values in zip(patch.pixels, stored, strict=True):
        assert np.array_equal(band[patch.valid], values[patch.valid])
    assert np.array_equal(read_validity(scene, scene.geobox.window, [1]), patch.valid)


def test_a_crs_that_names_a_file_is_refused(tmp_path):
    path = make_scene(tmp_path / "scene.tif")
    base = rasterio.crs.CRS.from_epsg(4326).to_wkt(version="WKT2_2019")
    bound = (
        f"BOUNDCRS[SOURCECRS[{base}],TARGETCRS[{base}],"
        'ABRIDGEDTRANSFORMATION["x",METHOD["NTv2",ID["EPSG",9615]],'
        'PARAMETERFILE["Latitude and longitude difference file","/etc/passwd"]]]'
    )
    srs = bound.replace('"', "&quot;")
    path.with_name("scene.tif.aux.xml").write_text(f"<PAMDataset><SRS>{srs}</SRS></PAMDataset>")
    with rasterio.open(path) as file:
        assert "/etc/passwd" in file.crs.to_wkt(version="WKT2_2019")
    assert refused(path).startswith("its CRS refers to another file")


# --- names ------------------------------------------------------------------------------------------

ODD = [
    "a;b", "a#b", "a?b", "a%20b", "a b", "it's", 'a"b', "-a", "ü", "C:x", "GTIFF_DIR:1:x", "a:b", "a!b",
    "x.zip", "[a]", "{a}", "a*b", "$HOME", "a&b", "<a>", "a\\b", " a", "a\nb", "a,b", "http:", "~",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_scenes_may_have_odd_names(tmp_path, monkeypatch, name):
    source = make_scene(tmp_path / "source.tif", validity="msk")
    expected = whole(open_scene(source))
    (tmp_path / name).mkdir()
    for folder in (tmp_path, tmp_path / name):
        path = folder / f"{name}.tif"
        shutil.copy(source, path)
        shutil.copy(f"{source}.msk", f"{path}.msk")
        monkeypatch.chdir(folder)
        for given_as in (path, f"./{name}.tif"):
            patch = whole(open_scene(given_as))
            assert np.array_equal(patch.pixels, expected.pixels)
            assert np.array_equal(patch.valid, expected.valid)


@pytest.mark.parametrize(
    "name", ["a;b", "a#b", "a?b", "a%20b", "it's", "ü", "a-b:c", "-a", "a!b", "[a]", "a,b"]
)
def test_sources_of_a_vrt_may_have_odd_names(tmp_path, name):
    source = make_scene(tmp_path / f"{name}.tif", bands=1)
    vrt = mosaic(tmp_path / "m.vrt", [source.name])
    assert np.array_equal(whole(open_scene(vrt)).pixels, whole(open_scene(source)).pixels)
