"""Promise 5: the georeference is exact, for any affine transform and CRS."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS, Geod
from shapely.geometry import Polygon

from geoseg.testing import make_scene
from geoseg.values import Transform
from tests.runs import COLUMNS, picture, predict

ROW, COL, HEIGHT, WIDTH = 20, 30, 40, 60
RECTANGLE = [(COL, ROW), (COL + WIDTH, ROW), (COL + WIDTH, ROW + HEIGHT), (COL, ROW + HEIGHT)]

UTM = (600000.0, 5200000.0)
TURNED = Affine.translation(*UTM) @ Affine.rotation(30) @ Affine.scale(0.3, -0.3)
SHEARED = Affine.translation(*UTM) @ Affine.shear(10, 5) @ Affine.scale(0.3, -0.3)


def coefficients(affine: Affine) -> Transform:
    return affine.a, affine.b, affine.c, affine.d, affine.e, affine.f


CASES: dict[str, tuple[Transform, str]] = {
    "north-up": ((0.3, 0, UTM[0], 0, -0.3, UTM[1]), "EPSG:32632"),
    "south-up": ((0.3, 0, UTM[0], 0, 0.3, UTM[1]), "EPSG:32632"),
    "mirrored": ((-0.3, 0, UTM[0], 0, -0.3, UTM[1]), "EPSG:32632"),
    "rotated": (coefficients(TURNED), "EPSG:32632"),
    "sheared": (coefficients(SHEARED), "EPSG:32632"),
    "anisotropic": ((0.3, 0, UTM[0], 0, -0.6, UTM[1]), "EPSG:32632"),
    "degrees": ((3e-6, 0, 85.52, 0, -3e-6, 27.63), "EPSG:4326"),
    "web mercator": ((0.4, 0, 9520000.0, 0, -0.4, 3203000.0), "EPSG:3857"),
    "US feet": ((1.0, 0, 990000.0, 0, -1.0, 200000.0), "EPSG:2263"),
}


def geodesic_area(corners: list[tuple[float, float]], crs: str) -> float:
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*zip(*corners, strict=True))
    return abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("outline", ["pixel", "smooth"])
def test_a_known_rectangle_comes_back_where_it_is(
    case: str, outline: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    transform, crs = CASES[case]
    scene = make_scene(
        tmp_path / "scene.tif", pixels=picture((ROW, COL, HEIGHT, WIDTH)), transform=transform, crs=crs
    )
    result = predict(capfd, scene, "--outline", outline, "--simplify", 0)
    assert result.code == 0, result.err
    features = result.features
    assert list(features.columns) == [*COLUMNS, "geometry"]
    assert len(features) == 1
    assert features.crs == CRS.from_user_input(crs)
    polygon = features.geometry[0]
    assert polygon.exterior.is_ccw
    affine = Affine(*transform)
    pixels = np.array([~affine @ point for point in polygon.exterior.coords])
    in_pixels = Polygon(pixels)
    if outline == "pixel":
        assert in_pixels.symmetric_difference(Polygon(RECTANGLE)).area < 1e-4
        nearest = [min(math.dist(corner, point) for point in pixels) for corner in RECTANGLE]
        assert max(nearest) < 1e-6 * max(1, abs(UTM[1]) * 1e-9)
    else:
        corners = in_pixels.minimum_rotated_rectangle.exterior.coords
        nearest = [min(math.dist(corner, point) for point in corners) for corner in RECTANGLE]
        assert max(nearest) < 0.1
        assert in_pixels.area == pytest.approx(HEIGHT * WIDTH, rel=0.002)
    expected = geodesic_area([affine @ corner for corner in RECTANGLE], crs)
    assert features.area_m2[0] == pytest.approx(expected, rel=0.003 if outline == "smooth" else 1e-6)
    assert not features.touches_edge[0]


def test_the_rectangle_is_found_at_another_resolution_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A model at twice the scene's pixel size: the polygon stays where it is."""
    import json
    import shutil

    from tests.runs import bright_model

    model = tmp_path / "coarse"
    shutil.copytree(bright_model(), model)
    card = json.loads((model / "model.json").read_text())
    card["properties"]["geoseg:resolution_m"] = 0.6
    (model / "model.json").write_text(json.dumps(card))
    scene = make_scene(tmp_path / "scene.tif", pixels=picture((ROW, COL, HEIGHT, WIDTH), size=(200, 240)))
    result = predict(capfd, scene, "--model", model, "--outline", "smooth", "--simplify", 0)
    assert result.code == 0, result.err
    with rasterio.open(scene) as dataset:
        pixels = Polygon(
            [~dataset.transform @ point for point in result.features.geometry[0].exterior.coords]
        )
    corners = pixels.minimum_rotated_rectangle.exterior.coords
    assert max(min(math.dist(corner, point) for point in corners) for corner in RECTANGLE) < 0.1 * 2


