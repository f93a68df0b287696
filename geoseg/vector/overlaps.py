"""Outlines beside each other: how far apart, which touch, which to take so that none overlap, what is cut."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.rings import components
from geoseg.vector.samples import Floats, Index

INTERIORS_MEET = "T********"
"""How the interiors of two polygons that overlap are related (Clementini and Di Felice, 1996)."""

ALONG_A_LINE = "F***1****"
"""How polygons that share a wall are related."""

OUTWARD = np.array([-1.0, -1.0, 1.0, 1.0])
"""What makes a box (west, south, east, north) wider."""


def choose_outlines(
    outlines: NDArray[np.object_], one: Index, two: Index, group: Index | None = None
) -> Index:
    """Return which of several outlines each object takes, so that no two overlap.

    An outline is taken only where it overlaps no plainer outline of a neighbour, whichever that takes, and
    not the same kind of outline of one before it. So a choice depends on the object and those near it
    alone, not on what these choose: there are no chains.

    Parameters
    ----------
    outlines : ndarray of shapely geometries, shape (kinds, n)
        Of n objects in their order, the preferred kind first; None where there is none. Those of the last
        kind do not overlap each other.
    one, two : ndarray of int64, shape (m,)
        Pairs of objects that may overlap, the earlier first.
    group : ndarray of int64, shape (n,), optional
        Objects of one group all take the same kind, in which they do not overlap each other.

    Returns
    -------
    ndarray of int64, shape (n,)
        Kind of outline of each object.

    Examples
    --------
    >>> fine = [shapely.box(0, 0, 3, 3), shapely.box(2, 0, 5, 3)]
    >>> plain = [shapely.box(0, 0, 2, 3), shapely.box(3, 0, 5, 3)]
    >>> choose_outlines(np.array([fine, plain]), np.array([0]), np.array([1])).tolist()
    [0, 1]
    """
    allowed = ~shapely.is_missing(outlines)
    last = len(outlines) - 1
    for kind in range(last):
        for plainer in range(kind + 1, last + 1):
            allowed[kind, one[overlap(outlines[kind, one], outlines[plainer, two])]] = False
            allowed[kind, two[overlap(outlines[plainer, one], outlines[kind, two])]] = False
        allowed[kind, two[overlap(outlines[kind, one], outlines[kind, two])]] = False
    if group is not None:
        for kind in range(last):
            together = np.ones(int(group.max(initial=-1)) + 1, bool)
            together[group[~allowed[kind]]] = False
            allowed[kind] = together[group]
    allowed[last] = True
    return np.asarray(allowed.argmax(axis=0), np.int64)


def overlap(polygons: NDArray[np.object_], others: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Tell which polygons share more than their borders with their partners; None overlaps nothing.

    >>> overlap(np.array([shapely.box(0, 0, 2, 2)]), np.array([shapely.box(2, 0, 4, 2)])).tolist()
    [False]
    """
    return related(polygons, others, INTERIORS_MEET)


def related(polygons: NDArray[np.object_], others: NDArray[np.object_], pattern: str) -> NDArray[np.bool_]:
    """Tell which pairs meet and relate as a DE-9IM pattern says, one that reads the same both ways.

    The finer of two gets an index: one that winds through a scene has thousands of partners.

    >>> one, two = np.array([shapely.box(0, 0, 2, 2)]), np.array([shapely.box(2, 0, 4, 2)])
    >>> related(one, two, "****1****").tolist()
    [True]
    """
    finer = shapely.get_num_coordinates(polygons) >= shapely.get_num_coordinates(others)
    fine, plain = np.where(finer, polygons, others), np.where(finer, others, polygons)
    shapely.prepare(fine)
    found = np.asarray(shapely.intersects(fine, plain))
    found[found] = shapely.relate_pattern(fine[found], plain[found], pattern)
    shapely.destroy_prepared(fine)
    return found


