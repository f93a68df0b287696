"""How far outlines lie from each other: the distances of vertices from lines, of many polygons at once."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index

POINTS = 1 << 14
"""Points whose distances are measured at a time."""


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
