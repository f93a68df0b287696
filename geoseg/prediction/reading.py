"""What a block's tiles need of the scene: read in as few windows as it takes, empty ground not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UnreadableScene
from geoseg.grid import BlockIndex
from geoseg.prediction.plan import Plan
from geoseg.values import Patch, Window

if TYPE_CHECKING:
    from geoseg.raster.coverage import Coverage

WASTE = 0.1
"""Share of a window's pixels that may be read without need, to read it in one go."""

Reader = Callable[[Window], Patch]
"""Reads a window of the working grid; the window lies inside the grid."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A tile that could not be read: its window in the working grid, and why."""

    window: Window
    reason: str


@dataclass(frozen=True, eq=False, slots=True)
class BlockPixels:
    """What was read of a block."""

    patch: Patch
    """Of the extent of the block's tiles."""
    kept: NDArray[np.bool_]
    """bool, shape of the extent. Pixels that are valid and in the area of interest."""
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class PlanReader:
    """Reads windows of a plan's working grid; opens the scene itself on whichever worker it runs."""

    plan: Plan

    def __call__(self, window: Window) -> Patch:
        """Read pixels and validity.

        Raises
        ------
        UnreadableScene
            If the scene is broken in there.
        """
        from geoseg.raster.scene import read_patch

        return read_patch(self.plan.scene, window, self.plan.grid, self.plan.bands)


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


def assemble(extent: Window, parts: Sequence[tuple[Window, Patch]]) -> Patch:
    """Put patches in their places within `extent`; the rest is 0 and invalid."""
    if len(parts) == 1 and parts[0][0] == extent:
        return parts[0][1]
    like = parts[0][1].pixels if parts else np.zeros((1, 0, 0), np.uint8)
    pixels = np.zeros((len(like), *extent.shape), like.dtype)
    valid = np.zeros(extent.shape, bool)
    for window, patch in parts:
        rows, cols = window.within(extent)
        pixels[:, rows, cols] = patch.pixels
        valid[rows, cols] = patch.valid
    return Patch(pixels, valid)
