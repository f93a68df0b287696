"""Leaving out vertices, so that neighbours still share their borders."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index


def simplify_apart(polygons: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Simplify each polygon by itself; valid polygons stay valid.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        Normalized, so that the result does not depend on where a ring begins.
    tolerance : float
        Largest distance of a vertex left out from the new outline.
    """
    simplified: NDArray[np.object_] = shapely.simplify(polygons, tolerance, preserve_topology=True)
    return np.where(shapely.is_valid(simplified), simplified, polygons)


def simplify_shared(polygons: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Simplify polygons of a partition arc by arc, so that both sides of a border stay equal.

    Only vertices on lines through pixel centres, where two labels and no more meet, can be left out;
    every other vertex is an end of arcs: a junction of labels, a corner of nodata or of the scene, or
    a corner of pixels. (So pixel outlines of several classes keep their exact edges.) An arc is
    simplified (Douglas and Peucker, 1973) in the direction from its lexicographically smaller end, a
    loop from its smallest vertex, which makes the result the same for the polygons on both sides,
    whichever batch they are in. A polygon that would become invalid keeps all its vertices: there
    alone borders differ, by less than the tolerance.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        In pixel coordinates.
    tolerance : float
        In pixels.
    """
    if len(polygons) == 0:
        return polygons
    rings, owner = shapely.get_rings(polygons, return_index=True)
    points, starts, sizes = _open(rings)
    vertices, arc_starts, ring = _arcs(points, starts, sizes)
    lines = _simplify_arcs(vertices, arc_starts, tolerance)
    kept, arc = shapely.get_coordinates(lines, return_index=True)
    inner = np.diff(arc, append=-1) == 0
    kept, ring = kept[inner], ring[arc[inner]]
    sound = np.bincount(ring, minlength=len(rings)) >= 3
    # A loop that collapsed stays as it was; both sides of it decide the same.
    chosen = rings.copy()
    used = sound[ring]
    chosen[sound] = shapely.linearrings(kept[used], indices=np.unique(ring[used], return_inverse=True)[1])
    simplified = _assemble(chosen, owner)
    return np.where(shapely.is_valid(simplified), simplified, polygons)


def _open(rings: NDArray[np.object_]) -> tuple[Floats, Index, Index]:
    """Return the vertices of rings without the closing one, where each ring begins, and its size."""
    closed, ring = shapely.get_coordinates(rings, return_index=True)
    points = closed[np.diff(ring, append=-1) == 0]
    sizes = np.bincount(ring) - 1
    return points, np.cumsum(sizes) - sizes, sizes


def _assemble(rings: NDArray[np.object_], owner: Index) -> NDArray[np.object_]:
    """Build polygons from rings, the shell of each polygon first."""
    points, ring = shapely.get_coordinates(rings, return_index=True)
    offsets = np.searchsorted(ring, np.arange(len(rings) + 1))
    polygons = np.searchsorted(owner, np.arange(owner[-1] + 2))
    built: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (offsets, polygons)
    )
    return built


def _arcs(points: Floats, starts: Index, sizes: Index) -> tuple[Floats, Index, Index]:
    """Cut rings into arcs between fixed vertices.

    Returns
    -------
    vertices : ndarray of float64, shape (n, 2)
        Of all arcs one after the other, both ends included.
    arc_starts : ndarray of int64, shape (m,)
        Where each arc begins.
    ring : ndarray of int64, shape (m,)
        Ring of each arc.
    """
    ring_of = np.repeat(np.arange(len(sizes)), sizes)
    fixed = (points % 1 != 0.5).all(axis=1)
    fixed[_loop_ends(points, ring_of, fixed)] = True
    begin = np.flatnonzero(fixed)
    ring = ring_of[begin]
    first = np.searchsorted(ring, ring)
    following = np.append(begin[1:], 0)
    last = np.append(ring[1:] != ring[:-1], True)
    following[last] = begin[first[last]]
    length = (following - begin - 1) % sizes[ring] + 1
    arc_starts = np.cumsum(length + 1) - (length + 1)
    arc = np.repeat(np.arange(len(begin)), length + 1)
    step = np.arange(len(arc)) - arc_starts[arc]
    place = (begin[arc] - starts[ring[arc]] + step) % sizes[ring[arc]]
    return points[starts[ring[arc]] + place], arc_starts, ring


def _loop_ends(points: Floats, ring: Index, fixed: NDArray[np.bool_]) -> Index:
    """Return two vertices of every ring without a fixed one: the smallest and the farthest from it."""
    loose = np.flatnonzero(~np.isin(ring, ring[fixed]))
    if len(loose) == 0:
        return loose
    x, y = points[loose].T
    loop = np.unique(ring[loose], return_inverse=True)[1]
    heads = np.append(True, loop[1:] != loop[:-1])
    smallest = np.lexsort((y, x, loop))[heads]
    distance = (x - x[smallest][loop]) ** 2 + (y - y[smallest][loop]) ** 2
    farthest = np.lexsort((y, x, -distance, loop))[heads]
    return np.asarray(loose[np.concatenate([smallest, farthest])])


def _simplify_arcs(vertices: Floats, starts: Index, tolerance: float) -> NDArray[np.object_]:
    """Simplify lines in a direction that does not depend on the one they are given in."""
    ends = np.append(starts[1:], len(vertices)) - 1
    backward = _after(vertices[starts], vertices[ends], vertices[starts + 1], vertices[ends - 1])
    arc = np.repeat(np.arange(len(starts)), ends - starts + 1)
    step = np.arange(len(vertices)) - starts[arc]
    order = np.where(backward[arc], ends[arc] - step, np.arange(len(vertices)))
    lines = np.asarray(shapely.linestrings(vertices[order], indices=arc))
    simplified: NDArray[np.object_] = shapely.simplify(lines, tolerance, preserve_topology=False)
    collapsed = shapely.is_closed(lines) & (shapely.get_num_coordinates(simplified) < 4)
    chosen = np.where(collapsed, lines, simplified)
    return np.where(backward, shapely.reverse(chosen), chosen)


def _after(one: Floats, two: Floats, one_inner: Floats, two_inner: Floats) -> NDArray[np.bool_]:
    """Tell where an arc's first end is the greater one; the vertices next to equal ends decide."""
    equal = (one == two).all(axis=1)
    a, b = np.where(equal[:, None], one_inner, one), np.where(equal[:, None], two_inner, two)
    return np.asarray((a[:, 0] > b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] > b[:, 1])))
