"""Straight walls for man-made objects, within a stated bound.

Lines are fitted to whole runs of the sub-pixel outline (`geoseg.vector.walls`); simplifying first would
throw away what it knows. A polygon takes its new outline only where no part of the old one lies further
from it than allowed and its area stays; else it keeps the one that it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index
from geoseg.vector.walls import main_directions, ring_walls, sample_rings

SAGITTA = 0.1
"""How far the chords of a circle may lie from it, in pixels."""

FRAMES = ((0, 1), (0, 2, 3))
"""Which walls are tried (see `ring_walls`), one after the other until the outline is within the bounds.

Most are square or octagonal. Without those at 45 degrees a hexagon is not taken for part of an octagon.
"""

PAIRS = 1 << 15
"""Pairs of a vertex and an edge that are measured at a time."""

SMALLEST_RADIUS = 6.0
"""Smaller objects are too coarse to be told round from square, in pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class Regularized:
    """What regularizing came to.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        With straight walls where `accepted`, else as they were given.
    accepted : ndarray of bool
    deviation : ndarray of float64
        Largest distance in pixels of a vertex of the given outline from the new one; 0 where not accepted.
    """

    polygons: NDArray[np.object_]
    accepted: NDArray[np.bool_]
    deviation: Floats


def regularize(
    polygons: NDArray[np.object_], *, max_deviation: float, max_area_change: float = 0.05
) -> Regularized:
    """Give polygons straight walls where that moves nothing further than allowed.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        Outlines as they were traced, in pixels, not simplified.
    max_deviation : float
        How far a vertex of the outline may lie from the new outline, in pixels. A new corner may lie
        twice as far from the old outline, as corners are what blur takes away.
    max_area_change : float
        As a share of the area.

    Examples
    --------
    >>> import numpy as np, shapely
    >>> cut = shapely.Polygon([(2, 0), (20, 0), (20, 12), (0, 12), (0, 2)])
    >>> done = regularize(np.array([shapely.segmentize(cut, 0.5)]), max_deviation=1.5)
    >>> bool(done.accepted[0]), len(done.polygons[0].exterior.coords) - 1
    (True, 4)
    """
    polygons = np.asarray(polygons, object)
    accepted, deviation = np.zeros(len(polygons), bool), np.zeros(len(polygons))
    result = polygons.copy()
    if len(polygons) == 0:
        return Regularized(result, accepted, deviation)
    rings, owner = shapely.get_rings(polygons, return_index=True)
    samples = sample_rings(rings)
    directions = main_directions(samples, owner, len(polygons))
    bounds = Bounds(polygons, max_deviation, max_area_change)
    for frames in FRAMES:
        left = np.flatnonzero(~accepted & ((max(frames) < 2) | ~np.isnan(directions[:, 1])))
        if len(left) == 0:
            continue
        part = np.flatnonzero(np.isin(owner, left))
        lines = ring_walls(samples.of(part), directions[owner[part]], frames)
        built = _polygons(lines, np.searchsorted(left, owner[part]), len(left))
        good, far = bounds.check(built, left)
        accepted[left[good]], deviation[left[good]] = True, far[good]
        result[left[good]] = built[good]
    limit = np.where(accepted, 0.5 * deviation, np.inf)
    round_ones, far = _circles(polygons, bounds, limit)
    better = far < limit
    result[better], deviation[better] = round_ones[better], far[better]
    return Regularized(result, accepted | better, deviation)


@dataclass(frozen=True, eq=False, slots=True)
class Bounds:
    """What new polygons must keep to, see `regularize`."""

    polygons: NDArray[np.object_]
    max_deviation: float
    max_area_change: float

    def check(self, built: NDArray[np.object_], which: Index) -> tuple[NDArray[np.bool_], Floats]:
        """Return which polygons are within the bounds, None being none, and how far each deviates."""
        far = np.full(len(built), np.inf)
        good = shapely.is_valid(built) & (shapely.get_type_id(built) == shapely.GeometryType.POLYGON)
        before = self.polygons[which]
        area = shapely.area(before)
        good &= np.abs(shapely.area(built) - area) <= self.max_area_change * area
        far[good] = farthest(before[good], built[good])
        good &= far <= self.max_deviation
        corners, owner = shapely.get_coordinates(built[good], return_index=True)
        reach = shapely.distance(shapely.points(corners), shapely.boundary(before[good])[owner])
        good[np.flatnonzero(good)[owner[reach > 2 * self.max_deviation]]] = False
        return good, far


