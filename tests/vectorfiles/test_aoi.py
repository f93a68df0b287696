from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.cli import run
from geoseg.errors import InvalidOption
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import GeoBox, Window
from geoseg.vectorfiles.aoi import aoi_mask, bbox_aoi, read_aoi
from geoseg.vectorfiles.formats import FORMATS, HEAD, check_vector_file, format_of

UTM = GeoBox(200, 300, NORTH_UP, "EPSG:32633")
ROTATED = GeoBox(200, 300, (0.3, 0.1, 5e5, 0.1, -0.3, 5e6), "EPSG:32633")


def on_the_ground(geometry, box):
    return shapely.transform(geometry, box.to_crs)


def write(path, geometry, crs):
    geopandas.GeoDataFrame({"a": [1]}, geometry=[geometry], crs=crs).to_file(path)
    return path


@pytest.mark.parametrize("box", [UTM, ROTATED], ids=["north-up", "rotated"])
@pytest.mark.parametrize("name", ["a.gpkg", "a.fgb", "a.shp", "a.geojson", "a.parquet", "a.kml"])
def test_areas_land_on_their_pixels(tmp_path, box, name):
    area = shapely.Polygon([(10, 20), (110, 25), (90, 150)])
    frame = geopandas.GeoDataFrame({"a": [1]}, geometry=[on_the_ground(area, box)], crs=box.crs)
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_file(path, driver="KML" if name.endswith("kml") else None)
    # An edge that is straight in degrees, as in GeoJSON and KML, bends by some 1e-4 pixels in UTM.
    tolerance = 0.1 if name.endswith(("json", "kml")) else 1e-3
    assert read_aoi(path, box).symmetric_difference(area).area < tolerance


def test_edges_that_become_curves_are_followed(tmp_path):
    # A parallel of latitude: in UTM it bends by many pixels within the scene.
    box = GeoBox(2000, 40_000, (1, 0, 480_000, 0, -1, 6_652_400), "EPSG:32633")
    path = write(tmp_path / "a.gpkg", shapely.box(13, 60, 17, 61), "EPSG:4326")
    outline = shapely.get_coordinates(read_aoi(path, box))
    x, y = box.to_crs(outline).T
    _, latitude = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    inner = (outline[:, 1] > 0) & (outline[:, 1] < 2000) & (outline[:, 0] > 0) & (outline[:, 0] < 40_000)
    assert inner.sum() > 100
    assert np.abs(latitude[inner] - 60).max() * 111_000 < 0.1


def test_areas_are_joined_and_cut_to_the_scene(tmp_path):
    areas = shapely.MultiPolygon([shapely.box(-50, -50, 20, 20), shapely.box(280, 0, 400, 400)])
    path = write(tmp_path / "a.gpkg", on_the_ground(areas, UTM), UTM.crs)
    assert read_aoi(path, UTM).area == pytest.approx(20 * 20 + 20 * 200)


def test_a_country_around_the_scene_is_the_scene(tmp_path):
    path = write(tmp_path / "a.gpkg", shapely.box(-170, -80, 170, 80), "EPSG:4326")
    assert read_aoi(path, UTM).area == pytest.approx(UTM.height * UTM.width)


def test_what_cannot_be_used_gets_one_line(tmp_path):
    area = shapely.box(10, 10, 20, 20)
    outside = write(tmp_path / "outside.gpkg", on_the_ground(shapely.box(900, 0, 910, 5), UTM), UTM.crs)
    touching = write(tmp_path / "touching.gpkg", on_the_ground(shapely.box(300, 0, 310, 5), UTM), UTM.crs)
    far = write(tmp_path / "far.gpkg", shapely.box(-70, -20, -69, -19), "EPSG:4326")
    points = write(tmp_path / "points.gpkg", shapely.Point(5e5, 5e6), UTM.crs)
    empty = tmp_path / "empty.gpkg"
    geopandas.GeoDataFrame({"a": []}, geometry=[], crs=UTM.crs).to_file(empty, geometry_type="Polygon")
    text = tmp_path / "text.gpkg"
    text.write_text("nothing")
    broken = tmp_path / "broken.gpkg"
    broken.write_bytes(outside.read_bytes()[:3000])
    remote = tmp_path / "remote.gpkg"
    remote.write_text("<OGRVRTDataSource><OGRVRTLayer name='a'/></OGRVRTDataSource>")
    no_crs = tmp_path / "nocrs.shp"
    with pytest.warns(UserWarning, match="crs"):
        geopandas.GeoDataFrame({"a": [1]}, geometry=[area]).to_file(no_crs)
    expected = {
        outside: "outside the scene",
        touching: "outside the scene",
        far: "outside the scene",
        points: "no polygons",
        empty: "no polygons",
        text: "not a vector file",
        broken: "cannot be read",
        remote: "not a vector file",
        no_crs: "has no CRS",
        tmp_path / "missing.gpkg": "no such file",
        tmp_path: "not a regular file",
    }
    for path, message in expected.items():
        with pytest.raises(InvalidOption, match=message) as caught:
            read_aoi(path, UTM)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


