"""Where objects of a class that touch are told apart: by a valley of the probability between them.

Over squares of 2 x 2 pixels every square is led uphill, so that each summit of the probability has its
basin (watershed). Then basins are merged across their highest pass, as long as one of the two rises
less than the gate above it or is smaller than the smallest part: what stays apart are objects.

Seams, the lines of pixels where a region of tracing may begin, divide either axis into themselves and
the stretches between. Cuts of each such *part* of the grid are found in a window of its own, the part
and `TileGrid.margin` round it: so they are the same in any block, and the same along a seam from both
of its sides. An object that goes on beyond the window is seen as if it ended there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import TileGrid, classify
from geoseg.values import CERTAIN, ClassRule, ProbabilityBlock, Window
from geoseg.vector.rings import components
from geoseg.vector.samples import Cuts, Index, where

_SMOOTHING = 2
"""Pixels beyond a window that its cuts depend on: squares are smoothed with those next to them."""

_STRIP = 64
"""Rows of squares that are smoothed at a time: they stay in the processor's cache."""

_BASINS = (1 << 23) - 1
"""Most basins: two of them and a height are packed into one integer, as such are sorted the quickest."""


@dataclass(frozen=True, slots=True)
class SplitRule:
    """When the parts of an object are objects of their own.

    Parameters
    ----------
    gate : float
        By how much the probability between two parts lies below the top of either, at least.
    smallest : float
        Pixels of a part, at least.
    """

    gate: float
    smallest: float


@dataclass(frozen=True, eq=False, slots=True)
class _Line:
    """The windows of the parts of one axis, one after the other, with a gap before and after each.

    ``square`` is the place of a square in the grid of squares, -1 in a gap; ``first`` and ``stop``
    bound the pixels of the part that the window is for.
    """

    square: Index
    first: Index
    stop: Index


def find_cuts(
    block: ProbabilityBlock, region: Window, tiles: TileGrid, classes: ClassRule, split: SplitRule
) -> Cuts | None:
    """Find the cuts between pixels of a region, and of the row and column after it; None: there are none.

    Parameters
    ----------
    block : ProbabilityBlock
        Must cover the region and the margin round it, see `TileGrid.field`.
    region : Window
        Of a block of `tiles`.
    tiles : TileGrid
        Its margin is 2 pixels or more.
    classes : ClassRule
        Which class a pixel has; the objects of each are told apart.
    split : SplitRule
    """
    labels = classify(block.values, classes)
    # Squares begin with the tiles: at an odd pixel of an axis where the first tile starts at one before it.
    odd_row, odd_col = (tiles.rows.before or 0) % 2, (tiles.cols.before or 0) % 2
    rows, cols = tiles.rows.n + odd_row, tiles.cols.n + odd_col
    reach = tiles.margin - _SMOOTHING
    start, stop = region.row + odd_row, region.row_stop + odd_row
    down = _lay_out(start, stop, tiles.seams(tiles.rows) + odd_row, rows, reach)
    start, stop = region.col + odd_col, region.col_stop + odd_col
    across = _lay_out(start, stop, tiles.seams(tiles.cols) + odd_col, cols, reach)
    window = block.window
    above, before = odd_row * (window.row == 0), odd_col * (window.col == 0)
    top, left = window.row + odd_row - above, window.col + odd_col - before
    window = Window(top, left, window.height + above, window.width + before)
    found = []
    for channel, class_id in enumerate(classes.channels):
        inside = labels == class_id
        inside &= block.valid
        if class_id and inside.any():
            values = block.values[channel]
            if above or before:
                pad = (above, 0), (before, 0)
                values, inside = np.pad(values, pad, mode="edge"), np.pad(inside, pad)
            squares = _squares(values, inside, window, (rows, cols))
            parts = _divide(_windows(squares, window, down, across), split)
            found.append(_cuts(parts, down, across))
    cuts = Cuts(*[np.concatenate(arrays) for arrays in zip(*found, strict=True)]) if found else None
    if cuts is None or not len(cuts.row):
        return None
    return Cuts(cuts.row - odd_row, cuts.col - odd_col, cuts.below)


