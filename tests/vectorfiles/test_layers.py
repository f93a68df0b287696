"""Layers: what geoseg and others write is read as it was written, and the right layer of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import geopandas
import numpy as np
import pyarrow
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.cli import run
from geoseg.errors import InvalidOption
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import ClassInfo, GeoBox, LayerSchema
from geoseg.vector.features import COLUMNS
from geoseg.vector.sink import FORMATS as SINKS
from geoseg.vector.sink import VectorSink
from geoseg.vectorfiles import layers as reading
from geoseg.vectorfiles.aoi import read_aoi
from geoseg.vectorfiles.binary import depth_of_wkb
from geoseg.vectorfiles.formats import FORMATS
from geoseg.vectorfiles.layers import open_layer, polygons_of, read_layer, repair
from tests.vectorfiles.foreign import WRITERS

UTM = GeoBox(200, 300, NORTH_UP, "EPSG:32633")
AREA = shapely.Polygon([(10, 20), (110, 25), (90, 150)])
HOLED = AREA.difference(shapely.box(50, 50, 60, 60))
GROUND = shapely.transform(AREA, UTM.to_crs)


@pytest.mark.parametrize("name", WRITERS)
def test_what_other_programs_write_is_read(tmp_path, name):
    WRITERS[name](tmp_path / name, GROUND, UTM.crs)
    assert shapely.hausdorff_distance(read_aoi(tmp_path / name, UTM), AREA) < 0.05
    layer = read_layer(tmp_path / name, name, columns=["kind", "nothing"])
    assert {column: list(values) for column, values in layer.columns.items()} == {"kind": ["house"]}
    assert "kind" in layer.available
    if name != "arrow.geoparquet":
        with open_layer(tmp_path / name) as found:
            (row,) = [row for batch in found.batches for row in batch.to_pylist()]
        assert row["kind"] == "house"
        assert shapely.equals_exact(shapely.from_wkb(row[found.geometry]), layer.geometries[0], 1e-9)


@pytest.mark.parametrize(("name", "reader"), [("new.json", "read_geojson"), ("tabs.tsv", "read_csv")])
def test_text_is_read_once_with_all_of_its_attributes(name, reader, tmp_path, monkeypatch):
    WRITERS[name](tmp_path / name, GROUND, UTM.crs)
    read = mock.Mock(side_effect=getattr(reading, reader))
    monkeypatch.setattr(reading, reader, read)
    with open_layer(tmp_path / name) as found:
        assert {"kind", found.geometry} <= set(found.schema.names)
    read.assert_called_once()


@pytest.mark.parametrize("name", WRITERS)
def test_a_layer_that_there_is_not_is_told_whole_or_in_batches(tmp_path, name):
    WRITERS[name](tmp_path / name, GROUND, UTM.crs)
    for read in (open_layer, lambda path, layer: read_layer(path, name, layer=layer)):
        with (
            pytest.raises(InvalidOption, match=r"has no layer 'roofs'|no layers; leave out --layer roofs"),
            contextlib.ExitStack() as stack,
        ):
            stack.enter_context(read(tmp_path / name, "roofs"))


def test_every_format_is_among_them():
    assert {suffix for one in FORMATS for suffix in one.suffixes} - {".ndjson"} == {
        os.path.splitext(name)[1] for name in WRITERS
    }


def features(polygons):
    values = {name: np.zeros(len(polygons), dtype) for name, dtype in COLUMNS.items() if dtype != "str"}
    values |= {name: ["Haus"] * len(polygons) for name, dtype in COLUMNS.items() if dtype == "str"}
    values |= {"id": np.arange(len(polygons)), "class": np.ones(len(polygons), "int32")}
    frame = geopandas.GeoDataFrame(values, geometry=polygons, crs=UTM.crs)
    return frame[[*COLUMNS, "geometry"]]


def write_own(path, polygons):
    crs = "OGC:CRS84" if "json" in path.suffix else UTM.crs
    schema = LayerSchema("buildings", crs, (ClassInfo(1, "house", (1, 2, 3)),))
    with VectorSink(path, schema, overwrite=False) as sink:
        sink.write(features(polygons).to_crs(crs))


@pytest.mark.parametrize("suffix", [suffix for suffix in SINKS if suffix != ".pmtiles"])
@pytest.mark.parametrize("count", [0, 3])
def test_geoseg_reads_what_it_writes(tmp_path, suffix, count):
    polygons = [shapely.transform(shapely.box(9 * i, 5, 9 * i + 7, 9), UTM.to_crs) for i in range(count)]
    path = tmp_path / f"own{suffix}"
    write_own(path, polygons)
    found = read_layer(path, "own", columns=["class_name", "id"])
    assert len(found.geometries) == count
    assert found.crs is not None
    if count:
        assert found.columns["class_name"].tolist() == ["Haus"] * count
        whole = read_aoi(path, UTM)
        boxes = [shapely.box(9 * i, 5, 9 * i + 7, 9) for i in range(count)]
        assert shapely.hausdorff_distance(whole, shapely.union_all(boxes)) < 1e-3
        if "json" not in suffix:
            order = np.argsort(found.columns["id"])  # FlatGeobuf sorts by place
            assert shapely.equals(found.geometries[order], np.array(polygons)).all()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [suffix for suffix in SINKS if suffix != ".pmtiles"])
def test_runs_take_what_geoseg_writes(tmp_path, suffix, capfd):
    scene = make_scene(tmp_path / "scene.tif", size=(200, 300))
    path = tmp_path / f"own{suffix}"
    write_own(path, [GROUND])
    assert run(["plan", str(scene), "--aoi", str(path)]) == 0
    options = ["--scene", str(scene), "--labelled-area", str(path), "--class-attribute", "class_name"]
    assert run(["evaluate", str(path), "--prediction", str(path), *options]) == 0
    assert "Error" not in capfd.readouterr().err


def test_parquet_that_says_nothing_of_geometries_gets_one_line(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"geometry": [GROUND.wkb]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidOption, match="does not say where its geometries are"):
        read_layer(tmp_path / "a.parquet", "a.parquet")


# COPY (SELECT 'POLYGON((0 0,1 0,1 1,0 0))'::GEOMETRY AS geom, 'house' AS kind) TO 'a.parquet'
# (geoparquet_version 'NONE') by DuckDB 2.0.1: Parquet's own type of geometries, and no key geo.
BY_TYPE = (
    "UEFSMRUAFaIBFVAsFQIVABUGFQYAAFEUTQAAAAEDAQUQAAAABABeAQAE8D82GgAREBEIJAAAAAAAAAAAAAAVABUSFRYsFQIV"
    "ABUGFQYAAAkgBQAAAGhvdXNlFQIZPDUAGA1kdWNrZGJfc2NoZW1hFQQAFQwlABgEZ2VvbWwMIgAAABUMJQAYBGtpbmQlAAAW"
    "AhkcGSwmABwVDBkVABkYBGdlb20VAhYCFsYBFnQmCDw2AAAZHBUAFQAVAgBMHBcAAAAAAAAAABcAAAAAAADwPxcAAAAAAAAA"
    "ABcAAAAAAADwPwAZFQYAAAAmABwVDBkVABkYBGtpbmQVAhYCFjQWOCZ8PBgFaG91c2UYBWhvdXNlFgAoBWhvdXNlGAVob3Vz"
    "ZRERABkcFQAVABUCAAAAFvoBFgImCBasAQAoKER1Y2tEQiB2ZXJzaW9uIHYyLjAuMSAoYnVpbGQgOGQ3ODExNGU5MCkZLBwA"
    "ABwAAAATAQAAUEFSMQ=="
)


def test_parquet_says_by_its_types_where_geometries_are(tmp_path):
    (tmp_path / "a.parquet").write_bytes(base64.b64decode(BY_TYPE))
    found = read_layer(tmp_path / "a.parquet", "a", columns=["kind"])
    assert found.geometries[0].wkt == "POLYGON ((0 0, 1 0, 1 1, 0 0))"
    assert found.columns["kind"].tolist() == ["house"]
    assert found.crs.to_authority() == ("OGC", "CRS84")


# ---- kinds of geometries


corners = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=6)


@given(outlines=st.lists(corners, max_size=4), split=st.integers(0, 4), deep=st.booleans())
def test_polygons_in_collections_count(outlines, split, deep):
    polygons = [shapely.Polygon(outline) for outline in outlines]
    inner = shapely.GeometryCollection([shapely.MultiPolygon(polygons[split:]), shapely.Point(1, 1)])
    inner = shapely.GeometryCollection([inner]) if deep else inner
    line = shapely.LineString([(0, 0), (5, 5)])
    collection = shapely.GeometryCollection([*polygons[:split], line, inner])
    whole, areal, _ = repair(np.array([collection, None, line], object))
    assert areal.tolist() == [bool(polygons), False, False]
    alone = shapely.make_valid(np.array(polygons, object), method="structure", keep_collapsed=False)
    parts, owners = polygons_of(whole)
    assert shapely.area(parts).sum() == pytest.approx(shapely.union_all(alone).area)
    assert shapely.is_valid(parts).all()
    assert not owners.any()


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet", ".csv"])
def test_collections_of_files_count(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    mixed = shapely.GeometryCollection([shapely.GeometryCollection([GROUND]), shapely.Point(5e5, 5e6)])
    frame = geopandas.GeoDataFrame({"a": [1, 2]}, geometry=[mixed, shapely.Point(5e5, 5e6)], crs=UTM.crs)
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".csv":
        path.write_text(f'a,shape\n1,"SRID=32633;{mixed.wkt}"\n2,\n')
    else:
        frame.to_file(path)
    assert shapely.hausdorff_distance(read_aoi(path, UTM), AREA) < 0.05


def surface(kind, child):
    corners = [(0, 0, 0), (1, 0, 0), (1, 1, 5), (0, 0, 0)]
    triangle = struct.pack("<BII", 1, child, 1) + struct.pack("<I", 4)
    return struct.pack("<BII", 1, kind, 1) + triangle + b"".join(struct.pack("<ddd", *one) for one in corners)


@pytest.mark.parametrize("wkb", [surface(1016, 1017), surface(1015, 1003)], ids=["TIN", "PolyhedralSurface"])
def test_surfaces_get_a_line_with_the_way_out(tmp_path, wkb):
    path = tmp_path / "a.fgb"
    values = {"fields": ["a"], "geometry_type": "Unknown", "crs": UTM.crs, "driver": "FlatGeobuf"}
    pyogrio.raw.write(path, np.array([wkb], object), [np.array([1])], **values)
    with pytest.raises(InvalidOption, match=r"it has TIN or other surfaces; .* -nlt MULTIPOLYGON"):
        read_layer(path, str(path))


def test_curves_are_followed_by_lines(tmp_path):
    path = tmp_path / "a.gpkg"
    arc = struct.pack("<BII", 1, 8, 5) + b"".join(
        struct.pack("<dd", 5e5 + x, 5e6 - 30 + y) for x, y in [(0, 0), (5, 5), (10, 0), (5, -5), (0, 0)]
    )
    disc = struct.pack("<BII", 1, 10, 1) + arc
    both = struct.pack("<BII", 1, 12, 1) + disc
    values = {"fields": ["a"], "geometry_type": "Unknown", "crs": UTM.crs, "driver": "GPKG"}
    pyogrio.raw.write(path, np.array([disc, both], object), [np.array([1, 2])], **values)
    assert shapely.area(read_layer(path, "a").geometries) == pytest.approx(np.pi * 25, rel=1e-3)
    with open_layer(path) as layer, pytest.raises(InvalidOption, match=f"{path}: it has curves; .* ogr2ogr"):
        layer.shapes(next(layer.batches))


def parquet_of(path, *binaries):
    geo = {"version": "1.0.0", "primary_column": "geometry"}
    geo["columns"] = {"geometry": {"encoding": "WKB", "geometry_types": []}}
    table = pyarrow.table({"geometry": pyarrow.array(binaries, pyarrow.binary())})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)
    return path


@pytest.mark.parametrize("kind", [4, 6, 7, 1007, 2007, 0x80000007])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("before", [b"", GROUND.wkb])
def test_geometries_that_nest_without_end_get_one_line(tmp_path, kind, order, before):
    count = struct.pack(f"{order}BII", order == "<", kind, 1 + bool(before))
    path = parquet_of(tmp_path / "a.parquet", GROUND.wkb, (count + before) * 30_000)
    with pytest.raises(InvalidOption, match="row 2 nests collections deeper than"):
        read_layer(path, "a")


nested = st.recursive(
    st.sampled_from([shapely.Point(1, 2, 3), shapely.LineString([(0, 0), (1, 1)]), AREA, HOLED]),
    lambda inner: st.lists(inner, max_size=3).map(shapely.GeometryCollection),
    max_leaves=12,
)


@given(geometry=nested, order=st.sampled_from([0, 1]), srid=st.sampled_from([0, 32633]), iso=st.booleans())
def test_the_depth_of_wkb_is_that_of_its_collections(geometry, order, srid, iso):
    def depth(one):
        parts = one.geoms if one.geom_type == "GeometryCollection" else ()
        return 1 + max(map(depth, parts), default=0) if one.geom_type == "GeometryCollection" else 0

    geometry = shapely.set_srid(geometry, srid)
    flavor = "iso" if iso else "extended"
    wkb = shapely.to_wkb(geometry, byte_order=order, include_srid=not iso, flavor=flavor)
    assert depth_of_wkb(wkb) == depth(geometry)


CURVES = [
    "CURVEPOLYGON (CIRCULARSTRING (0 0, 1 1, 2 0, 1 -1, 0 0))",
    "MULTISURFACE (((0 0, 1 0, 1 1, 0 0)))",
    "GEOMETRYCOLLECTION (POINT (0 0), CURVEPOLYGON (CIRCULARSTRING (0 0, 1 1, 2 0, 1 -1, 0 0)))",
]

SURFACES = [
    "TIN (((0 0, 1 0, 0 1, 0 0)))",
    "POLYHEDRALSURFACE Z (((0 0 0, 1 0 0, 0 1 0, 0 0 0)))",
    "TRIANGLE ((0 0, 1 0, 0 1, 0 0))",
    "GEOMETRYCOLLECTION (TIN (((0 0, 1 0, 0 1, 0 0))))",
]


@pytest.mark.parametrize(
    ("text", "says"),
    [(text, "has curves; .* -nlt CONVERT_TO_LINEAR") for text in CURVES]
    + [(text, "has TIN or other surfaces; .* -nlt MULTIPOLYGON") for text in SURFACES],
)
def test_curves_and_surfaces_of_text_get_a_line_with_the_way_out(tmp_path, text, says):
    (tmp_path / "a.csv").write_text(f'id,my geom\n1,"{GROUND.wkt}"\n2,"{text}"\n')
    with pytest.raises(InvalidOption, match=f"{says} -oo GEOM_POSSIBLE_NAMES='my geom' "):
        read_layer(tmp_path / "a.csv", "a.csv")


# ---- several layers


DRIVERS = {".gpkg": "GPKG", ".gdb": "OpenFileGDB", ".sqlite": "SQLite"}


def layers(path, **contents):
    for name, geometry in contents.items():
        rows = [] if geometry is None else [geometry]
        frame = geopandas.GeoDataFrame({"a": ["x"] * len(rows)}, geometry=rows, crs=UTM.crs)
        mode, kind = "a" if path.exists() else "w", None if rows else "Polygon"
        frame.to_file(path, layer=name, mode=mode, geometry_type=kind, driver=DRIVERS[path.suffix])
    return path


ROADS, OTHER = shapely.LineString([(5e5, 5e6), (5e5 + 9, 5e6)]), shapely.box(5e5, 5e6 - 9, 5e5 + 9, 5e6)


@pytest.mark.parametrize("suffix", DRIVERS)
def test_the_only_layer_of_polygons_is_meant(tmp_path, suffix):
    path = layers(tmp_path / f"a{suffix}", roads=ROADS, empty=None, houses=GROUND, trees=ROADS.centroid)
    assert shapely.hausdorff_distance(read_aoi(path, UTM), AREA) < 0.05
    path = layers(tmp_path / f"b{suffix}", roads=ROADS, trees=ROADS.centroid)
    with pytest.raises(InvalidOption, match="holds no polygons"):
        read_aoi(path, UTM)


def test_of_several_one_is_to_be_chosen(tmp_path):
    path = layers(tmp_path / "a.gpkg", roads=ROADS, fields=OTHER, houses=GROUND)
    with pytest.raises(InvalidOption, match=r"polygons \(fields, houses\); choose one: --aoi-layer NAME"):
        read_aoi(path, UTM)
    assert shapely.hausdorff_distance(read_aoi(path, UTM, layer="houses"), AREA) < 0.05
    assert read_layer(path, "a", without="fields").geometries[0].equals(GROUND)
    with pytest.raises(InvalidOption, match="has no layer 'house' of polygons; there is fields, houses"):
        read_aoi(path, UTM, layer="house")


def test_a_format_without_layers_says_so(tmp_path):
    geopandas.GeoDataFrame(geometry=[GROUND], crs=UTM.crs).to_file(tmp_path / "a.geojson")
    with pytest.raises(InvalidOption, match="is GeoJSON, which has no layers; leave out --aoi-layer a"):
        read_aoi(tmp_path / "a.geojson", UTM, layer="a")


@pytest.mark.slow
def test_runs_name_the_option_that_chooses(tmp_path, capfd):
    scene = str(make_scene(tmp_path / "scene.tif", size=(200, 300)))
    path = str(layers(tmp_path / "a.gpkg", fields=OTHER, houses=GROUND))
    alone = str(layers(tmp_path / "b.gpkg", houses=GROUND))

    def said(*arguments):
        code = run(list(arguments))
        return code, capfd.readouterr().err

    for option, arguments in {
        "--aoi-layer": ("plan", scene, "--aoi", path),
        "--truth-layer": ("evaluate", path, "--prediction", alone),
        "--prediction-layer": ("evaluate", alone, "--prediction", path),
        "--labelled-area-layer": ("evaluate", alone, "--prediction", alone, "--labelled-area", path),
    }.items():
        code, text = said(*arguments)
        assert code == 2
        assert f"a.gpkg: has several layers of polygons (fields, houses); choose one: {option} NAME" in text
        assert said(*arguments, option, "houses")[0] == 0


# ---- odd files


@pytest.mark.parametrize(
    ("encoding", "cpg", "expected"),
    [("UTF-8", True, "Gebäude"), ("UTF-8", False, "Gebäude"), ("ISO-8859-1", False, "Gebäude")],
)
def test_attributes_of_shapefiles(tmp_path, encoding, cpg, expected):
    frame = geopandas.GeoDataFrame({"kind": ["Gebäude"]}, geometry=[GROUND], crs=UTM.crs)
    path = tmp_path / "a[1].shp"
    frame.to_file(path, encoding=encoding)
    if not cpg:
        path.with_suffix(".cpg").unlink()
    assert read_layer(path, "a", columns=["kind"]).columns["kind"].tolist() == [expected]


READ = """
import sys
from pathlib import Path
from geoseg.vectorfiles.layers import read_layer
from geoseg.errors import InvalidOption
try:
    print(len(read_layer(Path(sys.argv[1]), "a.gpkg").geometries))
