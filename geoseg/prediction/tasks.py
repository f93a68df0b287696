"""What is particular to a kind of model: from its answers to what is merged, and who merges.

Everything else of a run, from reading to the sinks, knows only this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from geoseg.backends.base import BatchSize
from geoseg.grid import BlockIndex, TileGrid
from geoseg.prediction.blocks import BlockResult, empty_result, infer_pixels
from geoseg.prediction.journal import Answers, Record, pack_sums, unpack_sums
from geoseg.prediction.objects import finish_objects, infer_objects, pack_objects, unpack_objects
from geoseg.prediction.plan import Plan
from geoseg.prediction.reading import BlockPixels
from geoseg.vector.join import Joiner
from geoseg.vector.pieces import Piece
from geoseg.vector.samples import Floats
from geoseg.vector.unite import Uniter


class Merger(Protocol):
    """Makes whole polygons of what blocks hand on, in whatever order they come."""

    def add(self, pieces: Any) -> list[Piece]:
        """Take what one block hands on and return the polygons that are complete now."""

    def open_boxes(self) -> Floats:
        """Return what polygons that are not complete cover so far (col, row, col, row), shape (n, 4)."""

    def finish(self) -> None:
        """Check that nothing is left open."""


class Task(Protocol):
    """What a kind of model needs of its own.

    Attributes
    ----------
    blends : bool
        Whether neighbouring blocks share pixels, to be blended and traced.
    """

    blends: bool

    def infer(
        self, plan: Plan, block: BlockIndex, pixels: BlockPixels, predict: Any, batch: BatchSize, stopped: Any
    ) -> Any:
        """Infer the tiles of a block."""

    def finish(self, plan: Plan, block: BlockIndex, answers: Any) -> BlockResult:
        """Return what a block hands on that needs nothing of its neighbours; None: it holds nothing."""

    def merger(self, plan: Plan) -> Merger:
        """Return what merges the results."""

    def pack(self, answers: Any) -> Record:
        """Return answers as a record."""

    def unpack(self, record: Record, grid: TileGrid, block: BlockIndex) -> Answers:
        """Return what a record holds; ValueError or KeyError where that is not of the block."""


class Probabilities:
    """Models that say what each pixel is."""

    blends = True

    pack = staticmethod(pack_sums)
    unpack = staticmethod(unpack_sums)

    def infer(
        self, plan: Plan, block: BlockIndex, pixels: BlockPixels, predict: Any, batch: BatchSize, stopped: Any
    ) -> Any:
        """Sum up the probabilities of a block's tiles."""
        return infer_pixels(plan, block, pixels, predict, batch, stopped)

    def finish(self, plan: Plan, block: BlockIndex, _answers: None) -> BlockResult:
        """Return the result of a block that holds nothing; others are blended first."""
        return empty_result(plan, block)

    def merger(self, plan: Plan) -> Merger:
        """Return what joins outlines at seams."""
        return Joiner(plan.grid.shape)


class Objects:
    """Models that find objects."""

    blends = False

    infer = staticmethod(infer_objects)
    finish = staticmethod(finish_objects)
    pack = staticmethod(pack_objects)
    unpack = staticmethod(unpack_objects)

    def merger(self, plan: Plan) -> Merger:
        """Return what unites views of objects."""
        return Uniter(plan.tiles, plan.outline)


TASKS: Mapping[str, Task] = {"semantic": Probabilities(), "instance": Objects()}


def task_of(plan: Plan) -> Task:
    """Return what the model of a plan needs of its own."""
    return TASKS[plan.task]
