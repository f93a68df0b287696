"""Where labels change, the runs of equal labels between, and the evidence of their pixels.

Most of a region is flat. A few passes over its labels, a byte a pixel, find the places where they
change; whatever follows looks at those alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geoseg.values import ProbabilityBlock, Window
from geoseg.vector.pieces import NO_PIXEL, Evidence
from geoseg.vector.samples import BELOW, RIGHT, Index, Labels, Samples

_BAND = 1 << 18
"""Pixels that are looked at in one go."""

_WORD = 8
"""Flags that are looked at together."""

_BATCH = 1 << 16
"""Pixels that are summed up in one go: their indices take four times the memory of the pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class Changes:
    """Flat indices of samples and cells where labels change or objects are cut apart."""

    across: Index
    """int64, shape (n,). Samples whose right neighbour has another label or is cut off, and the last sample
    of every row; increasing."""
    cells: Index
    """int64, shape (m,). Cells with corners of different labels, or a cut between two corners, increasing."""


def find_changes(samples: Samples) -> Changes:
    """Find where labels change, and cuts."""
    rows, stride = samples.labels.shape
    # A few rows at a time, so that flags stay in the processor's cache.
    step = max(1, _BAND // stride)
    across, cells = [], []
    for row in range(0, rows, step):
        found = _in_band(samples.labels[row : row + step + 1], step)
        across.append(found[0] + row * stride)
        cells.append(found[1] + row * stride)
    changes = Changes(np.concatenate(across), np.concatenate(cells))
    return changes if samples.cuts is None else _with_cuts(changes, samples.cuts)


def _with_cuts(changes: Changes, cuts: NDArray[np.uint8]) -> Changes:
    """Add the samples and the cells on both sides of cuts."""
    rows, stride = cuts.shape
    marked = where(cuts.ravel() > 0)
    right, below = (marked[cuts.ravel().take(marked) & bit > 0] for bit in (RIGHT, BELOW))
    cells = np.concatenate([right, right - stride, below, below - 1])
    row, col = np.divmod(cells, stride)
    cells = cells[(row >= 0) & (row < rows - 1) & (col < stride - 1)]
    return Changes(_with(changes.across, right), _with(changes.cells, np.sort(cells)))


def _with(one: Index, other: Index) -> Index:
    """Unite indices that increase; a stable sort merges them, which is quicker than `numpy.union1d`."""
    both = np.sort(np.concatenate([one, other]), kind="stable")
    return both[np.diff(both, prepend=-1) > 0]


def _in_band(labels: Labels, own: int) -> tuple[Index, Index]:
    """Return the changes in a band of `own` rows, or less at the end, and the row after it."""
    flat, stride = labels.ravel(), labels.shape[1]
    across = np.empty(len(flat), bool)
    np.not_equal(flat[1:], flat[:-1], out=across[:-1])
    across[stride - 1 :: stride] = False
    # Round a cell labels change twice or more, so three of its sides tell.
    cells = flat[stride:] != flat[:-stride]
    cells |= across[:-stride]
    cells |= across[stride:]
    cells[stride - 1 :: stride] = False
    across[stride - 1 :: stride] = True
    return where(across[: own * stride]), where(cells)


def where(flags: NDArray[np.bool_]) -> Index:
    """Return the indices of the few flags that are set; quicker than `numpy.flatnonzero` for these.

    Parameters
    ----------
    flags : ndarray of bool, shape (n,)
        Contiguous.
    """
    whole = len(flags) // _WORD * _WORD
    words = flags[:whole].view(np.uint64)
    used = np.flatnonzero(words != 0)
    place = np.flatnonzero(words.take(used).view(bool))
    found = (used * _WORD).take(place // _WORD) + place % _WORD
    rest = np.flatnonzero(flags[whole:])
    return np.append(found, whole + rest) if len(rest) else found


@dataclass(frozen=True, eq=False, slots=True)
class Runs:
    """Samples of one class, side by side in a row; from upper left to lower right."""

    row: Index
    first: Index
    last: Index
    """`row`, `first`, `last`: int64, shape (n,). Local row, first and last column."""


def find_runs(samples: Samples, changes: Changes) -> Runs:
    """Find the runs of equal class labels in every row of samples."""
    last = changes.across
    first = np.append(0, last[:-1] + 1)
    of_class = samples.labels.ravel().take(first) > 0
    first, last = first[of_class], last[of_class]
    row, col = samples.places(first)
    return Runs(row, col, col + (last - first))


def count(
    samples: Samples,
    runs: Runs,
    owner: Index,
    block: ProbabilityBlock,
    grid_shape: tuple[int, int],
) -> list[Evidence]:
    """Sum up the evidence of runs by the piece that owns them; only the region's own pixels count.

    Parameters
    ----------
    owner : ndarray of int64, shape (len(runs.row),)
        Number of the piece each run lies in; all pieces from 0 to the largest number are returned.
    """
    height, width = samples.labels.shape[0] - 1, samples.stride - 1
    pieces = int(owner.max(initial=-1)) + 1
    kept = (runs.row < height) & (runs.first < width)
    row, first, owner = runs.row[kept], runs.first[kept], owner[kept]
    length = np.minimum(runs.last[kept] + 1, width) - first
    start = (row + samples.row) * grid_shape[1] + first + samples.col
    right = first + length + samples.col == grid_shape[1]
    at_edge = (row + samples.row == 0) | (row + samples.row == grid_shape[0] - 1)
    at_edge |= (first + samples.col == 0) | right

    offset = (samples.row - samples.window.row) * samples.window.width + samples.col - samples.window.col
    there = row * samples.window.width + first + offset
    near = _near_invalid(block, grid_shape)

    pixels, total = np.zeros(pieces, np.int64), np.zeros(pieces, np.int64)
    lowest = np.full(pieces, NO_PIXEL)
    edge, nodata = np.zeros(pieces, bool), np.zeros(pieces, bool)
    if len(row):
        np.add.at(pixels, owner, length)
        np.add.at(total, owner, _sum_runs(samples.strongest, there, length))
        np.minimum.at(lowest, owner, start)
        edge[owner[at_edge]] = True
        if near is not None:
            nodata[owner[_sum_runs(near, there, length) > 0]] = True
    columns = (pixels, total, lowest, edge, nodata)
    return [Evidence(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]


def _sum_runs(pixels: NDArray[np.generic], first: Index, length: Index) -> Index:
    """Sum up the pixels of runs; `first` are flat indices."""
    ends = np.cumsum(length)
    total = np.empty(len(first), np.int64)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1], _BATCH)).tolist()
    for one, two in pairwise([*cuts, len(first)]):
        begin = ends[one:two] - length[one:two]
        begin -= begin[:1]
        place = np.repeat(first[one:two] - begin, length[one:two])
        place += np.arange(len(place))
        total[one:two] = np.add.reduceat(pixels.ravel().take(place), begin, dtype=np.int64)
    return total


def _near_invalid(block: ProbabilityBlock, grid_shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Mark the pixels of a block with an invalid one of the grid next to them; None if there is none."""
    if block.valid.all():
        return None
    window, inside = block.window, block.window.intersection(Window(0, 0, *grid_shape))
    rows, cols = inside.within(window)
    frame = np.zeros((window.height + 2, window.width + 2), bool)
    np.logical_not(block.valid[rows, cols], out=frame[1:-1, 1:-1][rows, cols])
    near = frame[:-2] | frame[1:-1] | frame[2:]
    return np.asarray(near[:, :-2] | near[:, 1:-1] | near[:, 2:])
