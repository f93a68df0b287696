"""The fixed grid of overlapping tiles, their weights, and the blocks that they are worked in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoseg.values import Window

ONE = 256
"""Sum of the weights of one axis at every pixel; the product over two axes is ONE · ONE."""

TILE_MULTIPLE = 32
"""What the encoders of the field divide a tile by."""

Taper = Literal["hann", "linear", "flat"]


class BlockIndex(NamedTuple):
    """Row and column of a block in the arrangement of blocks."""

    row: int
    col: int


class Tile(NamedTuple):
    """A tile: its row and column in the arrangement of tiles, and its window in the grid."""

    row: int
    col: int
    window: Window


@dataclass(frozen=True, slots=True)
class Axis:
    """Tiles along one axis.

    Tiles start at every multiple of the stride; the last one shifts inward to end with the axis.
    An axis shorter than a tile has one tile that reaches beyond it. Where the first tile is to start
    before the axis, all keep the stride, and the last may reach beyond it.

    Parameters
    ----------
    n : int
        Pixels along the axis, at least 1.
    size : int
        Pixels of a tile, at least 8.
    overlap : int
        Pixels that neighbouring tiles share at least, at most half a tile.
    before : int or None
        Pixels that the first tile starts before the axis, less than the stride; None: all lie within it.

    Examples
    --------
    >>> axis = Axis(n=100, size=32, overlap=8)
    >>> [axis.start(tile) for tile in range(len(axis))]
    [0, 24, 48, 68]
    >>> axis = Axis(n=100, size=32, overlap=8, before=10)
    >>> [axis.start(tile) for tile in range(len(axis))]
    [-10, 14, 38, 62, 86]
    """

    n: int
    size: int
    overlap: int
    before: int | None = None

    def __post_init__(self) -> None:
        if self.n < 1 or self.size < 8:
            raise ValueError(f"an axis needs a pixel and a tile needs 8, got {self.n} and {self.size}")
        if not 0 <= self.overlap <= self.size // 2:
            raise ValueError(f"an overlap of {self.overlap} is not within 0 … half a tile of {self.size}")
        if not 0 <= (self.before or 0) < self.stride:
            raise ValueError(f"a first tile {self.before} pixels before the axis is not within 0 … a stride")

    @property
    def stride(self) -> int:
        """Pixels from the start of a tile to that of the next."""
        return self.size - self.overlap

    def __len__(self) -> int:
        return 1 + max(0, -(-(self.n + (self.before or 0) - self.size) // self.stride))

    def start(self, tile: int) -> int:
        """First pixel of a tile."""
        if self.before is not None:
            return tile * self.stride - self.before
        return max(0, min(tile * self.stride, self.n - self.size))

    def covering(self, start: int, stop: int) -> range:
        """Return the tiles that reach into the pixels ``start … stop - 1``.

        >>> Axis(n=100, size=32, overlap=8).covering(60, 70)
        range(2, 4)
        """
        last, before = len(self) - 1, self.before or 0
        first = min(last, max(0, (start + before - self.size) // self.stride + 1))
        return range(first, last + 1 if self.start(last) < stop else (stop - 1 + before) // self.stride + 1)

    def blocks(self, tiles: int) -> int:
        """Return into how many blocks of `tiles` the tiles fall.

        A lone last tile joins the block before it: it may start a single pixel after its
        predecessor, and a block's core must be at least a stride long. So does a first tile that starts
        before the axis join the block after it.
        """
        return 1 + max(0, (len(self) - 2 - bool(self.before)) // tiles)

    def block_edge(self, tiles: int, block: int) -> int:
        """Return the first pixel of a block's core; after the last block, the end of the axis."""
        if block == self.blocks(tiles):
            return self.n
        return max(0, self.start(self._first_tile(tiles, block)))

    def block_tiles(self, tiles: int, block: int) -> range:
        """Return the tiles of a block."""
        last = block + 1 == self.blocks(tiles)
        stop = len(self) if last else self._first_tile(tiles, block + 1)
        return range(self._first_tile(tiles, block), stop)

    def _first_tile(self, tiles: int, block: int) -> int:
        return block and block * tiles + bool(self.before)


