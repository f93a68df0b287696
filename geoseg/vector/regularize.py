"""Straight walls for man-made objects, within a stated bound.

Lines are fitted to whole runs of the sub-pixel outline (`geoseg.vector.walls`); simplifying first would
throw away what it knows. A polygon takes its new outline only where no part of the old one lies further
from it than allowed and its area stays; else it keeps the one that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.arcs import SAGITTA, SMALLEST_RADIUS, round_ended
from geoseg.vector.choice import OCTAGONAL, choose_walls
from geoseg.vector.overlaps import corner_bound, corners_within, deviations
from geoseg.vector.rings import build_polygons
from geoseg.vector.samples import Floats, Index
from geoseg.vector.walls import Samples, main_directions, ring_walls, sample_polygons

FITS = (
    (OCTAGONAL, 1.0, 0.10),
    ((0, 2, 3), 0.6, 0.10),
    (OCTAGONAL, 1.0, 0.12),
    (OCTAGONAL, 0.3, 0.15),
)
"""What is tried, one after the other until the outline is within the bounds: which walls there are (see
`choose_walls`), what corners cost, and the largest area between the outlines, as a share of the polygon's.

Most are square or octagonal. Without walls at 45 degrees a hexagon is not taken for part of an octagon. Few
corners are for outlines that they fit well.
"""

CORNERS = sorted({corner for frames, corner, _ in FITS if frames == OCTAGONAL})
"""What corners cost where walls are square or octagonal."""

BLURRED = 4 * 0.9
"""What a Gaussian blur of one pixel takes from four right angles, in square pixels.

