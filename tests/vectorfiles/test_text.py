"""Text formats: GeoJSON, KML and tables with WKT."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.vectorfiles.layers import read_layer
from geoseg.vectorfiles.text import read_csv
from tests.vectorfiles.foreign import ewkt

BOX = shapely.box(15, 45, 15.1, 45.1)
HOLED = BOX.difference(shapely.box(15.02, 45.02, 15.03, 45.03))


def feature(geometry, /, **members):
    place = None if geometry is None else shapely.geometry.mapping(geometry)
    return {"type": "Feature", "properties": {"kind": "house"}, "geometry": place} | members


def read_json(tmp_path, *documents):
    path = tmp_path / "a.geojson"
    path.write_text("\n".join(map(json.dumps, documents)))
    return read_layer(path, "a.geojson", columns=["kind"])


one_shape = st.tuples(st.integers(-90, 80), st.integers(-80, 70), st.booleans(), st.booleans())


@given(
    shapes=st.lists(one_shape, min_size=1, max_size=4),
    how=st.sampled_from(["collection", "lines", "features", "geometries"]),
)
def test_polygons_come_back_as_they_were(tmp_path_factory, shapes, how):
    made = []
    for x, y, hole, several in shapes:
        one = shapely.box(x, y, x + 3, y + 3)
        one = one.difference(shapely.box(x + 1, y + 1, x + 2, y + 2)) if hole else one
        made.append(shapely.MultiPolygon([one, shapely.box(x + 5, y, x + 6, y + 1)]) if several else one)
    folder = tmp_path_factory.getbasetemp()
    features = [feature(one) for one in made]
    documents = {
        "collection": [{"type": "FeatureCollection", "features": features}],
        "lines": features,
        "features": [{"type": "FeatureCollection", "features": [one]} for one in features],
        "geometries": [one["geometry"] for one in features],
    }[how]
    found = read_json(folder, *documents)
    assert [one.equals(other) for one, other in zip(found.geometries, made, strict=True)] == [True] * len(
        made
    )
    assert found.columns.get("kind", np.array([])).tolist() == ["house"] * len(made) * (how != "geometries")
    assert found.crs.to_authority() == ("OGC", "CRS84")


def test_what_is_no_polygon_is_nothing(tmp_path):
    found = read_json(tmp_path, feature(None), feature(shapely.Point(1, 2)), feature(BOX))
    assert shapely.area(found.geometries).tolist() == pytest.approx([np.nan, 0, BOX.area], nan_ok=True)


def test_rings_that_are_none_are_left_out(tmp_path):
    outline = [[15, 45], [15.1, 45], [15.1, 45.1]]
    for rings, area in {
        "not closed": ([outline], 0.005),
        "one corner as a hole": ([outline, [[15, 45], [15, 45]]], 0.005),
        "two corners": ([outline[:2] + outline[:1]], 0),
        "nothing": ([], 0),
        "heights": ([[[*corner, 300] for corner in outline]], 0.005),
    }.values():
        found = read_json(tmp_path, {"type": "Polygon", "coordinates": rings})
        assert shapely.area(found.geometries).tolist() == pytest.approx([area])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"type": "Topology", "objects": {}}, "holds 'Topology', which is no GeoJSON"),
        ({"geometryType": "esriGeometryPolygon"}, "is no GeoJSON"),
        ({"images": [], "annotations": [], "categories": []}, "a COCO file; .* geoseg labels import"),
        ([feature(BOX)], "is no GeoJSON"),
        ({"type": "FeatureCollection", "features": [1]}, "is no GeoJSON"),
        (feature(BOX, geometry={"type": "Curve"}), "a geometry of no known kind"),
        ({"type": "Polygon", "coordinates": [[["a", "b"], ["c", "d"], ["e", "f"]]]}, "could not convert"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [float("nan"), 1], [1, 1]]]}, "is no number"),
        (feature(BOX, crs={"type": "name", "properties": {"name": "EPSG:1"}}), "holds no CRS"),
        (feature(BOX, crs="EPSG:32633"), "which is no name"),
    ],
)
def test_what_is_no_geojson_gets_one_line(tmp_path, document, message):
    with pytest.raises(InvalidOption, match=message) as caught:
        read_json(tmp_path, document)
    assert "\n" not in str(caught.value)


def test_a_crs_stands_anywhere_but_only_once(tmp_path):
    """PostGIS writes it into the geometry."""
    named = {"crs": {"type": "name", "properties": {"name": "EPSG:32633"}}}
    geometry = shapely.geometry.mapping(BOX) | named
    assert read_json(tmp_path, geometry).crs.to_epsg() == 32633
    assert read_json(tmp_path, feature(BOX, geometry=geometry)).crs.to_epsg() == 32633
    assert read_json(tmp_path, feature(BOX, crs=None)).crs is None
    with pytest.raises(InvalidOption, match="names several CRS"):
        read_json(tmp_path, geometry, feature(BOX, **named) | {"crs": None})


def test_an_empty_sequence_holds_no_features(tmp_path):
    (tmp_path / "a.geojsonl").write_text("")
    assert len(read_layer(tmp_path / "a.geojsonl", "a").geometries) == 0


def placemark(*rings, name="a"):
    sides = ["outerBoundaryIs", *["innerBoundaryIs"] * (len(rings) - 1)]
    parts = "".join(
        f"<{side}><LinearRing><coordinates>{text}</coordinates></LinearRing></{side}>"
        for side, text in zip(sides, rings, strict=True)
    )
    return f"<Placemark><name>{name}</name><Polygon>{parts}</Polygon></Placemark>"


def read_kml(tmp_path, text, **options):
    path = tmp_path / "a.kml"
    path.write_text(f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{text}</Document></kml>')
    return read_layer(path, "a.kml", **options)


OUTLINE, HOLE = "0,0 9,0,5 9,9 0, 9 0,0", "1,1 2,1 2,2 1,1"


def test_kml_has_holes_heights_and_several_parts(tmp_path):
    point = "<Placemark><Point><coordinates>1,1</coordinates></Point></Placemark>"
    several = placemark(OUTLINE, HOLE).replace("<Polygon>", "<MultiGeometry><Polygon>", 1)
    several = several.replace("</Polygon>", "</Polygon><LineString/></MultiGeometry>")
    found = read_kml(tmp_path, placemark(OUTLINE) + point + several, columns=["Name"])
    assert shapely.area(found.geometries).tolist() == [81, 0, 80.5]
    assert found.columns["Name"].tolist() == ["a", None, "a"]


def test_folders_of_kml_are_layers(tmp_path):
    folders = "".join(f"<Folder><name>b</name>{placemark(OUTLINE, name=name)}</Folder>" for name in "xy")
    with pytest.raises(InvalidOption, match=r"several layers of polygons \(b, b #2\); choose one: --layer"):
        read_kml(tmp_path, folders)
    assert read_kml(tmp_path, folders, layer="b #2", columns=["Name"]).columns["Name"].tolist() == ["y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as CSV"),
        ("a,b\n", "no column of polygons as WKT"),
        ("x,y\n1,2\n", "no column of polygons as WKT"),
        ("a,WKT\n1,POLYGON ((0 0,1 0,1 1,0 0))\n", "cannot be read as CSV"),
        pytest.param(
            f"WKT\n{'GEOMETRYCOLLECTION(' * 200_000}POINT(0 0){')' * 200_000}\n",
            "more than 1000 collections",
            id="nested",
        ),
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
    geometries, values, available, _ = read_csv(path, ["name"])
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
    geometries, values, available, crs = read_csv(path, ["word", "other"])
    assert available == ("word",)
    assert crs is None
    assert list(values) == ["word"]
    assert [value or "" for value in values["word"]] == [word for word, _ in rows]
    assert np.array_equal(shapely.get_coordinates(geometries), [(x, 1) for _, x in rows])


def test_a_long_outline_fits_into_a_cell(tmp_path):
    outline = shapely.Point(5e5, 5e6).buffer(50, quad_segs=3000)
    ewkt()(tmp_path / "a.csv", outline, "EPSG:32633")
    assert len((tmp_path / "a.csv").read_text()) > 131_072  # more than Python's own reader takes
    assert read_layer(tmp_path / "a.csv", "a").geometries[0].equals(outline)
