"""Pixels near an outline: what boundary IoU is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def inner_band(mask: NDArray[np.bool_], width: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that lie within a distance of its outline.

    That is the mask without its erosion by a rectangle of ``2 * width + 1`` pixels, the band of
    boundary IoU (Cheng et al. 2021, "Boundary IoU", whose implementation erodes by a square). What
    lies outside the array counts as part of the mask: the array's edge is no outline.

    Parameters
    ----------
    mask : ndarray of bool, shape (rows, cols)
    width : tuple of int
        Pixels along rows and columns, 1 or more: an anisotropic grid has one for each axis.

    Raises
    ------
    ValueError
        If a width is below 1.
    """
    if min(width) < 1:
        raise ValueError(f"the width {width} of the band is below one pixel")
    near = ~mask
    for axis, reach in enumerate(width):
        near = _spread(near, axis, reach)
    return mask & near


def _spread(marks: NDArray[np.bool_], axis: int, reach: int) -> NDArray[np.bool_]:
    """Return True within `reach` pixels of a mark along an axis, by differences of a running sum."""
    size = marks.shape[axis]
    total = np.cumsum(marks, axis=axis, dtype=np.int32)
    last = np.minimum(np.arange(size) + reach, size - 1)
    before = np.arange(size) - reach - 1
    counts = np.take(total, last, axis=axis)
    inside = before >= 0
    if inside.any():
        first = int(np.flatnonzero(inside)[0])
        rest = [slice(None)] * marks.ndim
        rest[axis] = slice(first, None)
        counts[tuple(rest)] -= np.take(total, before[first:], axis=axis)
    return np.asarray(counts > 0)
