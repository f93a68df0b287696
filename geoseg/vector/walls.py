"""Straight walls through the samples of an outline, and where they meet.

Each run of samples that follow the same wall (see `geoseg.vector.choice`) is one wall; a line through
the middle of its samples carries it, and walls meet where their lines cross. What blur has rounded becomes
a corner again, and noise averages out.

All rings of a batch are worked at once; nothing in the result of one depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.directions import Samples
from geoseg.vector.samples import Floats, Index

SHORTEST = 1.0
"""Shorter walls are left out, in pixels."""

TRIM = 3
"""Samples at either end of a wall that do not count for its place: corners are round there."""


def ring_walls(samples: Samples, chosen: NDArray[np.int8], angles: Floats) -> NDArray[np.object_]:
    """Return rings of straight walls; None where the walls of a ring do not close.

    Parameters
    ----------
    samples : Samples
    chosen : ndarray of int8
        The wall of each sample.
    angles : ndarray of float64, shape (rings, walls)
        Directions of the walls that each ring may have.
    """
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


@dataclass(frozen=True, eq=False, slots=True)
class Walls:
    """Straight walls in the order of the outlines, ring after ring."""

    ring: Index
    """int64. Number of the ring of each wall; some rings may have none."""
    state: Index
    """int64. Which of the walls that the ring may have; neighbours of one state lie in line or side by
    side."""
    angle: Floats
    """float64. Direction of the wall in radians, the polygon on its left."""
    weight: Floats
    """float64. Length of outline that the wall's place is taken from."""
    moment: Floats
    """float64, shape (n, 2). Integral of the points along it."""

    def beside(self, offset: int) -> Index:
        """Return for every wall the next of its ring (1) or the one before (-1)."""
        place = np.arange(len(self.ring)) + offset
        head = np.flatnonzero(np.diff(self.ring, prepend=-1))
        last = np.append(head[1:], len(self.ring)) - 1
        if offset > 0:
            place[last] = head
        else:
            place[head] = last
        return place


def fit_walls(samples: Samples, chosen: NDArray[np.int8], angles: Floats) -> Walls:
    """Return a wall for each run of equal choices, with a line through the middle of its samples.

    Parameters
    ----------
    samples : Samples
    chosen : ndarray of int8
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
    state = chosen[heads].astype(np.int64)
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
        corners = meet(walls)
        edge = corners[walls.beside(1)] - corners
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
