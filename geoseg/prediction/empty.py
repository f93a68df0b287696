"""Ground that is known to hold nothing: it is neither read nor inferred, and takes no memory.

The values here stand for blocks without a valid pixel; their arrays are a single zero, seen everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoseg.grid import BlockIndex, Share, TileGrid
from geoseg.prediction.blocks import BlockResult, Tally
from geoseg.prediction.plan import Plan
from geoseg.values import ProbabilityBlock, Window
from geoseg.vector.pieces import Pieces

if TYPE_CHECKING:
    from geoseg.raster.coverage import Coverage


@dataclass(frozen=True, eq=False, slots=True)
class EmptyGround:
    """Answers whether a window of the working grid certainly holds no pixel that is valid and asked for.

    Parameters
    ----------
    plan : Plan
    coverage : Coverage or None
        What is known of the scene.
    """

    plan: Plan
    coverage: Coverage | None

    def __call__(self, window: Window) -> bool:
        """Whether it is certain; False says nothing."""
        if self._outside(window):
            return True
        return self.coverage is not None and self.coverage.empty(window, self.plan.grid)

    def _outside(self, window: Window) -> bool:
        if self.plan.aoi is None:
            return False
        import shapely

        from geoseg.vectorfiles.aoi import touches

        box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
        return not touches(self.plan.aoi, box)


def surroundings(grid: TileGrid, block: BlockIndex) -> Window:
    """Return all pixels that working a block looks at: its tiles' and its neighbours' margins."""
    field, extent = grid.field(block), grid.extent(block)
    return Window(field.row, field.col, extent.row_stop - field.row, extent.col_stop - field.col)


def empty_share(plan: Plan, block: BlockIndex) -> Share:
    """Return what a block without a valid pixel adds to its own core."""
    core = plan.tiles.core(block)
    sums = np.broadcast_to(np.uint32(0), (len(plan.rule.channels), *core.shape))
    return Share(block, sums, np.broadcast_to(np.False_, core.shape))


def empty_core(plan: Plan, block: BlockIndex) -> ProbabilityBlock:
    """Return the blended core of a block without a valid pixel."""
    core = plan.tiles.core(block)
    values = np.broadcast_to(np.uint16(0), (len(plan.rule.channels), *core.shape))
    return ProbabilityBlock(core, values, np.broadcast_to(np.False_, core.shape))


def empty_result(plan: Plan, block: BlockIndex, tally: Tally | None = None) -> BlockResult:
    """Return the result of a block whose field has no valid pixel.

    Parameters
    ----------
    tally : Tally, optional
        Default: all of its tiles skipped.
    """
    if tally is None:
        tally = Tally(skipped=sum(1 for _ in plan.tiles.tiles(block)))
    raster = empty_core(plan, block) if plan.wants_raster else None
    return BlockResult(block, Pieces((), ()), raster, tally)
