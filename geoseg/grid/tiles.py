"""The fixed grid of overlapping tiles, their weights, and the blocks that they are worked in."""

from __future__ import annotations

import math
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
    An axis shorter than a tile has one tile that reaches beyond it.

    Parameters
    ----------
    n : int
        Pixels along the axis, at least 1.
    size : int
        Pixels of a tile, at least 8.
    overlap : int
        Pixels that neighbouring tiles share at least, at most half a tile.

    Examples
    --------
    >>> axis = Axis(n=100, size=32, overlap=8)
    >>> [axis.start(tile) for tile in range(len(axis))]
    [0, 24, 48, 68]
    """

    n: int
    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.n < 1 or self.size < 8:
            raise ValueError(f"an axis needs a pixel and a tile needs 8, got {self.n} and {self.size}")
        if not 0 <= self.overlap <= self.size // 2:
            raise ValueError(f"an overlap of {self.overlap} is not within 0 … half a tile of {self.size}")

    @property
    def stride(self) -> int:
        """Pixels from the start of a tile to that of the next."""
        return self.size - self.overlap

    def __len__(self) -> int:
        return 1 + max(0, -(-(self.n - self.size) // self.stride))

    def start(self, tile: int) -> int:
        """First pixel of a tile."""
        return max(0, min(tile * self.stride, self.n - self.size))

    def weights(self, taper: Taper) -> tuple[NDArray[np.uint16], ...]:
        """Weights of each tile, shape (size,): integers that sum to exactly `ONE` at every pixel.

        The running sum of the tapers is rounded and differences are taken, so that no rounding
        error is left over and no weight is negative. Pixels beyond the axis weigh 0.
        """
        return _weights(self, taper)

    def groups(self, tiles: int) -> tuple[range, ...]:
        """Group consecutive tiles into blocks of `tiles`.

        A lone last tile joins the group before it: it may start a single pixel after its
        predecessor, and a group's core must be at least a stride long.
        """
        return _groups(self, tiles)


@lru_cache(maxsize=64)
def _groups(axis: Axis, tiles: int) -> tuple[range, ...]:
    count = len(axis)
    starts = list(range(0, count, tiles))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return tuple(range(a, b) for a, b in zip(starts, [*starts[1:], count], strict=True))


@lru_cache(maxsize=64)
def _weights(axis: Axis, taper: Taper) -> tuple[NDArray[np.uint16], ...]:
    profile = _profile(axis.size, axis.overlap, taper)
    total = np.zeros(axis.n)
    spans = [slice(axis.start(i), min(axis.n, axis.start(i) + axis.size)) for i in range(len(axis))]
    for span in spans:
        total[span] += profile[: span.stop - span.start]
    running = np.zeros(axis.n)
    weights = []
    for span in spans:
        before = np.floor(running[span] / total[span] * ONE + 0.5)
        running[span] += profile[: span.stop - span.start]
        after = np.floor(running[span] / total[span] * ONE + 0.5)
        weight = np.zeros(axis.size, np.uint16)
        weight[: span.stop - span.start] = after - before
        weight.flags.writeable = False
        weights.append(weight)
    return tuple(weights)


def _profile(size: int, overlap: int, taper: Taper) -> NDArray[np.float64]:
    profile = np.ones(size)
    if overlap and taper != "flat":
        ramp = (np.arange(overlap) + 0.5) / overlap
        if taper == "hann":
            ramp = np.sin(np.pi / 2 * ramp) ** 2
        profile[:overlap] *= ramp
        profile[size - overlap :] *= ramp[::-1]
    return profile


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
        shortest = min((axis.stride for axis in (self.rows, self.cols) if len(axis) > 1), default=self.halo)
        if self.margin < 1 or self.halo > shortest:
            raise ValueError(f"a margin of {self.margin} is not within 1 … half a stride of {shortest}")

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
        return len(self.rows.groups(self.block)), len(self.cols.groups(self.block))

    def blocks(self) -> Iterator[BlockIndex]:
        """Yield all blocks, row by row."""
        rows, cols = self.block_shape
        return (BlockIndex(i, j) for i in range(rows) for j in range(cols))

    def tiles(self, block: BlockIndex) -> Iterator[Tile]:
        """Yield the tiles of a block, row by row. Every tile belongs to exactly one block."""
        rows, cols = self.rows.groups(self.block)[block.row], self.cols.groups(self.block)[block.col]
        return (self.tile(i, j) for i in rows for j in cols)

    def tile(self, row: int, col: int) -> Tile:
        """Return one tile; its window reaches beyond a grid that is smaller than a tile."""
        top, left = self.rows.start(row), self.cols.start(col)
        return Tile(row, col, Window(top, left, self.rows.size, self.cols.size))

    def weight(self, tile: Tile) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Return the weights of a tile's rows and of its columns; pixel weights are their product."""
        return self.rows.weights(self.taper)[tile.row], self.cols.weights(self.taper)[tile.col]

    def core(self, block: BlockIndex) -> Window:
        """Return the pixels that a block answers for; cores partition the grid."""
        top, bottom = _core(self.rows, self.block, block.row)
        left, right = _core(self.cols, self.block, block.col)
        return Window(top, left, bottom - top, right - left)

    def extent(self, block: BlockIndex) -> Window:
        """Return the pixels of the grid that a block's tiles cover: its core and strips beyond."""
        tiles = list(self.tiles(block))
        first, last = tiles[0].window, tiles[-1].window
        whole = Window(first.row, first.col, last.row_stop - first.row, last.col_stop - first.col)
        return whole.intersection(self.window)

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
        top, bottom = (self._moved(edge, self.rows.n) for edge in (core.row, core.row_stop))
        left, right = (self._moved(edge, self.cols.n) for edge in (core.col, core.col_stop))
        return Window(top, left, bottom - top, right - left)

    def _moved(self, edge: int, n: int) -> int:
        return edge if edge in {0, n} else edge - self.margin - 1


def _core(axis: Axis, tiles: int, index: int) -> tuple[int, int]:
    groups = axis.groups(tiles)
    stop = axis.start(groups[index + 1][0]) if index + 1 < len(groups) else axis.n
    return axis.start(groups[index][0]), stop


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

    def cost(size: int) -> tuple[int, int]:
        return math.prod(len(Axis(n, size, overlap)) * size for n in shape), abs(size - suggested)

    reach = suggested // 5 // TILE_MULTIPLE * TILE_MULTIPLE
    sizes = range(suggested - reach, suggested + reach + 1, TILE_MULTIPLE)
    return min((size for size in sizes if overlap <= size // 2), key=cost, default=suggested)
