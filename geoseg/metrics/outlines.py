"""How far outlines lie apart."""

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