def _lay_out(start: int, stop: int, seams: NDArray[np.int64], n: int, reach: int) -> _Line:
    """Lay the windows of the parts from `start` to `stop`, and of a seam there, in a line."""
    within = seams[(seams >= start) & (seams <= stop)]
    edges = np.unique(np.concatenate([[start], within, within + 1, [stop]]))
    edges = edges[edges <= max(stop, within.max(initial=-1) + 1)]
    columns = [np.array([[-1], [0], [0]])]
    for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        low, high = max(0, first - reach), min(n, end + reach)
        squares = np.arange(-(-low // 2), -(-high // 2) if high == n else high // 2)
        columns += [np.stack(np.broadcast_arrays(squares, first, end)), columns[0]]
    return _Line(*np.concatenate(columns, axis=1))


def _squares(
    values: NDArray[np.uint16], inside: NDArray[np.bool_], window: Window, grid_shape: tuple[int, int]
) -> NDArray[np.uint16]:
    """Return the smoothed mean of whole squares, at least 1, and 0 where no pixel of one is inside."""
    span = []
    for first, stop, n in zip(
        (window.row, window.col), (window.row_stop, window.col_stop), grid_shape, strict=True
    ):
        span.append((first % 2, stop % 2 if stop == n else 0, stop - first - (stop % 2 if stop < n else 0)))
    (top, below, rows), (left, beyond, cols) = span
    pixels, any_inside = values[top:rows, left:cols], inside[top:rows, left:cols]
    if below or beyond:
        pad = (0, below), (0, beyond)
        pixels, any_inside = np.pad(pixels, pad, mode="edge"), np.pad(any_inside, pad)
    any_inside = any_inside[::2] | any_inside[1::2]
    any_inside = any_inside[:, ::2] | any_inside[:, 1::2]
    found, count = np.empty(any_inside.shape, np.uint16), len(any_inside)
    for start in range(0, count, _STRIP):
        stop = min(start + _STRIP, count)
        some = pixels[2 * max(start - 1, 0) : 2 * (stop + 1)]
        sums = np.add(some[::2], some[1::2], dtype=np.uint32)
        ends = int(start == 0), int(stop == count)
        sums = np.pad(sums[:, ::2] + sums[:, 1::2], (ends, (1, 1)), mode="edge")
        sums = _smoothed(sums[:-2], sums[1:-1], sums[2:])
        sums = _smoothed(sums[:, :-2], sums[:, 1:-1], sums[:, 2:])
        sums += 32
        sums >>= 6
        found[start:stop] = np.maximum(sums, 1)
    found *= any_inside
    return found


def _smoothed(
    before: NDArray[np.uint32], here: NDArray[np.uint32], after: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """Return the sum of values and their neighbours, with twice their weight; in one new array."""
    total = np.left_shift(here, 1, dtype=np.uint32)
    total += before
    total += after
    return np.asarray(total, np.uint32)


def _windows(squares: NDArray[np.uint16], window: Window, down: _Line, across: _Line) -> NDArray[np.uint16]:
    """Return the windows of all parts, with gaps of 0 between."""
    top, left = -(-window.row // 2), -(-window.col // 2)
    rows = np.where(down.square < 0, len(squares), down.square - top)
    cols = np.where(across.square < 0, squares.shape[1], across.square - left)
    return np.pad(squares, (0, 1)).take(rows, axis=0).take(cols, axis=1)


@dataclass(frozen=True, eq=False, slots=True)
class _Parts:
    """The parts of objects: `at` are the squares inside, increasing; `number` is the part of any, or -1."""

    at: Index
    number: NDArray[np.int32]
    stride: int

    def borders(self, step: int) -> Index:
        """Return the squares that are inside, like the one so much further, but of another part."""
        here, there = self.number.take(self.at), self.number.take(self.at + step)
        return np.asarray(self.at[(here != there) & (there >= 0)])


def _divide(squares: NDArray[np.uint16], split: SplitRule) -> _Parts:
    """Divide the objects of a grid of squares, whose outermost are 0, into parts."""
    flat, stride = squares.ravel(), squares.shape[1]
    at = where(flat > 0)
    basin, summits = _basins(flat, at, stride)
    number = np.full(len(flat), -1, np.int32)
    number[at] = basin
    height, size = flat[at[summits]].astype(np.int64), np.bincount(basin, minlength=len(summits))
    merged = _merge(height, size, _passes(flat, _Parts(at, number, stride)), split)
    number[at] = merged[basin]
    return _Parts(at, number, stride)


def _basins(flat: NDArray[np.uint16], at: Index, stride: int) -> tuple[Index, Index]:
    """Lead every square to its highest neighbour, the first of equals, and so on up to a summit.

    Returns
    -------
    basin : ndarray of int64, shape of `at`
    summits : ndarray of int64, shape (n,)
        Which of `at` are the summits of the basins.
    """
    steps = np.array([stride, 1, 0, -1, -stride])
    ranked = np.left_shift(flat, 3, dtype=np.int32)  # the step is in the last bits, the first the highest
    best = ranked.take(at + stride)
    for rank in range(1, len(steps)):
        np.maximum(best, ranked.take(at + steps[rank]) + np.int32(rank), out=best)
    place = np.empty(len(flat), np.int64)
    place[at] = np.arange(len(at))
    uphill = place.take(at + steps.take(best & 7))
    is_summit = uphill == np.arange(len(at))
    while True:
        further = uphill.take(uphill)
        if np.array_equal(further, uphill):
            break
        uphill = further
    return (np.cumsum(is_summit) - 1).take(uphill), np.flatnonzero(is_summit)


def _passes(flat: NDArray[np.uint16], basins: _Parts) -> tuple[Index, Index, Index]:
    """Return the basins that touch, the first before the second, and the height of their highest pass."""
    found = []
    for step in (1, basins.stride):
        place = basins.borders(step)
        height = np.minimum(flat.take(place), flat.take(place + step))
        found.append((basins.number.take(place), basins.number.take(place + step), height))
    one, two, height = [np.concatenate(arrays).astype(np.int64) for arrays in zip(*found, strict=True)]
    return _highest(one, two, height)


def _highest(one: Index, two: Index, height: Index) -> tuple[Index, Index, Index]:
    """Keep one pass, the highest, between any two basins."""
    keys = np.sort(np.minimum(one, two) << 39 | np.maximum(one, two) << 16 | (CERTAIN - height))
    keys = keys[np.diff(keys >> 16, prepend=-1) > 0]
    return keys >> 39, keys >> 16 & _BASINS, CERTAIN - (keys & CERTAIN)


def _merge(height: Index, size: Index, passes: tuple[Index, Index, Index], split: SplitRule) -> Index:
    """Merge basins that do not rise above their highest pass, or are too small; number what is left.

    All that are to be merged are, each across its highest pass, the first of equals; then again with
    what they have become (Boruvka, 1926).
    """
    gate, smallest = split.gate * CERTAIN, split.smallest / 4
    number = np.arange(len(height))
    one, two, level = passes
    while len(one):
        basin, other = np.concatenate([one, two]), np.concatenate([two, one])
        keys = np.sort(basin << 39 | (CERTAIN - np.concatenate([level, level])) << 23 | other)
        keys = keys[np.diff(keys >> 39, prepend=-1) > 0]
        basin, over, other = keys >> 39, CERTAIN - (keys >> 23 & CERTAIN), keys & _BASINS
        merges = (height[basin] - over < gate) | (size[basin] < smallest)
        if not merges.any():
            break
        joined = components(len(height), (basin[merges], other[merges]))
        number = joined[number]
        tops, size = np.zeros(joined.max() + 1, np.int64), np.bincount(joined, size).astype(np.int64)
        np.maximum.at(tops, joined, height)
        height, one, two = tops, joined[one], joined[two]
        apart = one != two
        one, two, level = _highest(one[apart], two[apart], level[apart])
    return number


def _cuts(parts: _Parts, down: _Line, across: _Line) -> tuple[Index, Index, NDArray[np.bool_]]:
    """Return the cuts between the pixels of different parts: rows, columns, whether below."""
    found = []
    for below, step in ((False, 1), (True, parts.stride)):
        i, j = np.divmod(parts.borders(step), parts.stride)
        for side in (0, 1):
            row = 2 * down.square[i] + (1 if below else side)
            col = 2 * across.square[j] + (side if below else 1)
            own = (down.first[i] <= row) & (row < down.stop[i])
            own &= (across.first[j] <= col) & (col < across.stop[j])
            found.append((row[own], col[own], np.full(int(own.sum()), below)))
    row, col, is_below = [np.concatenate(arrays) for arrays in zip(*found, strict=True)]
    return row, col, is_below
