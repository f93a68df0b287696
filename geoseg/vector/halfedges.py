"""Half-edges of all cells, linked into the rings that bound the parts of classes in a region.

Parts meet their neighbours along the *perimeter*, the line through the outermost samples of a region.
Positions count the samples along it in the direction that keeps the region on the left: along the
first row, down the last column, back along the last row, up the first column. The side from a sample
to the next one has the position of the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.values import Window
from geoseg.vector.cells import Cells
from geoseg.vector.pieces import seam_key
from geoseg.vector.rings import cycles
from geoseg.vector.samples import BELOW, RIGHT, Index, Samples


@dataclass(frozen=True, eq=False, slots=True)
class HalfEdges:
    """Half-edges with a class on their left, linked into rings.

    A part that reaches the region's perimeter is closed along it, so that every part has its rings;
    those stretches carry no half-edges.
    """

    owner: Index
    """int64, shape (n,). ``4 * cell + side`` where each half-edge starts, increasing; cells counted in their
    list."""
    goal: NDArray[np.int8]
    """int8, shape (n,). Side of the cell where it ends."""
    upper: Index
    lower: Index
    """`upper`, `lower`: int64. Half-edges that start at the upper, or lower, side of a cell inside the
    region: one at the right, or left, end of each run of a class, in the order of the runs."""
    outer: Index
    outer_at: Index
    """`outer`, `outer_at`: int64, shape (m,). Half-edges that start on the perimeter, and where; in the order
    of the perimeter."""
    starts: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    """`starts`, `ends`: bool, shape (n,). Whether a half-edge starts, or ends, on the perimeter."""
    ring: Index
    ahead: Index
    rings: int
    """`ring`, `ahead`, `rings`: Ring of each half-edge, steps from it to the ring's first one, number of
    rings. A ring with half-edges that start on the perimeter begins with such a one."""

    def ring_at(self, samples: Samples, row: Index, col: Index) -> Index:
        """Return the rings round outermost samples that have a class.

        A region whose perimeter lies in one part has no half-edge there; the ring along it is
        called `rings`.
        """
        if len(self.outer) == 0:
            return np.full(len(row), self.rings)
        after = np.searchsorted(self.outer_at, _sample_positions(samples, row, col))
        return self.ring[self.outer[after % len(self.outer)]]


def link(samples: Samples, cells: Cells) -> HalfEdges:
    """Link the half-edges of classes: each to the one that starts where it ends."""
    owner = np.flatnonzero(cells.bounding)
    side = (owner & 3).astype(np.int8)
    goal = cells.target.ravel().take(owner)
    rows, cols = samples.labels.shape
    row, col = samples.places(cells.index)
    on_perimeter = (row == 0) | (row == rows - 2) | (col == 0) | (col == cols - 2)
    near = np.flatnonzero(on_perimeter.take(owner >> 2))
    index = cells.index[owner[near] >> 2]
    starts, starts_at = _outer(near, _side_positions(samples, index, side[near]), len(owner))
    ends, ends_at = _outer(near, _side_positions(samples, index, goal[near]), len(owner))

    successor = np.empty(len(owner), np.int64)
    upper, right, lower, left = [np.flatnonzero((side == one) & ~starts) for one in range(4)]
    # A cell has one half-edge at most that starts at a side, and one that ends there; in the order of
    # the cells, those that end at a side come as those that start beyond it.
    for one, beyond in enumerate((lower, left, upper, right)):
        successor[np.flatnonzero((goal == one) & ~ends)] = beyond
    outer, end = np.flatnonzero(starts), np.flatnonzero(ends)
    order = np.argsort(starts_at)
    outer, outer_at = outer[order], starts_at[order]
    if len(outer):
        successor[end] = outer[np.searchsorted(outer_at, ends_at, side="right") % len(outer)]
    ring, ahead, rings = _rings(successor, starts)
    return HalfEdges(owner, goal, upper, lower, outer, outer_at, starts, ends, ring, ahead, rings)


def _outer(near: Index, position: Index, n: int) -> tuple[NDArray[np.bool_], Index]:
    """Mark those of `n` half-edges that have a position on the perimeter; return their positions."""
    there = position >= 0
    marked = np.zeros(n, bool)
    marked[near[there]] = True
    return marked, position[there]


def _rings(successor: Index, preferred: NDArray[np.bool_]) -> tuple[Index, Index, int]:
    """Tell the rings apart; each begins with a preferred half-edge if it has one."""
    n = len(successor)
    rank = np.arange(n) + np.where(preferred, 0, n)
    leader, ahead = cycles(successor, rank)
    leaders = leader == rank
    numbers = np.cumsum(leaders) - 1
    first = np.where(leader < n, leader, leader - n)
    return numbers[first], ahead, int(leaders.sum())


def _side_positions(samples: Samples, cell: Index, side: Index | NDArray[np.int8]) -> Index:
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


def _sample_positions(samples: Samples, row: Index, col: Index) -> Index:
    """Return the perimeter position of outermost samples."""
    rows, cols = samples.labels.shape
    right, bottom, left = cols - 1, cols - 1 + rows - 1, 2 * (cols - 1) + rows - 1
    at = np.select(
        [row == 0, col == cols - 1, row == rows - 1],
        [col, right + row, bottom + cols - 1 - col],
        left + rows - 1 - row,
    )
    return np.asarray(at, np.int64)


def seam_keys(samples: Samples, cell: Index, side: Index, *, begins: bool) -> Index:
    """Name where arcs begin, or end, on a seam: an arc goes on with the one that begins where it ends.

    The key names the grid edge under the side of the cell and the region in which an arc begins
    there: where a cut crosses the seam, one does in each.
    """
    row, col = np.divmod(cell, samples.stride)
    upright = side % 2
    line = np.where(upright, samples.col + col + (side == 1), samples.row + row + (side == 2))
    along = np.where(upright, samples.row + row, samples.col + col)
    before = (side == 1) | (side == 2)  # the region lies above or to the left
    return np.asarray(2 * seam_key(line, upright, along) + (before != begins), np.int64)


def find_contacts(
    samples: Samples, region: Window, grid_shape: tuple[int, int]
) -> tuple[Index, Index, Index]:
    """Find the stretches of seams along which parts of classes touch the neighbouring region.

    Returns
    -------
    key : ndarray of int64, shape (n,)
        Of each stretch, the same from both regions.
    row, col : ndarray of int64, shape (n,)
        A sample of each.
    """
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
        first = _run_starts(labels, _cuts_along(samples, at, upright=bool(upright)))
        offset, line = (samples.row, samples.col + at) if upright else (samples.col, samples.row + at)
        # The last sample begins the next region's stretch too: tell the two apart.
        key = seam_key(line, upright, 2 * (first + offset) + (first == len(labels) - 1))
        there = np.full(len(first), at)
        found.append(np.stack((key, first, there) if upright else (key, there, first)))
    key, row, col = np.concatenate([np.empty((3, 0), np.int64), *found], axis=1)
    return key, row, col


def _cuts_along(samples: Samples, at: int, *, upright: bool) -> NDArray[np.bool_]:
    """Tell which samples of a line are cut off from the next one."""
    if samples.cuts is None:
        return np.zeros(samples.labels.shape[0 if upright else 1], bool)
    return np.asarray((samples.cuts[:, at] & BELOW if upright else samples.cuts[at] & RIGHT) > 0)


def _run_starts(labels: NDArray[np.int16], cut: NDArray[np.bool_]) -> Index:
    begins = labels > 0
    begins[1:] &= (labels[1:] != labels[:-1]) | cut[:-1]
    return np.flatnonzero(begins)