def farthest(polygons: NDArray[np.object_], others: NDArray[np.object_]) -> Floats:
    """Return the largest distance of a vertex of each polygon from the outline of its partner.

    Examples
    --------
    >>> import shapely
    >>> float(farthest([shapely.box(0, 0, 4, 5)], [shapely.box(0, 0, 4, 4)])[0])
    1.0
    """
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    rings, polygon = shapely.get_rings(others, return_index=True)
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    begin = np.flatnonzero(ring[1:] == ring[:-1])
    edges = np.bincount(polygon[ring[begin]], minlength=len(polygons))
    ends, number = (corners[begin], corners[begin + 1]), edges[owner]
    first, pairs, largest = np.cumsum(edges) - edges, np.cumsum(number), np.zeros(len(polygons))
    stops = np.searchsorted(pairs, np.arange(PAIRS, pairs[-1:].sum() + PAIRS, PAIRS), side="right")
    for one, two in pairwise(np.unique([0, *stops, len(owner)]).tolist()):
        some = number[one:two]
        offset = np.cumsum(some) - some
        edge = np.arange(some.sum()) + np.repeat(first[owner[one:two]] - offset, some)
        apart = _from_edges(np.repeat(points[one:two], some, axis=0), ends, edge)
        np.maximum.at(largest, owner[one:two], np.minimum.reduceat(apart, offset))
    return largest


def _from_edges(points: Floats, ends: tuple[Floats, Floats], edge: Index) -> Floats:
    """Return the distance of each point from its edge, the same bits that GEOS gives."""
    (left, top), (right, bottom) = (each.T.copy() for each in ends)
    wide, high = right - left, bottom - top
    square = wide * wide + high * high
    dx, dy, length = wide.take(edge), high.take(edge), square.take(edge)
    x, y = points[:, 0] - left.take(edge), points[:, 1] - top.take(edge)
    along = (x * dx + y * dy) / length
    apart = np.abs((x * dy - y * dx) / length) * np.sqrt(square).take(edge)
    beyond = np.flatnonzero((along <= 0) | (along >= 1))
    after = along[beyond] >= 1
    x = np.where(after, points[beyond, 0] - right.take(edge[beyond]), x[beyond])
    y = np.where(after, points[beyond, 1] - bottom.take(edge[beyond]), y[beyond])
    apart[beyond] = np.sqrt(x * x + y * y)
    return np.asarray(apart)


def _polygons(lines: NDArray[np.object_], owner: Index, count: int) -> NDArray[np.object_]:
    """Build polygons of rings, the shell of each first; None where one of its rings is missing."""
    whole = np.ones(count, bool)
    whole[owner[shapely.is_missing(lines)]] = False
    kept = whole[owner]
    built = np.full(count, None, object)
    if whole.any():
        points, ring = shapely.get_coordinates(lines[kept], return_index=True)
        offsets = np.append(0, np.cumsum(np.bincount(ring)))
        shells = np.searchsorted(owner[kept], np.append(np.flatnonzero(whole), count))
        built[whole] = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (offsets, shells))
    return built


def _circles(
    polygons: NDArray[np.object_], bounds: Bounds, limit: Floats
) -> tuple[NDArray[np.object_], Floats]:
    """Return the circle of each polygon's area and centroid, and how far it deviates; inf: too far."""
    area, centre = shapely.area(polygons), shapely.get_coordinates(shapely.centroid(polygons))
    radius = np.sqrt(area / np.pi)
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    far = np.zeros(len(polygons))
    np.maximum.at(far, owner, np.abs(np.hypot(*(points - centre[owner]).T) - radius[owner]))
    whole = (shapely.get_num_interior_rings(polygons) == 0) & (radius >= SMALLEST_RADIUS)
    near = np.flatnonzero(whole & (far <= np.minimum(bounds.max_deviation, limit) + SAGITTA))
    built = np.full(len(polygons), None, object)
    for i in near.tolist():
        corners = int(np.ceil(np.pi / np.arccos(1 - SAGITTA / radius[i])))
        turn = np.arange(corners) / corners * 2 * np.pi
        # A polygon of the circle's area reaches a little beyond the circle.
        reach = np.sqrt(area[i] * 2 / (corners * np.sin(2 * np.pi / corners)))
        built[i] = shapely.Polygon(centre[i] + reach * np.column_stack([np.cos(turn), np.sin(turn)]))
    far[:] = np.inf
    good, exact = bounds.check(built[near], near)
    far[near[good]] = exact[good]
    return built, far
