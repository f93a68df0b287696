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
from geoseg.vector.changes import where
from geoseg.vector.rings import components
from geoseg.vector.samples import Cuts, Index

_SMOOTHING = 2
"""Pixels beyond a window that its cuts depend on: squares are smoothed with those next to them."""


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
    rows, cols = (axis.n for axis in (tiles.rows, tiles.cols))
    reach = tiles.margin - _SMOOTHING
    down = _lay_out(region.row, region.row_stop, tiles.seams(tiles.rows), rows, reach)
    across = _lay_out(region.col, region.col_stop, tiles.seams(tiles.cols), cols, reach)
    found = []
    for channel, class_id in enumerate(classes.channels):
        inside = (labels == class_id) & block.valid
        if class_id and inside.any():
            squares = _squares(block.values[channel], inside, block.window, (rows, cols))
            parts = _divide(_windows(squares, block.window, down, across), split)
            found.append(_cuts(parts, down, across))
    cuts = Cuts(*(np.concatenate(arrays) for arrays in zip(*found, strict=True))) if found else None
    return cuts if cuts is not None and len(cuts.row) else None


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
    cut, pad = (slice(top, rows), slice(left, cols)), ((0, below), (0, beyond))
    pixels, any_inside = np.pad(values[cut], pad, mode="edge"), np.pad(inside[cut], pad)
    sums = pixels[::2].astype(np.uint32) + pixels[1::2]
    sums = np.pad(sums[:, ::2] + sums[:, 1::2], 1, mode="edge")
    sums = sums[:-2] + 2 * sums[1:-1] + sums[2:]
    sums = sums[:, :-2] + 2 * sums[:, 1:-1] + sums[:, 2:]
    any_inside = any_inside[::2] | any_inside[1::2]
    any_inside = any_inside[:, ::2] | any_inside[:, 1::2]
    means = np.maximum((sums + 32) >> 6, 1).astype(np.uint16)
    return np.where(any_inside, means, np.uint16(0))


def _windows(squares: NDArray[np.uint16], window: Window, down: _Line, across: _Line) -> NDArray[np.uint16]:
    """Return the windows of all parts, with gaps of 0 between."""
    rows, cols = down.square >= 0, across.square >= 0
    taken = squares[down.square[rows] - -(-window.row // 2)][:, across.square[cols] - -(-window.col // 2)]
    laid_out = np.zeros((len(rows), len(cols)), np.uint16)
    laid_out[np.ix_(rows, cols)] = taken
    return laid_out


def _divide(squares: NDArray[np.uint16], split: SplitRule) -> NDArray[np.int32]:
    """Return the part of an object that each square is in, from 1; 0 for none."""
    flat, stride = squares.ravel(), squares.shape[1]
    at = where(flat > 0)
    basin, summits = _basins(flat, at, stride)
    height, size = flat[at[summits]].astype(np.int64), np.bincount(basin, minlength=len(summits))
    number = np.full(len(flat), -1, np.int32)
    number[at] = basin
    one, two, pass_ = _passes(flat, at, number, stride)
    merged = _merge(height, size, (one, two, pass_), split)
    parts = np.zeros(len(flat), np.int32)
    parts[at] = merged[basin] + 1
    return parts.reshape(squares.shape)


def _basins(flat: NDArray[np.uint16], at: Index, stride: int) -> tuple[Index, Index]:
    """Lead every square to its highest neighbour, the first of equals, and so on up to a summit.

    Returns
    -------
    basin : ndarray of int64, shape of `at`
    summits : ndarray of int64, shape (n,)
        Which of `at` are the summits of the basins.
    """
    best, goal = flat.take(at - stride), at - stride
    for step in (-1, 0, 1, stride):
        height = flat.take(at + step)
        higher = height > best
        best, goal = np.where(higher, height, best), np.where(higher, at + step, goal)
    place = np.zeros(len(flat), np.int64)
    place[at] = np.arange(len(at))
    uphill = place.take(goal)
    summits = np.flatnonzero(uphill == np.arange(len(at)))
    while True:
        further = uphill.take(uphill)
        if np.array_equal(further, uphill):
            break
        uphill = further
    place[: len(at)] = 0
    place[summits] = np.arange(len(summits))
    return place.take(uphill), summits


def _passes(
    flat: NDArray[np.uint16], at: Index, number: NDArray[np.int32], stride: int
) -> tuple[Index, Index, Index]:
    """Return the basins that touch, the first before the second, and the height of their highest pass."""
    found = []
    for step in (1, stride):
        here, there = number.take(at), number.take(at + step)
        border = np.flatnonzero((here != there) & (there >= 0))
        place = at[border]
        height = np.minimum(flat.take(place), flat.take(place + step))
        found.append((here[border], there[border], height))
    one, two, height = (np.concatenate(arrays).astype(np.int64) for arrays in zip(*found, strict=True))
    return _highest(one, two, height)


def _highest(one: Index, two: Index, height: Index) -> tuple[Index, Index, Index]:
    """Keep one pass, the highest, between any two basins."""
    low, high = np.minimum(one, two), np.maximum(one, two)
    order = np.lexsort((-height, high, low))
    low, high, height = low[order], high[order], height[order]
    first = np.ones(len(low), bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return low[first], high[first], height[first]


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
        over = np.concatenate([level, level])
        order = np.lexsort((other, -over, basin))
        order = order[np.append(True, np.diff(basin[order]) > 0)]
        basin, other, over = basin[order], other[order], over[order]
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


def _cuts(parts: NDArray[np.int32], down: _Line, across: _Line) -> tuple[Index, Index, NDArray[np.bool_]]:
    """Return the cuts between the pixels of different parts: rows, columns, whether below."""
    flat, stride = parts.ravel(), parts.shape[1]
    at = where(flat > 0)
    found = []
    for below, step in ((False, 1), (True, stride)):
        place = at[(flat.take(at + step) > 0) & (flat.take(at + step) != flat.take(at))]
        i, j = np.divmod(place, stride)
        for side in (0, 1):
            row = 2 * down.square[i] + (1 if below else side)
            col = 2 * across.square[j] + (side if below else 1)
            own = (down.first[i] <= row) & (row < down.stop[i])
            own &= (across.first[j] <= col) & (col < across.stop[j])
            found.append((row[own], col[own], np.full(int(own.sum()), below)))
    row, col, is_below = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return row, col, is_below