Holes lose it too, so that with one the area stays as it is.
"""

ROUND = 0.12
"""How far an outline may lie from a circle, as a share of its radius."""

ROUNDER = 0.75
"""Walls give way to arcs only where that leaves less than this share of the area between."""

CORNERED = 8
"""Walls with fewer corners give way to a circle only where that leaves half of the area between."""


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
        `corner_bound` from the old outline.
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
    bounds = Bounds(polygons, max_deviation, max_area_change)
    if len(polygons) == 0:
        return Regularized(polygons, np.zeros(0, bool), np.zeros(0))
    outlines = Outlines.of(polygons)
    fitted, accepted, deviation = fit_straight(bounds, outlines)
    for found in (_circles(fitted, bounds), _round_ends(outlines, fitted, bounds)):
        for place, rounded, far in found:
            fitted[place], accepted[place], deviation[place] = rounded, True, far
    return Regularized(np.where(accepted, fitted, polygons), accepted, np.where(accepted, deviation, 0.0))


@dataclass(frozen=True, eq=False, slots=True)
class Outlines:
    """The rings of polygons, sampled, and the walls that they may have."""

    samples: Samples
    owner: Index
    """int64. Polygon of each ring; of each polygon its shell comes first."""
    directions: Floats
    """Of the polygons, see `main_directions`."""
    angles: Floats
    chosen: NDArray[np.int8]
    """`angles`, `chosen`: Of `OCTAGONAL` walls for each of `CORNERS`, see `choose_walls`."""

    @classmethod
    def of(cls, polygons: NDArray[np.object_], row: Index | None = None) -> Self:
        """Sample polygons, one or more; those of one row lean towards the directions of all."""
        samples, owner = sample_polygons(polygons)
        directions = main_directions(samples, owner, len(polygons), row)
        return cls(samples, owner, directions, *choose_walls(samples, directions[owner], OCTAGONAL, CORNERS))


def fit_straight(bounds: Bounds, outlines: Outlines) -> tuple[NDArray[np.object_], NDArray[np.bool_], Floats]:
    """Fit straight walls to polygons, whether they are within the bounds or not.

    Parameters
    ----------
    bounds : Bounds
        Of n polygons, one or more.
    outlines : Outlines
        Of these polygons.

    Returns
    -------
    fitted : ndarray of shapely.Polygon, shape (n,)
        With rings in the order of those of the polygon; None where walls do not close or cross.
    good : ndarray of bool
    far : ndarray of float64
        How far each deviates; inf where there is none.
    """
    polygons, samples, owner = bounds.polygons, outlines.samples, outlines.owner
    fitted, far = np.full(len(polygons), None, object), np.full(len(polygons), np.inf)
    good = np.zeros(len(polygons), bool)
    directions = outlines.directions
    for frames, corner, share in FITS:
        left = np.flatnonzero(~good & ((max(frames) < 2) | ~np.isnan(directions[:, 1])))
        if len(left) == 0:
            continue
        part = np.flatnonzero(np.isin(owner, left))
        some = samples.of(part)
        if frames == OCTAGONAL:
            angles = outlines.angles[part]
            chosen = outlines.chosen[CORNERS.index(corner), samples.places(part)]
        else:
            angles, (chosen,) = choose_walls(some, directions[owner[part]], frames, [corner])
        lines = ring_walls(some, chosen, angles)
        built = _keep_area(_polygons(lines, np.searchsorted(left, owner[part]), len(left)), polygons[left])
        fine, away = bounds.check(built, left, share)
        better = fine | (away < far[left])
        fitted[left[better]], far[left[better]] = built[better], away[better]
        good[left] = fine
    return fitted, good, far


@dataclass(frozen=True, eq=False, slots=True)
class Bounds:
    """What new polygons must keep to, see `regularize`."""

    polygons: NDArray[np.object_]
    max_deviation: float
    max_area_change: float = 0.05

    def check(
        self, built: NDArray[np.object_], which: Index, share: float = FITS[-1][-1]
    ) -> tuple[NDArray[np.bool_], Floats]:
        """Return which polygons are within the bounds, None being none, and how far each deviates.

        `share` is the largest area between the outlines, as a share of that of the polygon.
        """
        far, between, reach = np.full((3, len(built)), np.inf)
        good = shapely.is_valid(built) & (shapely.get_type_id(built) == shapely.GeometryType.POLYGON)
        before = self.polygons[which]
        area = shapely.area(before)
        far[good], between[good], reach[good] = deviations(before[good], built[good])
        good &= np.abs(shapely.area(built) - area) <= self.max_area_change * area
        good &= (far <= self.max_deviation) & (between <= share * area)
        most = corner_bound(self.max_deviation)
        unsure = np.flatnonzero(good & (reach > most))
        good[unsure] = corners_within(built[unsure], shapely.boundary(before[unsure]), most)
        return good, far


def _keep_area(polygons: NDArray[np.object_], before: NDArray[np.object_]) -> NDArray[np.object_]:
    """Move all walls of polygons out, or in, so far that they have the area that they had.

    Corners that are no longer round make objects larger, small ones by more than a tenth. What a blur of
    one pixel takes from the corners of any rectangle is given back: that much belongs to the object.
    """
    whole = np.flatnonzero(~shapely.is_missing(polygons))
    result = polygons.copy()
    if len(whole) == 0:
        return result
    change = shapely.area(before[whole]) - shapely.area(polygons[whole])
    blurred = np.where(shapely.get_num_interior_rings(before[whole]) == 0, BLURRED, 0.0)
    move = np.where(change < 0, np.minimum(change + blurred, 0), change) / shapely.length(polygons[whole])
    rings, owner = shapely.get_rings(polygons[whole], return_index=True)
    shell = np.diff(owner, prepend=-1) > 0
    out = move[owner] * np.where(shell == shapely.is_ccw(rings), 1.0, -1.0)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    side = np.diff(points, axis=0, append=points[-1:])
    last = np.diff(ring, append=-1) != 0
    first = np.append(0, np.flatnonzero(last)[:-1] + 1)
    side[last] = side[first]
    normal = np.column_stack([side[:, 1], -side[:, 0]]) / np.hypot(*side.T)[:, None]
    before_it = np.roll(normal, 1, axis=0)
    before_it[first] = normal[np.flatnonzero(last) - 1]
    both = normal + before_it
    points += (out[ring] * 2 / (both**2).sum(axis=1))[:, None] * both
    result[whole] = build_polygons(points, np.bincount(ring), owner)
    return result


def _polygons(lines: NDArray[np.object_], owner: Index, count: int) -> NDArray[np.object_]:
    """Build polygons of rings, the shell of each first; None where one of its rings is missing."""
    whole = np.ones(count, bool)
    whole[owner[shapely.is_missing(lines)]] = False
    kept = whole[owner]
    built = np.full(count, None, object)
    if whole.any():
        points, ring = shapely.get_coordinates(lines[kept], return_index=True)
        built[whole] = build_polygons(points, np.bincount(ring), (np.cumsum(whole) - 1)[owner[kept]])
    return built


def _circles(fitted: NDArray[np.object_], bounds: Bounds) -> Iterator[tuple[int, shapely.Polygon, float]]:
    """Yield the circles of the area and centroid of polygons that these are nearer to than straight walls.

    With each its place among the polygons, and how far it deviates.
    """
    polygons = bounds.polygons
    area, centre = shapely.area(polygons), shapely.get_coordinates(shapely.centroid(polygons))
    radius = np.sqrt(area / np.pi)
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    far = np.zeros(len(polygons))
    np.maximum.at(far, owner, np.abs(np.hypot(*(points - centre[owner]).T) - radius[owner]))
    whole = (shapely.get_num_interior_rings(polygons) == 0) & (radius >= SMALLEST_RADIUS)
    near = np.flatnonzero(whole & (far <= np.minimum(bounds.max_deviation, ROUND * radius) + SAGITTA))
    if len(near) == 0:
        return
    left = shapely.is_ccw(shapely.get_exterior_ring(polygons[near]))
    built = np.array([_circle(*one) for one in zip(centre[near], radius[near], left, strict=True)], object)
    good, exact = bounds.check(built, near)
    beside = deviations(polygons[near], built)[1]
    few = shapely.get_num_coordinates(fitted[near]) - 1 < CORNERED
    walls = np.full(len(near), np.inf)
    known = ~shapely.is_missing(fitted[near])
    walls[known] = deviations(polygons[near[known]], fitted[near[known]])[1]
    good &= beside < np.where(few, 0.5, 1.0) * walls
    for k in np.flatnonzero(good).tolist():
        yield int(near[k]), built[k], float(exact[k])


def _round_ends(
    outlines: Outlines, fitted: NDArray[np.object_], bounds: Bounds
) -> Iterator[tuple[int, shapely.Polygon, float]]:
    """Yield polygons with arcs where these leave less between than straight walls do, as `_circles`."""
    shells = np.flatnonzero(np.diff(outlines.owner, prepend=-1))
    chosen = outlines.chosen[-1, outlines.samples.places(shells)]
    found = list(round_ended(outlines.samples.of(shells), outlines.angles[shells], chosen))
    places = np.array([place for place, _ in found], np.int64)
    before, walls = bounds.polygons[places], fitted[places]
    holes = [[] if one is None else list(one.interiors) for one in walls]
    built = np.array(
        [shapely.Polygon(ring, more) for (_, ring), more in zip(found, holes, strict=True)], object
    )
    good, far = bounds.check(built, places)
    good &= shapely.get_num_interior_rings(before) == np.array([len(one) for one in holes])
    between = np.full(len(places), np.inf)
    known = ~shapely.is_missing(walls)
    between[known] = deviations(before[known], walls[known])[1]
    good &= deviations(before, built)[1] < ROUNDER * between
    for k in np.flatnonzero(good).tolist():
        yield int(places[k]), built[k], float(far[k])


def _circle(centre: Floats, radius: float, left: bool) -> shapely.Polygon:
    """Return a polygon of the area of a circle, left of its outline or right, within `SAGITTA`."""
    corners = int(np.ceil(np.pi / np.arccos(1 - SAGITTA / radius)))
    turn = np.arange(corners) / corners * 2 * np.pi * (1 if left else -1)
    reach = radius * np.sqrt(2 * np.pi / (corners * np.sin(2 * np.pi / corners)))
    return shapely.Polygon(centre + reach * np.column_stack([np.cos(turn), np.sin(turn)]))
