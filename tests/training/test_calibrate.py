"""Probabilities that say how often they are right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.labels.classes import IGNORE
from geoseg.training.calibrate import (
    calibration_error,
    fit,
    fit_logistic,
    logit,
    object_counts,
    pixel_counts,
    scale_logits,
)
from geoseg.training.validate import Answer, Reading
from geoseg.values import CERTAIN, ClassRule

pytestmark = pytest.mark.slow


@given(st.floats(0.3, 3), st.floats(-3, 3))
def test_what_made_the_truth_is_found_again(slope, intercept):
    x = np.linspace(-4, 4, 200)
    likely = 1 / (1 + np.exp(-slope * x - intercept))
    counts = np.stack([1 - likely, likely], axis=-1) * 1000
    found = fit_logistic([(x[::2], counts[::2]), (x[1::2], counts[1::2] * 7)])
    assert found == pytest.approx((slope, intercept), rel=1e-3, abs=1e-3)
    assert calibration_error(likely, counts) < 1e-6
    assert calibration_error(np.full(200, 1.0), counts) == pytest.approx(1 - likely.mean(), abs=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_what_cannot_be_told_apart_ends_all_the_same(right):
    counts = np.stack([~np.array(right), right], axis=-1).astype(float)
    assert np.isfinite(fit_logistic([(np.linspace(-9, 9, len(right)), counts)])).all()


@pytest.mark.parametrize("right", [[False, False, True, True], [True, True, False, False], [True, False] * 2])
def test_nothing_is_made_of_probabilities_that_part_all_say_nothing_or_the_contrary(right):
    counts = np.stack([~np.array(right), right], axis=-1).astype(float)
    assert fit([(np.array([0.45, 0.49, 0.51, 0.55]), counts)]) is None
    told = np.array([[3.0, 1.0], [1.0, 3.0]])
    assert fit([(np.array([0.2, 0.8]), told)]).slope == pytest.approx(0.7925, abs=1e-3)


def answer(values, labels):
    values = np.asarray(values)
    return Answer(
        np.zeros((3, *values.shape), np.uint8), np.rint(values * CERTAIN).astype(np.uint16)[None], labels
    )


def test_pixels_are_counted_by_probability_and_unknown_ones_are_not():
    labels = np.array([[0, 7, 7, IGNORE]], np.uint8)
    counts = pixel_counts([answer([[0.0, 0.0, 1.0, 1.0]], labels)] * 2, 7)
    assert counts[0].tolist() == [2, 2]
    assert counts[CERTAIN].tolist() == [0, 2]
    assert counts.sum() == 6


def test_a_polygon_is_right_where_it_meets_a_true_one():
    values, labels = np.zeros((40, 60)), np.zeros((40, 60), np.uint8)
    values[5:20, 5:20], labels[5:20, 5:21] = 0.9, 7
    values[5:20, 30:50] = 0.6
    values[30:32, 30:32] = 0.9
    mean, counts = object_counts([answer(values, labels)], Reading(ClassRule((7,), 0.5)), 1.0, 10)
    assert mean.round(2).tolist() == [0.9, 0.6]
    assert counts.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("bands", [1, 4])
def test_the_last_convolution_takes_the_scale_and_nothing_else_does(bands):
    torch.manual_seed(1)
    inner, last = torch.nn.Conv2d(bands, 8, 3, padding=1), torch.nn.Conv2d(8, 1, 1)
    network = torch.nn.Sequential(inner, torch.nn.ReLU(), last).eval()
    picture = torch.randn(1, bands, 32, 32)
    with torch.no_grad():
        before = network(picture)
        assert scale_logits(network, bands, 0.6, -0.5)
        assert torch.allclose(network(picture), before * 0.6 - 0.5, atol=1e-5)
        backwards = torch.nn.Sequential(network, torch.nn.Tanh()).eval()
        kept = last.weight.clone()
        assert not scale_logits(backwards, bands, 3.0, 1.0)
        assert torch.equal(last.weight, kept), "left as it was"


def test_log_odds_end_half_a_step_from_certain():
    assert logit(np.array([0.0, 1.0])).round(2).tolist() == [-11.78, 11.78]
