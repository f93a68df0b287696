"""Cycles of half-edges, and rings that become valid polygons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index

_STEPS = 32
"""Bits for the number of steps along a cycle."""


def cycles(successor: Index, rank: Index) -> tuple[Index, Index]:
    """Find the cycles of a permutation and where each element lies in its cycle.

    Pointer doubling (Wyllie, 1979): after k rounds every element knows the best of the 2^k elements
    that follow it.

    Parameters
    ----------
    successor : ndarray of int, shape (n,)
        The element after each element.
    rank : ndarray of int, shape (n,)
        Distinct; the element of smallest rank leads its cycle.

    Returns
    -------
    leader : ndarray of int64, shape (n,)
        Rank of the leader of each element's cycle.
    ahead : ndarray of int64, shape (n,)
        Steps from each element on to its leader.
    """
    # Rank above steps in one number: the smallest is the first occurrence of the leader.
    known, hop, step = rank.astype(np.int64) << _STEPS, successor, 1
    while len(known):
        other = known.take(hop)
        other += step
        if not (other < known).any():
            break
        np.minimum(known, other, out=known)
        hop = hop.take(hop)
        step *= 2
    return known >> _STEPS, known & ((1 << _STEPS) - 1)


def components(n: int, pairs: tuple[Index, Index]) -> Index:
    """Find the connected components of a graph and number them from 0.

    Parameters
    ----------
    n : int
        Number of nodes.
    pairs : tuple of two ndarray of int
        The two ends of each link.

    Returns
    -------
    ndarray of int64, shape (n,)
        Component of every node, in the order of their first nodes.

    Examples
    --------
    >>> components(4, (np.array([0, 2]), np.array([3, 2]))).tolist()
    [0, 1, 2, 0]
    """
    label = np.arange(n)
    one, two = pairs
    while len(one):
        one, two = label[one], label[two]
        apart = one != two
        one, two = one[apart], two[apart]
        np.minimum.at(label, np.maximum(one, two), np.minimum(one, two))
        while True:
            shorter = label[label]
            if np.array_equal(shorter, label):
                break
            label = shorter
    return np.asarray((np.cumsum(label == np.arange(n)) - 1)[label], np.int64)


def make_polygons(rings: Floats, starts: Index, owner: Index) -> NDArray[np.object_]:
    """Build valid polygons from rings that may touch themselves in points, or along cuts within them.

    A cut within a polygon is passed twice, there and back: it is left out.

    Parameters
    ----------
    rings : ndarray of float64, shape (n, 2)
        Vertices of all rings one after the other, each ring once around without repeating its first
        vertex; the inside on the left.
    starts : ndarray of int, shape (m,)
        Where each ring begins.
    owner : ndarray of int, shape (m,)
        Number of the polygon each ring belongs to, from 0 without gaps, not decreasing. Every
        polygon has a connected inside.

    Returns
    -------
    ndarray of shapely.Polygon
    """
    if len(starts) == 0:
        return np.empty(0, object)
    rings, starts, owner = _split_touching(rings, starts, owner)
    sizes = np.diff(starts, append=len(rings))
    shell = _signed_area(rings, starts, sizes) > 0
    order = np.lexsort((~shell, owner))
    closed = sizes[order] + 1
    ends = np.cumsum(closed)
    place = np.arange(ends[-1]) + np.repeat(starts[order] - (ends - closed), closed)
    place[ends - 1] = starts[order]
    return build_polygons(rings.take(place, axis=0), closed, owner[order])


def build_polygons(points: Floats, sizes: Index, owner: Index) -> NDArray[np.object_]:
    """Build polygons from the vertices of closed rings, one ring after the other.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2)
    sizes : ndarray of int64, shape (m,)
        Vertices of each ring.
    owner : ndarray of int64, shape (m,)
        Polygon of each ring, from 0 without gaps; the shell of each polygon first.

    Examples
    --------
    >>> corners = np.array([[0, 0], [2, 0], [0, 2], [0, 0]], float)
    >>> build_polygons(corners, np.array([4]), np.array([0]))[0].area
    2.0
    """
    rings = np.append(0, np.cumsum(sizes))
    polygons = np.searchsorted(owner, np.arange(owner[-1] + 2))
    built: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (rings, polygons)
    )
    return built


def build_lines(points: Floats, number: Index) -> NDArray[np.object_]:
    """Build lines of the points that have the same number, from 0 without gaps.

    >>> build_lines(np.array([[0, 0], [3, 4]], float), np.array([0, 0]))[0].length
    5.0
    """
    return np.asarray(shapely.linestrings(points, indices=number), object).reshape(-1)


def _signed_area(rings: Floats, starts: Index, sizes: Index) -> Floats:
    """Return twice the area of each ring, positive where it runs counter-clockwise."""
    local = rings - np.repeat(rings[starts], sizes, axis=0)
    after = np.arange(1, len(rings) + 1)
    after[starts + sizes - 1] = starts
    cross = local[:, 0] * local[after, 1] - local[after, 0] * local[:, 1]
    return np.asarray(np.add.reduceat(cross, starts))


def _split_touching(rings: Floats, starts: Index, owner: Index) -> tuple[Floats, Index, Index]:
    """Split rings that visit a point twice, which OGC polygons may not; leave out what has no area."""
    sizes = np.diff(starts, append=len(rings))
    # Only corners of pixels, at integers, and the middles of cuts, at halves, can be visited twice:
    # other vertices lie on one side each, or are passed together with such.
    doubled = 2 * rings
    whole = doubled == np.floor(doubled)
    corner = np.flatnonzero(whole[:, 0] & whole[:, 1])
    if len(corner) == 0:
        return rings, starts, owner
    ring = np.repeat(np.arange(len(starts)), sizes)[corner]
    x, y = doubled[corner].T.astype(np.int64)
    order = np.lexsort((x, y, ring))
    touching = sizes < 3
    again = (np.diff(x[order]) == 0) & (np.diff(y[order]) == 0) & (np.diff(ring[order]) == 0)
    touching[ring[order][1:][again]] = True
    if not touching.any():
        return rings, starts, owner
    kept = np.repeat(~touching, sizes)
    loops: list[Floats] = []
    looped: list[int] = []
    for number in np.flatnonzero(touching):
        parts = _loops(rings[starts[number] : starts[number] + sizes[number]])
        loops.extend(parts)
        looped.extend([owner[number]] * len(parts))
    lengths = np.append(sizes[~touching], np.array([len(loop) for loop in loops], np.int64))
    owners = np.append(owner[~touching], np.array(looped, np.int64))
    return np.concatenate([rings[kept], *loops]), np.cumsum(lengths) - lengths, owners


def _loops(ring: Floats) -> Sequence[Floats]:
    """Split one ring at every point that it visits twice, and leave out what it passes there and back."""
    loops: list[Floats] = []
    path: list[tuple[float, ...]] = []
    place: dict[tuple[float, ...], int] = {}
    for point in map(tuple, ring.tolist()):
        if point in place:
            first = place[point]
            loops.append(np.array(path[first:]))
            for passed in path[first + 1 :]:
                del place[passed]
            del path[first + 1 :]
        else:
            place[point] = len(path)
            path.append(point)
    return [loop for loop in [*loops, np.array(path)] if len(loop) > 2]
