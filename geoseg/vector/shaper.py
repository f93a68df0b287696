"""Complete pieces become features, in batches, once all that may touch them is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.grid import BlockIndex, TileGrid
from geoseg.values import GeoBox, LayerSchema
from geoseg.vector.features import DEVIATION, features_of
from geoseg.vector.overlaps import OUTWARD
from geoseg.vector.pieces import Piece
from geoseg.vector.samples import Floats, Index
from geoseg.vector.shape import Near, ShapeRules, Shapes, find_near, first_pixels, shape

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


VERTICES = 200_000
"""Vertices of a batch: enough that the cost of a batch does not count, few enough to stay small."""

PIECE = 24
"""Vertices that a piece weighs besides its own: of speckle, rows of the table are what takes memory."""

Unknown = Callable[[Floats], NDArray[np.bool_]]
"""Tells which boxes of pixels (col, row, col, row), shape (n, 4), may still get outlines."""


NOTHING_NEAR = Near(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool))


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
        self._new: list[Piece] = []
        self._vertices = 0
        self._waiting = shape([], grid, rules, coverage=schema.coverage)
        self._written, self._long = np.zeros(0, bool), np.zeros(0, bool)
        self.features = 0
        self.deviation_px = 0.0
        self.area_m2: float | None = None if grid.crs is None else 0.0

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take the pieces that are complete now; shape and write whenever they make a batch."""
        counts = shapely.get_num_coordinates([piece.polygon for piece in pieces])
        shaped = False
        for piece, count in zip(pieces, counts.tolist(), strict=True):
            self._new.append(piece)
            self._vertices += count + PIECE
            if self._vertices >= VERTICES:
                self._shape()
                shaped = True
                if self._schema.coverage:
                    self._advance(nothing_unknown)
        if shaped and not self._schema.coverage:
            self._shape()  # what is not looked at could be a neighbour
            self._advance(self._unknown)

    def flush(self) -> None:
        """Shape and write what is waiting: nothing comes any more."""
        self._shape()
        self._advance(nothing_unknown)

    def _shape(self) -> None:
        """Shape what is new."""
        fresh = shape(self._new, self._grid, self._rules, coverage=self._schema.coverage)
        self._new, self._vertices = [], 0
        order = np.argsort(first_pixels([*self._waiting.pieces, *fresh.pieces]), kind="stable")
        self._waiting += fresh
        new = np.zeros(len(fresh.pieces), bool)
        self._written, self._long = np.append(self._written, new)[order], np.append(self._long, new)[order]

    def _advance(self, unknown: Unknown) -> None:
        """Write what is final, and keep it while something near is not."""
        shapes = self._waiting
        if self._schema.coverage:
            every = np.ones(len(shapes), bool)
            self._write(shapes, NOTHING_NEAR, every)
            self._waiting, self._written, self._long = shapes[~every], self._written[:0], self._long[:0]
            return
        reach = self._rules.reach
        near = find_near(shapes, reach, self._long)
        # What comes may reach as far as what is there.
        known = self._written | ~unknown(shapes.boxes + 2 * reach * OUTWARD)
        # An outline depends on those near it, and these on the rows that they are part of.
        complete = near.long | _all_of(near.row, known)
        final = known & complete
        for one, two in ((near.one, near.two), (near.two, near.one)):
            final[one[~complete[two]]] = False
        final = _all_of(near.row, final) | (near.long & final) | self._written
        self._write(shapes, near, final & ~self._written)
        kept = ~final
        for one, two in ((near.one, near.two), (near.two, near.one)):
            kept[one[~final[two]]] = True
        kept |= ~near.long & ~_all_of(near.row, ~kept)
        self._waiting, self._written, self._long = shapes[kept], final[kept], near.long[kept]

    def _write(self, shapes: Shapes, near: Near, which: NDArray[np.bool_]) -> None:
        if not which.any():
            return
        features = features_of(shapes, near, which, (self._grid, self._rules, self._schema))
        self.deviation_px = max(self.deviation_px, features.attrs[DEVIATION])
        if len(features):
            self._sink.write(features)
            self.features += len(features)
            if self.area_m2 is not None:
                area = self.area_m2 + float(features["area_m2"].sum(skipna=False))
                self.area_m2 = None if np.isnan(area) else area


def _all_of(row: Index, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each shape whether all of its row are flagged."""
    every = np.ones(int(row.max(initial=-1)) + 1, bool)
    every[row[~flags]] = False
    return every[row]


class Frontier:
    """Knows which regions have been traced, and asks for the outlines that are not complete.

    Parameters
    ----------
    tiles : TileGrid
        Its regions are traced.
    open_boxes : callable
        Returns what polygons that are not complete cover so far, see `geoseg.vector.pieces.Joiner`.
    """

    def __init__(self, tiles: TileGrid, open_boxes: Callable[[], Floats]) -> None:
        rows, cols = tiles.block_shape
        self._open_boxes = open_boxes
        self._rows = np.array([tiles.region(BlockIndex(row, 0)).row_stop for row in range(rows)])
        self._cols = np.array([tiles.region(BlockIndex(0, col)).col_stop for col in range(cols)])
        self._missing = np.ones((rows, cols), np.int64)

    def pass_region(self, block: BlockIndex) -> None:
        """Take note that the region of a block was traced and merged."""
        self._missing[block] = 0

    def __call__(self, boxes: Floats) -> NDArray[np.bool_]:
        """Tell which boxes (col, row, col, row), shape (n, 4), may still get outlines."""
        top, bottom = (self._touched(self._rows, boxes[:, side]) for side in (1, 3))
        left, right = (self._touched(self._cols, boxes[:, side]) for side in (0, 2))
        sums = np.pad(self._missing.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        below, beyond = bottom + 1, right + 1
        unknown = sums[below, beyond] - sums[top, beyond] - sums[below, left] + sums[top, left] > 0
        open_ones, wanted = (np.asarray(shapely.box(*some.T), object) for some in (self._open_boxes(), boxes))
        unknown[shapely.STRtree(open_ones).query(wanted)[0]] = True
        return np.asarray(unknown, bool)

    @staticmethod
    def _touched(stops: NDArray[np.int64], places: Floats) -> NDArray[np.int64]:
        """Return the region, along one axis, that each place lies in; beyond the grid the outermost."""
        return np.asarray(np.clip(np.searchsorted(stops, places, side="right"), 0, len(stops) - 1))