SQUARE = {"type": "Polygon", "coordinates": [[[15, 45], [15, 45.1], [15.1, 45.1], [15, 45]]]}
FEATURE = {"type": "Feature", "properties": {}, "geometry": SQUARE}


def pipeline(folder):
    return {"type": "gdal_streamed_alg", "command_line": f"gdal vector pipeline ! read {folder}/secret.gpkg"}


def mosaic(folder):
    source = f"<SrcDataSource>{folder}/secret.gpkg</SrcDataSource>"
    layer = f"<OGRVRTLayer name='secret'>{source}</OGRVRTLayer>"
    return f"<OGRVRTDataSource>{layer}</OGRVRTDataSource>".encode()


# What GDAL 3.12 opens by reading another file, under the name that it has here.
READS_ANOTHER_FILE = {
    "pipeline.json": lambda folder: json.dumps(pipeline(folder)).encode(),
    "pipeline.gdalg.json": lambda folder: b"  " + json.dumps(pipeline(folder)).encode(),
    "late.geojson": lambda folder: json.dumps({"a": " " * 900} | pipeline(folder)).encode(),
    "mosaic.json": lambda folder: b'{"type": "' + mosaic(folder) + b'"}',
    "mosaic.fgb": lambda folder: b"fgb\x03fgb\x01" + mosaic(folder),
    "four.fgb": lambda folder: b"fgb\x03" + mosaic(folder),
    "comment.kml": lambda folder: b"<!-- <kml -->" + mosaic(folder),
    "two_roots.kml": lambda folder: b"<kml/>" + mosaic(folder),
    "plain.vrt": mosaic,
    "plain.gpkg": mosaic,
}


@pytest.mark.parametrize("name", READS_ANOTHER_FILE)
def test_a_file_cannot_name_another_one_to_be_read(tmp_path, name):
    write(tmp_path / "secret.gpkg", on_the_ground(shapely.box(10, 10, 20, 20), UTM), UTM.crs)
    path = tmp_path / name
    path.write_bytes(READS_ANOTHER_FILE[name](tmp_path))
    # The attack is real: without the check, GDAL reads the other file.
    assert len(pyogrio.raw.read(path)[2]) == 1
    with pytest.raises(InvalidOption, match=r"refers to other files|not a vector file|not plain") as caught:
        read_aoi(path, UTM)
    assert "\n" not in str(caught.value)


def test_a_run_refuses_it_in_one_line(tmp_path, capfd):
    write(tmp_path / "secret.gpkg", on_the_ground(shapely.box(10, 10, 20, 20), UTM), UTM.crs)
    scene = make_scene(tmp_path / "scene.tif")
    path = tmp_path / "area.json"
    path.write_text(json.dumps(pipeline(tmp_path)))
    out = tmp_path / "out.gpkg"
    assert run(["predict", str(scene), "--out", str(out), "--aoi", str(path)]) == 2
    assert run(["evaluate", str(path), "--prediction", str(scene)]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line.count("area.json: is not plain GeoJSON") for line in lines] == [1, 1]
    assert not out.exists()


