"""Distances between outlines: closed forms and bounds."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.metrics.objects import outline_distances

SQUARE = shapely.box(0, 0, 10, 10)


def array(*shapes):
    return np.array(shapes, dtype=object)


def test_the_same_outline_is_no_distance_away():
    distance, pair = outline_distances(array(SQUARE), array(SQUARE), 0.5)
    assert distance.max() == pytest.approx(0, abs=1e-12)
    assert set(pair) == {0}


def test_a_wider_square_is_as_far_away_as_it_is_wider():
    wider = shapely.box(-1, -1, 11, 11)
    distance, _ = outline_distances(array(SQUARE), array(wider), 0.1)
    # From the inner one everywhere 1; from the outer one's corners up to the diagonal.
    assert distance.min() == pytest.approx(1)
    assert distance.max() == pytest.approx(2**0.5, abs=0.05)
    assert 1 < distance.mean() < 1.05


def test_holes_have_outlines():
    ring = SQUARE.difference(shapely.box(4, 4, 6, 6))
    distance, _ = outline_distances(array(ring), array(SQUARE), 0.1)
    assert distance.max() == pytest.approx(5, abs=1.01)
    assert distance.max() >= 4


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.2, 2))
def test_no_further_than_the_shift(dx, dy, spacing):
    moved = shapely.affinity.translate(SQUARE, dx, dy)
    distance, _ = outline_distances(array(SQUARE), array(moved), spacing)
    assert distance.max() <= np.hypot(dx, dy) + 1e-9
    assert distance.max() <= shapely.hausdorff_distance(SQUARE, moved, densify=0.05) + 1e-9


def test_pairs_stay_apart_and_parts_together():
    two = shapely.MultiPolygon([SQUARE, shapely.box(20, 0, 30, 10)])
    distance, pair = outline_distances(array(SQUARE, two), array(SQUARE, two), 1.0)
    assert np.bincount(pair).tolist() == [2 * 40, 2 * 80]
    assert distance.max() == pytest.approx(0, abs=1e-12)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="spacing"):
        outline_distances(array(SQUARE), array(SQUARE), 0.0)
    with pytest.raises(ValueError, match="paired"):
        outline_distances(array(SQUARE), array(SQUARE, SQUARE), 1.0)