def find_rows(polygons: NDArray[np.object_], one: Index, two: Index) -> Index:
    """Return the number of the row that each polygon is part of; rows are what common walls connect.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, shape (n,)
        As they were traced.
    one, two : ndarray of int64, shape (m,)
        Pairs that may touch.

    Examples
    --------
    >>> houses = np.array([shapely.box(0, 0, 4, 9), shapely.box(20, 0, 24, 9), shapely.box(4, 0, 8, 9)])
    >>> find_rows(houses, np.array([0, 0, 1]), np.array([1, 2, 2])).tolist()
    [0, 1, 0]
    """
    touch = related(polygons[one], polygons[two], ALONG_A_LINE)
    return components(len(polygons), (one[touch], two[touch]))


def remove_overlaps(
    polygons: NDArray[np.object_], one: Index, two: Index, gap: float = 0.0
) -> NDArray[np.object_]:
    """Take from polygons what overlaps those before them.

    Parameters
    ----------
    polygons : ndarray of shapely geometries, shape (n,)
        In their order.
    one, two : ndarray of int64, shape (m,)
        Pairs that may overlap, the earlier first.
    gap : float
        What is left between two at least, for coordinates that are going to be rounded.

    Returns
    -------
    ndarray of shapely geometries, shape (n,)
        Empty where nothing is left.

    Examples
    --------
    >>> found = remove_overlaps(np.array([shapely.box(0, 0, 2, 2), shapely.box(1, 0, 4, 2)]), [0], [1])
    >>> float(shapely.area(found).round(6).sum())
    8.0
    """
    one, two = np.asarray(one), np.asarray(two)
    bad = overlap(polygons[one], polygons[two])
    result = polygons.copy()
    for later in np.unique(two[bad]).tolist():
        before = shapely.union_all(polygons[one[bad & (two == later)]])
        # Where a cut crosses an edge is rounded too.
        wider = gap + 8 * np.spacing(np.abs(before.bounds).max())
        left = shapely.difference(polygons[later], shapely.buffer(before, wider, join_style="mitre"))
        parts = shapely.get_parts(left)
        areas = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
        result[later] = areas[0] if len(areas) == 1 else shapely.multipolygons(areas)
    return result


def near_pairs(boxes: NDArray[np.float64]) -> tuple[Index, Index]:
    """Return the pairs of boxes (west, south, east, north) that meet, the earlier of each pair first.

    >>> one, two = near_pairs(np.array([[0, 0, 1, 1], [5, 5, 6, 6], [1, 0, 2, 1]], float))
    >>> one.tolist(), two.tolist()
    ([0], [2])
    """
    areas = np.asarray(shapely.box(*np.asarray(boxes, np.float64).reshape(-1, 4).T), object)
    one, two = shapely.STRtree(areas).query(areas)
    return one[one < two], two[one < two]


POINTS = 1 << 14
"""Points whose distances are measured at a time."""


CORNER = 1.0
"""How much further corners may lie from what was traced, in pixels: a blur of one takes three quarters."""


def corner_bound(max_deviation: float) -> float:
    """Return how far a new corner may lie from what was traced, in pixels.

    >>> corner_bound(4.0), corner_bound(0.25)
    (5.0, 0.5)
    """
    return max_deviation + min(max_deviation, CORNER)


def corners_within(lines: NDArray[np.object_], others: NDArray[np.object_], most: float) -> NDArray[np.bool_]:
    """Tell of which lines or polygons no corner lies further than `most` from its partner."""
    corners, owner = shapely.get_coordinates(lines, return_index=True)
    away = shapely.distance(shapely.points(corners), others[owner])
    within = np.ones(len(lines), bool)
    within[owner[away > most]] = False
    return within


def deviations(polygons: NDArray[np.object_], others: NDArray[np.object_]) -> tuple[Floats, Floats, Floats]:
    """Return how far the outline of each polygon lies from that of its partner, and the area between them.

    By the distances of its vertices: the largest of them, and their sum, each times its stretch of outline.
    With them how far a corner of the partner lies from the vertices at most.

    Examples
    --------
    >>> import shapely
    >>> far, between, reach = deviations([shapely.box(0, 0, 4, 5)], [shapely.box(0, 0, 4, 4)])
    >>> float(far[0]), float(between[0]), float(reach[0])
    (1.0, 9.0, 1.0)
    """
    shells, whose = shapely.get_rings(polygons, return_index=True)
    points, own = shapely.get_coordinates(shells, return_index=True)
    owner = whose[own]
    apart, reach = distances(points, owner, *shapely.get_rings(others, return_index=True))
    side = np.where(own[1:] == own[:-1], np.hypot(*np.diff(points, axis=0).T), 0.0)
    stretch = (np.append(side, 0.0) + np.append(0.0, side)) / 2
    largest = np.zeros(len(polygons))
    np.maximum.at(largest, owner, apart)
    between = np.bincount(owner, apart * stretch, len(polygons))
    return largest, between.astype(np.float64), reach


