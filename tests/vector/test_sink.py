"""Every format holds every feature, also none; what fails leaves nothing behind."""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas
import numpy as np
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from pmtiles.reader import MmapSource, Reader
from pmtiles.tile import TileType
from pyproj import CRS, Transformer

from geoseg.errors import InvalidOption, NoSpaceLeft, UnwritableOutput
from geoseg.testing import assert_same_polygons
from geoseg.values import ClassInfo, GeoBox, LayerSchema
from geoseg.vector.features import COLUMNS, finish
from geoseg.vector.pieces import Evidence, Piece
from geoseg.vector.reproject import WGS84
from geoseg.vector.shape import ShapeRules
from geoseg.vector.sink import FORMATS, VectorSink, check_vector_path, layer_crs
from geoseg.vector.sink.ogr import NAMES, layer_style, zoom_levels
from geoseg.vectorfiles.layers import read_layer

CLASSES = (ClassInfo(1, "building", (228, 87, 46)), ClassInfo(2, "wood & <water>", (1, 2, 3)))
LOCAL = CRS("+proj=laea +lat_0=51.3 +lon_0=9.7 +x_0=1000 +ellps=GRS80 +units=m +type=crs").to_wkt()
EXACT = tuple(suffix for suffix in FORMATS if suffix != ".pmtiles")
NOT_GEOJSON = tuple(suffix for suffix in EXACT if "json" not in suffix)

formats = pytest.mark.parametrize("suffix", EXACT)
needs_ogrinfo = pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="needs gdal-bin's ogrinfo")


def schema(crs: str | None = "EPSG:32633") -> LayerSchema:
    return LayerSchema("buildings", crs, CLASSES, {"model": "buildings"})


def crs_of(suffix: str) -> str:
    """Return the CRS that features for a format come in."""
    return layer_crs(None, "EPSG:32633", Path("out" + suffix)) or "EPSG:32633"


@functools.cache
def features(
    crs: str | None = "EPSG:32633", count: int = 30, target: str | None = None
) -> geopandas.GeoDataFrame:
    pieces = [
        Piece(
            1 + i % 2,
            shapely.box(3 * i, i, 3 * i + 2.5, i + 2) - shapely.box(3 * i + 1, i + 0.5, 3 * i + 1.5, i + 1),
            Evidence(5 + i, (5 + i) * 40000, 2**40 + i, i % 2 == 0, i % 3 == 0),
        )
        for i in range(count)
    ]
    box = GeoBox(100, 100, (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0), crs)
    return finish(pieces, box, ShapeRules(), schema(target or crs)).sort_values("id", ignore_index=True)


def read(path: Path) -> geopandas.GeoDataFrame:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    table = pyogrio.read_dataframe(path, layer=0)
    return table.rename(columns={short: name for name, short in NAMES.items()})


def write(path: Path, layer: LayerSchema, *batches: geopandas.GeoDataFrame) -> None:
    with VectorSink(path, layer, overwrite=False) as sink:
        for batch in batches:
            sink.write(batch)
        sink.set_metadata({"coverage": "0.75"})


@pytest.mark.parametrize("crs", ["EPSG:32633", LOCAL, None])
@pytest.mark.parametrize("suffix", NOT_GEOJSON)
def test_features_come_back(suffix: str, crs: str | None, tmp_path: Path) -> None:
    path, table = tmp_path / f"out{suffix}", features(crs)
    write(path, schema(crs), table[:20], table[20:])
    back = read(path).sort_values("id", ignore_index=True)
    assert list(back.columns) == [*COLUMNS, "geometry"]
    assert_same_polygons(back, table)
    for name in COLUMNS:
        if table[name].dtype == "float64":
            assert np.allclose(back[name].astype(float), table[name], rtol=1e-12, equal_nan=True)
        else:
            assert back[name].tolist() == table[name].tolist()
    if crs is None:
        assert back.crs is None or (suffix == ".gpkg" and back.crs.is_engineering)
        assert back["area_m2"].isna().all()
    else:
        here, there = (
            Transformer.from_crs(c, "OGC:CRS84", always_xy=True).transform(500_010, 4_999_990)
            for c in (crs, back.crs)
        )
        assert here == pytest.approx(there, abs=1e-12)


