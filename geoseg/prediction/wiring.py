"""The tasks of a block for any scheduler: what each takes from others, and reading the scene.

A block is read in as few windows as it takes. Nothing is submitted for empty ground (`certainly_empty`): the
result of a block far from all data is ready at once, and a block beside data has only the tasks that its
neighbours need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from operator import attrgetter
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import BatchSize, Model
from geoseg.errors import UnreadableScene
from geoseg.grid import BlockIndex
from geoseg.prediction.blocks import (
    BlockPixels,
    BlockResult,
    Failure,
    Stopped,
    assemble,
    blend_block,
    finish_block,
    share_margin,
    share_strip,
)
from geoseg.prediction.journal import Journal
from geoseg.prediction.plan import Plan
from geoseg.prediction.tasks import TASKS, Answers
from geoseg.values import Patch, Window

if TYPE_CHECKING:
    from geoseg.raster.coverage import Coverage

WASTE = 0.1
"""Share of a window's pixels that may be read without need, to read it in one go."""

Reader = Callable[[Window], Patch]
"""Reads a window that lies inside the working grid; UnreadableScene where the scene is broken in there."""

Submit = Callable[..., Any]
"""``submit(function, *arguments, key=…)`` returns a node that other nodes take as an argument."""


@dataclass(frozen=True, slots=True)
class Work:
    """How to do the blocks of a plan; travels to the workers."""

    plan: Plan
    read: Reader
    """Opens the scene itself, on whichever worker it runs."""
    load: Callable[[], Model]
    """Returns the predictor; loads it once per process."""
    batch: int
    """Tiles in one forward pass."""
    journal: Journal | None = None
    """Where inferred blocks are kept."""
    coverage: Coverage | None = None
    """What is known of the scene's empty ground; None: nothing."""
    run: str = field(default_factory=partial(token_hex, 16), compare=False)
    """Names this run: what a process learns of the device's memory holds for no other."""


class Wiring:
    """Adds the tasks of one block after the other, and keeps what later blocks will take.

    Parameters
    ----------
    stopped : callable or None
        Asked between batches; True ends the run.
    shared : (node, node), optional
        Of the work and of its plan, where they are not to travel with every task.
    apart : bool
        Read in tasks of their own, so that a device that works one block at a time need not wait.
    """

    def __init__(
        self,
        work: Work,
        submit: Submit,
        stopped: Callable[[], bool] | None,
        shared: tuple[Any, Any] | None = None,
        *,
        apart: bool = False,
    ) -> None:
        self._plan = work.plan
        self._tiles = work.plan.tiles
        self._task = TASKS[work.plan.task]
        self._empty = partial(certainly_empty, work.plan, work.coverage)
        self._run = work.run[:16]
        self._nodes = shared or (work, work.plan)
        self._submit = submit
        self._stopped = stopped
        self._apart = apart
        # Strips and margins that blocks to come will take: nodes, or the values that replaced them.
        self.waiting: dict[str, Any] = {}

    def _key(self, name: str, *blocks: BlockIndex) -> str:
        # Keys name the run: a cluster serves several at once, and one after the other.
        return "-".join([f"geoseg_{name}", self._run, *[f"{row}_{col}" for row, col in blocks]])

    def add(self, block: BlockIndex, after: Any = None) -> Any:
        """Submit a block and return the node of its result, or the result where it is known.

        Blocks come row by row.
        """
        submit, (work, plan), tiles = self._submit, self._nodes, self._tiles
        if self._empty(Window.around(tiles.field(block), tiles.extent(block))):  # all that it looks at
            return self._task.finish(self._plan, block, None)
        followers = [taker for taker in tiles.followers(block) if taker != block]
        leaders = [giver for giver in tiles.leaders(block) if giver != block]
        inferred = tally = blended = None
        if not self._empty(tiles.extent(block)):
            pixels = submit(read, work, block, key=self._key("read", block)) if self._apart else None
            inferred = submit(infer, work, block, self._stopped, after, pixels, key=self._key("infer", block))
            if not self._task.blends:
                return submit(finish, plan, block, inferred, key=self._key("result", block))
            tally = submit(attrgetter("tally"), inferred, key=self._key("tally", block))
            for taker in followers:
                if not self._empty(tiles.core(taker)):
                    key = self._key("strip", block, taker)
                    self.waiting[key] = submit(share_strip, inferred, taker, key=key)
        elif not self._task.blends:
            return self._task.finish(self._plan, block, None)
        strips = self._take("strip", leaders, block)
        if not self._empty(tiles.core(block)):
            blended = submit(blend_block, plan, block, inferred, strips, key=self._key("blend", block))
            for taker in followers:
                key = self._key("margin", block, taker)
                self.waiting[key] = submit(share_margin, plan, blended, taker, key=key)
        margins = self._take("margin", leaders, block)
        return submit(finish_block, plan, block, blended, margins, tally, key=self._key("result", block))

    def _take(self, name: str, givers: list[BlockIndex], taker: BlockIndex) -> list[Any]:
        """Take out what a block is given, by those that have something for it."""
        keys = [self._key(name, giver, taker) for giver in givers]
        return [self.waiting.pop(key) for key in keys if key in self.waiting]