@lru_cache(maxsize=64)
def weights_along(axis: Axis, taper: Taper) -> tuple[NDArray[np.uint16], ...]:
    """Return the weights of each tile, shape (size,): integers that sum to exactly `ONE` at every pixel.

    The running sum of the tapers is rounded and differences are taken, so that no rounding
    error is left over and no weight is negative. Pixels beyond the axis weigh 0.
    """
    profile = np.ones(axis.size)
    if axis.overlap and taper != "flat":
        ramp = (np.arange(axis.overlap) + 0.5) / axis.overlap
        if taper == "hann":
            ramp = np.sin(np.pi / 2 * ramp) ** 2
        profile[: axis.overlap] *= ramp
        profile[axis.size - axis.overlap :] *= ramp[::-1]
    starts = [axis.start(tile) for tile in range(len(axis))]
    spans = [slice(max(0, start), min(axis.n, start + axis.size)) for start in starts]
    parts = [slice(s.start - start, s.stop - start) for s, start in zip(spans, starts, strict=True)]
    total = np.zeros(axis.n)
    for span, part in zip(spans, parts, strict=True):
        total[span] += profile[part]
    running = np.zeros(axis.n)
    weights = []
    for span, part in zip(spans, parts, strict=True):
        before = np.floor(running[span] / total[span] * ONE + 0.5)
        running[span] += profile[part]
        after = np.floor(running[span] / total[span] * ONE + 0.5)
        weight = np.zeros(axis.size, np.uint16)
        weight[part] = after - before
        weight.flags.writeable = False
        weights.append(weight)
    return tuple(weights)


@dataclass(frozen=True, slots=True)
class TileGrid:
    """A grid of overlapping tiles, worked in blocks of `block` × `block` tiles.

    Parameters
    ----------
    rows, cols : Axis
        Tiles down and across.
    block : int
        Tiles along a side of a block.
    taper : {"hann", "linear", "flat"}
        How a tile's weight falls off over the overlap.
    margin : int
        Pixels around a window that decide how it is traced: so many up and left, one more down and
        right, as outlines run between pixel centres. A pixel is enough for tracing alone.

    Examples
    --------
    >>> axis = Axis(100, 16, 4)
    >>> grid = TileGrid(axis, axis, block=2)
    >>> grid.block_shape
    (4, 4)
    >>> grid.core(BlockIndex(0, 1))
    Window(row=0, col=24, height=24, width=24)
    >>> grid.region(BlockIndex(0, 1))
    Window(row=0, col=22, height=22, width=24)
    """

    rows: Axis
    cols: Axis
    block: int
    taper: Taper = "hann"
    margin: int = 1

    def __post_init__(self) -> None:
        largest = largest_margin(self.rows, self.cols)
        if not 1 <= self.margin <= largest:
            raise ValueError(f"a margin of {self.margin} is not within 1 … {largest}, half a stride")

    @property
    def halo(self) -> int:
        """Rows and columns of its upper and left neighbours that a block needs before it can be traced."""
        return 2 * self.margin + 1

    @property
    def window(self) -> Window:
        """The whole grid."""
        return Window(0, 0, self.rows.n, self.cols.n)

    @property
    def block_shape(self) -> tuple[int, int]:
        """Blocks down and across."""
        return self.rows.blocks(self.block), self.cols.blocks(self.block)

    def blocks(self) -> Iterator[BlockIndex]:
        """Yield all blocks, row by row."""
        return map(BlockIndex._make, np.ndindex(self.block_shape))

    def tiles(self, block: BlockIndex) -> list[Tile]:
        """Return the tiles of a block, row by row. Every tile belongs to exactly one block."""
        rows = self.rows.block_tiles(self.block, block.row)
        cols = self.cols.block_tiles(self.block, block.col)
        return [self.tile(row, col) for row in rows for col in cols]

    def tile(self, row: int, col: int) -> Tile:
        """Return one tile; its window reaches beyond a grid that is smaller than a tile."""
        top, left = self.rows.start(row), self.cols.start(col)
        return Tile(row, col, Window(top, left, self.rows.size, self.cols.size))

    def weight(self, tile: Tile) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Return the weights of a tile's rows and of its columns; pixel weights are their product."""
        rows, cols = weights_along(self.rows, self.taper), weights_along(self.cols, self.taper)
        return rows[tile.row], cols[tile.col]

    def core(self, block: BlockIndex) -> Window:
        """Return the pixels that a block answers for; cores partition the grid."""
        rows, cols, side = self.rows, self.cols, self.block
        top, left = rows.block_edge(side, block.row), cols.block_edge(side, block.col)
        bottom, right = rows.block_edge(side, block.row + 1), cols.block_edge(side, block.col + 1)
        return Window(top, left, bottom - top, right - left)

    def extent(self, block: BlockIndex) -> Window:
        """Return the pixels of the grid that a block's tiles cover: its core and strips beyond."""
        tiles = self.tiles(block)
        return Window.around(tiles[0].window, tiles[-1].window).intersection(self.window)

    def followers(self, block: BlockIndex) -> Iterator[BlockIndex]:
        """Yield the block itself and those to the right, below and lower right: all it adds to."""
        rows, cols = self.block_shape
        for row in range(block.row, min(block.row + 2, rows)):
            for col in range(block.col, min(block.col + 2, cols)):
                yield BlockIndex(row, col)

    def leaders(self, block: BlockIndex) -> Iterator[BlockIndex]:
        """Yield the block itself and those above, to the left and upper left: all that add to it."""
        for row in range(max(0, block.row - 1), block.row + 1):
            for col in range(max(0, block.col - 1), block.col + 1):
                yield BlockIndex(row, col)

    def field(self, block: BlockIndex) -> Window:
        """Return the pixels that tracing a block needs: its core and `halo` more up and left."""
        core = self.core(block)
        top, left = max(0, core.row - self.halo), max(0, core.col - self.halo)
        return Window(top, left, core.row_stop - top, core.col_stop - left)

    def region(self, block: BlockIndex) -> Window:
        """Return the pixels that a block traces: its core moved up and left. Regions partition the grid.

        Tracing looks `margin` pixels beyond a region up and left, one more down and right; moved by
        the latter, all of that lies in the block's own core and in blocks before it.
        """
        core = self.core(block)
        shift = self.margin + 1
        top, left = max(0, core.row - shift), max(0, core.col - shift)
        bottom = core.row_stop - shift * (core.row_stop < self.rows.n)
        right = core.col_stop - shift * (core.col_stop < self.cols.n)
        return Window(top, left, bottom - top, right - left)

    def seams(self, axis: Axis) -> NDArray[np.int64]:
        """Return where regions may begin along an axis, after its start: those of blocks of any size.

        Where tiles start before the axis, those of all axes that share their starts.
        """
        if axis.before is None:
            edges = [axis.block_edge(1, block) for block in range(1, axis.blocks(1))]
        else:
            edges = [axis.start(tile) for tile in range(1, len(axis) + 1)]
        seams = np.array(edges, np.int64) - (self.margin + 1)
        return seams[(seams > 0) & (seams < axis.n)]


