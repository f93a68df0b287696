"""Safety: a vector file is plain data, or refused in one line; never a way to other files or the network."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import tracemalloc
from pathlib import Path

import geopandas
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.cli import run
from geoseg.errors import InvalidOption
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import GeoBox
from geoseg.vectorfiles import formats
from geoseg.vectorfiles.crs import other_file
from geoseg.vectorfiles.formats import FORMATS, check_vector_file, memory_to_read
from geoseg.vectorfiles.layers import read_layer
from tests.vectorfiles.foreign import ogr

UTM = GeoBox(200, 300, NORTH_UP, "EPSG:32633")
GROUND = shapely.transform(shapely.box(10, 10, 20, 20), UTM.to_crs)


def write(path):
    geopandas.GeoDataFrame({"a": [1]}, geometry=[GROUND], crs=UTM.crs).to_file(path)
    return path


def refused(path, message):
    with pytest.raises(InvalidOption, match=message) as caught:
        read_layer(path, str(path))
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
    write(tmp_path / "secret.gpkg")
    path = tmp_path / name
    path.write_bytes(READS_ANOTHER_FILE[name](tmp_path))
    # The attack is real: without the check, GDAL reads the other file.
    assert len(pyogrio.raw.read(path)[2]) == 1
    refused(path, "cannot be read as|not a vector file|but is no")


def test_a_run_refuses_it_in_one_line(tmp_path, capfd):
    write(tmp_path / "secret.gpkg")
    scene = make_scene(tmp_path / "scene.tif")
    path = tmp_path / "area.json"
    path.write_text(json.dumps(pipeline(tmp_path)))
    out = tmp_path / "out.gpkg"
    assert run(["predict", str(scene), "--out", str(out), "--aoi", str(path)]) == 2
    assert run(["evaluate", str(path), "--prediction", str(scene)]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line.count("area.json: cannot be read as GeoJSON") for line in lines] == [1, 1]
    assert not out.exists()


@pytest.fixture
def listener():
    """An address where a connection is noticed: accepting does not block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def link(listener, kind="link"):
    href = f"http://127.0.0.1:{listener.getsockname()[1]}/crs"
    return {"crs": {"type": kind, "properties": {"href": href, "url": href}}}


@pytest.mark.parametrize(
    "content",
    [
        lambda at: json.dumps({"type": "FeatureCollection", "features": [FEATURE]} | link(at)),
        lambda at: json.dumps({"type": "FeatureCollection", "features": [FEATURE]} | link(at, "URL")),
        lambda at: json.dumps(FEATURE | {"geometry": SQUARE | link(at)}),
        lambda at: (
            json.dumps(FEATURE | link(at)).replace("crs", "\\u0063rs", 1).replace("link", "l\\u0069nk")
        ),
        lambda at: json.dumps(FEATURE) + "\n" + json.dumps(FEATURE | link(at)),
        lambda at: json.dumps(FEATURE | link(at)).replace(", ", ", // more\n", 1),
    ],
    ids=["link", "url", "geometry", "escapes", "lines", "comment"],
)
def test_a_crs_is_not_fetched(tmp_path, listener, content):
    path = tmp_path / "a.geojson"
    path.write_text(content(listener))
    refused(path, "cannot be read as GeoJSON")
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_crs_by_name_is_read(tmp_path):
    path = tmp_path / "a.geojson"
    area = shapely.geometry.mapping(GROUND)
    named = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(
        "\ufeff \n"
        + json.dumps({"type": "FeatureCollection", "crs": named, "features": [FEATURE | {"geometry": area}]})
    )
    found = read_layer(path, "a")
    assert found.crs.to_epsg() == 32633
    assert found.geometries[0].equals(GROUND)


def test_attributes_may_speak_of_links(tmp_path):
    path = tmp_path / "a.geojson"
    area = shapely.geometry.mapping(shapely.box(14.9, 44, 15.1, 46))
    properties = {"type": "link", "crs": "link", "url": "http://127.0.0.1/", "text": "<b>GML</b>"}
    path.write_text(json.dumps(FEATURE | {"geometry": area, "properties": properties}))
    assert read_layer(path, "a", columns=["type", "text"]).columns["text"].tolist() == ["<b>GML</b>"]


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE kml [<!ENTITY a SYSTEM "file:///etc/passwd">]><kml>&a;</kml>',
        "<kml>",
        "<gml/>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "hz"])
