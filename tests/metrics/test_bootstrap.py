"""Resampling of blocks: seeded, whole, and as wide as statistics says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.evaluation.figures import percentile_interval, resample_weights, resampled_sums


@given(st.integers(1, 50), st.integers(1, 30), st.integers(0, 9))
def test_every_replicate_draws_as_many_blocks_as_there_are(blocks, replicates, seed):
    weights = np.concatenate(list(resample_weights(blocks, replicates, seed)))
    assert weights.shape == (replicates, blocks)
    assert (weights.sum(axis=1) == blocks).all()
    assert (weights >= 0).all()


@settings(max_examples=20)
@given(st.integers(0, 5))
def test_seeded(seed):
    counts = np.random.default_rng(1).random((12, 3))
    assert (resampled_sums(counts, 50, seed) == resampled_sums(counts, 50, seed)).all()
    assert (resampled_sums(counts, 50, seed) != resampled_sums(counts, 50, seed + 1)).any()


def test_chunks_change_nothing(monkeypatch):
    counts = np.random.default_rng(1).random((12, 3))
    whole = resampled_sums(counts, 50, 3)
    monkeypatch.setattr("geoseg.evaluation.figures._CHUNK", 12 * 7)
    assert np.allclose(resampled_sums(counts, 50, 3), whole, rtol=1e-12)


def test_equal_blocks_leave_no_doubt():
    sums = resampled_sums(np.tile([3.0, 4.0], (20, 1)), 100, 0)
    assert percentile_interval(sums[:, 0] / sums[:, 1]) == (0.75, 0.75)


def test_width_is_that_of_the_mean_of_independent_blocks():
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = percentile_interval(resampled_sums(values[:, None], 4000, 0)[:, 0] / 400)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_replicates_without_a_meaning_are_left_out_unless_most_are():
    values = np.r_[np.arange(100.0), [np.nan] * 50]
    assert percentile_interval(values) == pytest.approx((2.475, 96.525))
    assert all(math.isnan(end) for end in percentile_interval(np.r_[values, [np.nan] * 51]))
