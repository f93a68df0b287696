"""The walls that an outline follows: directions, the choice among them, and lines through what follows each.

Rings are sampled evenly. Every sample gets one of the few walls that its polygon may have: along the main
direction and square to it, between those at 45 degrees, and along further directions that a good part of
the outline follows. The choice is the cheapest closed sequence (Viterbi, 1967): a sample costs by how much
its own direction differs from the wall's, a corner about as much as a pixel of outline square to its wall,
so that no step shorter than two pixels becomes a wall. Each run of equal choices is one wall; a line through
the middle of its samples carries it, and walls meet where their lines cross. What blur has rounded becomes
a corner again, and noise averages out.

All rings of a batch are worked at once; nothing in the result of one depends on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.directions import Samples
from geoseg.vector.samples import Floats, Index

CORNER, OTHER_CORNER = 1.0, 1.5
"""Costs of a square corner and of any other, in pixels of outline square to their wall."""

SHARPEST, BLUNTEST = 30.0, 155.0
"""Turns between two walls, in degrees: below the first they are one wall, beyond the second a spike."""

WALL_COSTS = (0.0, 0.02, 0.04, 0.04)
"""Costs a pixel of a wall along the main direction, at 45 degrees to it, and along the further two."""

SHORTEST = 1.0
"""Shorter walls are left out, in pixels."""

TRIM = 3
"""Samples at either end of a wall that do not count for its place: corners are round there."""

COST = 2.0**-12
"""Unit that costs are counted in."""

IMPOSSIBLE = 1 << 25
"""Cost of a sequence that may not be, in units: three of them fit 32 bits above `BITS`."""

BITS = 4
"""Bits for the number of a wall, of which there are 16 at most."""

RINGS = 256
"""Rings that are worked at a time."""


def ring_walls(
    samples: Samples, directions: Floats, frames: Sequence[int], corner: float = 1.0
) -> NDArray[np.object_]:
    """Return rings of straight walls; None where the walls of a ring do not close.

    Parameters
    ----------
    samples : Samples
    directions : ndarray of float64, shape (rings, 3)
        From `main_directions`.
    frames : sequence of int
        Which walls, each along a direction and square to it: 0 the main one, 1 at 45 degrees to it, 2 and 3
        the further ones.
    """
    angles, costs = _walls(directions, frames)
    chosen = np.empty(len(samples.points), np.int64)
    order = np.argsort(samples.size, kind="stable")
    for begin in range(0, len(order), RINGS):
        rings = order[begin : begin + RINGS]
        some = samples.of(rings)
        chosen[samples.start[rings][some.ring] + np.arange(len(some.ring)) - some.start[some.ring]] = _choose(
            some, angles[rings], costs[rings], corner
        )
    walls = drop_short(fit_walls(samples, chosen, angles))
    corners = meet(walls)
    closed = np.bincount(walls.ring, minlength=len(samples.size)) >= 3
    closed[walls.ring[~np.isfinite(corners).all(axis=1)]] = False
    lines = np.full(len(samples.size), None, object)
    kept = closed[walls.ring]
    if kept.any():
        number = np.cumsum(np.diff(walls.ring[kept], prepend=walls.ring[kept][0]) != 0)
        lines[closed] = shapely.linearrings(corners[kept], indices=number)
    return lines


def _walls(directions: Floats, frames: Sequence[int]) -> tuple[Floats, Floats]:
    """Return the directed walls that rings may have, and what a pixel of each costs; inf: no such wall.

    Returns
    -------
    angles, costs : ndarray of float64, shape (n, 4 * len(frames))
    """
    base = np.column_stack([directions[:, 0], directions[:, 0] + np.pi / 4, directions[:, 1:]])[:, frames]
    angles = (base[:, :, None] + np.arange(4) * np.pi / 2).reshape(len(base), -1)
    costs = np.repeat([WALL_COSTS[frame] for frame in frames], 4)
    return np.nan_to_num(angles), np.where(np.isnan(angles), np.inf, costs)


def _turn_costs(angles: Floats, corner: float) -> Floats:
    """Return what it costs to turn from a wall (second axis) to another (last), shape (n, walls, walls)."""
    turn = angles[:, None, :] - angles[:, :, None]
    degrees = np.degrees(np.abs(np.mod(turn + np.pi, 2 * np.pi) - np.pi))
    costs = corner * np.where(np.abs(degrees - 90) < 5, CORNER, OTHER_CORNER)
    costs = np.where((degrees < SHARPEST) | (degrees > BLUNTEST), np.inf, costs)
    same = np.arange(angles.shape[1])
    costs[:, same, same] = 0.0
    return costs


def _counted(costs: Floats) -> NDArray[np.int32]:
    """Return costs in units of `COST`, above the bits in which `_choose` keeps the wall before."""
    return np.minimum(np.round(costs / COST), IMPOSSIBLE).astype(np.int32) << BITS


def _choose(samples: Samples, angles: Floats, costs: Floats, corner: float) -> Index:
    """Return the wall of every sample: the cheapest closed sequence of each ring.

    Costs are integers with the wall that a sequence came from in their last bits, so that one minimum
    finds both.
    """
    every, size, walls = np.arange(len(angles)), samples.size, np.arange(angles.shape[1], dtype=np.int32)
    # Rings come last in all arrays here, as these are long and walls few.
    angle, price = (each.T.copy().take(samples.ring, axis=1) for each in (angles, costs))
    differ = 1 - np.cos(samples.direction - angle) + price
    cost = _counted(differ * samples.step[samples.ring])
    begin, origin = _straightest(samples, differ)
    place = samples.start + (begin + np.arange(int(size.max()))[:, None]) % size
    turns = np.ascontiguousarray((_counted(_turn_costs(angles, corner)) | walls[:, None]).transpose(1, 2, 0))
    best = np.full((len(walls), len(size)), IMPOSSIBLE << BITS, np.int32)
    best[origin, every] = 0
    came = np.empty((len(place), *best.shape), np.uint8)
    # The first so many rings have ended: they are in the order of their sizes, the smallest first.
    ended = np.searchsorted(size, np.arange(len(place)), side="right").tolist()
    for i in range(1, len(place)):
        alive = slice(ended[i], None)
        ways = (best[:, None, alive] + turns[:, :, alive]).min(axis=0)
        came[i, :, alive] = ways & (1 << BITS) - 1
        least = (ways >> BITS << BITS) + cost.take(place[i, alive], axis=1)
        best[:, alive] = np.minimum(least, IMPOSSIBLE << BITS)
    state = (best + turns[:, origin, every]).argmin(axis=0)
    chosen = np.empty(len(samples.points), np.int64)
    for i in range(len(place) - 1, -1, -1):
        alive = slice(ended[i], None)
        chosen[place[i, alive]] = state[alive]
        if i:
            state[alive] = came[i, state[alive], every[alive]]
    return chosen


def _straightest(samples: Samples, differ: Floats) -> tuple[Index, Index]:
    """Return the sample of each ring around which the outline follows one wall best, and that wall."""
    shifted = [differ.take(samples.around(offset), axis=1) for offset in (-4, -2, 0, 2, 4)]
    around: Floats = reduce(np.add, shifted)
    fit = around.min(axis=0)
    best = np.flatnonzero(fit == np.minimum.reduceat(fit, samples.start)[samples.ring])
    place = best[np.searchsorted(samples.ring[best], np.arange(len(samples.size)))]
    return place - samples.start, around[:, place].argmin(axis=0)


@dataclass(frozen=True, eq=False, slots=True)
class Walls:
    """Straight walls in the order of the outlines, ring after ring.

    Parameters
    ----------
    ring : ndarray of int64
        Number of the ring of each wall; some rings may have none.
    state : ndarray of int64
        Which of the walls that the ring may have; neighbours of one state lie in line or side by side.
    angle : ndarray of float64
        Direction of the wall in radians, the polygon on its left.
    weight : ndarray of float64
        Length of outline that the wall's place is taken from.
    moment : ndarray of float64, shape (n, 2)
        Integral of the points along it.
    """

    ring: Index
    state: Index
    angle: Floats
    weight: Floats
    moment: Floats

    def beside(self, offset: int) -> Index:
        """Return for every wall the next of its ring (1) or the one before (-1)."""
        first = np.searchsorted(self.ring, self.ring)
        size = np.searchsorted(self.ring, self.ring, side="right") - first
        return np.asarray(first + (np.arange(len(self.ring)) - first + offset) % size)


def fit_walls(samples: Samples, chosen: Index, angles: Floats) -> Walls:
    """Return a wall for each run of equal choices, with a line through the middle of its samples.

    Parameters
    ----------
    samples : Samples
    chosen : ndarray of int64
        The wall of each sample.
    angles : ndarray of float64, shape (rings, walls)
        Directions of the walls that each ring may have.
    """
    head = chosen != chosen[samples.around(-1)]
    lone = np.bincount(samples.ring[head], minlength=len(samples.size)) == 0
    head[samples.start[lone]] = True
    heads = np.flatnonzero(head)
    ring = samples.ring[heads]
    # Samples before the first head of a ring belong to its last run.
    run = np.cumsum(head) - 1
    first = np.searchsorted(ring, np.arange(len(samples.size)))
    last = np.searchsorted(ring, np.arange(len(samples.size)), side="right") - 1
    run = np.where(run < first[samples.ring], last[samples.ring], run)
    length = np.bincount(run, minlength=len(heads))
    place = (np.arange(len(run)) - heads[run]) % samples.size[samples.ring]
    trim = np.minimum(TRIM, (length - 1) // 4)[run]
    inner = np.flatnonzero((place >= trim) & (place < length[run] - trim))
    state = chosen[heads]
    tilt = _tilts(samples.points[inner], run[inner], angles[ring, state], ring * 4 + state // 4)
    weights = samples.step[samples.ring[inner]]
    weight, x, y = (
        np.bincount(run[inner], weights * each, len(heads)).astype(np.float64)
        for each in (1.0, samples.points[inner, 0], samples.points[inner, 1])
    )
    return Walls(ring, state, angles[ring, state] + tilt, weight, np.column_stack([x, y]))


def _tilts(points: Floats, run: Index, angle: Floats, frame: Index) -> Floats:
    """Return by how much the walls of each frame are turned to fit all their samples, by least squares."""
    count = len(angle)
    cosine, sine = np.cos(angle)[run], np.sin(angle)[run]
    along = points[:, 0] * cosine + points[:, 1] * sine
    across = points[:, 1] * cosine - points[:, 0] * sine
    number = np.bincount(run, minlength=count)
    along -= (np.bincount(run, along, count) / number)[run]
    across -= (np.bincount(run, across, count) / number)[run]
    frames = int(frame.max(initial=0)) + 1
    varied = np.bincount(frame[run], along * along, frames)
    slope = np.bincount(frame[run], along * across, frames) / np.maximum(varied, 1e-9)
    return np.asarray(np.clip(np.arctan(slope), -0.1, 0.1)[frame])


def drop_short(walls: Walls) -> Walls:
    """Leave out walls that are shorter than `SHORTEST` or run backward, of each ring the shortest first."""
    while len(walls.ring):
        edge = meet(walls)[walls.beside(1)] - meet(walls)
        length = edge[:, 0] * np.cos(walls.angle) + edge[:, 1] * np.sin(walls.angle)
        length = np.where(np.isfinite(length), length, -np.inf)
        order = np.lexsort((length, walls.ring))
        worst = order[np.append(True, np.diff(walls.ring[order]) != 0)]
        worst = worst[length[worst] < SHORTEST]
        if len(worst) == 0:
            break
        walls = _without(walls, worst)
    return walls


def _without(walls: Walls, gone: Index) -> Walls:
    """Leave out walls, one a ring at most; the neighbours of one become a single wall if alike."""
    weight, moment = walls.weight.copy(), walls.moment.copy()
    kept = np.ones(len(weight), bool)
    kept[gone] = False
    before, after = walls.beside(-1)[gone], walls.beside(1)[gone]
    alike = (walls.state[before] == walls.state[after]) & (before != after)
    one, other = before[alike], after[alike]
    weight[one] += weight[other]
    moment[one] += moment[other]
    kept[other] = False
    kept &= (np.bincount(walls.ring[kept], minlength=walls.ring.max() + 1) >= 3)[walls.ring]
    return Walls(walls.ring[kept], walls.state[kept], walls.angle[kept], weight[kept], moment[kept])


def meet(walls: Walls) -> Floats:
    """Return where each wall meets the one before it, shape (n, 2); NaN where they are parallel."""
    before = walls.beside(-1)
    point = walls.moment / walls.weight[:, None]
    direction = np.column_stack([np.cos(walls.angle), np.sin(walls.angle)])
    one, other, gap = direction, direction[before], point[before] - point
    cross = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
    cross = np.where(np.abs(cross) < np.sin(np.radians(10)), np.nan, cross)
    along = (gap[:, 0] * other[:, 1] - gap[:, 1] * other[:, 0]) / cross
    return np.asarray(point + along[:, None] * one)