def test_kml_is_kml_alone(tmp_path, text, encoding):
    path = tmp_path / "a.kml"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?>{text}', encoding)
    refused(path, "cannot be read as KML" if "DOCTYPE" not in text else "declares a type of document")


def test_a_billion_laughs_are_not_laughed(tmp_path):
    entities = ['<!ENTITY a0 "ha">'] + [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)]
    text = f'<?xml version="1.0" encoding="utf-16"?><!DOCTYPE k [{"".join(entities)}]><kml>&a9;</kml>'
    (tmp_path / "a.kml").write_text(text, "utf-16")
    refused(tmp_path / "a.kml", "declares a type of document")


def test_the_name_must_be_that_of_the_format(tmp_path):
    # MapInfo's driver, which follows references, goes by the name and skips lines that it does not know.
    path = tmp_path / "a.tab"
    path.write_bytes(b"\0\0\x27\x0a!table\n")
    refused(path, r"holds Shapefile; rename it so that it ends in \.shp")


def test_a_database_cannot_call_out(tmp_path):
    path = write(tmp_path / "a.gpkg")
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE gpkg_contents RENAME TO old")
        database.execute("CREATE VIEW gpkg_contents AS SELECT * FROM old WHERE ogr_geocode('x') IS NULL")
    database.close()
    refused(path, "cannot be read")


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
    path = write(tmp_path / "a.gpkg")
    assert len(read_layer(path, "a").geometries) == 1
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA writable_schema = 1")
        text = declared if isinstance(declared, bytes) else declared.format(tmp_path)
        row = ("table", "other", "other", page, text)
        database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
    database.close()
    refused(path.rename(path.with_suffix(suffix)), "table other is virtual")


def test_a_database_has_views_triggers_and_indices(tmp_path):
    path = write(tmp_path / "a.gpkg")
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


ENDLESS = "WITH r(fid, geom) AS (SELECT 1, x'00' UNION ALL SELECT fid + 1, geom FROM r) SELECT * FROM r"


@pytest.mark.parametrize("name", ["loop", "gpkg_contents", "gpkg_spatial_ref_sys", 'a "quoted" name'])
@pytest.mark.parametrize("scalar", [False, True])
def test_a_view_has_an_end(tmp_path, monkeypatch, name, scalar):
    monkeypatch.setattr(formats, "MOST_STEPS", 10**5)
    path = write(tmp_path / "a.gpkg")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA legacy_alter_table = ON")
        if name.startswith("gpkg"):
            database.execute(f"ALTER TABLE {name} RENAME TO old")
        query = f"SELECT 1 AS fid, (SELECT max(fid) FROM ({ENDLESS})) AS geom" if scalar else ENDLESS
        quoted = name.replace('"', '""')
        database.execute(f'CREATE VIEW "{quoted}" AS {query}')
    database.close()
    refused(path, "its view .* has no end")


def test_a_geodatabase_holds_nothing_else(tmp_path):
    path = tmp_path / "a.gdb"
    frame = geopandas.GeoDataFrame(geometry=[GROUND], crs=UTM.crs)
    frame.to_file(path, driver="OpenFileGDB")
    assert len(read_layer(path, "a").geometries) == 1
    (path / "a.tab").write_text("!table")
    refused(path, r"a\.tab, which is no part of a file geodatabase")
    (tmp_path / "b.gdb").mkdir()
    refused(tmp_path / "b.gdb", "is not a file geodatabase")


