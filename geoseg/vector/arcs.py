"""Outlines of polygons that touch as a plane graph: arcs between nodes, and polygons built of arcs again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.rings import build_lines, build_polygons
from geoseg.vector.samples import Floats, Index


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
