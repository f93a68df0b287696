"""Where labels change, found a band of rows at a time, and sums over runs, a batch at a time."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from geoseg.values import ClassRule, ProbabilityBlock, Window
from geoseg.vector import samples, trace
from geoseg.vector.samples import INVALID, Samples, find_changes, find_runs, take_samples, where

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
LABELS = arrays(np.int8, SHAPES, elements=st.integers(INVALID, 2))


def samples_of(labels: NDArray[np.int8]) -> Samples:
    values = np.arange(labels.size, dtype=np.uint16).reshape(1, *labels.shape)
    window = Window(0, 0, *labels.shape)
    return Samples(0, 0, labels, window, values, np.zeros(labels.shape, np.uint8), values[0], 0.5)


@given(arrays(bool, st.integers(0, 70)))
def test_set_flags_are_those_that_numpy_finds(flags: NDArray[np.bool_]) -> None:
    assert where(flags).tolist() == np.flatnonzero(flags).tolist()


@given(LABELS, st.integers(1, 40))
def test_changes_are_found_whatever_the_band(labels: NDArray[np.int8], band: int) -> None:
    with mock.patch.object(samples, "_BAND", band):
        found = find_changes(samples_of(labels))
    across = np.ones(labels.shape, bool)
    across[:, :-1] = labels[:, 1:] != labels[:, :-1]
    assert found.across.tolist() == np.flatnonzero(across).tolist()
    cells = np.zeros(labels.shape, bool)
    if min(labels.shape) > 1:
        corners = np.stack([labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1], labels[1:, 1:]])
        cells[:-1, :-1] = corners.min(axis=0) < corners.max(axis=0)
    assert found.cells.tolist() == np.flatnonzero(cells).tolist()


@given(LABELS, st.integers(1, 40))
def test_runs_are_summed_whatever_the_batch(labels: NDArray[np.int8], batch: int) -> None:
    taken = samples_of(labels)
    runs = find_runs(taken, find_changes(taken))
    covered = np.zeros(labels.shape, int)
    expected = []
    for row, first, last in zip(runs.row, runs.first, runs.last, strict=True):
        assert len(set(labels[row, first : last + 1].tolist())) == 1
        covered[row, first : last + 1] += 1
        expected.append(int(taken.strongest[row, first : last + 1].sum()))
    assert (covered == (labels > 0)).all()
    if expected:
        with mock.patch.object(trace, "_BATCH", batch):
            start, length = runs.row * taken.stride + runs.first, runs.last - runs.first + 1
            assert trace._sum_runs(taken.strongest, start, length).tolist() == expected


@given(
    arrays(np.uint16, (3, 5, 4), elements=st.integers(0, 9)),
    arrays(bool, (5, 4)),
    st.sampled_from([(0, 1, 2), (3, 0, 127), (1, 128, 255), (7, 7, 0)]),
    st.floats(1e-9, 1e-4),
)
def test_labels_follow_the_rule(
    values: NDArray[np.uint16], valid: NDArray[np.bool_], channels: tuple[int, ...], threshold: float
) -> None:
    for rule, used in (
        (ClassRule(channels, threshold), values),
        (ClassRule(channels[:1], threshold), values[:1]),
    ):
        block = ProbabilityBlock(Window(0, 0, 5, 4), used, valid)
        labels = take_samples(block, block.window, (5, 4), rule).labels
        ids = np.array(rule.channels)[used.argmax(axis=0)]
        expected = np.where(valid, np.where(used.max(axis=0) > rule.level, ids, 0), INVALID)
        assert labels[1:-1, 1:-1].tolist() == expected.tolist()
        assert (np.delete(np.delete(labels, slice(1, -1), 0), slice(1, -1), 1) == INVALID).all()
