"""Samples of an outline and the directions that it follows; straight walls through them, and where they meet.

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

from geoseg.vector.samples import Floats, Index

SHORTEST = 1.0
"""Shorter walls are left out, in pixels."""

TRIM = 3
"""Samples at either end of a wall, an eighth of it at most, that do not count for its place: corners are
round there."""


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
    heads, run = samples.runs(chosen)
    ring = samples.ring[heads]
    length = np.bincount(run, minlength=len(heads))
    place = (np.arange(len(run)) - heads[run]) % samples.size[samples.ring]
    trim = np.minimum(TRIM, (length - 1) // 8)[run]
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


STEP = 0.75
"""Distance between samples of an outline, in pixels."""

UNIT = 2.0**-20
"""What lengths along an outline are counted in, in pixels."""

REACH = 2
"""Samples on either side that the direction of a sample is taken from."""

SAMPLES = 2000
"""Most samples of a ring; a longer one is sampled more coarsely."""

SHARE = 0.12
"""Share of the outline that a further direction must hold."""

PRIOR = 0.3
"""Weight of the directions of a row for each polygon of it, its own being 1."""


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """Points at even distances along rings, one ring after the other."""

    points: Floats
    """float64, shape (n, 2)."""
    direction: Floats
    """float64. Of the outline around each point, in radians."""
    ring: Index
    """int64. Number of the ring of each point."""
    step: Floats
    size: Index
    start: Index
    """`step`, `size`, `start`: Of each ring: distance between its points, how many there are, and
    which is the first."""

    def of(self, rings: Index) -> Samples:
        """Return the samples of some rings, which are numbered anew."""
        size, place = self.size[rings], self.places(rings)
        ring = np.repeat(np.arange(len(rings)), size)
        return Samples(
            self.points[place], self.direction[place], ring, self.step[rings], size, np.cumsum(size) - size
        )

    def places(self, rings: Index) -> Index:
        """Return which samples are those of some rings."""
        size = self.size[rings]
        ahead = self.start[rings] - (np.cumsum(size) - size)
        return np.asarray(np.repeat(ahead, size) + np.arange(size.sum()))

    def runs(self, values: NDArray[np.generic]) -> tuple[Index, Index]:
        """Return the first samples of runs of equal values, ring by ring, and the run of each sample."""
        head = values != values[self.around(-1)]
        lone = np.bincount(self.ring[head], minlength=len(self.size)) == 0
        head[self.start[lone]] = True
        heads = np.flatnonzero(head)
        # Samples before the first head of a ring belong to its last run.
        run = np.cumsum(head) - 1
        every = np.arange(len(self.size))
        first, last = (np.searchsorted(self.ring[heads], every, side=side) for side in ("left", "right"))
        return heads, np.where(run < first[self.ring], last[self.ring] - 1, run)

    def around(self, offset: int) -> Index:
        """Return for every sample the one that lies so many places further along its ring."""
        place = np.arange(len(self.ring)) + offset
        # Those at one end of their ring go on at its other end.
        end = self.start if offset < 0 else self.start + self.size - offset
        wrong = (end[:, None] + np.arange(abs(offset))).ravel()
        place[wrong] -= np.repeat(np.sign(offset) * self.size, abs(offset))
        return np.asarray(place)


def sample_polygons(polygons: NDArray[np.object_]) -> tuple[Samples, Index]:
    """Sample the rings of polygons, of each its shell first, at distances of about `STEP`.

    Returns
    -------
    samples : Samples
    owner : ndarray of int64
        Polygon of each ring.
    """
    rings, owner = shapely.get_rings(polygons, return_index=True)
    vertices, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    # Lengths in integers: their running sum is exact, so that no ring changes the samples of the next.
    lengths = np.round(np.where(same, np.hypot(*np.diff(vertices, axis=0).T), 0.0) / UNIT).astype(np.int64)
    along = np.append(0, np.cumsum(lengths))
    first = np.flatnonzero(np.append(True, ~same))
    last = np.append(first[1:], len(vertices)) - 1
    length = along[last] - along[first]
    size = np.clip(np.round(length * UNIT / STEP), 16, SAMPLES).astype(np.int64)
    start = np.cumsum(size) - size
    of = np.repeat(np.arange(len(size)), size)
    number = np.arange(len(of)) - start[of]
    place = along[first][of] + (2 * number + 1) * length[of] // (2 * size[of])
    points = np.column_stack([np.interp(place, along, vertices[:, axis]) for axis in (0, 1)])
    step = length * UNIT / size
    samples = Samples(points, np.empty(0), of, step, size, start)
    chord = points[samples.around(REACH)] - points[samples.around(-REACH)]
    return Samples(points, np.arctan2(chord[:, 1], chord[:, 0]), of, step, size, start), owner


def main_directions(samples: Samples, owner: Index, count: int, row: Index | None = None) -> Floats:
    """Return up to three directions, modulo a right angle, that most of each polygon's outline follows.

    Parameters
    ----------
    samples : Samples
    owner : ndarray of int64
        Polygon of each ring.
    count : int
        Number of polygons.
    row : ndarray of int64, shape (count,), optional
        What the polygons of a row follow counts for each of them too, `PRIOR` as much as its own.

    Returns
    -------
    ndarray of float64, shape (count, 3)
        Radians in 0 … pi / 2; NaN where there is no such direction.
    """
    bins = 90
    polygon = owner[samples.ring]
    cell = (np.mod(samples.direction, np.pi / 2) / (np.pi / 2) * bins).astype(np.int64) % bins
    held = np.bincount(polygon * bins + cell, samples.step[samples.ring], count * bins).reshape(count, bins)
    whole = held.sum(axis=1)
    if row is not None:
        common = np.zeros((int(row.max(initial=-1)) + 1, bins))
        np.add.at(common, row, held)
        common /= np.maximum(common.sum(axis=1, keepdims=True), UNIT)
        held += PRIOR * whole[:, None] * common[row]
    offsets = np.arange(-9, 10)
    kernel = np.exp(-0.5 * (offsets / 3.0) ** 2)
    number = np.arange(bins)
    apart = np.abs((number[:, None] - number + bins // 2) % bins - bins // 2)
    turn = np.exp(1j * (number + 0.5) / bins * 2 * np.pi)
    found = np.full((count, 3), np.nan)
    for k in range(3):
        around, smooth = np.pad(held, ((0, 0), (9, 9)), mode="wrap"), np.zeros(held.shape)
        for weight, offset in zip(kernel, offsets, strict=True):
            smooth += weight * around[:, 9 - offset : 9 - offset + bins]
        peak = smooth.argmax(axis=1)
        near = np.where(apart[peak] <= 10, held, 0.0)
        good = (near.sum(axis=1) >= SHARE * whole) | (k == 0)
        found[good, k] = np.mod(np.angle((near * turn).sum(axis=1))[good] / 4, np.pi / 2)
        # What lies at 45 degrees to a direction needs no direction of its own.
        held = np.where((apart[peak] <= 10) | (apart[(peak + bins // 2) % bins] <= 10), 0.0, held)
    return found
