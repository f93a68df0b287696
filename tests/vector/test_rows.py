"""Houses that touch keep one line between them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.ops import split

from geoseg.values import ClassInfo, GeoBox, LayerSchema
from geoseg.vector import shape
from geoseg.vector.features import finish
from geoseg.vector.overlaps import find_rows
from geoseg.vector.pieces import Evidence, Piece
from geoseg.vector.rows import shape_rows
from geoseg.vector.shape import ShapeRules
from geoseg.vector.shaper import Shaper
from tests.vector.test_overlaps import Sink, overlapping
from tests.vector.test_regularize import SIDE, corners, drawn

GRID = GeoBox(SIDE, SIDE, (0.3, 0.0, 500_000.0, 0.0, -0.3, 5_000_000.0), "EPSG:32633")
SCHEMA = LayerSchema("layer", GRID.crs, (ClassInfo(1, "one", (1, 2, 3)),))


def row_of_houses(degrees: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a row of houses as it is, and as it is traced: blurred, with walls that follow the pixels."""
    middle = SIDE / 2
    width = 70 // count  # cuts follow pixels: upright ones lie on their walls
    houses = [shapely.box(20 + i * width, 40, 20 + (i + 1) * width, 62) for i in range(count)]
    true = np.array([shapely.affinity.rotate(one, degrees, origin=(middle, middle)) for one in houses])
    traced = drawn(shapely.union_all(true), seed)
    parts = [traced]
    for i in range(1, count):
        wall = shapely.LineString([(20 + i * width, 0), (20 + i * width, SIDE)])
        wall = shapely.affinity.rotate(wall, degrees, origin=(middle, middle))
        steps = shapely.get_coordinates(shapely.segmentize(wall, 1.0)).round()
        line = shapely.LineString(steps[np.append(True, np.abs(np.diff(steps, axis=0)).sum(axis=1) > 0)])
        parts = [piece for part in parts for piece in split(part, line).geoms if piece.area > 5]
    return true, np.array(parts)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 360), st.integers(2, 4), st.integers(0, 99))
def test_a_row_of_houses_comes_back_with_four_corners_each(degrees: float, count: int, seed: int) -> None:
    true, traced = row_of_houses(degrees, count, seed)
    done = shape_rows(traced, np.zeros(len(traced), np.int64), tolerance=0.5, max_deviation=2.0)
    assert done.accepted.all()
    assert shapely.coverage_is_valid(done.polygons)
    assert [corners(house) for house in done.polygons] == [4] * count
    for house in done.polygons:
        away = [shapely.hausdorff_distance(house.boundary, one.boundary) for one in true]
        assert min(away) <= 0.5


def test_what_does_not_fit_leaves_its_row_straight() -> None:
    _, traced = row_of_houses(20, 4, 1)
    known = np.array([shapely.affinity.translate(traced[0], 30, 0), None, None, None])
    rows = np.zeros(4, np.int64)
    done = shape_rows(traced, rows, tolerance=0.5, max_deviation=1.5, known=known)
    assert done.accepted.tolist() == [False, True, True, True]
    assert shapely.coverage_is_valid(done.polygons)
    assert max(map(corners, done.polygons)) <= 5


def test_walls_of_a_row_that_do_not_touch_stay_apart() -> None:
    dented = shapely.Polygon([(0, 0), (26, 0), (26, 16), (24.9, 20), (26, 24), (26, 40), (0, 40)])
    pointed = shapely.Polygon([(26.05, 20), (50, 5), (50, 35)])
    traced = shapely.segmentize(np.array([dented, pointed]), 0.5)
    known = np.array([shapely.affinity.translate(dented, 90, 0), pointed])
    done = shape_rows(traced, np.zeros(2, np.int64), tolerance=0.5, max_deviation=1.5, known=known)
    assert done.accepted.tolist() == [False, True]
    assert shapely.distance(*done.polygons) >= 0.1


def test_rows_that_no_outline_fits_have_none() -> None:
    _, traced = row_of_houses(20, 2, 1)
    done = shape_rows(traced, np.zeros(2, np.int64), tolerance=9.0, max_deviation=0.01)
    assert shapely.is_missing(done.polygons).all()


def test_steps_of_a_cut_become_a_line_without_straight_walls() -> None:
    _, traced = row_of_houses(33, 3, 2)
    done = shape_rows(traced, np.zeros(3, np.int64), tolerance=0.5, max_deviation=None)
    assert not done.accepted.any()
    assert shapely.coverage_is_valid(done.polygons)
    walls = shapely.intersection(done.polygons[:2], done.polygons[1:])
    assert shapely.get_num_coordinates(shapely.line_merge(walls)).max() <= 3


@pytest.mark.parametrize("longest", [512, 30])
@pytest.mark.parametrize("deviation", [1.0, None])
def test_walls_stay_shared_whatever_becomes_of_the_row(
    longest: int, deviation: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape, "LONGEST", longest)
    _, traced = row_of_houses(20, 4, 1)
    pieces = [Piece(1, part, Evidence(100, 100 * 50_000, i)) for i, part in enumerate(traced)]
    alone = Piece(
        1, shapely.affinity.translate(drawn(shapely.box(50, 50, 70, 70)), -48, 30), Evidence(9, 9, 9)
    )
    rules = ShapeRules(0.15, 1.0, 0.3, 0.25, deviation)
    found = finish([alone, *pieces], GRID, rules, SCHEMA)
    polygons = found.geometry.to_numpy()
    assert len(found) == 5
    assert shapely.coverage_is_valid(polygons)
    assert overlapping(polygons) == 0
    regular = longest == 512 and deviation is not None
    assert found["regularized"].tolist() == [regular] * 4 + [deviation is not None]
    walls = shapely.length(shapely.intersection(polygons[:3], polygons[1:4]))
    assert (walls > 5).all()
    sink = Sink()
    shaper = Shaper(GRID, rules, SCHEMA, sink)
    for piece in (*pieces[::-1], alone):
        shaper.add([piece])
    shaper.flush()
    assert sink.tables[0].geometry.to_wkb().tolist() == found.geometry.to_wkb().tolist()


def test_straight_walls_give_way_to_what_is_near() -> None:
    left = shapely.union(shapely.box(10, 10, 40, 40), shapely.box(40, 20, 41.5, 24))
    right = shapely.difference(shapely.box(40.6, 10, 70, 40), shapely.box(40, 19.4, 42.1, 24.6))
    pieces = [
        Piece(1, shapely.segmentize(one, 0.5), Evidence(100, 100 * 50_000, i))
        for i, one in enumerate((left, right))
    ]
    found = finish(pieces, GRID, ShapeRules(0.15, 1.0, 0.3, 0.0, 1.0), SCHEMA)
    assert found["regularized"].all()
    assert shapely.distance(*found.geometry) > 0.02


def test_touching_in_a_point_makes_no_row() -> None:
    boxes = np.array([shapely.box(0, 0, 1, 1), shapely.box(1, 1, 2, 2)])
    assert find_rows(boxes, np.array([0]), np.array([1])).tolist() == [0, 1]
