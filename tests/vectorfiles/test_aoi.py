from __future__ import annotations

import json
import subprocess
import sys

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.testing import NORTH_UP
from geoseg.values import GeoBox, Window
from geoseg.vectorfiles.aoi import aoi_mask, bbox_aoi, read_aoi

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
        text: "but is no GeoPackage",
        broken: "cannot be read",
        remote: "but is no GeoPackage",
        no_crs: "has no CRS",
        tmp_path / "missing.gpkg": "no such file",
        tmp_path: "not a regular file",
    }
    for path, message in expected.items():
        with pytest.raises(InvalidOption, match=message) as caught:
            read_aoi(path, UTM)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


DEGREES = GeoBox(200, 300, (1e-5, 0, 15, 0, -1e-5, 45), "EPSG:4326")


def test_coordinates_that_are_no_degrees_are_told_with_both_places(tmp_path):
    """RFC 7946 has no CRS but longitude and latitude; many programs write others all the same."""
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(on_the_ground(shapely.box(10, 20, 30, 50), UTM))))
    for box in (UTM, DEGREES):
        with pytest.raises(InvalidOption, match="its coordinates cannot be degrees") as caught:
            read_aoi(path, box)
        text = str(caught.value)
        assert "it covers x 500003 to 500009, y 4999985 to 4999994 in WGS 84 (CRS84) (OGC:CRS84)" in text
        assert "-a_srs" in text
        assert box.crs in text


@pytest.mark.parametrize(
    "crs", ['LOCAL_CS["site",UNIT["m",1],AXIS["x",EAST],AXIS["y",NORTH]]', "IAU_2015:30135"]
)
def test_a_scene_without_a_way_to_the_earth_gets_one_line(tmp_path, crs):
    path = write(tmp_path / "a.gpkg", shapely.box(0, 0, 1, 1), "EPSG:4326")
    with pytest.raises(InvalidOption, match=r"PROJ knows no way from the CRS WGS 84 to (site|Moon)"):
        read_aoi(path, GeoBox(200, 300, (1, 0, 0, 0, -1, 0), crs))


def test_areas_elsewhere_are_told_with_both_places(tmp_path):
    path = write(tmp_path / "a.gpkg", shapely.box(-70, -20, -69, -19), "EPSG:4326")
    with pytest.raises(InvalidOption, match="lies outside the scene") as caught:
        read_aoi(path, UTM)
    assert str(caught.value).endswith(
        "it covers x -70.0000 to -69.0000, y -20.0000 to -19.0000 in WGS 84 (EPSG:4326), "
        "the scene x 500000 to 500090, y 4999940 to 5000000 in WGS 84 / UTM zone 33N (EPSG:32633)"
    )


@pytest.mark.parametrize(
    ("box", "scene", "message"),
    [
        ((15, 44, 16, 45), UTM, "looks like longitudes and latitudes, and has to be in the scene's CRS"),
        ((5e5, 49e5, 5e5 + 9, 5e6), DEGREES, "looks like coordinates of a projection, and has to be"),
        ((-70, -20, -69, -19), DEGREES, r"outside the scene; the scene covers x 15\.0000 to"),
    ],
)
def test_a_box_elsewhere_says_what_it_looks_like(box, scene, message):
    with pytest.raises(InvalidOption, match=message):
        bbox_aoi(*box, scene)


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


@pytest.mark.slow
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
