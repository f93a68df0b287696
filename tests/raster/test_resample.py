from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoseg.raster.pixels import resample, restore, taps

lengths = st.integers(1, 60)


def whole(pixels, valid, height, width):
    rows = taps(0, height, height, pixels.shape[1])
    cols = taps(0, width, width, pixels.shape[2])
    return resample(
        pixels[:, rows.start : rows.stop, cols.start : cols.stop],
        valid[rows.start : rows.stop, cols.start : cols.stop],
        rows,
        cols,
    )


@given(size=lengths, source=lengths)
def test_weights_are_a_partition(size, source):
    axis = taps(0, size, size, source)
    assert (axis.weight >= 0).all()
    assert axis.weight.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert axis.index.min() >= 0
    assert axis.index.max() < source


@given(size=lengths, source=lengths, data=st.data())
def test_taps_do_not_depend_on_the_window(size, source, data):
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    every, some = taps(0, size, size, source), taps(start, stop, size, source)
    assert np.array_equal(every.index[start:stop], some.index)
    assert np.array_equal(every.weight[start:stop], some.weight)
    assert np.array_equal(every.nearest[start:stop], some.nearest)


@given(size=lengths, source=lengths)
def test_shrinking_shares_every_source_pixel_equally(size, source):
    assume(size <= source)
    axis = taps(0, size, size, source)
    share = np.bincount(axis.index.ravel(), axis.weight.ravel(), source)
    assert share == pytest.approx(size / source, abs=1e-5)


@given(size=lengths, source=lengths)
def test_nearest_is_the_pixel_under_the_centre(size, source):
    centers = (np.arange(size) + 0.5) * source / size
    axis = taps(0, size, size, source)
    assert (axis.nearest <= centers).all()
    assert (axis.nearest + 1 >= centers).all()


@given(value=st.integers(0, 255), shape=st.tuples(lengths, lengths), target=st.tuples(lengths, lengths))
def test_a_constant_stays_constant(value, shape, target):
    pixels = np.full((2, *shape), value, np.uint8)
    values, valid = whole(pixels, np.ones(shape, bool), *target)
    assert valid.all()
    assert (restore(values, "uint8") == value).all()


@given(
    pixels=hnp.arrays(np.uint16, st.tuples(st.just(2), lengths, lengths)), target=st.tuples(lengths, lengths)
)
def test_shrinking_preserves_the_mean(pixels, target):
    assume(target[0] <= pixels.shape[1] and target[1] <= pixels.shape[2])
    values, _ = whole(pixels, np.ones(pixels.shape[1:], bool), *target)
    assert values.mean(axis=(1, 2)) == pytest.approx(pixels.mean(axis=(1, 2)), rel=1e-5, abs=1e-3)


def ramp_error(source, size):
    """Return the error of a resampled ramp, in source pixels, where its neighbours exist."""
    ramp = np.broadcast_to(np.arange(source) + 0.5, (1, 1, source)).astype(np.float32)
    values, _ = whole(ramp, np.ones((1, source), bool), 1, size)
    centers = (np.arange(size) + 0.5) * source / size
    inner = (centers >= 0.5) & (centers <= source - 0.5)
    return np.abs(values[0, 0] - centers)[inner]


@given(source=st.integers(2, 60), size=lengths, factor=st.integers(1, 5))
def test_ramps_are_exact_in_the_interior(source, size, factor):
    assume(size >= source)
    assert ramp_error(source, size).max(initial=0) < 1e-4
    assert ramp_error(source * factor, source).max(initial=0) < 1e-4


@given(source=st.integers(2, 60), size=lengths)
def test_ramps_never_shift_by_more_than_an_eighth_of_a_pixel(source, size):
    # A pixel that an output pixel cuts counts as constant: where the ramp's steps fall matters.
    assert ramp_error(source, size).max(initial=0) < 1 / 8 + 1e-4


@given(
    valid=hnp.arrays(bool, st.tuples(lengths, lengths)),
    target=st.tuples(lengths, lengths),
    poison=st.sampled_from([np.nan, np.inf, -1e30]),
)
def test_invalid_pixels_never_leak(valid, target, poison):
    pixels = np.where(valid, np.float32(7), np.float32(poison))[None]
    values, known = whole(pixels, valid, *target)
    assert values[0, known] == pytest.approx(7, rel=1e-5)
    assert (values[0, ~known] == 0).all()


@given(valid=hnp.arrays(bool, st.tuples(lengths, lengths)), target=st.tuples(lengths, lengths))
def test_valid_where_at_least_half_of_the_weight_is(valid, target):
    pixels = valid[None].astype(np.float64)
    weight, _ = whole(pixels, np.ones_like(valid), *target)
    _, known = whole(pixels, valid, *target)
    assert known[weight[0] >= 0.5].all()
    assert not known[weight[0] < 0.499].any()


@given(
    pixels=hnp.arrays(np.uint8, st.tuples(st.just(1), lengths, lengths)),
    target=st.tuples(lengths, lengths),
    data=st.data(),
)
def test_a_hole_elsewhere_changes_no_bit(pixels, target, data):
    shape = pixels.shape[1:]
    valid = np.ones(shape, bool)
    row, col = data.draw(st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1)))
    valid[row, col] = False
    before, _ = whole(pixels, np.ones(shape, bool), *target)
    after, _ = whole(pixels, valid, *target)
    rows, cols = taps(0, target[0], target[0], shape[0]), taps(0, target[1], target[1], shape[1])
    far = ~((rows.index == row).any(axis=1)[:, None] & (cols.index == col).any(axis=1))
    assert np.array_equal(before[0, far], after[0, far])


def test_halves_round_to_even_and_stay_in_range():
    values = np.array([[[0.5, 1.5, 254.6, 255.2, -0.2]]], np.float32)
    assert restore(values, "uint8").tolist() == [[[0, 2, 255, 255, 0]]]


def test_wide_integers_keep_their_digits():
    pixels = np.full((1, 4, 4), 2**31 - 3, np.int32)
    values, _ = whole(pixels, np.ones((4, 4), bool), 3, 3)
    assert (restore(values, "int32") == 2**31 - 3).all()