def distances(
    points: Floats, owner: Index, lines: NDArray[np.object_], whose: Index
) -> tuple[Floats, Floats]:
    """Return the distances of points from the nearest of their owner's lines.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2)
    owner : ndarray of int64, shape (n,)
        Not decreasing.
    lines : ndarray of shapely.LineString or LinearRing, shape (m,)
        Of every owner at least one.
    whose : ndarray of int64, shape (m,)
        Owner of each line, not decreasing.

    Returns
    -------
    apart : ndarray of float64, shape (n,)
    reach : ndarray of float64, shape (owners,)
        How far a corner of the lines of each lies from the nearest point at most.
    """
    corners, line = shapely.get_coordinates(lines, return_index=True)
    head, tail = np.diff(line, prepend=-1) != 0, np.diff(line, append=-1) != 0
    closed = (corners[head] == corners[tail]).all(axis=1)[np.cumsum(head) - 1]
    # The last corner of a line that is not closed is an edge without length.
    begin = np.flatnonzero(~tail | ~closed)
    side = np.where(tail[:, None], 0.0, np.roll(corners, -1, axis=0) - corners)[begin]
    square = np.maximum((side * side).sum(axis=1), np.finfo(np.float64).tiny)
    edges = np.column_stack([corners[begin], side, square, np.sqrt(square)]).T
    count = int(whose.max(initial=-1)) + 1
    number, vertices = np.bincount(whose[line[begin]], minlength=count), np.bincount(owner, minlength=count)
    first, stops = np.cumsum(number) - number, np.cumsum(vertices)
    apart, reach = np.empty(len(points)), np.zeros(count)
    order = np.argsort(-number, kind="stable")
    order = order[vertices[order] > 0]
    for some in np.split(order, np.flatnonzero(np.diff(np.cumsum(vertices[order]) // POINTS)) + 1):
        size = vertices[some]
        place = np.repeat(stops[some] - np.cumsum(size), size) + np.arange(size.sum())
        apart[place], reach[some] = _from_edges(points[place].T, size, edges, first[some], number[some])
    return apart, reach


def _from_edges(
    points: Floats, size: Index, edges: Floats, first: Index, number: Index
) -> tuple[Floats, Floats]:
    """Return how far points lie from the nearest edge of their owner, the same bits that GEOS gives.

    And how far the start of an edge lies from the nearest point at most.

    Owners come with the most edges first: `size` points of each, and the `number` of edges from `first` on.
    Of edges the start, how far they run either way, the square of their length, and their length.
    """
    apart, corner = np.full((2, points.shape[1]), np.inf)
    reach, start = np.zeros(len(size)), np.cumsum(size) - size
    for k in range(int(number.max(initial=0))):
        several = int(np.searchsorted(-number, -k))
        left, top, dx, dy, square, length = edges[:, first[:several] + k].repeat(size[:several], axis=1)
        x, y = points[0, : len(left)] - left, points[1, : len(left)] - top
        along = (x * dx + y * dy) / square
        across = np.abs((x * dy - y * dx) / square) * length
        np.copyto(across, np.inf, where=(along <= 0) | (along >= 1))
        np.minimum(apart[: len(left)], across, out=apart[: len(left)])
        away = x * x + y * y
        np.minimum(corner[: len(left)], away, out=corner[: len(left)])
        nearest = np.minimum.reduceat(away, start[:several])
        np.maximum(reach[:several], nearest, out=reach[:several])
    return np.minimum(apart, np.sqrt(corner)), np.sqrt(reach)
