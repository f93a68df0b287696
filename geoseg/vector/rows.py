"""Objects that touch, such as rows of houses: every wall that they share is straightened once.

The outlines of touching objects are a plane graph: nodes where three faces meet (objects, or the ground
around them), and arcs between. Each object is fitted with straight walls as if it stood alone. Then each
node moves to where the walls around it meet, by least squares, and each arc becomes the stretch of fitted
wall between its nodes, a common wall preferably one straight line. An arc that lies too far from that is
simplified instead. Both sides get the same arc, and an object that does not fit keeps that to itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.overlaps import OUTWARD, corner_bound, corners_within, distances, near_pairs
from geoseg.vector.regularize import Bounds, Outlines, Regularized, fit_straight
from geoseg.vector.rings import Arcs, assemble, build_lines, cut_arcs, pairs
from geoseg.vector.samples import Floats, Index

SHORTEST = 3.0
"""Corners nearer to a node give way to it, in pixels."""

STAIRS = 2.0
"""How far a straight wall lies from one that is cut along squares of two pixels, in pixels."""

NEAR, LONG, PULL = 1.5, 20.0, 0.02
"""What places nodes: the distance in pixels at which a wall counts little, the length from which on it counts
no more, and the weight of where a node was traced, as a share of that of its walls."""

COARSER = (0.25, 0.5, 0.75, 1.0)
"""Tolerances of outer walls that are not straight, as shares of the largest deviation."""

GAP = 0.1
"""Pixels between two outlines that do not touch."""

PLAINEST = 3
"""How plain a polygon becomes before its row is given up: outer walls are simplified first, then all, then
within the given tolerance instead of half the largest deviation."""


def shape_rows(
    polygons: NDArray[np.object_],
    row: Index,
    *,
    tolerance: float,
    max_deviation: float | None,
    known: NDArray[np.object_] | None = None,
) -> Regularized:
    """Give rows of touching polygons straight walls, and simplify what cannot have them.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, shape (n,)
        As they were traced, in pixels.
    row : ndarray of int64, shape (n,)
        Row of each, from 0 without gaps.
    tolerance : float
        Of simplified arcs, in pixels, where no more will do; of common walls `STAIRS` if that is more.
    max_deviation : float or None
        See `geoseg.vector.regularize.regularize`; None: arcs are only simplified.
    known : ndarray of shapely.Polygon, shape (n,), optional
        Straight walls of each as it would stand alone; None where they are to be fitted.

    Returns
    -------
    Regularized
        Accepted are those with straight walls all round. All share their walls; rows that fail are None.

    Examples
    --------
    >>> both = shapely.segmentize(shapely.box([0, 10], 0, [10, 20], 12), 0.5)
    >>> done = shape_rows(both, np.array([0, 0]), tolerance=0.5, max_deviation=1.0)
    >>> (shapely.get_num_coordinates(done.polygons) - 1).tolist()
    [4, 4]
    """
    bounds = Bounds(polygons, 2 * STAIRS if max_deviation is None else max_deviation)
    fitted = np.full(len(polygons), None, object) if known is None else known.copy()
    rest = np.flatnonzero(shapely.is_missing(fitted) & (max_deviation is not None))
    partly = np.zeros(len(polygons), bool)
    limits = Bounds(polygons[rest], bounds.max_deviation)
    if len(rest):
        fitted[rest], good, _ = fit_straight(limits, Outlines.of(polygons[rest], row[rest]))
        partly[rest[~good]] = True
    built, plain = np.full(len(polygons), None, object), np.zeros(len(polygons), np.int64)
    accepted, deviation = np.zeros(len(polygons), bool), np.zeros(len(polygons))
    left = np.arange(len(polygons))
    coarse = tolerance if max_deviation is None else max(tolerance, max_deviation / 2)
    while len(left):
        some = (polygons[left], fitted[left], partly[left], plain[left])
        drawn, straight = _draw(*some, (tolerance, coarse, bounds.max_deviation))
        drawn = _clean(drawn, row[left])
        good, far = bounds.check(drawn, left)
        waiting = np.isin(row[left], row[left[~good]])
        done = left[~waiting]
        built[done], accepted[done], deviation[done] = drawn[~waiting], straight[~waiting], far[~waiting]
        given_up = row[left[~good & (plain[left] == PLAINEST)]]
        plain[left[~good]] += 1
        left = left[waiting & ~np.isin(row[left], given_up)]
    if max_deviation is not None:
        built = _fewer(built, accepted, row, bounds)
    return Regularized(built, accepted, np.where(accepted, deviation, 0.0))


def _nearly_touch(polygons: NDArray[np.object_], row: Index) -> NDArray[np.bool_]:
    """Tell which polygons come nearer than `GAP` to one of their row without touching it."""
    one, two = near_pairs(shapely.bounds(polygons) + GAP * OUTWARD)
    alike = row[one] == row[two]
    one, two = one[alike], two[alike]
    away = shapely.distance(polygons[one], polygons[two])
    found = np.zeros(len(polygons), bool)
    for each in (one, two):
        found[each[(away > 0) & (away < GAP)]] = True
    return found


def _fewer(
    polygons: NDArray[np.object_], straight: NDArray[np.bool_], row: Index, bounds: Bounds
) -> NDArray[np.object_]:
    """Simplify the outer walls of polygons that are not straight as far as their bounds allow."""
    known = np.flatnonzero(~shapely.is_missing(polygons) & np.isin(row, row[~straight]))
    if len(known) == 0:
        return polygons
    some, row, rings = polygons[known], row[known], shapely.get_num_interior_rings(polygons[known]) + 1
    for share in COARSER:
        arcs = cut_arcs(some, np.full(int(rings.sum()), None, object))
        loose = ~arcs.shared & ~straight[known[arcs.part]]
        made = assemble(arcs, _simplify(arcs, arcs.points, np.where(loose, share * bounds.max_deviation, 0)))
        made = np.where(bounds.check(made, known)[0] & ~_nearly_touch(made, row), made, some)
        for crossed in _crossed(made, row):
            made[crossed] = some[crossed]
        some = made
    result = polygons.copy()
    result[known] = some
    return result


def _draw(
    polygons: NDArray[np.object_],
    fitted: NDArray[np.object_],
    partly: NDArray[np.bool_],
    plain: Index,
    bounds: tuple[float, float, float],
) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Draw polygons anew, and tell which have straight walls all round.

    What fits its walls partly has nodes at their corners too. What is plain is simplified between nodes as
    they were traced; its common walls only if it is plainer. Bounds: the tolerance at last, the one before
    that, and the largest deviation.
    """
    tolerance, coarse, reach = bounds
    part = shapely.get_rings(polygons, return_index=True)[1]
    walls = np.full(len(part), None, object)
    has = ~shapely.is_missing(fitted)
    walls[has[part]] = shapely.get_rings(fitted[has])
    marks = walls.copy()
    marks[~partly[part]] = None
    arcs = cut_arcs(polygons, marks)
    level = plain[arcs.part]
    places, held = _meet(arcs, walls, reach), arcs.first[level > 0]
    places[held] = arcs.points[held]
    straight = _straighten(arcs, places, walls, reach)
    plainer = _both(arcs, plain)
    straight[plainer > arcs.shared] = None
    regular = plain == 0
    regular[arcs.part[shapely.is_missing(straight)]] = False
    common = np.where(arcs.shared, max(coarse, STAIRS), coarse)
    simple = _simplify(arcs, places, np.where(plainer == PLAINEST, tolerance, common))
    drawn = assemble(arcs, np.where(shapely.is_missing(straight), simple, straight))
    # What was a node for the corner of walls on one side alone is one no more.
    arcs = cut_arcs(drawn, np.full(len(part), None, object))
    few = (_both(arcs, plain) < PLAINEST) & arcs.shared
    return assemble(arcs, _simplify(arcs, arcs.points, np.where(few, STAIRS, tolerance))), regular


