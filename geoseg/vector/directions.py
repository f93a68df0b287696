"""Outlines as points at even distances, and the directions that they follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index

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

    def around(self, offset: int) -> Index:
        """Return for every sample the one that lies so many places further along its ring."""
        place = np.arange(len(self.ring)) + offset
        # Those at one end of their ring go on at its other end.
        end = self.start if offset < 0 else self.start + self.size - offset
        wrong = (end[:, None] + np.arange(abs(offset))).ravel()
        place[wrong] -= np.repeat(np.sign(offset) * self.size, abs(offset))
        return np.asarray(place)


def sample_rings(rings: NDArray[np.object_]) -> Samples:
    """Sample rings at distances of about `STEP`."""
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
    owner = np.repeat(np.arange(len(size)), size)
    number = np.arange(len(owner)) - start[owner]
    place = along[first][owner] + (2 * number + 1) * length[owner] // (2 * size[owner])
    points = np.column_stack([np.interp(place, along, vertices[:, axis]) for axis in (0, 1)])
    step = length * UNIT / size
    samples = Samples(points, np.empty(0), owner, step, size, start)
    chord = points[samples.around(REACH)] - points[samples.around(-REACH)]
    return Samples(points, np.arctan2(chord[:, 1], chord[:, 0]), owner, step, size, start)


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