def test_without_a_crs_the_run_goes_on_in_pixels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = make_scene(
        tmp_path / "scene.tif", pixels=picture((ROW, COL, HEIGHT, WIDTH)), transform=None, crs=None
    )
    result = predict(capfd, scene)
    assert result.code == 0, result.err
    assert "warning" in result.err
    features = result.features
    assert features.area_m2.isna().all()
    assert features.perimeter_m.isna().all()
    assert Polygon(features.geometry[0].exterior.coords).equals(Polygon(RECTANGLE))


POLE = ((0.3, 0, -18.0, 0, -0.3, 15.0), "EPSG:3413")  # the pole lies at pixel (60, 50), in the rectangle


@pytest.mark.parametrize(
    "arguments", [("--out", "out.geojson"), ("--crs", "EPSG:4326"), ("--out", "out.geojsonl")]
)
def test_a_polygon_that_holds_a_pole_is_one_feature_with_its_area(
    arguments: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = arguments[1] if arguments[0] == "--out" else "out.gpkg"
    options = () if arguments[0] == "--out" else arguments
    pixels = picture((ROW, COL, HEIGHT, WIDTH))
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels, transform=POLE[0], crs=POLE[1])
    result = predict(capfd, scene, *options, out=out)
    assert result.code == 0, result.err
    (geometry,) = result.features.geometry
    _, south, _, north = geometry.bounds
    assert geometry.is_valid
    assert (geometry.bounds[0], geometry.bounds[2], north) == (-180, 180, 90)
    assert south == pytest.approx(90, abs=1e-3)
    points = np.array(geometry.segmentize(1).exterior.coords)[:-1]
    area = abs(Geod(ellps="WGS84").polygon_area_perimeter(*points.T)[0])
    assert result.features.area_m2[0] == pytest.approx(area, rel=0.01)


@pytest.mark.parametrize(
    ("place", "options", "reason"),
    [
        (POLE, ("--crs", "EPSG:3857"), "a polygon holds a pole"),
        (CASES["north-up"], ("--crs", "EPSG:5773"), "is a Vertical CRS"),
        (CASES["north-up"], ("--crs", "EPSG:4978"), "is a Geocentric CRS"),
        (CASES["north-up"], ("--crs", "EPSG:7415"), "such as EPSG:28992"),
        (CASES["north-up"], ("--crs", "EPSG:32632", "--out"), "GeoJSON is in longitude and latitude"),
    ],
)
def test_a_crs_that_cannot_hold_the_polygons_is_one_line(
    place: tuple[Transform, str],
    options: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    scene = make_scene(
        tmp_path / "scene.tif", pixels=picture((ROW, COL, HEIGHT, WIDTH)), transform=place[0], crs=place[1]
    )
    out = "out.geojson" if "--out" in options else "out.gpkg"
    result = predict(capfd, scene, *options[:2], out=out)
    assert result.code == 2
    (line,) = [line for line in result.err.splitlines() if "error" in line]
    assert reason in line
    assert not result.path.exists()
