"""Rims: outlines, narrow gaps and seams become unknown, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoseg.labels.classes import IGNORE
from geoseg.training.data.chips import ignore_rims


def even(labels, value=120):
    return np.full((3, *labels.shape), value, np.uint8)


def blob(rows, cols):
    labels = np.zeros((60, 60), np.uint8)
    labels[rows, cols] = 1
    return labels


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(1, 6), st.integers(1, 6))
def test_on_even_ground_the_band_is_forgotten_and_what_is_far_from_outlines_stays(seed, across, down):
    rng = np.random.default_rng(seed)
    labels = (ndimage.gaussian_filter(rng.normal(size=(48, 40)), 3) > 0.05).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.02] = IGNORE
    found = ignore_rims(labels, even(labels), (across, down))
    objects, ground = labels == 1, labels == 0
    near = np.ones((2 * down + 1, 2 * across + 1), bool)
    band = ndimage.binary_dilation(objects, near) & ndimage.binary_dilation(~objects, near)
    assert (found[band] == IGNORE).all()
    assert (found[objects & ~band] == 1).all()
    # A closing fills nothing that is further away than that from objects, or from the edge of the picture.
    grown = ndimage.binary_dilation(np.pad(objects, 9, constant_values=True), near)[9:-9, 9:-9]
    assert (found[ground & ~grown] == 0).all()
    assert (found[labels == IGNORE] == IGNORE).all()


def test_narrow_gaps_are_forgotten_and_wide_ones_are_not():
    labels = (
        blob(slice(10, 50), slice(5, 20))
        | blob(slice(10, 50), slice(26, 35))
        | blob(slice(10, 50), slice(50, 60))
    )
    found = ignore_rims(labels, even(labels), (3.0, 3.0))
    assert (found[20:40, 20:26] == IGNORE).all()
    assert (found[20:40, 39:46] == 0).all()


def test_the_edge_of_the_picture_is_no_outline():
    labels = blob(slice(0, 30), slice(0, 60))
    found = ignore_rims(labels, even(labels), (2.0, 2.0))
    assert (found[:27] == 1).all()
    assert (found[33:] == 0).all()
    assert (found[28:32] == IGNORE).all()


@pytest.mark.parametrize(("step", "kept"), [(20, 1), (120, IGNORE)])
def test_seams_between_roofs_are_forgotten_and_those_of_the_ground_are_not(step, kept):
    labels = blob(slice(0, 30), slice(0, 60))
    pixels = even(labels, 60)
    pixels[:, :, 30:] += step
    found = ignore_rims(labels, pixels, (4.0, 4.0))
    assert (found[:20, 29:31] == kept).all()
    assert (found[:20, :25] == 1).all()
    assert (found[40:] == 0).all()
