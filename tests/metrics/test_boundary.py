"""The band along outlines: brute force, and the definition of its authors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import binary_erosion

from geoseg.metrics.pixels import inner_band

masks = array_shapes(min_dims=2, max_dims=2, max_side=14).flatmap(lambda shape: arrays(bool, shape))
widths = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(masks, widths)
def test_a_pixel_is_in_the_band_if_the_outside_is_near(mask, width):
    expected = np.zeros_like(mask)
    for row, col in np.argwhere(mask):
        top, left = max(0, row - width[0]), max(0, col - width[1])
        expected[row, col] = not mask[top : row + width[0] + 1, left : col + width[1] + 1].all()
    assert (inner_band(mask, width) == expected).all()


@given(masks, st.integers(1, 4))
def test_agrees_with_repeated_erosion_by_a_square(mask, width):
    """The published implementation: the mask minus its erosion by 3 x 3 pixels, `width` times."""
    eroded = binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=1)
    assert (inner_band(mask, (width, width)) == (mask & ~eroded)).all()


def test_a_square_in_the_open_and_one_at_the_edge():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    assert inner_band(mask, (2, 2)).sum() == 100 - 36
    assert inner_band(mask, (1, 3)).sum() == 100 - 8 * 4
    mask[:] = True
    assert not inner_band(mask, (3, 3)).any()  # the array's edge is no outline


def test_a_band_without_width_is_refused():
    with pytest.raises(ValueError, match="below one pixel"):
        inner_band(np.ones((3, 3), bool), (1, 0))
