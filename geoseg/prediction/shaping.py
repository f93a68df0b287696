"""Complete pieces become features, in batches, and are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from geoseg.prediction.plan import Plan

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from geoseg.vector.pieces import Piece

VERTICES = 200_000
"""Vertices of a batch: enough that the cost of a batch does not count, few enough to stay small."""


class FeatureSink(Protocol):
    """Where finished polygons go."""

    def write(self, features: GeoDataFrame) -> None:
        """Take a batch of features."""


class Shaper:
    """Collects complete pieces into batches of bounded size, shapes each and writes it.

    Not on threads of its own: two of them gained 3 to 26 % on two cores, as much of shaping holds the
    interpreter, and whole runs nothing.

    Parameters
    ----------
    plan : Plan
        How polygons are shaped, and the layer that they are for.
    sink : FeatureSink
        Gets the batches in the order of the pieces.
    """

    def __init__(self, plan: Plan, sink: FeatureSink) -> None:
        self._plan = plan
        self._sink = sink
        self._waiting: list[Piece] = []
        self._vertices = 0
        self.features = 0
        self.deviation_px = 0.0
        self.area_m2: float | None = None if plan.grid.crs is None else 0.0

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take pieces; shape and write whenever they make a batch."""
        import shapely

        counts = shapely.get_num_coordinates([piece.polygon for piece in pieces])
        for piece, count in zip(pieces, counts.tolist(), strict=True):
            self._waiting.append(piece)
            self._vertices += count
            if self._vertices >= VERTICES:
                self.flush()

    def flush(self) -> None:
        """Shape and write what is waiting."""
        from geoseg.vector.shape import DEVIATION, finish

        if not self._waiting:
            return
        plan = self._plan
        features = finish(self._waiting, plan.grid, plan.shape_rules, plan.schema)
        self._waiting, self._vertices = [], 0
        self.deviation_px = max(self.deviation_px, features.attrs[DEVIATION])
        if len(features):
            self._sink.write(features)
            self.features += len(features)
            if self.area_m2 is not None:
                self.area_m2 += float(features["area_m2"].sum())
