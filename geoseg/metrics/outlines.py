"""How far outlines lie apart, and the pixels near them that boundary IoU is made of."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Distances = tuple[NDArray[np.float64], NDArray[np.int64]]


def outline_distances(first: NDArray[np.object_], second: NDArray[np.object_], spacing: float) -> Distances:
    """Return distances from points along either outline to the other outline of its pair.

    Parameters
    ----------
    first, second : array of shapely (Multi)Polygon, shape (pairs,)
        In a plane whose units are the same along both axes.
    spacing : float
        Points lie at most this far apart, evenly along each ring; every ring has at least eight.

    Returns
    -------
    distance : ndarray of float64, shape (points,)
        In the units of the polygons; holes have outlines too.
    pair : ndarray of int64, shape (points,)
        The pair that each point belongs to.

    Raises
    ------
    ValueError
        If `spacing` is not positive or the arrays differ in length.
    """
    if not spacing > 0:
        raise ValueError(f"spacing {spacing} is not positive")
    if len(first) != len(second):
        raise ValueError(f"{len(first)} polygons cannot be paired with {len(second)}")
    there, back = _one_way(first, second, spacing), _one_way(second, first, spacing)
    return np.concatenate([there[0], back[0]]), np.concatenate([there[1], back[1]])


def _one_way(source: NDArray[np.object_], target: NDArray[np.object_], spacing: float) -> Distances:
    # Normalized, since where a ring happens to begin would move the points.
    parts, whole = shapely.get_parts(shapely.normalize(source), return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    owner = np.asarray(whole, np.int64)[part]
    length = shapely.length(rings)
    count = np.maximum(8, np.ceil(length / spacing)).astype(np.int64)
    ring = np.repeat(np.arange(len(rings)), count)
    ordinal = np.arange(len(ring)) - np.repeat(np.cumsum(count) - count, count)
    points = shapely.line_interpolate_point(
        np.asarray(rings)[ring], (ordinal + 0.5) * length[ring] / count[ring]
    )
    pair = owner[ring]
    return shapely.distance(points, shapely.boundary(target)[pair]), pair


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

    Examples
    --------
    >>> mask = np.zeros((5, 5), bool)
    >>> mask[1:, 1:] = True
    >>> inner_band(mask, (1, 1)).astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 1, 1],
           [0, 1, 0, 0, 0],
           [0, 1, 0, 0, 0],
           [0, 1, 0, 0, 0]])
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