@given(
    content=st.binary(max_size=200),
    start=st.sampled_from(
        [b"", b"{", b'{"type":', b"fgb\x03fgb\x01", b"<kml>", b"SQLite format 3\0", b"PAR1"]
    ),
    suffix=st.sampled_from([suffix for one in FORMATS for suffix in one.suffixes]),
)
def test_any_bytes_are_read_or_get_one_line(tmp_path_factory, content, start, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(start + content)
    message = ""
    try:
        read_layer(path, "any")
    except InvalidOption as error:
        message = str(error)
    assert "\n" not in message


DATUM = 'DATUM["y",SPHEROID["WGS 84",6378137,298.257223563]{0}],PRIMEM["Greenwich",0]'
DEGREES = 'UNIT["degree",0.0174532925199433]'
GRIDS = {
    "shift": f'GEOGCS["x",{DATUM},{DEGREES}]'.replace("{0}", ',EXTENSION["PROJ4_GRIDS","{0}"]'),
    "height": (
        f'COMPD_CS["c",GEOGCS["x",{DATUM.replace("{0}", "")},{DEGREES}],VERT_CS["v",VERT_DATUM["d",2005,'
        'EXTENSION["PROJ4_GRIDS","{0}"]],UNIT["metre",1],AXIS["Up",UP]]]'
    ),
    "string": (
        f'PROJCS["x",GEOGCS["y",{DATUM.replace("{0}", "")},{DEGREES}],PROJECTION["Mercator_1SP"],'
        'PARAMETER["central_meridian",0],PARAMETER["scale_factor",1],UNIT["metre",1],'
        'EXTENSION["PROJ4","+proj=merc +a=6378137 +b=6378137 +nadgrids=@{0} +units=m +no_defs"]]'
    ),
}

# Strings of PROJ's in which it finds a file.
STRINGS = {
    "plus": "+proj=longlat +ellps=WGS84 +nadgrids={0}",
    "no_plus": "+proj=longlat +ellps=WGS84 nadgrids={0} +no_defs",
    "no_plus_at_all": "proj=longlat ellps=WGS84 nadgrids={0} type=crs",
    "plus_apart": "+proj=longlat +ellps=WGS84 + nadgrids={0}",
    "spaces": "+proj=longlat +ellps=WGS84 +nadgrids = {0}",
    "quoted": '+proj=longlat +ellps=WGS84 +nadgrids="{0}"',
    "optional": "+proj=longlat +ellps=WGS84 +nadgrids=@{0}",
    "second": "+proj=longlat +ellps=WGS84 +nadgrids=null,{0}",
    "heights": "+proj=longlat +ellps=WGS84 +geoidgrids={0} +vunits=m",
    "pipeline": "+proj=pipeline +step +proj=hgridshift +grids={0}",
    "triangles": "+proj=tinshift +file={0}",
    "model": "+proj=defmodel +model={0}",
    "init": "+init={0}:foo",
    "init_no_plus": "init={0}:foo",
}
EXTENSION = (
    f'GEOGCS["x",{DATUM.replace("{0}", "")},{DEGREES},EXTENSION["PROJ4","+proj=longlat +ellps=WGS84 {{0}}"]]'
)
GRIDS |= {
    "no_plus": EXTENSION.format("nadgrids={0} +no_defs"),
    "no_plus_heights": EXTENSION.format("geoidgrids={0} +no_defs"),
    "plus_apart": EXTENSION.format("+ nadgrids={0} +no_defs"),
}


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize(
    "place", ["/etc/passwd", "../secret.gsb", "C:\\secret.gsb", "http://127.0.0.1/a.tif"]
)
def test_a_crs_cannot_name_another_file(tmp_path, kind, place):
    path = tmp_path / "a.csv"
    path.write_text('WKT\n"POLYGON ((15 45,15.1 45,15.1 45.1,15 45))"\n')
    path.with_suffix(".prj").write_text(GRIDS[kind].format(place))
    with pytest.raises(InvalidOption, match="its CRS refers to another file"):
        read_layer(path, str(path))
    path.with_suffix(".prj").write_text(GRIDS[kind].format("shifts_of_1992.gsb"))
    assert read_layer(path, str(path)).crs is not None


@pytest.mark.parametrize("text", STRINGS.values(), ids=STRINGS)
def test_files_in_strings_of_proj_are_found(text):
    for place in ("/etc/passwd", "../secret.gsb", "./a", "a/b", "~/a", "http://127.0.0.1/a.tif", "C:\\a.gsb"):
        assert other_file(text.format(place))
        assert other_file(EXTENSION.format(text.format(place).replace('"', '""')))
    assert bool(other_file(text.format("a_1992-v2.gsb"))) == ("quoted" in text or '"' in text)


@pytest.mark.parametrize(
    "text",
    [
        'PARAMETERFILE["a ""file","/etc/passwd"]',
        'PARAMETERFILE["a","b""/etc/passwd"]',
        'parameterfile ( "a" , "/etc/passwd" )',
        'PARAMETERFILE["a",\u201c/etc/passwd\u201d]',
        'EXTENSION["PROJ4_GRIDS" , "/etc/passwd"]',
    ],
)
def test_files_of_parameters_are_found(text):
    assert other_file(text)


@pytest.mark.parametrize(
    "text",
    [
        *("EPSG:32633", "urn:ogc:def:crs:EPSG::32633", "http://www.opengis.net/def/crs/EPSG/0/32633"),
        *("+init=epsg:4326", "+proj=utm +zone=33 +ellps=WGS84 +towgs84=0,0,0 +units=m +no_defs"),
        *('PARAMETERFILE["a ""file","a-2.gsb",ID["a",1]]', 'EXTENSION["PROJ4_GRIDS","a.gsb,@b"]'),
        *("+proj=merc +a=6378137 +nadgrids=@null +wktext", "http://a/?proj=b&grids=/c", "model=A/B; file=/c"),
        *(
            pyproj.CRS(code).to_wkt(version)
            for code in (3857, 25832, 7415)
            for version in ("WKT1_GDAL", "WKT2_2019")
        ),
    ],
)
def test_an_ordinary_crs_names_no_file(text):
    assert other_file(text) is None


RING = [[15, 45], [15.1, 45], [15.1, 45.1], [15, 45]]
AXES = (
    'CS[ellipsoidal,2],AXIS["latitude",north],AXIS["longitude",east],ANGLEUNIT["degree",0.0174532925199433]'
)
BOUND = pyproj.CRS.from_wkt(
    f"""BOUNDCRS[SOURCECRS[GEOGCRS["u",DATUM["u",ELLIPSOID["WGS 84",6378137,298.257223563]],{AXES}]],
    TARGETCRS[GEOGCRS["v",DATUM["v",ELLIPSOID["WGS 84",6378137,298.257223563]],{AXES}]],
    ABRIDGEDTRANSFORMATION["t",METHOD["NTv2",ID["EPSG",9615]],
    PARAMETERFILE["Latitude and longitude difference file","PLACE"]]]"""
)


def features(**members):
    place = {
        "type": "Feature",
        "properties": {"a": 1},
        "geometry": {"type": "Polygon", "coordinates": [RING]},
    }
    return json.dumps({"type": "FeatureCollection", **members, "features": [place]})


# Texts that have a CRS, which is to be put in, written so that GDAL opens the file that it names.
NAMES_A_CRS = {
    "name.geojson": lambda crs: features(crs={"type": "name", "properties": {"name": crs}}),
    "upper.geojson": lambda crs: features(crs={"type": "NAME", "properties": {"name": crs}}),
}


@pytest.mark.parametrize("crs", ["+proj=longlat +ellps=WGS84 +nadgrids={0}", "+init={0}:a", BOUND.to_wkt()])
@pytest.mark.parametrize("name", NAMES_A_CRS)
def test_a_crs_in_text_opens_no_file(tmp_path, name, crs):
    # A pipe that nobody writes into: whoever opens it, waits for ever.
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name
    crs = crs.replace("{0}", str(tmp_path / "pipe")).replace("PLACE", str(tmp_path / "pipe"))
    path.write_text(NAMES_A_CRS[name](crs))
    with pytest.raises(InvalidOption, match="its CRS refers to another file") as caught:
        read_layer(path, str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("crs", ["EPSG:4326", "urn:ogc:def:crs:EPSG::4326", "urn:ogc:def:crs:OGC:1.3:CRS84"])
@pytest.mark.parametrize("name", NAMES_A_CRS)
def test_a_crs_in_text_may_be_named(tmp_path, name, crs):
    path = tmp_path / name
    path.write_text(NAMES_A_CRS[name](crs))
    assert len(read_layer(path, str(path)).geometries) == 1


def test_a_crs_in_json_within_text_opens_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "a.geojson"
    path.write_text(
        NAMES_A_CRS["name.geojson"](" " + BOUND.to_json().replace("PLACE", str(tmp_path / "pipe")))
    )
    with pytest.raises(InvalidOption, match=r"holds no CRS|refers to another file"):
        read_layer(path, str(path))


@pytest.mark.parametrize("suffix", [".shp", ".fgb", ".gpkg", ".sqlite"])
def test_a_crs_in_a_binary_file_opens_no_file(tmp_path, suffix):
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / f"a{suffix}"
    drivers = {".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf", ".gpkg": "GPKG", ".sqlite": "SQLite"}
    extended = EXTENSION.format(f"+nadgrids={tmp_path / 'pipe2'}")
    crs = extended if suffix == ".fgb" else UTM.crs
    ogr(drivers[suffix])(path, GROUND, crs)
    wkt = BOUND.to_wkt().replace("PLACE", str(tmp_path / "pipe"))
    if suffix == ".shp":
        path.with_suffix(".prj").unlink()
        path.with_suffix(".PRJ").write_text(extended.replace("pipe2", "pipe"))
    elif suffix == ".fgb":
        assert b"pipe2" in path.read_bytes()
    else:
        geo = suffix == ".gpkg"
        table, column = ("gpkg_spatial_ref_sys", "definition") if geo else ("spatial_ref_sys", "srtext")
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute(f"UPDATE {table} SET {column} = ?", [wkt])
    with pytest.raises(InvalidOption, match="its CRS refers to another file"):
        read_layer(path, str(path))


@pytest.mark.parametrize("found", FORMATS, ids=lambda found: found.name)
def test_the_page_on_formats_names_them_all(found):
    page = (Path(__file__).parents[2] / "docs/vectors.md").read_text("utf-8")
    assert all(f"{suffix}`" in page for suffix in found.suffixes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a b.kmz", b"PK\x03\x04"),
        ("a b.gml", b"<?xml version='1.0'?><a xmlns='http://www.opengis.net/gml'/>"),
        ("a b.tab", b"!table\n"),
        ("a b.mif", b"Version 300\n"),
        ("a b.osm", b"<osm/>"),
        ("a b.topojson", b'{"type": "Topology"}'),
        ("a b.dwg", b"AC1032\0"),
        ("a b.gpx", b"<?xml version='1.0'?><gpx version='1.1'/>"),
        ("a b.dxf", b"AutoCAD Binary DXF\r\n\x1a\0"),
        ("a b.xlsx", b"PK\x03\x04"),
    ],
)
def test_what_is_not_read_is_to_be_converted(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidOption, match=r"convert it: ogr2ogr 'a b\.gpkg' 'a b\.\w+'$"):
        read_layer(tmp_path / name, name)


@pytest.mark.parametrize(
    "name", ["a;b", "a!b", "a.zip!b", "a#b", "a?b", "a%20b", "it's", "-a", "C:x", "a\nb", "ü"]
)
@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".fgb"])
def test_odd_names_are_read(tmp_path, name, suffix):
    import geopandas

    made = tmp_path / "made"
    made.mkdir()
    frame = geopandas.GeoDataFrame({"kind": ["x"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32633")
    frame.to_file(made / f"plain{suffix}")
    for file in made.iterdir():
        file.rename(tmp_path / f"{name}{file.suffix}")
    layer = read_layer(tmp_path / f"{name}{suffix}", "odd", columns=["kind"])
    assert shapely.area(layer.geometries).tolist() == [1]
    assert layer.columns["kind"].tolist() == ["x"]


HOLLOW = {
    "a.geojson": '{"type": "FeatureCollection", "features": [' + "[]," * 400_000 + "[]]}",
    "b.geojson": '{"type": "Polygon", "coordinates": [' + "[[1]]," * 300_000 + "[]]}",
    "a.kml": "<kml>" + "<a/>" * 300_000 + "</kml>",
    "a.csv": "wkt" + ",a" * 1000 + "\n" + ("," * 1000 + "\n") * 1200,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOLLOW)
def test_what_text_takes_in_memory_is_known_before(tmp_path, name):
    path = tmp_path / name
    path.write_text(HOLLOW[name])
    kind = check_vector_file(path, name)
    bound = memory_to_read(path, kind)
    with pytest.raises(InvalidOption, match=r"may take 1?[0-9]{2} MB, more than the 1 MB .* ogr2ogr"):
        read_layer(path, name, memory=10**6)
    tracemalloc.start()
    with contextlib.suppress(InvalidOption):
        read_layer(path, name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < bound


def test_a_run_reads_no_more_than_its_memory(tmp_path, capfd):
    scene = make_scene(tmp_path / "scene.tif")
    (tmp_path / "a.geojson").write_text(
        '{"type": "FeatureCollection", "features": [' + "[]," * 500_000 + "[]]}"
    )
    command = [
        "predict",
        str(scene),
        "--out",
        str(tmp_path / "out.gpkg"),
        "--aoi",
        str(tmp_path / "a.geojson"),
    ]
    assert run([*command, "--max-memory", "240MB"]) == 2
    assert "give a larger --max-memory" in capfd.readouterr().err
