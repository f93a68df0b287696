"""Runs of pixels of one class, and what is known about their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geoseg.values import ProbabilityBlock, Window
from geoseg.vector.changes import Changes
from geoseg.vector.pieces import NO_PIXEL, Evidence
from geoseg.vector.samples import Index, Samples

_BATCH = 1 << 16
"""Pixels that are summed up in one go: their indices take four times the memory of the pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class Runs:
    """Samples of one class, side by side in a row; from upper left to lower right.

    Parameters
    ----------
    row, first, last : ndarray of int64, shape (n,)
        Local row, first and last column.
    """

    row: Index
    first: Index
    last: Index


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
