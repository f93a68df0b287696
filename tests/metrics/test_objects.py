"""Matching of polygons: closed forms, laws, and agreement with the assignment problem."""

import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from geoseg.metrics import held_twice, match_objects, overlaps

NONE = np.empty(0, dtype=object)
corners = st.integers(0, 12)
sizes = st.integers(1, 6)
boxes = st.lists(st.tuples(corners, corners, sizes, sizes), max_size=8).map(
    lambda items: np.array([shapely.box(x, y, x + w, y + h) for x, y, w, h in items], dtype=object)
)
thresholds = st.floats(0.05, 1.0)


@st.composite
def partitions(draw):
    """Boxes in a row that do not overlap each other."""
    edges = sorted(draw(st.sets(st.integers(0, 40), min_size=2, max_size=12)))
    kept = [draw(st.booleans()) for _ in edges[1:]]
    found = [shapely.box(a, 0, b, 5) for a, b, keep in zip(edges, edges[1:], kept, strict=False) if keep]
    return np.array(found, dtype=object)


def grid(n: int) -> np.ndarray:
    return shapely.box(np.arange(n) * 10.0, 0, np.arange(n) * 10.0 + 6, 6)


def test_closed_form():
    truth = grid(4)
    moved = shapely.box(np.arange(3) * 10.0 + 1, 0, np.arange(3) * 10.0 + 7, 6)
    predicted = np.append(moved, shapely.box(500, 0, 501, 1))
    result = match_objects(predicted, truth, 0.5)
    assert result.iou == pytest.approx([30 / 42] * 3)
    assert result.predicted.tolist() == result.truth.tolist() == [0, 1, 2]
    assert (result.counts.precision, result.counts.recall, result.counts.f1) == (3 / 4, 3 / 4, 3 / 4)
    assert match_objects(predicted, truth, 0.75).counts.f1 == 0


def test_threshold_is_reached_by_equal_iou():
    half = match_objects(np.array([shapely.box(0, 0, 1, 1)]), np.array([shapely.box(0, 0, 2, 1)]), 0.5)
    assert half.counts.true_positives == 1


def test_merged_houses_count_once():
    result = match_objects(np.array([shapely.box(0, 0, 20, 10)]), shapely.box([0, 10], 0, [10, 20], 10), 0.5)
    assert (result.counts.true_positives, result.counts.false_negatives) == (1, 1)


def test_best_overlap_wins_below_a_half():
    predicted = shapely.box([0, 0], 0, [4, 10], 10)
    result = match_objects(predicted, np.array([shapely.box(0, 0, 10, 10)]), 0.3)
    assert result.predicted.tolist() == [1]


@given(boxes, thresholds)
def test_everything_matches_itself(polygons, threshold):
    unique = np.array(list({shape.wkt: shape for shape in polygons}.values()), dtype=object)
    result = match_objects(unique, unique, threshold)
    assert result.predicted.tolist() == result.truth.tolist() == list(range(len(unique)))
    assert result.counts.false_positives == result.counts.false_negatives == 0


@given(boxes, boxes, thresholds)
def test_one_to_one_and_complete(predicted, truth, threshold):
    result = match_objects(predicted, truth, threshold)
    counts = result.counts
    assert len(set(result.predicted)) == len(set(result.truth)) == len(result.iou) == counts.true_positives
    assert counts.true_positives + counts.false_positives == len(predicted)
    assert counts.true_positives + counts.false_negatives == len(truth)
    assert (result.iou >= threshold - 1e-9).all()
    i, j, iou = overlaps(predicted, truth)
    left = ~np.isin(i, result.predicted) & ~np.isin(j, result.truth)
    assert not (iou[left] >= threshold).any()


@given(partitions(), partitions(), st.floats(0.51, 1.0))
def test_above_a_half_it_is_the_largest_matching(predicted, truth, threshold):
    iou = np.zeros((len(predicted), len(truth)))
    i, j, values = overlaps(predicted, truth)
    iou[i, j] = values
    possible = iou >= threshold - 1e-12
    rows, cols = linear_sum_assignment(-possible.astype(float))
    assert match_objects(predicted, truth, threshold).counts.true_positives == possible[rows, cols].sum()


@given(partitions(), partitions(), st.randoms(use_true_random=False))
def test_order_does_not_matter(predicted, truth, random):
    order = list(range(len(predicted)))
    random.shuffle(order)
    shuffled = match_objects(predicted[order], truth, 0.55)
    assert shuffled.counts == match_objects(predicted, truth, 0.55).counts


@given(boxes, boxes)
def test_overlaps_agree_with_all_pairs(first, second):
    i, j, iou = overlaps(first, second)
    found = dict(zip(zip(i.tolist(), j.tolist(), strict=True), iou, strict=True))
    for a, one in enumerate(first):
        for b, other in enumerate(second):
            shared = one.intersection(other).area
            assert found.get((a, b), 0.0) == pytest.approx(shared / one.union(other).area)


def test_empty_sides():
    assert match_objects(NONE, grid(3)).counts.false_negatives == 3
    assert match_objects(grid(3), NONE).counts.false_positives == 3
    assert math.isnan(match_objects(NONE, NONE).counts.f1)
    assert math.isnan(match_objects(NONE, grid(3)).counts.precision)


@pytest.mark.parametrize("bad", [None, shapely.Polygon(), shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])])
def test_geometries_without_an_area_are_refused(bad):
    with pytest.raises(ValueError, match=r"truth\[1\]"):
        match_objects(grid(2), np.array([shapely.box(0, 0, 1, 1), bad], dtype=object))


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, math.nan])
def test_thresholds_out_of_range_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        match_objects(grid(1), grid(1), threshold)


def test_a_house_in_two_parts_is_split_and_two_houses_in_one_are_merged():
    house, row = shapely.box(0, 0, 10, 10), shapely.box([20, 30], 0, [29, 39], 10)
    halves = shapely.box([0, 5.5], 0, [4.5, 10], 10)
    truth = np.array([house, *row], dtype=object)
    predicted = np.array([*halves, shapely.box(20, 0, 39, 10)], dtype=object)
    assert held_twice(predicted, truth).tolist() == [True, False, False]
    assert held_twice(truth, predicted).tolist() == [False, False, True]
    assert held_twice(NONE, truth).tolist() == [False] * 3
    assert held_twice(truth, NONE).tolist() == []


def test_a_neighbour_that_only_reaches_over_does_not_split():
    truth = np.array([shapely.box(0, 0, 10, 10)])
    predicted = np.array([shapely.box(0, 0, 9, 10), shapely.box(9, 0, 12, 10)], dtype=object)
    assert not held_twice(predicted, truth).any()
