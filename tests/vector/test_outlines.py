"""Where outlines lie: exact at the scene's edge and round nodata, sub-pixel between pixels."""

from __future__ import annotations

from itertools import pairwise

import contourpy
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.testing import assert_same_polygons
from tests.vector.fields import Field, building, fields, streamed, whole

outlines = pytest.mark.parametrize("outline", ["smooth", "pixel"])


@outlines
def test_a_scene_that_is_all_building_is_its_exact_rectangle(outline: str) -> None:
    (piece,) = whole(building(np.ones((10, 10))), outline)
    assert piece.polygon.area == 100
    assert_same_polygons([piece], [(1, shapely.box(0, 0, 10, 10))])
    assert piece.evidence.pixels == 100
    assert piece.evidence.touches_edge
    assert not piece.evidence.touches_nodata


@outlines
def test_all_building_with_a_nodata_corner_is_the_exact_outline_of_validity(outline: str) -> None:
    valid = np.ones((10, 12), bool)
    valid[:3, :5] = False
    valid[6, 7] = False
    expected = shapely.box(0, 0, 12, 10) - shapely.box(0, 0, 5, 3) - shapely.box(7, 6, 8, 7)
    field = building(np.where(valid, 1.0, 0.0), valid)
    for cut in ([], [3], [4, 7]):
        (piece,) = streamed(field, outline, cut, cut)
        assert_same_polygons([piece], [(1, expected)])
        assert piece.evidence.touches_nodata


@outlines
def test_one_pixel(outline: str) -> None:
    assert_same_polygons(whole(building(np.ones((1, 1))), outline), [(1, shapely.box(0, 0, 1, 1))])
    assert whole(building(np.zeros((1, 1))), outline) == []
    assert whole(building(np.ones((1, 1)), np.zeros((1, 1), bool)), outline) == []


def test_outlines_leave_the_valid_area_at_right_angles() -> None:
    probability = np.tile([1.0, 1.0, 0.0, 0.0], (4, 1))
    assert_same_polygons(whole(building(probability), "smooth"), [(1, _vertical(2.0, 4))])


def _vertical(x: float, height: int) -> shapely.Polygon:
    """Return the box left of `x`, with the vertices that its border has in every row."""
    middle = [(x, row + 0.5) for row in range(height)]
    return shapely.Polygon([(0, 0), (x, 0), *middle, (x, height), (0, height)])


@settings(max_examples=150)
@given(fields(channels=(1, 1)))
def test_smooth_outlines_are_the_contours_of_contourpy(field: Field) -> None:
    field = Field(field.values, np.ones_like(field.valid), field.rule)
    height, width = field.valid.shape
    # The edge sample goes on to the edge of the scene.
    x = np.concatenate([[0], np.arange(width) + 0.5, [width]])
    y = np.concatenate([[0], np.arange(height) + 0.5, [height]])
    padded = np.pad(field.values[0].astype(float), 1, mode="edge")
    generator = contourpy.contour_generator(x, y, padded, name="serial", fill_type="OuterOffset")
    lines, offsets = generator.filled(field.rule.level, np.inf)
    expected = [
        shapely.Polygon(points[o[0] : o[1]], [points[a:b] for a, b in pairwise(o[1:])])
        for points, o in zip(lines, offsets, strict=True)
    ]
    actual = [piece.polygon for piece in whole(field, "smooth")]
    assert len(actual) == len(expected)
    if expected:
        difference = shapely.symmetric_difference(shapely.union_all(actual), shapely.union_all(expected))
        assert difference.area < 1e-8


def _rendered(shape: shapely.Polygon) -> Field:
    """Return the share of each pixel that a shape covers."""
    rows, cols = np.mgrid[:40, :40]
    pixels = shapely.box(cols, rows, cols + 1, rows + 1)
    return building(shapely.area(shapely.intersection(shape, pixels)))


@settings(max_examples=60)
@given(st.floats(8, 12), st.floats(8, 12), st.floats(9, 18), st.floats(9, 18), st.floats(0, 90))
def test_a_turned_rectangle_has_its_sides_back(
    col: float, row: float, width: float, height: float, angle: float
) -> None:
    rectangle = shapely.affinity.rotate(shapely.box(col, row, col + width, row + height), angle)
    (piece,) = whole(_rendered(rectangle), "smooth")
    points = shapely.points(shapely.get_coordinates(piece.polygon))
    near_corner = shapely.distance(points, shapely.MultiPoint(rectangle.exterior.coords)) < 1.5
    assert shapely.distance(points[~near_corner], rectangle.exterior).max() < 0.1
    assert shapely.hausdorff_distance(piece.polygon, rectangle) < 1  # corners are cut within their pixel


@given(st.floats(8, 12), st.floats(8, 12), st.floats(9, 18), st.floats(9, 18))
def test_an_upright_rectangle_has_its_corners_back(
    col: float, row: float, width: float, height: float
) -> None:
    (piece,) = whole(_rendered(shapely.box(col, row, col + width, row + height)), "smooth")
    assert piece.polygon.bounds == pytest.approx((col, row, col + width, row + height), abs=0.1)
