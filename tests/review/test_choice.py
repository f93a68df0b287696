"""Which polygons are looked at, and what a sample of them says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.review import ReviewOptions
from geoseg.review.choice import Evidence, Stratum, Z, agreement, draw_sample, precision

SQUARE = shapely.box(0, 0, 10, 10)


def evidence(**columns):
    usual = {
        "polygons": np.array([SQUARE] * 4),
        "confidence": np.full(4, 0.9),
        "touches_edge": np.zeros(4, bool),
        "agreement": np.ones(4),
    }
    return Evidence(**usual | columns)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"confidence": np.array([0.9, 0.9, 0.6, 0.9])}, "low confidence"),
        ({"polygons": np.array([SQUARE, SQUARE, shapely.box(0, 0, 50, 1), SQUARE])}, "odd shape"),
        ({"touches_edge": np.arange(4) == 2}, "touches the edge"),
        ({"agreement": np.array([1, 1, 0, 1.0])}, "not in the older layer"),
        ({"agreement": np.array([1, 1, 0.4, 1.0])}, "differs from the older layer"),
    ],
)
def test_what_is_doubtful_comes_first_and_says_why(columns, reason):
    found = evidence(**columns)
    assert found.doubts().argmax() == 2
    assert found.reasons() == [[], [], [reason], []]


def test_a_layer_that_says_nothing_has_no_doubts():
    assert evidence(confidence=np.full(4, np.nan)).doubts().tolist() == [0, 0, 0, 0]
    assert agreement(np.array([SQUARE]), np.empty(0, object)).tolist() == [0]


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=200), st.integers(1, 250), st.integers(0, 9))
def test_a_sample_has_of_each_size_what_the_layer_has(areas, count, seed):
    areas = np.array(areas)
    chosen, stratum = draw_sample(areas, count, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, len(areas))
    wanted = np.bincount(stratum) * len(chosen) / len(areas)
    assert np.abs(np.bincount(stratum[chosen], minlength=len(wanted)) - wanted).max() < 1
    sizes = [areas[stratum == part] for part in range(len(wanted))]
    assert all(few.max() <= more.min() for few, more in itertools.pairwise(sizes))
    assert (draw_sample(areas, count, seed)[0] == chosen).all()


PARTS = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(1, 300), st.floats(0, 1)).map(
        lambda part: Stratum(part[0], part[1], round(part[1] * part[2]))
    ),
    min_size=1,
    max_size=5,
)


@given(PARTS)
def test_the_interval_holds_the_share_and_of_one_stratum_it_is_wilsons(parts):
    found = precision(parts)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12 <= 1 + 2e-12
    size, n, right = parts[0]
    (p, alone) = right / n, precision(parts[:1])
    middle, half = (p + Z**2 / 2 / n), Z * math.sqrt(p * (1 - p) / n + Z**2 / 4 / n**2)
    assert alone.low == pytest.approx(max(0, (middle - half) / (1 + Z**2 / n)), abs=1e-9)
    assert alone.high == pytest.approx((middle + half) / (1 + Z**2 / n))
    assert alone.size == size


def test_the_interval_holds_the_truth_95_times_in_100():
    """Of 2 000 samples of two strata that differ; three standard errors are allowed."""
    random = np.random.default_rng(0)
    truth = (900 * 0.95 + 300 * 0.6) / 1200
    drawn = random.binomial([45, 15], [0.95, 0.6], (2000, 2)).tolist()
    found = [precision([Stratum(900, 45, one), Stratum(300, 15, two)]) for one, two in drawn]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.935 <= held <= 0.975


def test_options_that_contradict():
    with pytest.raises(InvalidOption, match="--sample draws at random"):
        ReviewOptions(sample=10, older="a.gpkg")
    with pytest.raises(InvalidOption, match="--count must be 1 or more"):
        ReviewOptions(count=0)
