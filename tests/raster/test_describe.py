from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.raster.describe import ground_resolution
from geoseg.raster.scene import open_scene
from geoseg.testing import make_scene
from geoseg.values import GeoBox


def box(transform, crs, size=(10, 20)):
    return GeoBox(*size, transform, crs)


@given(latitude=st.floats(-80, 80))
def test_web_mercator_metres_shrink_with_latitude(latitude):
    y = 6378137 * math.asinh(math.tan(math.radians(latitude)))
    across, down = ground_resolution(box((1, 0, 1e6, 0, -1, y + 5), "EPSG:3857"))
    assert across == pytest.approx(math.cos(math.radians(latitude)), rel=0.004)
    assert down == pytest.approx(across, rel=0.007)


def test_degrees():
    across, down = ground_resolution(box((1e-5, 0, 10, 0, -1e-5, 60), "EPSG:4326"))
    assert across == pytest.approx(0.558, rel=1e-3)
    assert down == pytest.approx(1.1141, rel=1e-3)


def test_us_survey_feet():
    across, down = ground_resolution(box((1, 0, 3_000_000, 0, -1, 10_000_000), "EPSG:2277"))
    assert (across, down) == pytest.approx((0.3048006, 0.3048006), rel=2e-4)


@given(angle=st.floats(0, 360), south=st.booleans())
def test_rotation_changes_nothing(angle, south):
    sin, cos = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    flip = 1 if south else -1
    transform = (0.3 * cos, 0.5 * sin * flip, 5e5, 0.3 * sin, -0.5 * cos * flip, 5e6)
    assert ground_resolution(box(transform, "EPSG:32633")) == pytest.approx((0.3, 0.5), rel=1e-3)


def test_a_crs_with_heights():
    assert ground_resolution(box((0.3, 0, 5e5, 0, -0.3, 5e6), "EPSG:25833+7837")) == pytest.approx(
        (0.3, 0.3), rel=1e-3
    )


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (None, (1, 0, 0, 0, 1, 0)),
        ('ENGCRS["local",EDATUM["here"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
         (1, 0, 0, 0, 1, 0)),
        ("EPSG:32633", (1, 0, 1e12, 0, -1, 1e12)),
    ],
)  # fmt: skip
def test_no_place_on_the_earth(crs, transform):
    assert ground_resolution(box(transform, crs)) is None


def test_a_geocentric_crs_is_taken_for_none(tmp_path):
    scene = open_scene(make_scene(tmp_path / "s.tif", crs="EPSG:4978"))
    assert scene.geobox.crs is None
    assert "no plane" in " ".join(scene.warnings)
