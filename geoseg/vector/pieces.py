"""What tracing gives, polygons that are whole and parts that reach a seam, and joining the parts.

Regions come in any order; what is joined is the polygons of the whole scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import CERTAIN
from geoseg.vector.rings import make_polygons
from geoseg.vector.samples import Floats, Index

NO_PIXEL = np.iinfo(np.int64).max
"""``Evidence.first_pixel`` of a part without pixels: the identity of the minimum."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the pixels of a piece; adding it up is associative and commutative.

    >>> (Evidence(4, 250_000, 17) + Evidence(2, 120_000, 9, touches_edge=True)).first_pixel
    9
    """

    pixels: int = 0
    """Number of pixels whose centre lies in the piece."""
    probability_sum: int = 0
    """Sum of their probabilities, 65535 is certain."""
    first_pixel: int = NO_PIXEL
    """Smallest ``row * grid width + col`` of them: an id that no block size changes."""
    touches_edge: bool = False
    """One of them lies in the first or last row or column of the grid."""
    touches_nodata: bool = False
    """One of them has an invalid pixel of the grid among its eight neighbours."""

    @property
    def confidence(self) -> float:
        """Mean probability of the pixels."""
        return self.probability_sum / self.pixels / CERTAIN

    def __add__(self, other: Evidence) -> Evidence:
        """Return the evidence of both pieces together."""
        return Evidence(
            self.pixels + other.pixels,
            self.probability_sum + other.probability_sum,
            min(self.first_pixel, other.first_pixel),
            self.touches_edge or other.touches_edge,
            self.touches_nodata or other.touches_nodata,
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """How likely polygons are right, from the mean probability of their pixels.

    By a logistic regression on its logit (Platt 1999); without one, it is the mean probability itself.

        >>> Calibration(2.0, -1.0)(np.array([0.5, 0.9, 1.0])).round(3).tolist()
        [0.269, 0.968, 1.0]
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the confidence of each mean probability, in 0 … 1 both."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return mean
        with np.errstate(divide="ignore", over="ignore"):
            likely: NDArray[np.float64] = 1 / (
                1 + np.exp(-self.slope * (np.log(mean) - np.log1p(-mean)) - self.intercept)
            )
        return likely


PLAIN = Calibration()
"""The mean probability as it is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole polygon of one class."""

    label: int
    """Class id."""
    polygon: shapely.Polygon
    """Shapely.Polygon. In pixel coordinates (col, row); shell counter-clockwise in the (col, row) plane."""
    evidence: Evidence


def confident(pieces: Sequence[Piece], calibration: Calibration, least: float) -> list[Piece]:
    """Return the pieces of at least this confidence."""
    sure = calibration(np.array([piece.evidence.confidence for piece in pieces])) >= least
    return [piece for piece, kept in zip(pieces, sure.tolist(), strict=True) if kept]


@dataclass(frozen=True, eq=False, slots=True)
class Arc:
    """A stretch of outline from one seam point to another, the piece on its left."""

    start: int
    end: int
    """`start`, `end`: Keys of the grid edges on a seam where the arc begins and ends: another arc of the same
    polygon ends and begins there, in the neighbouring region."""
    points: NDArray[np.float64]
    """float64, shape (n, 2). Vertices as (col, row), without the end point. The start point is among them
    where it is a vertex of the whole outline."""


@dataclass(frozen=True, eq=False, slots=True)
class OpenPiece:
    """A part of a polygon that goes on beyond a seam."""

    label: int
    """Class id."""
    evidence: Evidence
    """Of the pixels that the region owns."""
    rings: tuple[NDArray[np.float64], ...]
    """Tuple of ndarray, each of shape (n, 2). Outlines that are closed already, the piece on their left."""
    arcs: tuple[Arc, ...]
    """Outlines that go on beyond a seam."""
    contacts: tuple[int, ...]
    """Keys of the stretches of seam that the part covers; the part on the other side of the seam has the same
    key."""


@dataclass(frozen=True, eq=False, slots=True)
class Pieces:
    """What one region holds."""

    whole: tuple[Piece, ...]
    """Polygons that touch no seam."""
    parts: tuple[OpenPiece, ...]
    """Parts that have to be joined."""


def seam_place(key: int) -> tuple[float, float]:
    """Return the middle (col, row) of the grid edge where an arc with this key begins or ends.

    >>> seam_place(2 * int(seam_key(7, 1, np.array([3]))[0]) + 1)
    (7.5, 4.0)
    """
    line, along = key >> 33, (key >> 1 & 0xFFFFFFFF) - 2
    place = (line >> 1) + 0.5, along + 1.0
    return place if line & 1 else place[::-1]


def seam_key(line: Index | int, upright: Index | int, along: Index) -> Index:
    """Pack a line of samples and a place on it (from -2) into one integer."""
    return ((2 * np.asarray(line, np.int64) + upright) << 32) + along + 2


STRETCH = 64
"""Edges of an outline that is not complete for which a box is kept."""


