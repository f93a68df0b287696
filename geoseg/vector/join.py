"""Joining what regions traced into the polygons of the whole scene, as the regions come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np

from geoseg.vector.halfedges import seam_place
from geoseg.vector.pieces import Arc, OpenPiece, Piece, Pieces
from geoseg.vector.rings import make_polygons
from geoseg.vector.samples import Floats

__all__ = ["Joiner", "Piece"]

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
        found = {id(cluster): cluster for cluster in (cluster.find() for cluster in touched)}
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
