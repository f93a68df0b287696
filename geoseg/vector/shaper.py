"""Complete pieces become features, in batches, once all that may touch them is there, and are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import GeoBox, LayerSchema
from geoseg.vector.overlaps import near_pairs
from geoseg.vector.pieces import Piece
from geoseg.vector.samples import Floats
from geoseg.vector.shape import DEVIATION, ShapeRules, Shapes, features_of, shape

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

VERTICES = 200_000
"""Vertices of a batch: enough that the cost of a batch does not count, few enough to stay small."""

Unknown = Callable[[Floats], NDArray[np.bool_]]
"""Tells which boxes of pixels (col, row, col, row), shape (n, 4), may still get outlines."""


class FeatureSink(Protocol):
    """Where finished polygons go."""

    def write(self, features: GeoDataFrame) -> None:
        """Take a batch of features."""


def nothing_unknown(boxes: Floats) -> NDArray[np.bool_]:
    """Tell that nothing comes after what is there."""
    return np.zeros(len(boxes), bool)


class Shaper:
    """Collects complete pieces into batches of bounded size, shapes each and writes it.

    A feature of an object layer is final, and written, once everything near it is complete: it may have to
    make room. Those of several classes share their borders, however each is shaped, and need not wait.

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
        Gets the features in any order.
    unknown : callable
        Where outlines may still come from.
    """

    def __init__(
        self,
        grid: GeoBox,
        rules: ShapeRules,
        schema: LayerSchema,
        sink: FeatureSink,
        unknown: Unknown = nothing_unknown,
    ) -> None:
        self._grid, self._rules, self._schema, self._sink = grid, rules, schema, sink
        self._unknown = unknown
        self._several = len(schema.classes) > 1
        self._new: list[Piece] = []
        self._vertices = 0
        self._waiting = shape([], grid, rules, several=self._several)
        self._written = np.zeros(0, bool)
        self.features = 0
        self.deviation_px = 0.0
        self.area_m2: float | None = None if grid.crs is None else 0.0

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take the pieces that are complete now; shape and write whenever they make a batch."""
        counts = shapely.get_num_coordinates([piece.polygon for piece in pieces])
        shaped = False
        for piece, count in zip(pieces, counts.tolist(), strict=True):
            self._new.append(piece)
            self._vertices += count
            if self._vertices >= VERTICES:
                self._shape()
                shaped = True
                if self._several:
                    self._advance(nothing_unknown)
        if shaped and not self._several:
            self._shape()  # what is not looked at could be a neighbour
            self._advance(self._unknown)

    def flush(self) -> None:
        """Shape and write what is waiting: nothing comes any more."""
        self._shape()
        self._advance(nothing_unknown)

    def _shape(self) -> None:
        """Shape what is new."""
        fresh = shape(self._new, self._grid, self._rules, several=self._several)
        self._new, self._vertices = [], 0
        self._waiting += fresh
        self._written = np.append(self._written, np.zeros(len(fresh), bool))

    def _advance(self, unknown: Unknown) -> None:
        """Write what is final, and keep it while a neighbour is not."""
        shapes, written = self._waiting, self._written
        reach = self._rules.reach
        final = written | ~unknown(shapes.boxes + np.array([-reach, -reach, reach, reach]))
        self._write(shapes, final & ~written)
        kept = ~final
        if kept.any():
            one, two = near_pairs(shapes.boxes)
            kept[one[~final[two]]] = True
            kept[two[~final[one]]] = True
        self._waiting, self._written = shapes[kept], final[kept]

    def _write(self, shapes: Shapes, which: NDArray[np.bool_]) -> None:
        if not which.any():
            return
        features = features_of(shapes, which, self._grid, self._schema)
        self.deviation_px = max(self.deviation_px, features.attrs[DEVIATION])
        if len(features):
            self._sink.write(features)
            self.features += len(features)
            if self.area_m2 is not None:
                self.area_m2 += float(features["area_m2"].sum())
