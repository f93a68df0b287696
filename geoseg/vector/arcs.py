"""Round ends: parts of an outline that follow a circle for 135 degrees or more, between straight walls.

An apse, a half circle at the end of a hall, a silo built onto a shed: to these neither straight walls nor a
whole circle are near. An arc is where the outline turns steadily, far enough, and lies on one circle; what
is between arcs has straight walls, as elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index
from geoseg.vector.walls import Samples, Walls, fit_walls

SAGITTA = 0.1
"""How far the chords of a circle may lie from it, in pixels."""

SMALLEST_RADIUS = 6.0
"""Smaller objects are too coarse to be told round from square, in pixels."""

LEAST_TURN, LARGEST_TURN = np.radians(135), np.radians(300)
"""An arc turns so far at least, or it is a corner that the network rounds; what turns further is a circle."""

AROUND = 4
"""Samples on either side that the curvature at a sample is taken from."""

STRAIGHT = 1 / 80
"""What is curved less, as one over the radius in pixels, is a wall."""

NOISE, UNROUND = 0.25, 0.02
"""How far samples may lie from their circle in the mean square: pixels, and a share of its radius beside."""

MOST = 4
"""Arcs of a ring."""

FURTHER = 8
"""Most samples by which an arc is longer than the run that it was found by, at either end."""

SHORTEST = 2.5
"""A shorter wall beside an arc is what blur left of their corner, in pixels."""

UNLIKE = np.radians(60)
"""By how much the turn of an arc between its walls may differ from that of the outline."""

APART = 1.0
"""How far a wall may pass by the circle that it leads to, in pixels."""

TANGENT = 0.4
"""A wall that cuts off less of the circle leads to where it is nearest to the centre, in pixels."""


@dataclass(frozen=True, slots=True)
class Arc:
    """A circle that part of an outline follows."""

    centre: Floats
    radius: float
    turn: float
    """By how much the outline turns along it, in radians."""

    def chords(self, begin: Floats, end: Floats) -> Floats | None:
        """Return the points between two that lead counterclockwise around the centre, of the arc's area.

        None where the way is not about as long as that of the outline.
        """
        first, last = (np.arctan2(*(point - self.centre)[::-1]) for point in (begin, end))
        sweep = np.mod(last - first, 2 * np.pi)
        if abs(sweep - self.turn) > UNLIKE:
            return None
        count = int(np.ceil(sweep / (2 * np.arccos(1 - SAGITTA / self.radius))))
        turn = first + np.arange(1, count) * sweep / count
        reach = self.radius * np.sqrt(sweep / count / np.sin(sweep / count))
        return np.asarray(self.centre + reach * np.column_stack([np.cos(turn), np.sin(turn)]))


def round_ended(
    samples: Samples, angles: Floats, chosen: NDArray[np.int8]
) -> Iterator[tuple[int, shapely.LinearRing]]:
    """Yield arcs and straight walls for the rings that have round ends, each with the number of the ring.

    Parameters
    ----------
    samples : Samples
        Of shells of polygons.
    angles, chosen
        Walls that rings may have, and that of each sample, from `geoseg.vector.choice.choose_walls`.
    """
    heads, length, turn, side = _steady_runs(samples)
    found: dict[int, list[tuple[Index, Arc]]] = {}
    for number in np.flatnonzero((turn >= LEAST_TURN) & (turn <= LARGEST_TURN)).tolist():
        ring = int(samples.ring[heads[number]])
        start = samples.start[ring]
        at = start + (heads[number] - start + np.arange(length[number])) % samples.size[ring]
        if (arc := _fit(samples.points[at] * side[ring], float(turn[number]))) is not None:
            found.setdefault(ring, []).append((at, arc))
    if not found:
        return
    rings = np.array(sorted(found))
    chosen, some = chosen[samples.places(rings)], samples.of(rings)
    # Clockwise rings are mirrored, and mirrored back in the end.
    some = replace(some, points=some.points * side[rings][some.ring])
    angles = np.where(side[rings, :1] < 0, np.pi - angles[rings], angles[rings])
    ahead = some.start - samples.start[rings]
    arcs: dict[tuple[int, int], Arc] = {}
    for ring, number in enumerate(rings.tolist()):
        for state, (at, arc) in enumerate(found[number][:MOST], angles.shape[1]):
            arcs[ring, state] = arc
            chosen[_on_arc(some, at + ahead[ring], arc)] = state
    walls = fit_walls(some, chosen, np.pad(angles, ((0, 0), (0, MOST))))
    for ring, number in enumerate(rings.tolist()):
        points = _joined(walls, ring, arcs)
        if points is not None:
            yield number, shapely.LinearRing(points * side[number])


def _steady_runs(samples: Samples) -> tuple[Index, Index, Floats, Floats]:
    """Return the runs of samples that may lie on an arc, and of those that may not.

    Returns
    -------
    heads, length : ndarray of int64
        First sample of each run, and how many it has.
    turn : ndarray of float64
        By how much each run turns; 0 for samples on no arc.
    side : ndarray of float64, shape (rings, 2)
        What makes a ring counterclockwise: -1, 1 mirrors it in x.
    """
    change = samples.direction[samples.around(AROUND)] - samples.direction[samples.around(-AROUND)]
    turn = (np.mod(change + np.pi, 2 * np.pi) - np.pi) / (2 * AROUND)
    side = np.where(np.bincount(samples.ring, turn) < 0, -1.0, 1.0)
    turn *= side[samples.ring]
    curvature = turn / samples.step[samples.ring]
    curved = (curvature > STRAIGHT) & (curvature < 1 / SMALLEST_RADIUS)
    curved |= curved[samples.around(-1)] & curved[samples.around(1)]
    heads, run = samples.runs(curved)
    turned = np.bincount(run, np.where(curved, turn, 0.0)).astype(np.float64)
    return heads, np.bincount(run), turned, np.column_stack([side, np.ones(len(side))])


def _fit(points: Floats, turn: float) -> Arc | None:
    """Fit a circle to a run of samples by least squares (Kasa, 1976); None where they lie on none."""
    inner = points[AROUND:-AROUND]
    middle = inner.mean(axis=0)
    x, y = (inner - middle).T
    (a, b, c), *_ = np.linalg.lstsq(
        np.column_stack([2 * x, 2 * y, np.ones(len(x))]), x * x + y * y, rcond=None
    )
    radius = float(np.sqrt(a * a + b * b + c))
    off = np.sqrt(np.mean((np.hypot(x - a, y - b) - radius) ** 2))
    if radius < SMALLEST_RADIUS or off > NOISE + UNROUND * radius:
        return None
    return Arc(middle + np.array([a, b]), radius, turn)


def _on_arc(samples: Samples, run: Index, arc: Arc) -> Index:
    """Return the samples of a run, and those before and after it that lie on its arc, too."""
    ring = samples.ring[run[0]]
    start, size = samples.start[ring], samples.size[ring]
    around = start + (run[0] - start + np.arange(-FURTHER, len(run) + FURTHER)) % size
    off = np.abs(np.hypot(*(samples.points[around] - arc.centre).T) - arc.radius) > NOISE
    before = int(np.argmax(np.append(off[:FURTHER][::-1], True)))
    after = int(np.argmax(np.append(off[-FURTHER:], True)))
    return np.asarray(around[FURTHER - before : len(around) - FURTHER + after])


def _joined(walls: Walls, ring: int, arcs: dict[tuple[int, int], Arc]) -> Floats | None:
    """Return the points of a ring of walls and arcs; None where two of them do not meet."""
    part = np.flatnonzero(walls.ring == ring)
    found = [arcs.get((ring, state)) for state in walls.state[part].tolist()]
    count = len(part)
    kept = [
        k
        for k in range(count)
        if found[k] or walls.weight[part[k]] >= SHORTEST or not (found[k - 1] or found[(k + 1) % count])
    ]
    corners: list[Floats] = []
    for one, two in pairwise([*kept, kept[0]]):
        if (corner := _meet(walls, part[one], found[one], part[two], found[two])) is None:
            return None
        corners.append(corner)
    points: list[Floats] = []
    for before, after, k in zip([corners[-1], *corners], corners, kept, strict=False):
        points.append(before[None])
        if (arc := found[k]) is not None:
            if (chords := arc.chords(before, after)) is None:
                return None
            points.append(chords)
    return np.concatenate(points)


def _meet(walls: Walls, one: int, arc: Arc | None, two: int, other: Arc | None) -> Floats | None:
    """Return where a wall or arc meets the next; None where they do not."""
    if arc is not None and other is not None:
        return None
    point, along = _line(walls, two if arc is not None else one)
    circle = arc or other
    if circle is None:
        beside, across = _line(walls, two)
        cross = along[0] * across[1] - along[1] * across[0]
        if abs(cross) < np.sin(np.radians(10)):
            return None
        gap = beside - point
        return np.asarray(point + (gap[0] * across[1] - gap[1] * across[0]) / cross * along)
    foot = point + ((circle.centre - point) @ along) * along
    distance = float(np.hypot(*(foot - circle.centre)))
    if distance >= circle.radius - TANGENT:
        return foot if distance - circle.radius <= APART else None
    half = np.sqrt(circle.radius**2 - distance**2)
    # A wall leads to the nearer of the two points, and away from the further one.
    return np.asarray(foot + (half if arc is not None else -half) * along)


def _line(walls: Walls, wall: int) -> tuple[Floats, Floats]:
    angle = walls.angle[wall]
    return walls.moment[wall] / walls.weight[wall], np.array([np.cos(angle), np.sin(angle)])