@formats
def test_an_empty_result_is_an_empty_layer_with_all_columns(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, schema(crs_of(suffix)), features(count=0, target=crs_of(suffix)))
    if suffix == ".geojson":
        assert json.loads(path.read_text())["features"] == []
        return
    if suffix == ".geojsonl":
        assert path.read_text() == ""
        return
    back = read(path)
    assert len(back) == 0
    assert list(back.columns) == [*COLUMNS, "geometry"]
    assert back.crs == "EPSG:32633" or suffix == ".shp"
    assert back.crs.to_epsg() == 32633
    for name, dtype in COLUMNS.items():
        assert dtype in {"str", str(back[name].dtype)}


@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl"])
def test_geojson_is_in_degrees_and_turns_to_the_left(suffix: str, tmp_path: Path) -> None:
    path, table = tmp_path / f"out{suffix}", features(target=crs_of(suffix))
    write(path, schema(crs_of(suffix)), table[:20], table[20:])
    text = path.read_text(encoding="utf-8")
    items = (
        json.loads(text)["features"] if suffix == ".geojson" else [json.loads(x) for x in text.splitlines()]
    )
    assert len(items) == len(table)
    expected = features().to_crs(WGS84).geometry
    for item, (_, row), polygon in zip(items, table.iterrows(), expected, strict=True):
        geometry = shapely.geometry.shape(item["geometry"])
        assert geometry.exterior.is_ccw
        assert not geometry.interiors[0].is_ccw
        assert shapely.hausdorff_distance(geometry, polygon) < 1e-9
        assert list(item["properties"]) == list(COLUMNS)
        assert item["id"] == item["properties"]["id"] == row["id"]
        assert item["properties"]["class_name"] == row["class_name"]
        assert item["properties"]["touches_edge"] is bool(row["touches_edge"])
    if suffix == ".geojson":
        assert "crs" not in json.loads(text)
        assert json.loads(text)["metadata"] == {"model": "buildings", "coverage": "0.75"}


def test_geojson_is_cut_at_the_antimeridian(tmp_path: Path) -> None:
    box = GeoBox(50, 50, (10.0, 0.0, 166_021.44 - 250, 0.0, -10.0, 500), "EPSG:32601")
    table = finish([Piece(1, shapely.box(0, 0, 50, 50), Evidence(1, 1, 1))], box, ShapeRules(), schema(WGS84))
    write(tmp_path / "out.geojson", schema(WGS84), table)
    (item,) = json.loads((tmp_path / "out.geojson").read_text())["features"]
    geometry = shapely.geometry.shape(item["geometry"])
    assert geometry.geom_type == "MultiPolygon"
    assert sorted(round(part.centroid.x) for part in geometry.geoms) == [-180, 180]
    assert geometry.bounds[0] >= -180
    assert geometry.bounds[2] <= 180
    assert geometry.area == pytest.approx((500 / 111_320) ** 2, rel=0.02)


@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl"])
def test_geojson_needs_a_crs(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(UnwritableOutput, match="RFC 7946"):
        write(tmp_path / f"out{suffix}", schema(None))
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    table = features(target=WGS84)
    table["area_m2"] = np.nan
    write(tmp_path / "out.geojsonl", schema(WGS84), table)
    assert (
        json.loads((tmp_path / "out.geojsonl").read_text().splitlines()[0])["properties"]["area_m2"] is None
    )


@formats
def test_a_failure_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        VectorSink(tmp_path / f"out{suffix}", schema(crs_of(suffix)), overwrite=False) as sink,
    ):
        sink.write(features(target=crs_of(suffix)))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@formats
