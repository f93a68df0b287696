"""Rings and the arcs between their nodes, and the polygons that are built of either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    # The sign of twice the area tells which way a ring runs.
    local = rings - np.repeat(rings[starts], sizes, axis=0)
    after = np.arange(1, len(rings) + 1)
    after[starts + sizes - 1] = starts
    shell = np.add.reduceat(local[:, 0] * local[after, 1] - local[after, 0] * local[:, 1], starts) > 0
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


@dataclass(frozen=True, eq=False, slots=True)
class Arcs:
    """The rings of polygons, cut at nodes; what two polygons share is there twice, once for each."""

    points: Floats
    """float64, shape (v, 2). Vertices."""
    lines: NDArray[np.object_]
    """Shapely.LineString, shape (n,). Ring after ring, each from its first node on; a ring without a node is
    one closed arc, a loop."""
    first: Index
    last: Index
    """`first`, `last`: int64, shape (n,). Which vertices the ends are."""
    ring: Index
    part: Index
    """`ring`, `part`: int64, shape (n,). Number of the ring and of the polygon."""
    twin: Index
    """int64, shape (n,). The same arc on its other side, -1 where there is none."""
    loop: NDArray[np.bool_]
    """bool, shape (n,)."""
    part_of_ring: Index
    """int64. Number of the polygon of each ring."""

    @property
    def shared(self) -> NDArray[np.bool_]:
        """Tell which arcs two polygons share."""
        return np.asarray(self.twin >= 0)

    def alike(self, lines: NDArray[np.object_]) -> NDArray[np.object_]:
        """Give shared arcs the same line on both sides: that of the first of the two that has one."""
        own = np.arange(len(self.twin))
        twin = np.where(self.shared, self.twin, own)
        source = np.minimum(own, twin)
        source = np.where(shapely.is_missing(lines[source]), np.maximum(own, twin), source)
        return np.where(source == own, lines, shapely.reverse(lines[source]))


def cut_arcs(polygons: NDArray[np.object_], walls: NDArray[np.object_]) -> Arcs:
    """Cut the rings of polygons where three faces meet, and next to the corners of walls.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
    walls : ndarray of shapely.LinearRing
        Of each ring; None where it is cut at no corners.

    Examples
    --------
    >>> both = shapely.box([0, 4], 0, [4, 9], 3)
    >>> arcs = cut_arcs(both, np.full(2, None, object))
    >>> arcs.shared.tolist()
    [True, False, True, False]
    >>> shapely.equals(assemble(arcs, arcs.lines), both).tolist()
    [True, True]
    """
    rings, part = shapely.get_rings(polygons, return_index=True)
    closed, ring = shapely.get_coordinates(rings, return_index=True)
    inner = np.diff(ring, append=-1) == 0
    places, vertex = np.unique(closed[inner].view(np.complex128).ravel(), return_inverse=True)
    ring, count = ring[inner], len(places)
    size = np.bincount(ring)
    start = np.cumsum(size) - size
    number = np.arange(len(ring)) - start[ring]
    after = vertex[start[ring] + (number + 1) % size[ring]]
    edges = np.unique(np.minimum(vertex, after) * count + np.maximum(vertex, after))
    degree = np.bincount(edges // count, minlength=count) + np.bincount(edges % count, minlength=count)
    fixed = degree[vertex] > 2
    corners, owner = shapely.get_coordinates(walls, return_index=True)
    corner, near = pairs(owner, ring, np.arange(len(ring)))
    apart = np.hypot(*(corners[corner] - closed[inner][near]).T)
    order = np.lexsort((apart, corner))
    nearest = near[order[np.append(True, np.diff(corner[order]) > 0)[: len(order)]]]
    fixed |= np.isin(vertex, vertex[nearest])
    # A ring without a node begins at its smallest vertex, seen from either side.
    loop = np.bincount(ring, fixed) == 0
    fixed |= loop[ring] & (vertex == np.minimum.reduceat(vertex, start)[ring])
    begin = np.flatnonzero(fixed)
    head = begin[np.searchsorted(ring[begin], np.arange(len(rings)))] - start
    turned = start[ring] + (number + head[ring]) % size[ring]
    vertex, after, fixed = vertex[turned], after[turned], fixed[turned]
    heads = np.flatnonzero(fixed)
    tails = np.append(heads[1:], len(ring)) - 1
    arc, key, back = np.cumsum(fixed) - 1, vertex * count + after, (after * count + vertex)[tails]
    order = np.argsort(key)
    other = order[np.minimum(np.searchsorted(key, back, sorter=order), len(key) - 1)]
    points = places.view(np.float64).reshape(-1, 2)
    lines = build_lines(
        points[np.insert(vertex, tails + 1, after[tails])], np.insert(arc, tails + 1, arc[tails])
    )
    owner = ring[heads]
    twin = np.where(key[other] == back, arc[other], -1)
    return Arcs(points, lines, vertex[heads], after[tails], owner, part[owner], twin, loop[owner], part)


def assemble(arcs: Arcs, lines: NDArray[np.object_]) -> NDArray[np.object_]:
    """Build polygons of arcs; rings that would be without area take what was traced."""
    corners = np.bincount(arcs.ring, shapely.get_num_coordinates(lines) - 1)
    lines = np.where(corners[arcs.ring] < 3, arcs.lines, lines)
    points, arc = shapely.get_coordinates(lines, return_index=True)
    ring = arcs.ring[arc]
    # The last point of an arc is the first of the next.
    kept = (np.diff(arc, append=-1) == 0) | (np.diff(ring, append=-1) != 0)
    return build_polygons(points[kept], np.bincount(ring[kept]), arcs.part_of_ring)


def pairs(ring: Index, owner: Index, item: Index) -> tuple[Index, Index]:
    """Pair every arc with those of the items that its ring owns; owners are sorted."""
    owner = owner[item]
    first = np.searchsorted(owner, ring)
    count = np.searchsorted(owner, ring, side="right") - first
    arc = np.repeat(np.arange(len(ring)), count)
    step = np.arange(len(arc)) - np.repeat(np.cumsum(count) - count, count)
    return arc, item[first[arc] + step]
