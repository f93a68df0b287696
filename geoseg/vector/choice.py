"""The choice among the walls that an outline may follow.

Rings are sampled evenly. Every sample gets one of the few walls that its polygon may have: along the main
direction and square to it, between those at 45 degrees, and along further directions that a good part of
the outline follows. The choice is the cheapest closed sequence (Viterbi, 1967): a sample costs by how much
its own direction differs from the wall's, a corner about as much as a pixel of outline square to its wall,
so that no step shorter than two pixels becomes a wall.

All rings of a batch are worked at once, a sample of each at a time; nothing in the result of one depends on
another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index
from geoseg.vector.walls import Samples

OCTAGONAL = (0, 1)
"""Frames of walls at right angles and at 45 degrees: one direction tells all of them."""

CORNER, OTHER_CORNER = 1.0, 1.5
"""Costs of a square corner and of any other, in pixels of outline square to their wall."""

SHARPEST, BLUNTEST = 30.0, 155.0
"""Turns between two walls, in degrees: below the first they are one wall, beyond the second a spike."""

WALL_COSTS = (0.0, 0.02, 0.04, 0.04)
"""Costs a pixel of a wall along the main direction, at 45 degrees to it, and along the further two."""

AROUND = 4
"""Samples on either side, every other of which tells how straight an outline is."""

COST = 2.0**-12
"""Unit that costs are counted in."""

BITS = 4
"""Bits for the number of a wall, of which there are 16 at most."""

WALL = (1 << BITS) - 1
"""What these bits are in."""

IMPOSSIBLE = 1 << 25
"""Cost of a sequence that may not be, in units: three of them fit 32 bits above `BITS`."""

AT_ONCE = 1 << 17
"""Samples that are worked at a time."""

Costs = NDArray[np.int32]


def choose_walls(
    samples: Samples, directions: Floats, frames: tuple[int, ...], corners: Sequence[float]
) -> tuple[Floats, NDArray[np.int8]]:
    """Return the walls that rings may have, and which of these each sample follows.

    Parameters
    ----------
    samples : Samples
    directions : ndarray of float64, shape (rings, 3)
        From `main_directions`.
    frames : tuple of int
        Which walls, each along a direction and square to it: 0 the main one, 1 at 45 degrees to it, 2 and 3
        the further ones.
    corners : sequence of float
        What is chosen for several costs of corners, as shares of `CORNER`, takes little longer than for one.

    Returns
    -------
    angles : ndarray of float64, shape (rings, 4 * len(frames))
        Directions of the walls.
    chosen : ndarray of int8, shape (len(corners), samples)
    """
    base = np.column_stack([directions[:, 0], directions[:, 0] + np.pi / 4, directions[:, 1:]])[:, frames]
    angles = (base[:, :, None] + np.arange(4) * np.pi / 2).reshape(len(base), -1)
    prices = np.where(np.isnan(angles), np.inf, np.repeat([WALL_COSTS[frame] for frame in frames], 4))
    angles = np.nan_to_num(angles)
    chosen = np.empty((len(corners), len(samples.points)), np.int8)
    order = np.argsort(-samples.size, kind="stable")
    factors = np.reshape(corners, (-1, 1))
    groups = np.cumsum(samples.size[order]) // AT_ONCE
    for rings in np.split(order, np.flatnonzero(np.diff(groups)) + 1):
        angle, price = angles[rings].T.copy(), prices[rings].T.copy()
        cheapest = _octagonal(factors) if frames == OCTAGONAL else _any(angle, factors)
        _choose(samples, rings, (angle, price, factors), cheapest, chosen)
    return angles, chosen


Step = Callable[[Costs], Costs]
"""From the costs of sequences that end at each wall, shape (walls, corners, n), to the least of coming
from any of them to each."""


def _any(angles: Floats, factors: Floats) -> Step:
    """Return the step between walls of any directions."""
    turns = _turn_costs(angles[:, None], angles, factors)
    return lambda costs: (costs[:, None] + turns[..., : costs.shape[-1]]).min(axis=0)


def _octagonal(factors: Floats) -> Step:
    """Return the step between walls of `OCTAGONAL`: to each lead the two square to it, and four others."""
    square, other = _counted(factors * CORNER), _counted(factors * OTHER_CORNER)

    def step(costs: Costs) -> Costs:
        walls = costs.reshape(2, 2, 2, *costs.shape[1:])  # by frame and half a turn, then by a quarter
        along = np.minimum(walls[:, 0], walls[:, 1])
        frame = np.minimum(along[:, 0], along[:, 1])
        ways = np.minimum(walls, (along + square)[:, None, ::-1])
        np.minimum(ways, (frame + other)[::-1, None, None], out=ways)
        return ways.reshape(costs.shape)

    return step


def _turn_costs(angles: Floats, others: Floats, factors: Floats) -> Costs:
    """Return what it costs to turn from walls to others, with an axis for the factors before the last."""
    turn = others - angles
    degrees = np.degrees(np.abs(np.mod(turn + np.pi, 2 * np.pi) - np.pi))
    costs = np.where(np.abs(degrees - 90) < 5, CORNER, OTHER_CORNER)
    costs[(degrees < SHARPEST) | (degrees > BLUNTEST)] = np.inf
    costs[turn == 0] = 0.0
    return _counted(costs[..., None, :] * factors)


def _counted(costs: Floats) -> Costs:
    """Return costs in units of `COST`, above the bits of a wall."""
    return np.minimum(np.round(costs / COST), IMPOSSIBLE).astype(np.int32) << BITS


def _choose(
    samples: Samples,
    rings: Index,
    walls: tuple[Floats, Floats, Floats],
    step: Step,
    chosen: NDArray[np.int8],
) -> None:
    """Enter the wall of every sample of some rings, the largest first: their cheapest closed sequence.

    Costs are integers with the wall that a sequence ends at in their last bits, so that one minimum
    finds both. Of walls the directions and the prices, shape (walls, rings), and the factors of corners.
    """
    angles, _, factors = walls
    size, every = samples.size[rings], np.arange(len(rings))
    cost, begin, origin = _sample_costs(samples, rings, walls)
    count = np.searchsorted(-size, -np.arange(size[0]))
    stops = np.cumsum(count).tolist()
    # The samples of all rings that are first, then all that are second, and so on.
    ring = np.arange(stops[-1]) - np.repeat(np.cumsum(count) - count, count)
    place = (begin[ring] + np.repeat(np.arange(len(count)), count)) % size[ring]
    first = np.cumsum(size + 2 * AROUND) - size - AROUND
    cost = cost.take(first[ring] + place, axis=1)[:, None]
    number = np.arange(len(angles), dtype=np.int32)[:, None, None]
    cost |= number
    most = IMPOSSIBLE << BITS | number
    best = np.repeat(np.repeat(most, len(factors), axis=1), len(rings), axis=2)
    best[origin, :, every] &= WALL
    came = []
    for last, stop in pairwise(stops):
        some = best[..., : stop - last]
        ways = step(some)
        came.append(ways.astype(np.uint8))
        ways &= ~WALL
        ways += cost[..., last:stop]
        np.minimum(ways, most, out=some)
    state = (best + _turn_costs(angles, angles[origin, every], factors)).argmin(axis=0)
    found = np.empty((len(factors), stops[-1]), np.int8)
    for stop, from_wall in zip(stops[:0:-1], reversed(came), strict=True):
        some = state[:, : from_wall.shape[-1]]
        found[:, stop - some.shape[1] : stop] = some
        some *= some.size
        some += np.arange(some.size).reshape(some.shape)
        some[...] = from_wall.take(some) & WALL
    found[:, : stops[0]] = state
    chosen[:, samples.start[rings][ring] + place] = found


def _sample_costs(
    samples: Samples, rings: Index, walls: tuple[Floats, Floats, Floats]
) -> tuple[Costs, Index, Index]:
    """Return what each sample costs at each wall, and where to begin.

    Returns
    -------
    costs : ndarray of int32, shape (walls, samples)
        Of each ring once around, and of `AROUND` more before and after.
    begin, origin : ndarray of int64
        The sample of each ring around which the outline follows one wall best, and that wall.
    """
    angles, prices, _ = walls
    size = samples.size[rings]
    wide = size + 2 * AROUND
    start = np.cumsum(wide) - wide
    ring = np.repeat(np.arange(len(size)), wide)
    offset = np.arange(len(ring)) - start[ring] - AROUND
    place = samples.start[rings][ring] + offset % size[ring]
    # One less the cosine between them; walls of a frame come in pairs that run opposite ways.
    direction, first = samples.direction[place], angles.reshape(-1, 4, len(size))[:, :2]
    along = np.cos(first).take(ring, axis=2)
    along *= np.cos(direction)
    along += np.sin(first).take(ring, axis=2) * np.sin(direction)
    differ = np.stack([1 - along, 1 + along], axis=1).reshape(len(angles), -1)
    differ += prices.take(ring, axis=1)
    costs = _counted(differ * samples.step[rings][ring])
    around = differ[:, : -2 * AROUND] + differ[:, 2 : 2 - 2 * AROUND]
    for more in range(4, 2 * AROUND + 1, 2):
        around += differ[:, more : differ.shape[1] - 2 * AROUND + more]
    fit = np.full(len(ring), np.inf)
    fit[AROUND:-AROUND] = around.min(axis=0)
    fit[(offset < 0) | (offset >= size[ring])] = np.inf
    best = np.flatnonzero(fit == np.minimum.reduceat(fit, start)[ring])
    begin = best[np.searchsorted(ring[best], np.arange(len(size)))]
    return costs, offset[begin], around[:, begin - AROUND].argmin(axis=0)
