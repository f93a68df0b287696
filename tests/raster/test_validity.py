from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoseg.raster.pixels import apply_stretch, is_nodata, stored_nodata, validity

shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)


@given(hnp.arrays(np.uint8, shapes))
def test_without_a_tag_everything_is_data(pixels):
    assert validity(pixels).all()
    assert not is_nodata(pixels, [None] * len(pixels)).any()


@given(hnp.arrays(np.uint8, shapes, elements=st.integers(0, 2)), st.integers(0, 2))
def test_nodata_needs_all_bands(pixels, value):
    assert np.array_equal(is_nodata(pixels, [value] * len(pixels)), (pixels == value).all(axis=0))


@given(
    pixels=hnp.arrays(np.float32, (2, 4, 5), elements=st.sampled_from([0, np.inf])),
    mask=hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 128, 255])),
    alpha=hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 255])),
)
def test_sources_are_joined(pixels, mask, alpha):
    expected = (pixels == 0).all(axis=0) & (mask != 0) & (alpha != 0)
    assert np.array_equal(validity(pixels, mask=mask, alpha=alpha), expected)


@given(hnp.arrays(np.float32, shapes))
def test_every_band_must_be_finite(pixels):
    assert np.array_equal(validity(pixels), np.isfinite(pixels).all(axis=0))


def test_what_float32_cannot_hold_is_no_data():
    pixels = np.array([[[-np.finfo(np.float64).max, 1e39, 3e38, 0]]])
    assert validity(pixels).tolist() == [[False, False, True, True]]
    assert apply_stretch(pixels, [(0, 1)])[0, 0, 2:].tolist() == [255, 0]


def test_nan_as_nodata_equals_nan():
    pixels = np.array([[[np.nan, 1]], [[np.nan, np.nan]]], np.float32)
    assert is_nodata(pixels, [np.nan, np.nan]).tolist() == [[True, False]]


def test_a_band_without_nodata_keeps_the_pixel():
    assert not is_nodata(np.zeros((2, 1, 1), np.uint8), [0, None]).any()


def test_several_masks_must_all_agree():
    masks = np.array([[[255, 255, 0]], [[255, 0, 0]]], np.uint8)
    assert validity(np.ones((2, 1, 3)), mask=masks).tolist() == [[True, False, False]]


@pytest.mark.parametrize(
    ("nodata", "dtype", "expected"),
    [
        (None, "uint8", None),
        (0, "uint8", 0),
        (-9999, "uint8", None),
        (256, "uint8", None),
        (1.5, "uint8", None),
        (float("nan"), "int16", None),
        (-9999, "int16", -9999),
        (-3.4028234663852886e38, "float32", -np.finfo(np.float32).max),
        (-3.40282346639e38, "float32", -np.finfo(np.float32).max),
        (3.4028235e38, "float32", np.finfo(np.float32).max),
        (1e39, "float32", None),
        (float("inf"), "float32", np.inf),
        (0.1, "float32", np.float32(0.1)),
    ],
)
def test_what_a_dtype_can_hold(nodata, dtype, expected):
    assert stored_nodata(nodata, dtype) == expected