def _both(arcs: Arcs, plain: Index) -> Index:
    """Return how plain the polygon of each arc is, or that on its other side if that is more."""
    level = plain[arcs.part]
    return np.where(arcs.shared, np.maximum(level, level[arcs.twin]), level)


def _meet(arcs: Arcs, walls: NDArray[np.object_], reach: float) -> Floats:
    """Return where nodes move to: where the walls around them meet, by least squares."""
    corners, ring = shapely.get_coordinates(walls, return_index=True)
    arc, edge = pairs(arcs.ring, ring, np.flatnonzero(np.diff(ring, append=-1) == 0))
    node = arcs.first[arc]
    side, gap = corners[edge + 1] - corners[edge], corners[edge] - arcs.points[node]
    length = np.hypot(*side.T)
    along = side / length[:, None]
    on = np.clip(-(gap * along).sum(axis=1), 0, length)
    apart = np.hypot(*(gap + on[:, None] * along).T)
    weight = np.minimum(length, LONG) * np.exp(-((apart / NEAR) ** 2))
    x, y = -along[:, 1], along[:, 0]
    off = gap[:, 0] * x + gap[:, 1] * y
    xx, xy, yy, to_x, to_y, whole = [
        np.bincount(node, weight * each, len(arcs.points)).astype(np.float64)
        for each in (x * x, x * y, y * y, x * off, y * off, np.ones(len(x)))
    ]
    pull = PULL * whole + np.finfo(np.float64).tiny ** 0.5
    xx, yy = xx + pull, yy + pull
    move = np.column_stack([yy * to_x - xy * to_y, xx * to_y - xy * to_x]) / (xx * yy - xy * xy)[:, None]
    move[~(np.hypot(*move.T) <= reach)] = 0.0
    return np.asarray(arcs.points + move)