def largest_margin(rows: Axis, cols: Axis) -> int:
    """Return the largest margin of a grid of such tiles: what a block needs must lie in those next to it.

    A single tile has no neighbours; no more than a tile is looked at.

    >>> largest_margin(Axis(100, 32, 8), Axis(20, 32, 8))
    11
    """
    strides = [axis.stride for axis in (rows, cols) if len(axis) > 1]
    return (min(strides) - 1) // 2 if strides else min(rows.size, cols.size)


def choose_tile(shape: tuple[int, int], suggested: int, overlap: int) -> int:
    """Return the side of the tiles that takes the fewest pixels through the network.

    The last tile of an axis shifts inward and repeats what lies under it: up to a stride of pixels,
    which a size that nearly divides the axis avoids.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the working grid.
    suggested : int
        Candidates are the multiples of `TILE_MULTIPLE` within a fifth of it; of equals the nearest.
    overlap : int
        At most half of the smallest candidate.

    Examples
    --------
    >>> choose_tile((8192, 8192), 640, 64)
    608
    """
    rows, cols = shape
    reach = suggested // 5 // TILE_MULTIPLE * TILE_MULTIPLE
    costs = []
    for size in range(suggested - reach, suggested + reach + 1, TILE_MULTIPLE):
        if overlap <= size // 2:
            tiles = len(Axis(rows, size, overlap)) * len(Axis(cols, size, overlap))
            costs.append((tiles * size**2, abs(size - suggested), size))
    return min(costs)[2] if costs else suggested
