"""Straight walls for man-made objects: lines fitted to whole runs of an outline, within a stated bound.

An outline is sampled evenly. Every sample gets the direction of one of a few walls that the polygon may
have: those of its main direction and square to it, those between at 45 degrees, and those of further
directions that a good part of the outline follows. The choice is the cheapest closed sequence
(Viterbi, 1967): a sample costs what its own direction differs from the wall's, a corner costs about a
pixel, so that a step shorter than that is no wall. Each run of equal choices is one wall; a line of its
direction goes through the middle of its samples, and walls meet where their lines cross.

All polygons of a batch are worked at once; nothing in the result of one depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.int64]

STEP = 0.5
"""Distance between samples of an outline, in pixels."""

REACH = 3
"""Samples on either side that the direction of a sample is taken from."""

TURNS = 24
"""Directions that walls may have are told apart by 360 / TURNS degrees at most."""

CORNER = 1.0
"""Cost of a square corner, in pixels of outline that run square to their wall."""

OTHER_CORNER = 1.5
"""Cost of any other corner."""

OBLIQUE = 0.02
"""Cost of a wall at 45 degrees to the main direction, a pixel."""

FREE = 0.04
"""Cost of a wall along a further direction, a pixel."""

SHARE = 0.12
"""Share of the outline that a further direction must hold."""

SHORTEST = 1.0
"""Shorter walls are left out, in pixels."""


@dataclass(frozen=True, slots=True)
class Regularized:
    """What regularizing came to.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        Regularized where `accepted`, else as they were.
    accepted : ndarray of bool
    deviation : ndarray of float64
        How far a point of the outline lies from the new one, at most; 0 where not accepted.
    """

    polygons: NDArray[np.object_]
    accepted: NDArray[np.bool_]
    deviation: Floats


@dataclass(frozen=True, slots=True)
class Samples:
    """Outlines sampled evenly, ring after ring."""

    points: Floats
    direction: Floats
    step: Floats
    ring: Index
    start: Index
    size: Index


def sample(rings: NDArray[np.object_]) -> Samples:
    """Sample rings evenly, at about `STEP`, each with the direction of the outline there."""
    points, ring = shapely.get_coordinates(rings, return_index=True)
    inside = ring[1:] == ring[:-1]
    lengths = np.where(inside, np.hypot(*np.diff(points, axis=0).T), 0.0)
    along = np.append(0.0, np.cumsum(lengths))
    first = np.flatnonzero(np.append(True, ~inside))
    last = np.append(first[1:], len(points)) - 1
    total = along[last] - along[first]
    size = np.maximum(16, np.round(total / STEP)).astype(np.int64)
    start = np.cumsum(size) - size
    owner = np.repeat(np.arange(len(size)), size)
    step = total / size
    number = np.arange(len(owner)) - start[owner]
    place = along[first][owner] + (number + 0.5) * step[owner]
    xy = np.column_stack([np.interp(place, along, points[:, k]) for k in (0, 1)])
    ahead = start[owner] + (number + REACH) % size[owner]
    behind = start[owner] + (number - REACH) % size[owner]
    chord = xy[ahead] - xy[behind]
    return Samples(xy, np.arctan2(chord[:, 1], chord[:, 0]), step, owner, start, size)


def main_directions(samples: Samples, owner: Index, count: int) -> Floats:
    """Return up to three directions modulo a right angle that most of each polygon's outline follows.

    Returns
    -------
    ndarray of float64, shape (count, 3)
        Radians in 0 … pi / 2; NaN where there is no such direction.
    """
    bins = 90
    polygon = owner[samples.ring]
    folded = np.mod(samples.direction, np.pi / 2)
    cell = np.minimum((folded / (np.pi / 2) * bins).astype(np.int64), bins - 1)
    weight = samples.step[samples.ring]
    histogram = np.bincount(polygon * bins + cell, weight, count * bins).reshape(count, bins)
    kernel = np.exp(-0.5 * (np.arange(-9, 10) / 3.0) ** 2)
    found = np.full((count, 3), np.nan)
    left = histogram
    away = np.abs((np.arange(bins)[:, None] - np.arange(bins)[None] + bins // 2) % bins - bins // 2)
    for k in range(3):
        smooth = sum(w * np.roll(left, o, axis=1) for w, o in zip(kernel, range(-9, 10), strict=True))
        peak = smooth.argmax(axis=1)
        near = away[peak] <= 10
        share = np.where(near, left, 0).sum(axis=1) / histogram.sum(axis=1)
        angle = (np.arange(bins) + 0.5) / bins * 2 * np.pi
        held = np.where(near, left, 0)
        mean = np.arctan2((held * np.sin(angle)).sum(axis=1), (held * np.cos(angle)).sum(axis=1))
        good = (share >= SHARE) | (k == 0)
        found[good, k] = np.mod(mean[good] / 4, np.pi / 2)
        taken = near | (away[(peak + bins // 2) % bins] <= 10)
        left = np.where(taken, 0, left)
    return found


def walls_of(directions: Floats) -> tuple[Floats, Floats]:
    """Return the directed walls that polygons may have, and what each costs a pixel; inf: none.

    Returns
    -------
    angles, costs : ndarray of float64, shape (n, 16)
    """
    quarter = np.arange(4) * np.pi / 2
    frames = np.column_stack([directions[:, 0], directions[:, 0] + np.pi / 4, directions[:, 1:]])
    angles = (frames[:, :, None] + quarter).reshape(len(frames), 16)
    costs = np.repeat([0.0, OBLIQUE, FREE, FREE], 4)
    return np.nan_to_num(angles), np.where(np.isnan(angles), np.inf, costs)


def _turn_costs(angles: Floats) -> Floats:
    """Return what it costs to go from a wall to another, shape (n, 16, 16)."""
    turn = np.abs(_wrapped(angles[:, None, :] - angles[:, :, None]))
    degrees = np.degrees(turn)
    costs = np.where(np.abs(degrees - 90) < 10, CORNER, OTHER_CORNER)
    costs = np.where((degrees < 25) | (degrees > 150), np.inf, costs)
    same = np.arange(angles.shape[1])
    costs[:, same, same] = 0.0
    return costs


def _wrapped(angle: Floats) -> Floats:
    return np.mod(angle + np.pi, 2 * np.pi) - np.pi


def choose_walls(samples: Samples, angles: Floats, costs: Floats) -> Index:
    """Return the wall of every sample: the cheapest closed sequence of each ring.

    Parameters
    ----------
    angles, costs : ndarray of float64, shape (rings, walls)
        Of `walls_of`, by ring.
    """
    chosen = np.empty(len(samples.points), np.int64)
    order = np.argsort(samples.size, kind="stable")
    for rings in np.array_split(order, max(1, len(order) // 256)):
        if len(rings):
            _choose(samples, rings, angles[rings], costs[rings], chosen)
    return chosen


def _choose(samples: Samples, rings: Index, angles: Floats, costs: Floats, chosen: Index) -> None:
    size, start = samples.size[rings], samples.start[rings]
    walls = angles.shape[1]
    longest = int(size.max())
    number = np.arange(longest)
    # Every ring begins amid its straightest stretch, where there is no doubt about the wall.
    first = _straightest(samples, rings, angles, costs)
    place = start[:, None] + (first[:, None] + number) % size[:, None]
    step = samples.step[rings].astype(np.float32)
    turns = _turn_costs(angles).astype(np.float32)
    costs32, angles32 = costs.astype(np.float32), angles.astype(np.float32)
    best = np.full((len(rings), walls), np.inf, np.float32)
    origin = _emission(samples, place[:, 0], angles32, costs32, step).argmin(axis=1)
    rows = np.arange(len(rings))
    best[rows, origin] = 0
    back = np.empty((longest, len(rings), walls), np.uint8)
    for i in range(1, longest):
        ways = best[:, :, None] + turns
        come = ways.argmin(axis=1)
        new = np.take_along_axis(ways, come[:, None, :], axis=1)[:, 0]
        new += _emission(samples, place[:, i], angles32, costs32, step)
        alive = i < size
        best = np.where(alive[:, None], new, best)
        back[i] = np.where(alive[:, None], come, np.arange(walls))
    final = (best + turns[rows, :, origin]).argmin(axis=1)
    state = final
    for i in range(longest - 1, -1, -1):
        alive = i < size
        chosen[place[alive, i]] = state[alive]
        if i:
            state = back[i, rows, state]


def _emission(samples: Samples, place: Index, angles: Floats, costs: Floats, step: Floats) -> Floats:
    differ = 1 - np.cos(samples.direction[place].astype(np.float32)[:, None] - angles)
    return (differ + costs) * step[:, None]


def _straightest(samples: Samples, rings: Index, angles: Floats, costs: Floats) -> Index:
    """Return the sample of each ring around which the outline follows one wall best."""
    first = np.empty(len(rings), np.int64)
    wide = np.arange(-6, 7)
    for i, ring in enumerate(rings.tolist()):
        begin, size = samples.start[ring], samples.size[ring]
        direction = samples.direction[begin : begin + size]
        differ = (1 - np.cos(direction[:, None] - angles[i]) + costs[i]).astype(np.float64)
        around = sum(np.roll(differ, o, axis=0) for o in wide[::3])
        first[i] = around.min(axis=1).argmin()
    return first


@dataclass(frozen=True, slots=True)
class Walls:
    """Runs of samples of the same wall, in the order of the outline, ring after ring.

    Parameters
    ----------
    ring : ndarray of int64
    state : ndarray of int64
        Which of the ring's walls.
    angle : ndarray of float64
    weight : ndarray of float64
        Of the samples that its place is taken from.
    middle : ndarray of float64, shape (n, 2)
        Sum of weight × point.
    """

    ring: Index
    state: Index
    angle: Floats
    weight: Floats
    middle: Floats


def fit_walls(samples: Samples, chosen: Index, angles: Floats) -> tuple[Walls, Index]:
    """Return the walls of all rings and, for every sample, the number of its wall."""
    ring = samples.ring
    position = np.arange(len(ring)) - samples.start[ring]
    before = samples.start[ring] + (position - 1) % samples.size[ring]
    new = chosen != chosen[before]
    lone = np.bincount(ring[new], minlength=len(samples.size)) == 0
    new[samples.start[lone]] = True
    number = np.cumsum(new) - 1
    # Samples before the first corner of a ring belong to its last run.
    heads = np.flatnonzero(new)
    ring_of = ring[heads]
    last = np.searchsorted(ring_of, np.arange(len(samples.size)), side="right") - 1
    number = np.where((number < 0) | (ring_of[np.maximum(number, 0)] != ring), last[ring], number)
    length = np.bincount(number, minlength=len(heads))
    here = np.arange(len(ring)) - heads[number]
    here = np.where(here < 0, here + samples.size[ring], here)
    trim = np.minimum(3, (length - 1) // 4)[number]
    inner = (here >= trim) & (here < length[number] - trim)
    weight = np.bincount(number[inner], samples.step[ring[inner]], len(heads))
    middle = np.column_stack(
        [
            np.bincount(number[inner], samples.points[inner, k] * samples.step[ring[inner]], len(heads))
            for k in (0, 1)
        ]
    )
    state = chosen[heads]
    angle = angles[ring_of, state] + _tilt(samples, number, inner, angles[ring_of, state], state, ring_of)
    return Walls(ring_of, state, angle, weight, middle), number


def _tilt(
    samples: Samples, number: Index, inner: NDArray[np.bool_], angle: Floats, state: Index, ring_of: Index
) -> Floats:
    """Return by how much the walls of a frame are turned to fit all their samples (least squares)."""
    count = len(angle)
    n = number[inner]
    points = samples.points[inner]
    c, s = np.cos(angle)[n], np.sin(angle)[n]
    along, across = points[:, 0] * c + points[:, 1] * s, points[:, 1] * c - points[:, 0] * s
    size = np.maximum(1, np.bincount(n, minlength=count))
    mean_along, mean_across = np.bincount(n, along, count) / size, np.bincount(n, across, count) / size
    da, dc = along - mean_along[n], across - mean_across[n]
    covariance, variance = np.bincount(n, da * dc, count), np.bincount(n, da * da, count)
    frame = ring_of * 4 + np.where(state // 4 == 1, 0, state // 4)  # 45 degrees go with the main one
    frames = frame.max() + 1
    slope = np.bincount(frame, covariance, frames) / np.maximum(np.bincount(frame, variance, frames), 1e-9)
    return np.clip(np.arctan(slope), -0.1, 0.1)[frame]


def drop_short(walls: Walls, rings: int) -> Walls:
    """Leave out walls that are shorter than `SHORTEST` or run backward, the shortest of a ring first."""
    while len(walls.ring):
        corners = meet(walls)
        after = _next(walls.ring)
        edge = corners[after] - corners
        length = edge[:, 0] * np.cos(walls.angle) + edge[:, 1] * np.sin(walls.angle)
        length = np.where(np.isfinite(length), length, -np.inf)
        order = np.lexsort((length, walls.ring))
        heads = np.append(True, walls.ring[order][1:] != walls.ring[order][:-1])
        worst = order[heads]
        worst = worst[length[worst] < SHORTEST]
        if len(worst) == 0:
            break
        walls = _without(walls, worst)
    return walls


def _without(walls: Walls, gone: Index) -> Walls:
    """Leave walls out, one a ring at most; neighbours of one state become one wall."""
    after, before = _next(walls.ring), _previous(walls.ring)
    weight, middle = walls.weight.copy(), walls.middle.copy()
    kept = np.ones(len(weight), bool)
    kept[gone] = False
    a, b = before[gone], after[gone]
    one = (walls.state[a] == walls.state[b]) & (a != b)
    weight[a[one]] += weight[b[one]] + weight[gone[one]]
    middle[a[one]] += middle[b[one]] + middle[gone[one]]
    kept[b[one]] = False
    few = np.bincount(walls.ring[kept], minlength=walls.ring.max() + 1) < 3
    kept &= ~few[walls.ring]
    return Walls(walls.ring[kept], walls.state[kept], walls.angle[kept], weight[kept], middle[kept])


def _next(ring: Index) -> Index:
    after = np.arange(1, len(ring) + 1)
    last = np.flatnonzero(np.append(ring[1:] != ring[:-1], True))
    after[last] = np.append(0, last[:-1] + 1)
    return after


def _previous(ring: Index) -> Index:
    before = np.empty(len(ring), np.int64)
    before[_next(ring)] = np.arange(len(ring))
    return before


def meet(walls: Walls) -> Floats:
    """Return where each wall meets the one before it; NaN where they are parallel."""
    before = _previous(walls.ring)
    direction = np.column_stack([np.cos(walls.angle), np.sin(walls.angle)])
    with np.errstate(divide="ignore", invalid="ignore"):
        point = walls.middle / walls.weight[:, None]
        p, d, q, e = point, direction, point[before], direction[before]
        cross = d[:, 0] * e[:, 1] - d[:, 1] * e[:, 0]
        gap = q - p
        t = (gap[:, 0] * e[:, 1] - gap[:, 1] * e[:, 0]) / np.where(np.abs(cross) < 0.05, np.nan, cross)
    return np.asarray(p + t[:, None] * d)


def regularize(
    polygons: NDArray[np.object_], max_deviation: float = 1.0, max_area_change: float = 0.05
) -> Regularized:
    """Give polygons straight walls where that moves nothing further than asked.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        With the outline as it was traced, in pixels, not simplified.
    max_deviation : float
        In pixels.
    max_area_change : float
        As a share of the area.
    """
    count = len(polygons)
    rings, owner = shapely.get_rings(polygons, return_index=True)
    samples = sample(rings)
    directions = main_directions(samples, owner, count)
    angles, costs = walls_of(directions)
    chosen = choose_walls(samples, angles[owner], costs[owner])
    walls, _ = fit_walls(samples, chosen, angles[owner])
    walls = drop_short(walls, len(rings))
    corners = meet(walls)
    per_ring = np.bincount(walls.ring, minlength=len(rings))
    fine = per_ring >= 3
    bad_ring = np.zeros(len(rings), bool)
    bad_ring[walls.ring[~np.isfinite(corners).all(axis=1)]] = True
    fine &= ~bad_ring
    accepted = np.ones(count, bool)
    np.logical_and.at(accepted, owner, fine)
    deviation = np.zeros(count)
    result = polygons.copy()
    if not accepted.any():
        return Regularized(result, accepted, deviation)
    keep_wall = accepted[owner][walls.ring]
    new = shapely.linearrings(corners[keep_wall], indices=_dense(walls.ring[keep_wall]))
    kept_rings = np.flatnonzero(accepted[owner])
    lines = np.full(len(rings), None, object)
    lines[kept_rings] = new
    good = np.flatnonzero(accepted)
    ring_owner = np.searchsorted(good, owner[kept_rings])
    built = _polygons(lines[kept_rings], ring_owner, len(good))
    valid = shapely.is_valid(built)
    area, before = shapely.area(built), shapely.area(polygons[good])
    valid &= np.abs(area - before) <= max_area_change * before
    at = samples.ring[np.isin(owner[samples.ring], good)]
    points = samples.points[np.isin(owner[samples.ring], good)]
    distance = shapely.distance(shapely.points(points), lines[at])
    np.maximum.at(deviation, owner[at], distance)
    valid &= deviation[good] <= max_deviation
    accepted[good[~valid]] = False
    result[good[valid]] = built[valid]
    return Regularized(result, accepted, deviation)


def _dense(ring: Index) -> Index:
    return np.cumsum(np.diff(ring, prepend=ring[:1]) != 0)


def _polygons(rings: NDArray[np.object_], owner: Index, count: int) -> NDArray[np.object_]:
    points, ring = shapely.get_coordinates(rings, return_index=True)
    sizes = np.bincount(ring, minlength=len(rings))
    offsets = np.append(0, np.cumsum(sizes))
    polygon_offsets = np.searchsorted(owner, np.arange(count + 1))
    built: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (offsets, polygon_offsets)
    )
    return built