def _straighten(arcs: Arcs, places: Floats, walls: NDArray[np.object_], reach: float) -> NDArray[np.object_]:
    """Return the straight walls that each arc becomes; None where they lie too far from it."""
    lines = _stretches(arcs, places, walls, reach)
    lines[~_close(arcs.lines, lines, reach)] = None
    chords = np.flatnonzero(arcs.shared & (arcs.first != arcs.last))
    ends = places[np.column_stack([arcs.first, arcs.last])[chords]]
    straight = build_lines(ends.reshape(-1, 2), np.repeat(np.arange(len(chords)), 2))
    close = _close(arcs.lines[chords], straight, reach)
    lines[chords[close]] = straight[close]
    return arcs.alike(lines)


def _stretches(arcs: Arcs, places: Floats, walls: NDArray[np.object_], reach: float) -> NDArray[np.object_]:
    """Return the stretch between the ends of each arc of the walls of its ring, None where there are none."""
    begin, end, around = places[arcs.first], places[arcs.last], walls[arcs.ring]
    length = shapely.length(around)
    at = shapely.line_locate_point(around, shapely.points(begin))
    with np.errstate(invalid="ignore"):
        span = np.mod(shapely.line_locate_point(around, shapely.points(end)) - at, length)
    span[span > shapely.length(arcs.lines) + 4 * reach] = 0.0  # on short arcs ends may change places
    corners, ring = shapely.get_coordinates(walls, return_index=True)
    inner = np.diff(ring, append=-1) == 0
    side = np.where(inner, np.hypot(*np.diff(corners, axis=0, append=corners[-1:]).T), 0.0)
    far = np.cumsum(side) - side
    arc, corner = pairs(arcs.ring, ring, np.flatnonzero(inner))
    further = np.mod(far[corner] - far[np.searchsorted(ring, arcs.ring)[arc]] - at[arc], length[arc])
    between = (further > SHORTEST) & (further < span[arc] - SHORTEST)
    arc, corner, further = arc[between], corner[between], further[between]
    every = np.arange(len(begin))
    number = np.concatenate([every, arc, every])
    order = np.lexsort((np.concatenate([every - np.inf, further, every + np.inf]), number))
    lines = build_lines(np.concatenate([begin, corners[corner], end])[order], number[order])
    loops = np.flatnonzero(arcs.loop & ~shapely.is_missing(around))
    points, number = shapely.get_coordinates(around[loops], return_index=True)
    lines[loops] = build_lines(points, number)
    lines[shapely.is_missing(around)] = None
    return np.asarray(lines)


def _close(traced: NDArray[np.object_], lines: NDArray[np.object_], reach: float) -> NDArray[np.bool_]:
    """Tell which lines no traced vertex lies further from than the reach, and no corner much further."""
    close = ~shapely.is_missing(lines)
    some = np.flatnonzero(close)
    points, number = shapely.get_coordinates(traced[some], return_index=True)
    apart, corners = distances(points, number, lines[some], np.arange(len(some)))
    close[some[number[apart > reach]]] = False
    unsure = some[(corners > corner_bound(reach)) & close[some]]
    close[unsure] = corners_within(lines[unsure], traced[unsure], corner_bound(reach))
    return close


def _simplify(arcs: Arcs, places: Floats, tolerance: Floats) -> NDArray[np.object_]:
    """Simplify arcs between the new places of their ends (Douglas and Peucker, 1973)."""
    points, arc = shapely.get_coordinates(arcs.lines, return_index=True)
    heads = np.flatnonzero(np.diff(arc, prepend=-1))
    points[heads], points[np.append(heads[1:], len(arc)) - 1] = places[arcs.first], places[arcs.last]
    lines = build_lines(points, arc)
    short = shapely.simplify(lines, tolerance, preserve_topology=False)
    # A closed line must not collapse.
    return arcs.alike(
        np.where((arcs.first == arcs.last) & (shapely.get_num_coordinates(short) < 4), lines, short)
    )


def _crossed(polygons: NDArray[np.object_], row: Index) -> Iterator[Index]:
    """Yield which polygons are those of a row in which some overlap."""
    order = np.argsort(row, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(row[order])) + 1):
        if not (shapely.is_valid(polygons[some]).all() and shapely.coverage_is_valid(polygons[some])):
            yield some


def _clean(polygons: NDArray[np.object_], row: Index) -> NDArray[np.object_]:
    """Resolve what polygons of one row overlap, as where walls that meet at a sharp angle change sides."""
    for some in _crossed(polygons, row):
        polygons[some] = shapely.coverage_clean(polygons[some])  # type: ignore[attr-defined]
    return polygons