def test_a_failure_leaves_the_file_before_as_it_was(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, schema(crs_of(suffix)), features(target=crs_of(suffix)))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ZeroDivisionError), VectorSink(path, schema(crs_of(suffix)), overwrite=True) as sink:
        sink.write(features(count=3, target=crs_of(suffix)))
        raise ZeroDivisionError
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@contextlib.contextmanager
def small_disk() -> Iterator[None]:
    """Let no file of this process grow beyond 60 kB.

    Not a fixture: pytest itself may be writing to a file between a test and its teardown.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@formats
def test_a_full_disk_is_one_line_and_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    batches = [features(count=2500, target=crs_of(suffix))] * 3
    with pytest.raises(NoSpaceLeft, match="files may not grow any further in ") as caught, small_disk():
        write(tmp_path / f"out{suffix}", schema(crs_of(suffix)), *batches)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@formats
def test_an_existing_file_is_replaced_only_if_asked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, schema(crs_of(suffix)), features(target=crs_of(suffix)))
    with pytest.raises(UnwritableOutput, match="--overwrite"):
        write(path, schema(crs_of(suffix)), features(target=crs_of(suffix)))
    with VectorSink(path, schema(crs_of(suffix)), overwrite=True) as sink:
        sink.write(features(count=4, target=crs_of(suffix)))
    assert len(read(path)) == 4


def test_all_files_of_a_shapefile_are_there_and_none_that_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "out.shp"
    write(path, schema(), features())
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".cpg", ".dbf", ".prj", ".shp", ".shx"]
    (tmp_path / "out.qix").touch()
    with VectorSink(path, schema(None), overwrite=True) as sink:
        sink.write(features(None))
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".cpg", ".dbf", ".shp", ".shx"]
    (tmp_path / "out.shp").unlink()
    with pytest.raises(UnwritableOutput, match=r"out\.\w+: exists already"):
        write(path, schema(), features())


def test_geopackage_has_index_extent_style_and_metadata(tmp_path: Path) -> None:
    path, table = tmp_path / "out.gpkg", features()
    write(path, schema(), table)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    contents = "SELECT min_x, min_y, max_x, max_y, srs_id FROM gpkg_contents WHERE table_name = 'buildings'"
    assert database.execute(contents).fetchone() == (*table.total_bounds, 32633)
    assert database.execute("SELECT count(*) FROM rtree_buildings_geom").fetchone() == (len(table),)
    style = "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
    *target, document = database.execute(style).fetchone()
    assert target == ["buildings", "geom", 1]
    assert document == layer_style(CLASSES)
    database.close()
    assert pyogrio.read_info(path, layer="buildings")["layer_metadata"] == {
        "DESCRIPTION": "building, wood & <water>",
        "software": "geoseg",
        "model": "buildings",
        "coverage": "0.75",
    }


def test_geopackage_without_crs_says_undefined_cartesian_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    write(path, schema(None), features(None))
    database = sqlite3.connect(path)
    for table in ("gpkg_contents WHERE table_name = 'buildings'", "gpkg_geometry_columns"):
        assert database.execute(f"SELECT srs_id FROM {table}").fetchone() == (-1,)
    (blob,) = database.execute("SELECT geom FROM buildings").fetchone()
    assert struct.unpack("<i", blob[4:8]) == (-1,)
    database.close()


@pytest.mark.slow
@needs_ogrinfo
@pytest.mark.parametrize("suffix", [suffix for suffix in EXACT if suffix != ".parquet"])
def test_another_gdal_reads_the_same(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, schema(crs_of(suffix)), features(target=crs_of(suffix)))
    command = ["ogrinfo", "-so", "-al", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Feature Count: 30" in done.stdout
    assert "ERROR" not in done.stderr + done.stdout
    assert "Geometry: Polygon" in done.stdout
    if suffix == ".gpkg":
        assert "coverage=0.75" in done.stdout
        assert "layer_styles" in done.stdout


@pytest.mark.parametrize("suffix", [".prj", ".qmd"])
def test_a_shapefile_replaces_no_file_beside_it_unasked(suffix: str, tmp_path: Path) -> None:
    kept = tmp_path / f"roofs{suffix}"
    kept.write_text("mine")
    with pytest.raises(UnwritableOutput, match=f"roofs{suffix}: exists already"):
        write(tmp_path / "roofs.shp", schema(None), features(None))
    assert [file.name for file in tmp_path.iterdir()] == [kept.name]
    assert kept.read_text() == "mine"


@pytest.mark.parametrize("folder", ["~", "a:b", "http:", "a;b", "q?x", "it's"])
@pytest.mark.parametrize("suffix", NOT_GEOJSON)
def test_a_folder_may_be_called_like_a_home_or_a_scheme(
    folder: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    path = Path(folder) / f"out{suffix}"
    write(path, schema(), features())
    assert len(read_layer(path, "out").geometries) == len(features())


@pytest.mark.parametrize("folder", ["wow!", "new\nline", "tab\t", "caf\udce9"])
@pytest.mark.parametrize("suffix", EXACT)
def test_any_other_folder_works_or_gets_one_line(folder: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / folder / f"out{suffix}"
    path.parent.mkdir()
    if "\udce9" in folder or suffix in {".gpkg", ".fgb", ".shp"}:
        with pytest.raises(UnwritableOutput, match=r"a name of a folder has|is not valid UTF-8"):
            write(path, schema(), features())
        assert not [*path.parent.iterdir()]
        return
    write(path, schema(crs_of(suffix)), features(crs_of(suffix)))
    assert len(read_layer(path, "out").geometries) == len(features())


def test_geoparquet_says_what_the_spec_asks_for(tmp_path: Path) -> None:
    path, table = tmp_path / "out.parquet", features(LOCAL)
    write(path, schema(LOCAL), table[:10], table[10:])
    metadata = pyarrow.parquet.read_metadata(path).metadata
    geo = json.loads(metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert geo["version"] == "1.1.0"
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["bbox"] == pytest.approx(list(table.total_bounds))
    assert CRS.from_json_dict(column["crs"]) == CRS(LOCAL)
    assert metadata[b"coverage"] == b"0.75"


def test_flatgeobuf_has_an_index_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "out.fgb"
    write(path, schema(), features())
    assert pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]
    assert b'"coverage": "0.75"' in path.read_bytes()


def test_an_unknown_extension_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UnwritableOutput, match=r"out\.kml: .*\.gpkg \.fgb \.parquet \.geojson \.geojsonl \.shp"
    ):
        check_vector_path(tmp_path / "out.kml", overwrite=False)


@pytest.mark.parametrize("suffix", NOT_GEOJSON)
def test_missing_folders_are_made(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / f"out{suffix}"
    write(path, schema(), features())
    assert len(read_layer(path, "out").geometries) == len(features())


def test_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out.gpkg").mkdir()
    with pytest.raises(UnwritableOutput, match="is a folder"):
        check_vector_path(tmp_path / "out.gpkg", overwrite=True)


def test_suffixes_in_capitals_are_known(tmp_path: Path) -> None:
    write(tmp_path / "OUT.GPKG", schema(), features())
    assert len(pyogrio.read_dataframe(tmp_path / "OUT.GPKG", layer=0)) == 30


def test_errors_of_gdal_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    with pytest.raises(UnwritableOutput) as caught, VectorSink(path, schema("EPSG:1"), overwrite=False):
        pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_styles_name_every_class() -> None:
    document = ET.fromstring(layer_style(CLASSES).split("\n", 1)[1])
    assert [c.get("value") for c in document.iter("category")] == ["building", "wood & <water>"]
    fills = [o.get("value") for o in document.iter("Option") if o.get("name") == "color"]
    assert fills == ["228,87,46,90", "1,2,3,90"]
    single = ET.fromstring(layer_style(CLASSES[:1]).split("\n", 1)[1])
    assert single.find("renderer-v2").get("type") == "singleSymbol"


def test_tiles_hold_every_polygon_where_it_is_and_the_same_bytes(tmp_path: Path) -> None:
    table = features(target="EPSG:3857", count=20)
    layer = LayerSchema("buildings", "EPSG:3857", CLASSES, {}, 0.3)
    for name in ("one.pmtiles", "two.pmtiles"):
        write(tmp_path / name, layer, table)
    assert (tmp_path / "one.pmtiles").read_bytes() == (tmp_path / "two.pmtiles").read_bytes()
    with (tmp_path / "one.pmtiles").open("rb") as file:
        header = Reader(MmapSource(file)).header()
    assert (header["min_zoom"], header["max_zoom"]) == zoom_levels(0.3)
    assert header["tile_type"] == TileType.MVT
    west, south = header["min_lon_e7"] / 1e7, header["min_lat_e7"] / 1e7
    assert (west, south) == pytest.approx(tuple(table.to_crs(4326).total_bounds[:2]), abs=1e-4)
    found = pyogrio.read_dataframe(tmp_path / "one.pmtiles", layer="buildings")
    assert set(found["id"]) == set(table["id"])
    assert set(found["class_name"]) == {"building", "wood & <water>"}
    whole = found.dissolve("id").geometry
    for one, polygon in zip(table["id"], table.geometry, strict=True):
        assert shapely.hausdorff_distance(whole[one], polygon) < 0.5


def test_tiles_need_a_crs_and_take_no_other(tmp_path: Path) -> None:
    with pytest.raises(UnwritableOutput, match="no CRS"):
        write(tmp_path / "out.pmtiles", schema(None), features(None))
    with pytest.raises(InvalidOption, match="Web Mercator"):
        layer_crs("EPSG:32633", "EPSG:32633", Path("out.pmtiles"))
    assert layer_crs(None, "EPSG:32633", Path("out.pmtiles")) == "EPSG:3857"
    assert list(tmp_path.iterdir()) == []


@formats
def test_the_same_features_give_the_same_bytes_at_another_time(suffix: str, tmp_path: Path) -> None:
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"out{suffix}"
        write(path, schema(crs_of(suffix)), features(target=crs_of(suffix)))
        found.append({file.name: file.read_bytes() for file in path.parent.iterdir()})
    if suffix == ".shp":  # dBase holds the day
        found = [{name: data for name, data in files.items() if not name.endswith(".dbf")} for files in found]
    assert found[0] == found[1]