def certainly_empty(plan: Plan, coverage: Coverage | None, window: Window) -> bool:
    """Whether a window of the working grid certainly holds no pixel that is valid and asked for.

    Parameters
    ----------
    coverage : Coverage or None
        What is known of the scene; None: nothing.
    """
    if plan.aoi is not None:
        import shapely

        from geoseg.vectorfiles.aoi import touches

        if not touches(plan.aoi, shapely.box(window.col, window.row, window.col_stop, window.row_stop)):
            return True
    return coverage is not None and coverage.empty(window, plan.grid)


def read_block(plan: Plan, block: BlockIndex, read: Reader) -> BlockPixels:
    """Read a block in one go; where that fails, tile by tile, so that one bad spot costs one tile.

    Tiles without a pixel in the area of interest are not read: there the extent may come out invalid.
    """
    extent = plan.tiles.extent(block)
    wanted = area_of_interest(plan, extent)
    inside = [tile.window.intersection(extent) for tile in plan.tiles.tiles(block)]
    windows = [window for window in inside if wanted[window.within(extent)].any()]
    failures = []
    try:
        parts = [(window, read(window)) for window in windows_to_read(windows)]
    except UnreadableScene:
        parts = []
        for window in windows:
            try:
                parts.append((window, read(window)))
            except UnreadableScene as error:
                failures.append(Failure(window, str(error)))
    patch = assemble(extent, parts)
    # The model sees what lies around the area of interest; nothing of it is kept.
    return BlockPixels(patch, patch.valid & wanted, tuple(failures))


def area_of_interest(plan: Plan, window: Window) -> NDArray[np.bool_]:
    """Return which pixels of a window are asked for."""
    if plan.aoi is None:
        return np.ones(window.shape, bool)
    from geoseg.vectorfiles.aoi import aoi_mask

    return aoi_mask(plan.aoi, window)


def windows_to_read(tiles: Sequence[Window]) -> list[Window]:
    """Return windows that together cover some tiles and overlap nowhere.

    One around them all, unless more than `WASTE` of it would be for nothing; then strips of rows,
    each as wide as the tiles in it.

    Examples
    --------
    >>> windows_to_read([Window(0, 0, 64, 64), Window(0, 48, 64, 64)])
    [Window(row=0, col=0, height=64, width=112)]
    >>> windows_to_read([Window(0, 0, 64, 64), Window(64, 640, 64, 64)])
    [Window(row=0, col=0, height=64, width=64), Window(row=64, col=640, height=64, width=64)]
    """
    if not tiles:
        return []
    strips, used = [], 0
    for top, bottom in pairwise(sorted({edge for tile in tiles for edge in (tile.row, tile.row_stop)})):
        if beside := [tile for tile in tiles if tile.row < bottom and tile.row_stop > top]:
            box = Window.around(*beside)
            strips.append(Window(top, box.col, bottom - top, box.width))
            used += (bottom - top) * box.width
    whole = Window.around(*tiles)
    return [whole] if used >= (1 - WASTE) * whole.height * whole.width else strips


def read(work: Work, block: BlockIndex) -> BlockPixels | Answers:
    """Read a block, or take what was inferred of it from the journal."""
    known = (
        None
        if work.journal is None
        else work.journal.load(work.plan.tiles, block, TASKS[work.plan.task].unpack)
    )
    return known or read_block(work.plan, block, work.read)


def infer(
    work: Work,
    block: BlockIndex,
    stopped: Callable[[], bool] | None,
    _after: None,
    given: BlockPixels | Answers | None = None,
) -> Answers:
    """Infer a block, or take it from the journal: the task that takes the device.

    Parameters
    ----------
    given : BlockPixels or answers, optional
        From `read`; None: it is done here.
    """
    if stopped is not None and stopped():
        raise Stopped
    pixels = read(work, block) if given is None else given
    if not isinstance(pixels, BlockPixels):
        return pixels
    task = TASKS[work.plan.task]
    batch = _batch_size(work.run, work.batch)
    answers: Answers = task.infer(work.plan, block, pixels, work.load(), batch, stopped)
    tally = answers.tally
    # Not what cost nothing, nor what could not be read: it may be readable next time.
    if work.journal is not None and tally.inferred and not tally.failures:
        work.journal.store(block, task.pack(answers))
    return answers


def finish(plan: Plan, block: BlockIndex, answers: Answers) -> BlockResult:
    """Return the result of a block that shares nothing with its neighbours."""
    return TASKS[plan.task].finish(plan, block, answers)


@lru_cache(maxsize=8)
def _batch_size(_run: str, tiles: int) -> BatchSize:
    """Return the batch size of a run in this process: it remembers what did not fit."""
    return BatchSize(tiles)
