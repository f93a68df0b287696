"""Leaving out vertices, so that neighbours still share their borders."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.rings import build_polygons
from geoseg.vector.samples import Floats, Index

MARGIN = 1e-6
"""Distance in pixels that a simplified outline keeps from pixel centres."""


def simplify_apart(polygons: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Simplify each polygon by itself; valid polygons stay valid and keep their holes.

    Rings are simplified one by one (Douglas and Peucker, 1973), which is ten times faster than minding
    all rings of a polygon at once; that is done only where the result would be invalid.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        Normalized, so that the result does not depend on where a ring begins.
    tolerance : float
        Largest distance of a vertex left out from the new outline; GEOS exceeds it a little where it
        minds all rings at once, or where a ring is not larger itself.
    """
    if len(polygons) == 0:
        return polygons
    rings, owner = shapely.get_rings(polygons, return_index=True)
    # As lines: GEOS leaves out the first vertex of a ring after the others, beyond the tolerance.
    points, ring = shapely.get_coordinates(rings, return_index=True)
    lines = shapely.linestrings(points, indices=ring)
    short = np.asarray(shapely.simplify(lines, tolerance, preserve_topology=False))
    collapsed = shapely.get_num_coordinates(short) < 4
    alone = shapely.simplify(shapely.polygons(rings[collapsed]), tolerance, preserve_topology=True)
    short[collapsed] = shapely.get_exterior_ring(alone)
    points, _, sizes = _open(short)
    simplified = _assemble(points, sizes, owner)
    bad = ~shapely.is_valid(simplified)
    careful = shapely.simplify(polygons[bad], tolerance, preserve_topology=True)
    simplified[bad] = np.where(shapely.is_valid(careful), careful, polygons[bad])
    return simplified


def close_holes(polygons: NDArray[np.object_], smallest: float) -> NDArray[np.object_]:
    """Close holes that are smaller than so many square pixels.

    Examples
    --------
    >>> holed = shapely.box(0, 0, 9, 9) - shapely.box(1, 1, 2, 2) - shapely.box(4, 4, 8, 8)
    >>> float(close_holes(np.array([holed]), 4.0)[0].area)
    65.0
    """
    result = polygons.copy()
    for place in np.flatnonzero(shapely.get_num_interior_rings(polygons) * (smallest > 0)).tolist():
        rings = shapely.get_rings(polygons[place])
        kept = shapely.area(shapely.polygons(rings[1:])) >= smallest
        if not kept.all():
            result[place] = shapely.polygons(rings[0], rings[1:][kept])
    return result


def simplify_shared(polygons: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Simplify polygons of a partition arc by arc, so that it stays a partition.

    Arcs are the stretches of outline along which the same two labels meet. Their inner vertices lie on
    lines through pixel centres, each on a grid edge that no other outline crosses. Vertices are left
    out (Douglas and Peucker, 1973) only where the shorter outline still crosses the same grid edges in
    the same order. So within every cell outlines connect the same sides as before: they cannot cross,
    whatever the tolerance, polygons stay valid, and no border moves further than to the next pixel
    centre. An arc is simplified from its lexicographically smaller end, a loop from its smallest
    vertex, so that the polygons on both sides get the same arc, whichever batch they are in.

    Junctions of labels, corners of nodata and of the scene, and all vertices of pixel outlines are
    ends of arcs and stay.

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
    ends = np.append(arc_starts[1:], len(vertices)) - 1
    arc = np.repeat(np.arange(len(ring)), ends - arc_starts + 1)
    # Every arc begins at its smaller end.
    backward = _after(vertices[arc_starts], vertices[ends], vertices[arc_starts + 1], vertices[ends - 1])
    place = np.arange(len(vertices))
    order = np.where(backward[arc], arc_starts[arc] + ends[arc] - place, place)
    kept = np.empty(len(vertices), bool)
    kept[order] = _needed(vertices[order], arc_starts, ends, tolerance)
    kept[ends] = False  # the next arc begins there
    lengths = np.bincount(ring[arc[kept]], minlength=len(rings))
    return _assemble(vertices[kept], lengths, owner)


def _open(rings: NDArray[np.object_]) -> tuple[Floats, Index, Index]:
    """Return the vertices of rings without the closing one, where each ring begins, and its size."""
    closed, ring = shapely.get_coordinates(rings, return_index=True)
    points = closed[np.diff(ring, append=-1) == 0]
    sizes = np.bincount(ring) - 1
    return points, np.cumsum(sizes) - sizes, sizes


def _assemble(points: Floats, sizes: Index, owner: Index) -> NDArray[np.object_]:
    """Build polygons from rings without their closing vertices, the shell of each polygon first."""
    stops = np.cumsum(sizes)
    closed = np.insert(points, stops, points[stops - sizes], axis=0)
    return build_polygons(closed, sizes + 1, owner)


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


def _needed(vertices: Floats, starts: Index, ends: Index, tolerance: float) -> NDArray[np.bool_]:
    """Tell which vertices of arcs have to stay, all arcs at once, a split per segment and round."""
    kept = np.zeros(len(vertices), bool)
    kept[starts] = kept[ends] = True
    left = np.flatnonzero(~kept)
    while len(left):
        stays = np.flatnonzero(kept)
        after = np.searchsorted(stays, left)
        begin = np.append(True, after[1:] != after[:-1])
        distance, along = _from_chord(vertices[left], vertices[stays[after - 1]], vertices[stays[after]])
        wrong = np.isnan(along)
        wrong[1:] |= ~begin[1:] & ~(along[1:] > along[:-1])
        first = np.flatnonzero(begin)
        segment = np.cumsum(begin) - 1
        farthest = np.maximum.reduceat(distance, first)
        split = (farthest > tolerance) | np.logical_or.reduceat(wrong, first)
        worst = np.flatnonzero(split[segment] & (distance == farthest[segment]))
        kept[left[worst[np.unique(segment[worst], return_index=True)[1]]]] = True
        left = left[split[segment]]
        left = left[~kept[left]]
    return kept


def _from_chord(points: Floats, begin: Floats, end: Floats) -> tuple[Floats, Floats]:
    """Measure vertices from the chords that would replace them.

    Returns
    -------
    distance : ndarray of float64
        From the chord.
    along : ndarray of float64
        Where on the chord, 0 … 1, it crosses the vertex's grid edge; NaN where it does not.
    """
    chord, here = end - begin, points - begin
    square = (chord**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = np.clip(np.nan_to_num((here * chord).sum(axis=1) / square), 0, 1)
        distance = np.hypot(*(here - nearest[:, None] * chord).T)
        # On an edge between centres of a row, y is half-way between integers, and x is not.
        across = points[:, 1] % 1 == 0.5
        along = np.where(across, here[:, 1] / chord[:, 1], here[:, 0] / chord[:, 0])
        crossing = np.where(
            across, (begin + along[:, None] * chord)[:, 0], (begin + along[:, None] * chord)[:, 1]
        )
    low = np.floor(np.where(across, points[:, 0], points[:, 1]) - 0.5) + 0.5
    inside = (along > 0) & (along < 1) & (crossing > low + MARGIN) & (crossing < low + 1 - MARGIN)
    return distance, np.where(inside, along, np.nan)


def _after(one: Floats, two: Floats, one_inner: Floats, two_inner: Floats) -> NDArray[np.bool_]:
    """Tell where an arc's first end is the greater one; the vertices next to equal ends decide."""
    equal = (one == two).all(axis=1)
    a, b = np.where(equal[:, None], one_inner, one), np.where(equal[:, None], two_inner, two)
    return np.asarray((a[:, 0] > b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] > b[:, 1])))
