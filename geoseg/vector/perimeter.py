"""The line through the outermost samples of a region: where its parts meet their neighbours.

Positions count the samples along that line in the direction that keeps the region on the left: along
the first row, down the last column, back along the last row, up the first column. The side from a
sample to the next one has the position of the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.values import Window
from geoseg.vector.samples import Index, Samples


def side_positions(samples: Samples, cell: Index, side: Index | NDArray[np.int8]) -> Index:
    """Return the perimeter position of sides of cells, -1 for sides inside the region."""
    rows, cols = samples.labels.shape
    row, col = np.divmod(cell, cols)
    at = np.select(
        [
            (side == 0) & (row == 0),
            (side == 1) & (col == cols - 2),
            (side == 2) & (row == rows - 2),
            (side == 3) & (col == 0),
        ],
        [
            col,
            cols - 1 + row,
            cols - 1 + rows - 1 + cols - 2 - col,
            2 * (cols - 1) + rows - 1 + rows - 2 - row,
        ],
        -1,
    )
    return np.asarray(at, np.int64)


def sample_positions(samples: Samples, row: Index, col: Index) -> Index:
    """Return the perimeter position of outermost samples."""
    rows, cols = samples.labels.shape
    right, bottom, left = cols - 1, cols - 1 + rows - 1, 2 * (cols - 1) + rows - 1
    at = np.select(
        [row == 0, col == cols - 1, row == rows - 1],
        [col, right + row, bottom + cols - 1 - col],
        left + rows - 1 - row,
    )
    return np.asarray(at, np.int64)


def seam_keys(samples: Samples, cell: Index, side: Index) -> Index:
    """Name the grid edges under sides of cells on a seam, the same from both regions."""
    row, col = np.divmod(cell, samples.stride)
    upright = side % 2
    line = np.where(upright, samples.col + col + (side == 1), samples.row + row + (side == 2))
    along = np.where(upright, samples.row + row, samples.col + col)
    return _key(line, upright, along)


@dataclass(frozen=True, eq=False, slots=True)
class Contacts:
    """Stretches of seams along which a class touches the neighbouring region.

    Parameters
    ----------
    key : ndarray of int64, shape (n,)
        The same from both regions.
    row, col : ndarray of int64, shape (n,)
        A sample of each stretch.
    """

    key: Index
    row: Index
    col: Index


def find_contacts(samples: Samples, region: Window, grid_shape: tuple[int, int]) -> Contacts:
    """Find where classes reach the seams of a region."""
    rows, cols = samples.labels.shape
    found = []
    for upright, seam, at in (
        (0, region.row > 0, 0),
        (0, region.row_stop < grid_shape[0], rows - 1),
        (1, region.col > 0, 0),
        (1, region.col_stop < grid_shape[1], cols - 1),
    ):
        if not seam:
            continue
        labels = samples.labels[:, at] if upright else samples.labels[at]
        first = _run_starts(labels)
        offset, line = (samples.row, samples.col + at) if upright else (samples.col, samples.row + at)
        # The last sample begins the next region's stretch too: tell the two apart.
        key = _key(line, upright, 2 * (first + offset) + (first == len(labels) - 1))
        there = np.full(len(first), at)
        found.append((key, first, there) if upright else (key, there, first))
    if not found:
        return Contacts(*(np.empty(0, np.int64) for _ in range(3)))
    return Contacts(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _run_starts(labels: NDArray[np.int16]) -> Index:
    begins = labels > 0
    begins[1:] &= labels[1:] != labels[:-1]
    return np.flatnonzero(begins)


def _key(line: Index | int, upright: Index | int, along: Index) -> Index:
    """Pack a line of samples and a place on it (from -2) into one integer."""
    return ((2 * np.asarray(line, np.int64) + upright) << 32) + along + 2