@pytest.fixture
def listener():
    """An address where a connection is noticed: accepting does not block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def link(listener, kind="link", crs="crs", type_="type"):
    href = f"http://127.0.0.1:{listener.getsockname()[1]}/crs"
    return {crs: {type_: kind, "properties": {"href": href, "url": href}}}


TOPOLOGY = {
    "type": "Topology",
    "arcs": [[[0, 0], [1, 0], [1, 1], [0, 0]]],
    "objects": {"a": {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "arcs": [[0]]}]}},
}


@pytest.mark.parametrize(
    "content",
    [
        lambda at: json.dumps({"type": "FeatureCollection", "features": [FEATURE]} | link(at)),
        lambda at: json.dumps({"type": "FeatureCollection", "features": [FEATURE]} | link(at, "URL")),
        lambda at: json.dumps(FEATURE | link(at, "Link", "CRS", "Type")),
        lambda at: json.dumps(FEATURE | {"geometry": SQUARE | link(at)}),
        lambda at: (
            json.dumps(FEATURE | link(at)).replace("crs", "\\u0063rs", 1).replace("link", "l\\u0069nk")
        ),
        lambda at: json.dumps(FEATURE) + "\n" + json.dumps(FEATURE | link(at)),
        lambda at: json.dumps(FEATURE | link(at))[:-1] + ', "crs": null}',
        lambda at: json.dumps(TOPOLOGY | link(at)),
        lambda at: json.dumps(FEATURE | link(at)).replace(", ", ", // more\n", 1),
    ],
    ids=["link", "url", "case", "geometry", "escapes", "lines", "twice", "topology", "comment"],
)
def test_a_crs_is_not_fetched(tmp_path, listener, content):
    path = tmp_path / "a.geojson"
    path.write_text(content(listener))
    with pytest.raises(InvalidOption, match="not plain GeoJSON"):
        read_aoi(path, UTM)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_crs_by_name_is_read(tmp_path):
    path = tmp_path / "a.geojson"
    area = shapely.geometry.mapping(on_the_ground(shapely.box(10, 20, 30, 50), UTM))
    named = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(
        "\ufeff \n"
        + json.dumps({"type": "FeatureCollection", "crs": named, "features": [FEATURE | {"geometry": area}]})
    )
    assert read_aoi(path, UTM).area == pytest.approx(600, rel=1e-6)


def test_attributes_may_speak_of_links(tmp_path):
    path = tmp_path / "a.geojson"
    area = shapely.geometry.mapping(shapely.box(14.9, 44, 15.1, 46))
    properties = {"type": "link", "crs": "link", "url": "http://127.0.0.1/", "text": "<b>GML</b>"}
    path.write_text(json.dumps(FEATURE | {"geometry": area, "properties": properties}))
    assert read_aoi(path, UTM).area == pytest.approx(UTM.height * UTM.width)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE kml [<!ENTITY a SYSTEM "file:///etc/passwd">]><kml>&a;</kml>',
        '<kml xmlns:gml="http://www.opengis.net/gml"/>',
        "<kml><Product_Observational/></kml>",
        "<kml>",
    ],
)
def test_kml_is_kml_alone(tmp_path, text):
    path = tmp_path / "a.kml"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=r"not plain KML|not a vector file"):
        read_aoi(path, UTM)


def test_the_name_must_be_that_of_the_format(tmp_path):
    # MapInfo's driver, which follows references, goes by the name and skips lines that it does not know.
    path = tmp_path / "a.tab"
    path.write_bytes(b"\0\0\x27\x0a!table\n")
    with pytest.raises(InvalidOption, match=r"holds Shapefile; rename it so that it ends in \.shp"):
        read_aoi(path, UTM)


def test_a_database_cannot_call_out(tmp_path):
    path = write(tmp_path / "a.gpkg", on_the_ground(shapely.box(10, 10, 20, 20), UTM), UTM.crs)
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE gpkg_contents RENAME TO old")
        database.execute("CREATE VIEW gpkg_contents AS SELECT * FROM old WHERE ogr_geocode('x') IS NULL")
    database.close()
    with pytest.raises(InvalidOption, match="cannot be read"):
        read_aoi(path, UTM)


@pytest.mark.parametrize(
    "declared",
    [
        "CREATE VIRTUAL TABLE other USING VirtualShape('{0}/secret', UTF-8, 32633)",
        "CREATE VIRTUAL TABLE other USING VirtualOGR('{0}/secret.gpkg')",
        "CREATE VIRTUAL TABLE other /* USING rtree( */ USING VirtualText('{0}/secret.csv')",
        "CREATE VIRTUAL TABLE other--\n USING rtree_(a)",
        "CREATE/**/VIRTUAL TABLE other USING VirtualOGR('{0}/secret.gpkg')",
        "create\tvirtual table other using VirtualOGR('{0}/secret.gpkg')",
        b"CREATE VIRTUAL TABLE other USING VirtualOGR('/secret.gpkg')",
    ],
)
@pytest.mark.parametrize("suffix", [".gpkg", ".sqlite"])
@pytest.mark.parametrize("page", [0, 2])
def test_a_database_holds_its_own_tables(tmp_path, declared, suffix, page):
    # SpatiaLite, which a GDAL may have been built with, reads files as tables.
    path = write(tmp_path / "a.gpkg", on_the_ground(shapely.box(10, 10, 20, 20), UTM), UTM.crs)
    assert read_aoi(path, UTM).area == pytest.approx(100)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA writable_schema = 1")
        text = declared if isinstance(declared, bytes) else declared.format(tmp_path)
        row = ("table", "other", "other", page, text)
        database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
    database.close()
    with pytest.raises(InvalidOption, match="table other is virtual"):
        read_aoi(path.rename(path.with_suffix(suffix)), UTM)


def test_a_database_has_views_triggers_and_indices(tmp_path):
    path = write(tmp_path / "a.gpkg", on_the_ground(shapely.box(10, 10, 20, 20), UTM), UTM.crs)
    with sqlite3.connect(path) as database:
        database.execute("create table notes (text primary key, virtual)")
        database.execute("create  unique\nindex one on notes (virtual)")
        database.execute("create index two on notes (text, virtual)")
        database.execute("create view seen as select text from notes")
        database.execute("create trigger clear after insert on notes begin delete from notes; end")
        database.execute("create virtual table boxes using rtree(id, west, east)")
        database.execute("create virtual table words using fts5(text)")
    database.close()
    assert check_vector_file(path, "a").name == "GeoPackage"


def test_a_geodatabase_holds_nothing_else(tmp_path):
    path = tmp_path / "a.gdb"
    frame = geopandas.GeoDataFrame(geometry=[on_the_ground(shapely.box(10, 10, 20, 20), UTM)], crs=UTM.crs)
    frame.to_file(path, driver="OpenFileGDB")
    assert read_aoi(path, UTM).area == pytest.approx(100, rel=1e-3)
    (path / "a.tab").write_text("!table")
    with pytest.raises(InvalidOption, match=r"a\.tab, which is no part of a file geodatabase"):
        read_aoi(path, UTM)
    (tmp_path / "b.gdb").mkdir()
    with pytest.raises(InvalidOption, match="is not a file geodatabase"):
        read_aoi(tmp_path / "b.gdb", UTM)


@given(
    content=st.binary(max_size=200),
    start=st.sampled_from([b"", b"{", b"fgb\x03fgb\x01", b"<kml>", b"<?xml?>"]),
)
def test_any_bytes_get_a_format_or_one_line(tmp_path_factory, content, start):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(start + content)
    message = ""
    try:
        assert check_vector_file(path, "any.json") in FORMATS
    except InvalidOption as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("root", ["svg", "kml", "a x='opengis.net/gml'"])
def test_many_comments_are_no_obstacle(root):
    """It ends at all: what tries each way to part them does not."""
    name = {"svg": None, "kml": "KML"}.get(root, "GML")
    for comment in ("<!---->", "<!-- a -->\n"):
        start = comment * ((HEAD - len(root) - 2) // len(comment))
        found = format_of(f"{start}<{root}>".encode())
        assert (found and found.name) == name


def test_many_comments_before_a_drawing_are_no_obstacle():
    start = "999\n\n" * 200
    assert format_of(start.encode()) is None
    assert format_of(f"{start} 0\r\nSECTION\r\n".encode()).name == "DXF"


def test_a_scene_without_crs_takes_no_file(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(shapely.box(0, 0, 1, 1))))
    with pytest.raises(InvalidOption, match="scene has no CRS"):
        read_aoi(path, GeoBox(10, 10, (1, 0, 0, 0, 1, 0), None))


def test_a_box_is_in_the_scenes_crs():
    area = bbox_aoi(5e5 + 3, 5e6 - 6, 5e5 + 9, 5e6 - 3, UTM)
    assert area.bounds == pytest.approx((10, 10, 30, 20))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 0, 0, 1), "WEST < EAST"),
        ((0, 0, 1, 1), "outside the scene"),
        ((float("nan"), 0, 1, 1), "WEST < EAST"),
    ],
)
def test_boxes_that_make_no_sense(box, message):
    with pytest.raises(InvalidOption, match=message):
        bbox_aoi(*box, UTM)


halves = st.integers(-20, 280).map(lambda value: value / 2)


@given(
    corners=st.lists(st.tuples(halves, halves), min_size=3, max_size=8),
    row=st.integers(0, 60),
    col=st.integers(0, 60),
    height=st.integers(0, 80),
    width=st.integers(0, 80),
)
def test_a_pixel_is_inside_if_its_centre_is_through_any_window(corners, row, col, height, width):
    area = shapely.make_valid(shapely.Polygon(corners))
    rows, cols = np.mgrid[:140, :140] + 0.5
    expected = shapely.contains_xy(area, cols, rows)
    window = Window(row, col, height, width)
    assert np.array_equal(aoi_mask(area, window), expected[window.within(Window(0, 0, 140, 140))])


def test_threads_may_ask_at_once():
    """In a process of its own: what goes wrong there is a crash."""
    script = """
import threading
import numpy as np, shapely
from geoseg.vectorfiles.aoi import aoi_mask
from geoseg.values import Window

turn = np.linspace(0, 2 * np.pi, 20001)[:-1]
ring = np.c_[500 + 400 * np.cos(turn) * (1 + 0.05 * np.sin(40 * turn)), 500 + 400 * np.sin(turn)]
for _ in range(10):
    area, start = shapely.Polygon(ring), threading.Barrier(6)
    ask = lambda: (start.wait(), aoi_mask(area, Window(0, 0, 1000, 1000)))
    threads = [threading.Thread(target=ask) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