@dataclass(eq=False, slots=True)
class _Cluster:
    """Parts known to be of one polygon, and how many of their contacts have not been met yet."""

    parts: list[OpenPiece]
    missing: int = 0
    absorbed: _Cluster | None = field(default=None, repr=False)

    def find(self) -> _Cluster:
        """Return the cluster that has absorbed this one, shortening the way there."""
        cluster = self
        while cluster.absorbed is not None:
            if cluster.absorbed.absorbed is not None:
                cluster.absorbed = cluster.absorbed.absorbed
            cluster = cluster.absorbed
        return cluster


class Joiner:
    """Joins the pieces of regions that arrive in any order.

    Two parts belong together if they share a stretch of seam: touching in a point is not enough. A
    polygon is complete when every stretch that its parts cover has been met from the other side; its
    outline is then linked from the arcs of its parts at the seam points that they share, so its
    vertices are those of the whole scene's outline, and nothing of the seam is left in it. Only parts
    of polygons that go on are kept in memory.

    Parameters
    ----------
    grid_shape : tuple of int
        Rows and columns of the grid that the regions partition.
    """

    def __init__(self, grid_shape: tuple[int, int]) -> None:
        self._grid_shape = grid_shape
        self._waiting: dict[int, _Cluster] = {}

    def add(self, pieces: Pieces) -> list[Piece]:
        """Take the pieces of one region and return the polygons that are complete now.

        Parameters
        ----------
        pieces : Pieces
            Of a region that has not been added yet.

        Returns
        -------
        list of Piece
            In no particular order; `Evidence.first_pixel` tells them apart.
        """
        touched = []
        for part in pieces.parts:
            cluster = _Cluster([part])
            for contact in part.contacts:
                cluster = self._meet(contact, cluster)
            touched.append(cluster)
        found = {id(cluster): cluster for cluster in [cluster.find() for cluster in touched]}
        complete = [cluster for cluster in found.values() if cluster.missing == 0]
        return [*pieces.whole, *_build(complete)]

    def open_boxes(self) -> Floats:
        """Return what outlines that are not complete cover so far, in pieces, shape (n, 4).

        As (col, row, col, row).
        """
        waiting = {id(cluster): cluster for cluster in (one.find() for one in self._waiting.values())}
        parts = [part for cluster in waiting.values() for part in cluster.parts]
        return np.concatenate([np.empty((0, 4)), *(_boxes(part) for part in parts)])

    def finish(self) -> None:
        """Check that nothing is left open.

        Raises
        ------
        RuntimeError
            If a region is missing.
        """
        if self._waiting:
            raise RuntimeError(
                f"{len(self._waiting)} seams of the {self._grid_shape} grid are open: a region was not added"
            )

    def _meet(self, contact: int, cluster: _Cluster) -> _Cluster:
        other = self._waiting.pop(contact, None)
        if other is None:
            self._waiting[contact] = cluster
            cluster.missing += 1
            return cluster
        other = other.find()
        other.missing -= 1
        return _unite(cluster, other)


def _boxes(part: OpenPiece) -> Floats:
    """Return the boxes of every `STRETCH` edges of a part's outlines, a pixel wider."""
    lines = [np.vstack([ring, ring[:1]]) for ring in part.rings]
    lines += [np.vstack([seam_place(arc.start), arc.points, seam_place(arc.end)]) for arc in part.arcs]
    boxes = [np.empty((0, 4))]
    for line in lines:
        starts = np.arange(0, len(line) - 1, STRETCH)
        least, most = np.minimum(line[:-1], line[1:]), np.maximum(line[:-1], line[1:])
        boxes.append(
            np.hstack([np.minimum.reduceat(least, starts) - 1, np.maximum.reduceat(most, starts) + 1])
        )
    return np.concatenate(boxes)


def _unite(one: _Cluster, two: _Cluster) -> _Cluster:
    """Let the cluster with more parts absorb the other."""
    if one is two:
        return one
    if len(one.parts) < len(two.parts):
        one, two = two, one
    one.parts.extend(two.parts)
    one.missing += two.missing
    two.parts, two.absorbed = [], one
    return one


def _build(clusters: Sequence[_Cluster]) -> list[Piece]:
    """Build the polygons of complete clusters."""
    rings: list[Floats] = []
    owner: list[int] = []
    for number, cluster in enumerate(clusters):
        own = [ring for part in cluster.parts for ring in part.rings]
        own.extend(_link([arc for part in cluster.parts for arc in part.arcs]))
        rings.extend(own)
        owner.extend([number] * len(own))
    if not rings:
        return []
    lengths = np.array([len(ring) for ring in rings])
    polygons = make_polygons(np.concatenate(rings), np.cumsum(lengths) - lengths, np.array(owner))
    return [
        Piece(cluster.parts[0].label, polygon, reduce(add, (part.evidence for part in cluster.parts)))
        for cluster, polygon in zip(clusters, polygons, strict=True)
    ]


def _link(arcs: Sequence[Arc]) -> list[Floats]:
    """Link the arcs of one polygon into rings, each from the end of an arc to the arc that starts there."""
    after = {arc.start: arc for arc in arcs}
    rings = []
    while after:
        _, arc = after.popitem()
        begin, points = arc.start, [arc.points]
        while arc.end != begin:
            arc = after.pop(arc.end)
            points.append(arc.points)
        rings.append(np.concatenate(points))
    return rings
