"""Formats of other programs: read as they were written, and never a way to other files or the network."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import warnings
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.cli import run
from geoseg.errors import InvalidOption
from geoseg.labels.polygons import read_polygons
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import GeoBox
from geoseg.vectorfiles import layers as vectors
from geoseg.vectorfiles.aoi import read_aoi
from geoseg.vectorfiles.crs import other_file
from geoseg.vectorfiles.csv import read_csv
from geoseg.vectorfiles.formats import FORMATS, GML
from geoseg.vectorfiles.layers import read_layer
from geoseg.vectorfiles.text import check_table, without_schema
from tests.raster.serve import served
from tests.vectorfiles.foreign import WRITERS, dxf_hatch, dxf_outline, ewkt, ogr, osm_xml

UTM = GeoBox(200, 300, NORTH_UP, "EPSG:32633")
AREA = shapely.Polygon([(10, 20), (110, 25), (90, 150)])
GROUND = shapely.transform(AREA, UTM.to_crs)


def write(path):
    writer, attribute = WRITERS[path.name]
    writer(path, GROUND, UTM.crs)
    return attribute


@pytest.mark.parametrize("name", WRITERS)
def test_polygons_classes_and_crs_come_back(tmp_path, name):
    attribute = write(tmp_path / name)
    # Of a pixel of 0.3 m: OpenStreetMap's coordinates are rounded to 1e-7 degrees.
    assert shapely.hausdorff_distance(read_aoi(tmp_path / name, UTM), AREA) < 0.05
    found = read_polygons(tmp_path / name, columns=(attribute,))
    assert list(found.values(attribute)) == ["house"]
    layer = read_layer(tmp_path / name, name, columns=[attribute])
    assert list(layer.columns[attribute]) == ["house"]
    assert layer.crs is not None
    assert layer.crs.to_epsg() == (4326 if "osm" in name else 32633)


def test_runs_take_them(tmp_path, capfd):
    scene = make_scene(tmp_path / "scene.tif", size=(200, 300))
    for name in ("table.tab", "three.gml", "ewkt.csv"):
        write(tmp_path / name)
    table, marks, rows = (str(tmp_path / name) for name in ("table.tab", "three.gml", "ewkt.csv"))
    assert run(["plan", str(scene), "--aoi", table]) == 0
    capfd.readouterr()
    options = ["--scene", str(scene), "--labelled-area", rows, "--json"]
    assert run(["evaluate", table, "--prediction", marks, *options]) == 0
    pixels = json.loads(capfd.readouterr().out)["pixels"]
    assert pixels["mean_iou"]["value"] == 1
    assert pixels["classes"][0]["truth_pixels"] == pytest.approx(AREA.area, rel=0.01)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3035", "EPSG:31469"])
@pytest.mark.parametrize("name", ["three.gml", "two.gml", "ewkt.csv"])
def test_north_first_or_east_first(tmp_path, name, crs):
    place = pyproj.Transformer.from_crs(UTM.crs, crs, always_xy=True).transform
    ground = shapely.transform(shapely.segmentize(GROUND, 3), place, interleaved=False)
    WRITERS[name][0](tmp_path / name, ground, crs)
    assert shapely.hausdorff_distance(read_aoi(tmp_path / name, UTM), AREA) < 0.05


@pytest.mark.parametrize(
    "name", ["closed.dxf", "hatch.dxf", "exchange.mif", "table.tab", "ewkt.csv", "three.gml"]
)
def test_lines_may_end_as_on_windows(tmp_path, name):
    path = tmp_path / name
    write(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert shapely.hausdorff_distance(read_aoi(path, UTM), AREA) < 0.05


@pytest.mark.parametrize("found", FORMATS, ids=lambda found: found.name)
def test_the_page_on_formats_names_them_all(found):
    page = (Path(__file__).parents[2] / "docs/vectors.md").read_text("utf-8")
    assert all(f"{suffix}`" in page for suffix in found.suffixes)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def secret(tmp_path):
    """A file beside the folder that a stranger's file is in."""
    path = tmp_path / "elsewhere" / "secret.tab"
    path.parent.mkdir()
    ogr("MapInfo File")(path, GROUND, UTM.crs)
    return path


@pytest.fixture
def inbox(tmp_path):
    path = tmp_path / "inbox"
    path.mkdir()
    return path


