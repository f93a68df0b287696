"""Histograms of probabilities against brute force, scikit-learn and torchmetrics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.metrics.pixels import (
    BINS,
    LEVELS,
    brier_score,
    calibration_error,
    fold,
    level_histogram,
    threshold_counts,
    to_levels,
)

samples = st.lists(st.tuples(st.integers(0, LEVELS - 1), st.booleans()), min_size=1, max_size=60).map(
    lambda pairs: (np.array([p for p, _ in pairs], np.uint8), np.array([t for _, t in pairs]))
)


@given(samples)
def test_histogram_counts_every_pixel_once(sample):
    levels, truth = sample
    histogram = level_histogram(levels, truth)
    for level in range(LEVELS):
        of_level = levels == level
        assert histogram[level].tolist() == [(of_level & ~truth).sum(), (of_level & truth).sum()]
    bins = fold(histogram)
    assert bins[:, 0].sum() == len(levels)
    assert bins[:, 1].sum() == levels.sum(dtype=int)
    assert bins[:, 2].sum() == truth.sum()


@pytest.mark.slow
@given(samples)
def test_calibration_error_agrees_with_torchmetrics(sample):
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    levels, truth = sample
    inside = levels % 25 != 0  # on the border of two bins, rounding decides there
    levels, truth = levels[inside], truth[inside]
    if not len(levels):
        return
    ours = calibration_error(fold(level_histogram(levels, truth)))
    theirs = binary_calibration_error(
        torch.tensor(levels / (LEVELS - 1)), torch.tensor(truth).int(), n_bins=BINS, norm="l1"
    )
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.slow
@given(samples)
def test_brier_score_agrees_with_scikit_learn(sample):
    from sklearn.metrics import brier_score_loss

    levels, truth = sample
    expected = brier_score_loss(truth, levels / (LEVELS - 1), pos_label=True)
    assert brier_score(level_histogram(levels, truth)) == pytest.approx(expected)


@given(samples, st.integers(0, LEVELS - 1))
def test_thresholds_agree_with_brute_force(sample, level):
    levels, truth = sample
    found, false, missed = threshold_counts(level_histogram(levels, truth))
    positive = levels >= level
    assert found[level] == (positive & truth).sum()
    assert false[level] == (positive & ~truth).sum()
    assert missed[level] == (~positive & truth).sum()


def test_closed_forms():
    levels = np.repeat(np.array([50, 200], np.uint8), 10)  # 0.2 and 0.8
    truth = np.r_[np.arange(10) < 2, np.arange(10) < 8]
    assert calibration_error(fold(level_histogram(levels, truth))) == pytest.approx(0)
    assert calibration_error(fold(level_histogram(levels, ~truth))) == pytest.approx(0.6)
    nothing = np.zeros((LEVELS, 2), np.int64)
    assert math.isnan(calibration_error(fold(nothing)))
    assert math.isnan(brier_score(nothing))


def test_certain_pixels_lie_in_the_last_bin():
    bins = fold(level_histogram(np.array([250, 225, 224, 0], np.uint8), np.array([True] * 4)))
    assert bins[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 1, 2]


@given(st.floats(0, 1, width=32))
def test_levels_are_the_nearest(probability):
    level = int(to_levels(np.array([probability], np.float32))[0])
    assert abs(level / 250 - probability) <= 0.002 + 1e-7