except InvalidOption as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs to become another user")
@pytest.mark.parametrize("pending", [False, True])
def test_a_database_with_a_log_that_cannot_be_written(tmp_path, pending):
    """SQLite wants to write beside it; where changes wait in the log, they must not be lost."""
    source = tmp_path / "source.gpkg"
    geopandas.GeoDataFrame({"a": [1]}, geometry=[GROUND], crs=UTM.crs).to_file(source)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = sqlite3.connect(source)
        database.execute("PRAGMA journal_mode = WAL")
        if pending:
            database.execute("PRAGMA wal_autocheckpoint = 0")
            database.execute("CREATE TABLE notes (a)")
            database.commit()
            shutil.copy(f"{source}-wal", folder / "a.gpkg-wal")
        else:
            database.close()
        shutil.copy(source, folder / "a.gpkg")
        database.close()
        folder.chmod(0o555)
        other_user = ["setpriv", "--reuid=65534", "--clear-groups"]
        command = [*other_user, sys.executable, "-c", READ, str(folder / "a.gpkg")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert ("its latest changes are in a.gpkg-wal" if pending else "1\n") in done.stdout


def test_reading_changes_no_setting_and_says_nothing(tmp_path, capfd):
    """GDAL's settings are the process's, which is the caller's."""
    names = ("SHAPE_ENCODING", "OGR_SKIP", "GDAL_SKIP", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS")
    before = [pyogrio.get_gdal_config_option(name) for name in names]
    for name, write in WRITERS.items():
        write(tmp_path / name, GROUND, UTM.crs)
        read_layer(tmp_path / name, name)
    assert [pyogrio.get_gdal_config_option(name) for name in names] == before
    assert capfd.readouterr().err == ""
