"""Runs of pixels of one class, and what is known about their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.values import ProbabilityBlock, Window
from geoseg.vector.changes import Changes
from geoseg.vector.pieces import NO_PIXEL, Evidence
from geoseg.vector.samples import Index, Samples


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
    region: Window,
    grid_shape: tuple[int, int],
) -> list[Evidence]:
    """Sum up the evidence of runs by the piece that owns them.

    Parameters
    ----------
    owner : ndarray of int64, shape (len(runs.row),)
        Number of the piece each run lies in; all pieces from 0 to the largest number are returned.
    region : Window
        Only its pixels count.
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

    frame = Window(samples.row, samples.col, *samples.labels.shape)
    chosen = samples.labels[region.within(frame)] > 0
    probability = samples.strongest[region.within(samples.window)][chosen]
    begin = np.cumsum(length) - length
    near = _near_invalid(block, region, grid_shape)

    pixels, total = np.zeros(pieces, np.int64), np.zeros(pieces, np.int64)
    lowest = np.full(pieces, NO_PIXEL)
    edge, nodata = np.zeros(pieces, bool), np.zeros(pieces, bool)
    if len(row):
        np.add.at(pixels, owner, length)
        np.add.at(total, owner, np.add.reduceat(probability, begin, dtype=np.int64))
        np.minimum.at(lowest, owner, start)
        edge[owner[at_edge]] = True
        if near is not None:
            nodata[owner[np.logical_or.reduceat(near[chosen], begin)]] = True
    columns = (pixels, total, lowest, edge, nodata)
    return [Evidence(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]


def _near_invalid(
    block: ProbabilityBlock, region: Window, grid_shape: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """Mark the pixels of a region with an invalid one among their neighbours; None if there is none."""
    around = Window(region.row - 1, region.col - 1, region.height + 2, region.width + 2)
    around = around.intersection(Window(0, 0, *grid_shape))
    valid = block.valid[around.within(block.window)]
    if valid.all():
        return None
    top, left = around.row - region.row + 1, around.col - region.col + 1
    frame = np.zeros((region.height + 2, region.width + 2), bool)
    frame[top : top + around.height, left : left + around.width] = ~valid
    rows = frame[:-2] | frame[1:-1] | frame[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])
