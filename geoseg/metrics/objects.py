"""Which predicted polygon is which true one, how many have no partner, how far their outlines lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.metrics.pixels import Confusion

_TIE = 1e-12
"""Overlaps closer than this count as equal, so that rounding does not decide who is matched."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Index in the first array, index in the second, and a number for the pair."""


@dataclass(frozen=True, eq=False, slots=True)
class ObjectMatch:
    """A one-to-one matching of predicted and true polygons."""

    predicted: NDArray[np.int64]
    truth: NDArray[np.int64]
    """`predicted`, `truth`: int64, shape (matches,). Index of either partner in the arrays that were matched,
    ordered by `predicted`."""
    iou: NDArray[np.float64]
    """float64, shape (matches,). Intersection over union of each pair."""
    counts: Confusion
    """Matches, predictions without a partner, true polygons without a partner."""


def match_objects(
    predicted: NDArray[np.object_], truth: NDArray[np.object_], threshold: float = 0.5
) -> ObjectMatch:
    """Match polygons one to one, the pairs of largest IoU first.

    Parameters
    ----------
    predicted, truth : array of shapely (Multi)Polygon, shape (n,) and (m,)
        Valid geometries in one CRS, whose units are the same along both axes or nearly so: IoU is
        a ratio of planar areas.
    threshold : float
        In (0, 1]. A pair counts from this IoU on (``>=``).

    Returns
    -------
    ObjectMatch
        At thresholds above 0.5 each polygon of two sets without overlaps within them has at most
        one candidate, so that the greedy matching is the only one and the largest. Below, equal
        IoU goes to the pair of lower indices (predicted first).

    Raises
    ------
    ValueError
        If `threshold` is not in (0, 1], or a geometry is missing, empty or not valid (its area
        would be wrong).

    Examples
    --------
    >>> house, half = shapely.box(0, 0, 4, 4), shapely.box(0, 0, 4, 3)
    >>> found = match_objects([half, shapely.box(9, 9, 10, 10)], [house])
    >>> found.iou.tolist(), found.counts.precision, found.counts.recall
    ([0.75], 0.5, 1.0)
    """
    predicted, truth = _checked(predicted, "predicted"), _checked(truth, "truth")
    pairs = overlaps(predicted, truth)
    return match_pairs(pairs, (len(predicted), len(truth)), threshold)


def match_pairs(pairs: Pairs, sizes: tuple[int, int], threshold: float) -> ObjectMatch:
    """Match objects one to one by overlaps that are known already; see `match_objects`.

    Parameters
    ----------
    pairs : tuple of ndarray
        From `overlaps`.
    sizes : tuple of int
        Number of predicted and of true polygons.
    threshold : float
        In (0, 1].

    Raises
    ------
    ValueError
        If `threshold` is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is not in (0, 1]")
    i, j, iou = pairs
    candidates = np.flatnonzero(iou >= threshold - _TIE)
    order = candidates[np.lexsort((j[candidates], i[candidates], -np.round(iou[candidates] / _TIE)))]
    free_i, free_j = np.ones(sizes[0], bool), np.ones(sizes[1], bool)
    chosen = []
    for pair in order:
        if free_i[i[pair]] and free_j[j[pair]]:
            free_i[i[pair]] = free_j[j[pair]] = False
            chosen.append(pair)
    kept = np.array(sorted(chosen, key=lambda pair: int(i[pair])), dtype=np.int64)
    counts = Confusion(len(kept), sizes[0] - len(kept), sizes[1] - len(kept))
    return ObjectMatch(i[kept], j[kept], iou[kept], counts)


def overlaps(first: NDArray[np.object_], second: NDArray[np.object_]) -> Pairs:
    """Return all pairs that share area: index in either array, and intersection over union."""
    i, j, shared = shared_areas(first, second)
    return i, j, shared / (shapely.area(first)[i] + shapely.area(second)[j] - shared)


def shared_areas(first: NDArray[np.object_], second: NDArray[np.object_]) -> Pairs:
    """Return all pairs that share area: index in either array, and the area that they share."""
    tree = shapely.STRtree(second)
    pairs = np.asarray(tree.query(first, predicate="intersects"), dtype=np.int64).reshape(2, -1)
    i, j = pairs
    shared = shapely.area(shapely.intersection(first[i], second[j]))
    kept = shared > 0
    return i[kept], j[kept], shared[kept]


def held_twice(held: NDArray[np.object_], holders: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Return True for each holder that holds at least half of the area of two or more polygons.

    With true polygons as holders of predicted ones these are the split ones; the other way round,
    the merged ones.
    """
    i, j, shared = shared_areas(held, holders)
    inside = shared >= shapely.area(held)[i] * (0.5 - _TIE)
    return np.asarray(np.bincount(j[inside], minlength=len(holders)) >= 2)


def _checked(geometries: NDArray[np.object_], name: str) -> NDArray[np.object_]:
    array = np.asarray(geometries, dtype=object)
    bad = shapely.is_missing(array) | shapely.is_empty(array) | ~shapely.is_valid(array)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{name}[{first}] is missing, empty or not valid; repair it first")
    return array


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