def read_without_checks(path):
    """What GDAL makes of a file by itself."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        return list(pyogrio.raw.read(path)[2])
    return []


def mosaic(secret):
    source = f"<SrcDataSource>{secret}</SrcDataSource>"
    return f"<OGRVRTDataSource><OGRVRTLayer name='secret'>{source}</OGRVRTLayer></OGRVRTDataSource>"


def seamless(path, secret):
    frame = geopandas.GeoDataFrame(
        {"Table": [f"../{secret.parent.name}/{secret.name}"], "Description": ["a"]},
        geometry=[GROUND],
        crs=UTM.crs,
    )
    pyogrio.write_dataframe(frame, path, driver="MapInfo File")
    lines = 'begin_metadata\n"\\IsSeamless" = "TRUE"\nend_metadata\n'
    path.write_text(path.read_text() + lines)


READS_ANOTHER_FILE = {
    "seamless.tab": seamless,
    "mosaic.tab": lambda path, secret: path.write_text("!table\n" + mosaic(secret)),
    "mosaic.mif": lambda path, secret: path.write_text("Version 300\n" + mosaic(secret)),
    "mosaic.dxf": lambda path, secret: path.write_text("  0\nSECTION\n  2\nHEADER\n" + mosaic(secret)),
}


@pytest.mark.parametrize("name", READS_ANOTHER_FILE)
def test_a_file_cannot_name_another_one_to_be_read(inbox, secret, name):
    path = inbox / name
    READS_ANOTHER_FILE[name](path, secret)
    assert len(read_without_checks(path)) == 1, "the attack is no real one"
    with pytest.raises(InvalidOption, match="not plain") as caught:
        read_aoi(path, UTM)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def services(url):
    """What a web service says of itself: GDAL takes it for the service, and asks it."""
    get = f"<DCP><HTTP><Get xlink:href='{url}/service'/></HTTP></DCP>"
    calls = "".join(
        f"<Operation name='{name}'>{get}</Operation>" for name in ("DescribeFeatureType", "GetFeature")
    )
    kinds = "<FeatureTypeList><FeatureType><Name>a</Name></FeatureType></FeatureTypeList>"
    return (
        f"<WFS_Capabilities version='1.1.0'><OperationsMetadata>{calls}</OperationsMetadata>{kinds}"
        "</WFS_Capabilities>"
    )


def described(url, mark):
    """Where a service is, as GDAL writes it down: the mark may be in small letters."""
    return f"<{mark}><URL>{url}/service</URL><!-- <xs:schema opengis.net/gml --></{mark}>"


ASKS_A_SERVICE = {
    "service.json": lambda url: f'{{"a": "{services(url)}"}}',
    "service.mif": lambda url: "Version 300\n" + services(url),
    "service.gml": lambda url: described(url, "OGRWFSDataSource"),
    "lower.gml": lambda url: described(url, "ogrwfsdatasource"),
    "mixed.gml": lambda url: described(url, "OgrWfsDataSource"),
}


@pytest.mark.parametrize("name", ASKS_A_SERVICE)
def test_a_file_cannot_have_a_service_asked(tmp_path, server, name):
    path = tmp_path / name
    path.write_text(ASKS_A_SERVICE[name](server.url))
    with pytest.raises(InvalidOption, match="not plain"):
        read_aoi(path, UTM)
    assert server.log() == []
    read_without_checks(path)
    assert server.log(), "the attack is no real one"


def gml(path, *, at=("", ""), attribute=""):
    ogr("GML")(path, GROUND, UTM.crs)
    path.with_suffix(".xsd").unlink()
    text = path.read_text().replace(*at)
    path.write_text(text.replace("<ogr:kind>", f"<ogr:kind {attribute}>"))


def test_the_schema_of_gml_is_not_fetched(tmp_path, server):
    query = "SERVICE=WFS&amp;VERSION=1.1.0&amp;REQUEST=DescribeFeatureType&amp;TYPENAME=a"
    path = tmp_path / "a.gml"
    gml(path, at=("a.xsd", f"{server.url}/wfs?{query}"))
    text = path.read_text().replace("ogr:FeatureCollection", "wfs:FeatureCollection")
    path.write_text(text.replace("xmlns:ogr", 'xmlns:wfs="http://www.opengis.net/wfs/2.0" xmlns:ogr'))
    assert shapely.hausdorff_distance(read_aoi(path, UTM), AREA) < 0.05
    assert server.log() == []
    assert [one.name for one in tmp_path.iterdir()] == ["a.gml"]
    read_without_checks(path)
    assert server.log(), "the attack is no real one"


def test_links_in_gml_are_not_followed(tmp_path, server):
    path = tmp_path / "a.gml"
    gml(
        path,
        at=("<ogr:FeatureCollection", '<ogr:FeatureCollection xmlns:xlink="http://www.w3.org/1999/xlink"'),
        attribute=f'xlink:href="{server.url}/other.gml#b"',
    )
    option = "GML_SKIP_RESOLVE_ELEMS"
    pyogrio.set_gdal_config_options({option: "NONE"})
    try:
        assert shapely.hausdorff_distance(read_aoi(path, UTM), AREA) < 0.05
        assert server.log() == []
        assert pyogrio.get_gdal_config_option(option) == "NONE"
        read_without_checks(path)
        assert server.log(), "the attack is no real one"
    finally:
        pyogrio.set_gdal_config_options({option: None})


def test_a_known_kind_of_gml_has_no_schema_fetched(tmp_path, server):
    """GDAL's registry knows where the schemas of some are; here the user's says so."""
    path = tmp_path / "a.gml"
    space = "http://example.org/a"
    gml(path, at=("http://ogr.maptools.org/", space))
    registry = tmp_path / "registry.xml"
    kind = f'<featureType elementName="areas" schemaLocation="{server.url}/a.xsd"/>'
    kind += kind.replace("areas", "a")
    registry.write_text(
        f'<gml_registry><namespace prefix="ogr" uri="{space}">{kind}</namespace></gml_registry>'
    )
    option = "GML_REGISTRY"
    pyogrio.set_gdal_config_options({option: str(registry)})
    try:
        assert len(read_layer(path, "a").geometries) == 1
        assert server.log() == []
        assert pyogrio.get_gdal_config_option(option) == str(registry)
        read_without_checks(path)
        assert server.log(), "the attack is no real one"
    finally:
        pyogrio.set_gdal_config_options({option: None})


def test_threads_that_read_gml_leave_the_users_settings(tmp_path):
    path = tmp_path / "a.gml"
    gml(path)
    option = "GML_SKIP_RESOLVE_ELEMS"
    pyogrio.set_gdal_config_options({option: "NONE"})
    seen = []
    inside, go = threading.Event(), threading.Event()

    def first():
        with vectors._plain(path, GML):
            inside.set()
            go.wait(5)

    def second():
        with vectors._plain(path, GML):
            seen.append(go.is_set())

    try:
        one, two = threading.Thread(target=first), threading.Thread(target=second)
        one.start()
        inside.wait(5)
        two.start()
        two.join(0.2)  # without a lock it would be through
        go.set()
        one.join()
        two.join()
        assert seen == [True]
        assert pyogrio.get_gdal_config_option(option) == "NONE"
    finally:
        pyogrio.set_gdal_config_options({option: None})


def test_a_crs_of_gml_is_not_fetched(tmp_path, server):
    path = tmp_path / "a.gml"
    gml(path, at=("urn:ogc:def:crs:EPSG::32633", f"{server.url}/crs.xml#32633"))
    with pytest.raises(InvalidOption, match=r"has no CRS; put the code .* into a\.prj"):
        read_aoi(path, UTM)
    assert server.log() == []


@pytest.mark.parametrize("name", ["a.gml", "a.osm"])
@pytest.mark.parametrize("declared", ['<!DOCTYPE a SYSTEM "{0}">', '<!DOCTYPE a [<!ENTITY b SYSTEM "{0}">]>'])
def test_xml_declares_nothing(tmp_path, server, name, declared):
    path = tmp_path / name
    (gml if name == "a.gml" else lambda path: osm_xml(path, GROUND, UTM.crs))(path)
    first, rest = path.read_text().split("\n", 1)
    path.write_text("\n".join([first, declared.format(f"{server.url}/a.dtd"), rest]))
    with pytest.raises(InvalidOption, match=r"not plain|not a vector file"):
        read_aoi(path, UTM)
    assert server.log() == []


@given(
    start=st.sampled_from(
        ["!table\n", "Version 300\n", "0\nSECTION\n", "<osm>", "<a x='opengis.net/gml'>", "a,"]
    ),
    rest=st.text(max_size=80),
    suffix=st.sampled_from([".tab", ".mif", ".dxf", ".osm", ".gml", ".csv"]),
)
@settings(max_examples=150)
def test_any_text_is_read_or_gets_one_line(tmp_path_factory, start, rest, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_text(start + rest, "utf-8")
    message = ""
    try:
        read_layer(path, "any")
    except InvalidOption as error:
        message = str(error)
    assert "\n" not in message


@given(st.text(alphabet="schemaLoctinSCHEMALOCATION= \"'"), st.text(max_size=9))
def test_no_place_of_a_schema_is_left(before, after):
    text = f"{before}SchemaLocation{after}".encode()
    assert b"schemalocation" not in without_schema(text).lower()


def test_tables_of_mapinfo_may_have_metadata():
    check_table(b'!table\nDefinition Table\nbegin_metadata\n"\\IsSeamless" = "FALSE"\nend_metadata\n')
    for other in (
        b'!table\n"\\ISSEAMLESS" = "TRUE"\n',
        b'!table\n"\\IsSeamless" = TRUE\n',
        b"!table\nCREATE  VIEW a as\n",
        b'!table\ropen table "b" as c',
    ):
        with pytest.raises(ValueError, match="other tables"):
            check_table(other)


def test_without_a_crs_the_message_says_where_to_put_it(tmp_path):
    path = tmp_path / "my roofs.dxf"
    dxf_hatch(path, GROUND, UTM.crs)
    beside = path.with_suffix(".prj")
    beside.unlink()
    with pytest.raises(InvalidOption, match=r"EPSG:32633, into my roofs\.prj beside it"):
        read_aoi(path, UTM)
    for text in ("", "http://127.0.0.1/", "+proj=utm +zone=33", "EPSG:1"):
        beside.write_text(text)
        with pytest.raises(InvalidOption, match=r"my roofs\.prj: holds no CRS"):
            read_aoi(path, UTM)
    beside.write_text("epsg:32633\n")
    assert shapely.hausdorff_distance(read_aoi(path, UTM), AREA) < 0.05


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


def topology(crs):
    shape = {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "arcs": [[0]]}]}
    named = {"type": "name", "properties": {"name": crs}}
    return json.dumps({"type": "Topology", "crs": named, "objects": {"a": shape}, "arcs": [RING]})


def esri(crs):
    place = {"attributes": {}, "geometry": {"rings": [RING]}}
    kind = {"geometryType": "esriGeometryPolygon", "spatialReference": {"wkt": crs}, "fields": []}
    return json.dumps({**kind, "features": [place]})


def polygon_gml(crs):
    space = 'xmlns:ogr="http://ogr.maptools.org/" xmlns:gml="http://www.opengis.net/gml"'
    ring = "<gml:LinearRing><gml:coordinates>15,45 15.1,45 15.1,45.1 15,45</gml:coordinates></gml:LinearRing>"
    shape = f"<gml:Polygon srsName='{crs}'><gml:outerBoundaryIs>{ring}</gml:outerBoundaryIs></gml:Polygon>"
    member = f"<gml:featureMember><ogr:p fid='p.0'><ogr:g>{shape}</ogr:g></ogr:p></gml:featureMember>"
    return f"<?xml version='1.0'?><ogr:FeatureCollection {space}>{member}</ogr:FeatureCollection>"


def references(text):
    return "".join(f"&#{ord(letter)};" for letter in text)


# Texts that have a CRS, which is to be put in, written so that GDAL opens the file that it names.
NAMES_A_CRS = {
    "name.geojson": lambda crs: features(crs={"type": "name", "properties": {"name": crs}}),
    "urn.geojson": lambda crs: features(crs={"type": "OGC", "properties": {"urn": crs}}),
    "upper.geojson": lambda crs: features(crs={"type": "NAME", "properties": {"name": crs}}),
    "topology.topojson": topology,
    "esri.json": esri,
    "plain.gml": polygon_gml,
    "references.gml": lambda crs: polygon_gml(references(crs)),
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


@pytest.mark.parametrize("name", ["name.geojson", "plain.gml"])
def test_a_crs_in_json_within_text_opens_no_file(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name
    path.write_text(NAMES_A_CRS[name](" " + BOUND.to_json().replace("PLACE", str(tmp_path / "pipe"))))
    with pytest.raises(InvalidOption, match="which may refer to other files"):
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


def test_open_lines_of_a_drawing_are_no_areas(tmp_path):
    path = tmp_path / "a.dxf"
    dxf_outline()(path, GROUND, UTM.crs)
    path.write_text(path.read_text().replace(" 70\n1\n", " 70\n0\n"))
    with pytest.raises(InvalidOption, match="holds no polygons"):
        read_aoi(path, UTM)


def test_only_the_areas_of_openstreetmap_are_there(tmp_path):
    path = tmp_path / "a.osm"
    osm_xml(path, GROUND, UTM.crs)
    assert read_layer(path, "a").layers == ("multipolygons",)
    with pytest.raises(InvalidOption, match="has no layer 'points'; it has multipolygons"):
        read_layer(path, "a", layer="points")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as CSV"),
        ("a,b\n", "no column of polygons as WKT"),
        ("x,y\n1,2\n", "no column of polygons as WKT"),
        ("a,WKT\n1,POLYGON ((0 0,1 0,1 1,0 0))\n", "cannot be read as CSV"),
        ('a,WKT\n1,"POINT (0 0)"\n2,"POLYGON ((0 0"\n', "geometry of row 2"),
        ('a,WKT\n1,"SRID=1;POINT (0 0)"\n2,"SRID=2;POINT (0 0)"\n', "several CRS"),
        ('a,WKT\n1,"SRID=1;POINT (0 0)"\n2,"POINT (0 0)"\n', "several CRS"),
        ("a,b\n1,Polygon 1\n", "no column of polygons as WKT"),
    ],
)
def test_a_table_that_holds_no_geometries_gets_one_line(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InvalidOption, match=message) as caught:
        read_layer(path, str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "before", ["Polygon 1", "Point Reyes", "Polygon", "POINT (1 2)", "POINT EMPTY", "LINESTRING (0 0,1 1)"]
)
@pytest.mark.parametrize("word", ["POLYGON", "multipolygon Z", "POLYGON ZM", "SRID=32633; Polygon"])
def test_the_column_of_polygons_is_found_behind_others(tmp_path, before, word):
    text = {"ZM": "0 0 1 1,9 0 1 1,9 9 1 1,0 0 1 1", " Z": "0 0 1,9 0 1,9 9 1,0 0 1"}.get(
        word[-2:], "0 0,9 0,9 9,0 0"
    )
    rings = f"((({text})))" if "multi" in word else f"(({text}))"
    path = tmp_path / "a.csv"
    path.write_text(f'name,shape\n"{before}","{word} {rings}"\n"{before}",""\n')
    geometries, values, available, _ = read_csv(path, "a", ["name"])
    assert shapely.area(geometries[0]) == 40.5
    assert available == ("name",)
    assert list(values["name"]) == [before, before]


words = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=9)


@given(
    rows=st.lists(st.tuples(words, st.floats(-1e7, 1e7)), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t|"),
)
def test_any_table_comes_back(tmp_path_factory, rows, separator):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    quoted = [f'"{word.replace(chr(34), chr(34) * 2)}"' for word, _ in rows]
    lines = [f"{word}{separator}POINT Z ({x!r} 1 2)" for word, (_, x) in zip(quoted, rows, strict=True)]
    path.write_text("\n".join([f"word{separator}place", *lines]), "utf-8")
    geometries, values, available, crs = read_csv(path, "any.csv", ["word", "other"])
    assert available == ("word",)
    assert crs is None
    assert list(values) == ["word"]
    assert [value or "" for value in values["word"]] == [word for word, _ in rows]
    assert np.array_equal(shapely.get_coordinates(geometries), [(x, 1) for _, x in rows])


def test_a_long_outline_fits_into_a_cell(tmp_path):
    outline = shapely.Point(5e5, 5e6).buffer(50, quad_segs=3000)
    ewkt()(tmp_path / "a.csv", outline, UTM.crs)
    assert len((tmp_path / "a.csv").read_text()) > 131_072  # more than Python's own reader takes
    assert read_layer(tmp_path / "a.csv", "a").geometries[0].equals(outline)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a b.kmz", b"PK\x03\x04"),
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
