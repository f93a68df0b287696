"""Complete pieces become features, in batches, and are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import shapely

from geoseg.values import GeoBox, LayerSchema
from geoseg.vector.pieces import Piece
from geoseg.vector.shape import DEVIATION, ShapeRules, finish

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

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
    grid : GeoBox
        The grid that the pieces were traced on.
    rules : ShapeRules
        How polygons are shaped.
    schema : LayerSchema
        The layer that they are for.
    sink : FeatureSink
        Gets the batches in the order of the pieces.
    """

    def __init__(self, grid: GeoBox, rules: ShapeRules, schema: LayerSchema, sink: FeatureSink) -> None:
        self._grid = grid
        self._rules = rules
        self._schema = schema
        self._sink = sink
        self._waiting: list[Piece] = []
        self._vertices = 0
        self.features = 0
        self.deviation_px = 0.0
        self.area_m2: float | None = None if grid.crs is None else 0.0

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take pieces; shape and write whenever they make a batch."""
        counts = shapely.get_num_coordinates([piece.polygon for piece in pieces])
        for piece, count in zip(pieces, counts.tolist(), strict=True):
            self._waiting.append(piece)
            self._vertices += count
            if self._vertices >= VERTICES:
                self.flush()

    def flush(self) -> None:
        """Shape and write what is waiting."""
        if not self._waiting:
            return
        features = finish(self._waiting, self._grid, self._rules, self._schema)
        self._waiting, self._vertices = [], 0
        self.deviation_px = max(self.deviation_px, features.attrs[DEVIATION])
        if len(features):
            self._sink.write(features)
            self.features += len(features)
            if self.area_m2 is not None:
                self.area_m2 += float(features["area_m2"].sum())
