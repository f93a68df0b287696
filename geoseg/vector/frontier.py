"""Where outlines may still come from while a scene is traced region by region."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.grid import BlockIndex, TileGrid
from geoseg.vector.samples import Floats


class Frontier:
    """Knows which regions have been traced, and asks for the outlines that are not complete.

    Parameters
    ----------
    tiles : TileGrid
        Its regions are traced.
    open_boxes : callable
        Returns what polygons that are not complete cover so far, see `geoseg.vector.join.Joiner`.
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
