"""Half-edges of all cells, linked into the rings that bound the parts of classes in a region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.cells import Cells
from geoseg.vector.perimeter import sample_positions, side_positions
from geoseg.vector.rings import cycles
from geoseg.vector.samples import Index, Samples


@dataclass(frozen=True, eq=False, slots=True)
class HalfEdges:
    """Half-edges with a class on their left, linked into rings.

    A part that reaches the region's perimeter is closed along it, so that every part has its rings;
    those stretches carry no half-edges.

    Parameters
    ----------
    owner : ndarray of int64, shape (n,)
        ``4 * cell + side`` where each half-edge starts, increasing; cells counted in their list.
    goal : ndarray of int8, shape (n,)
        Side of the cell where it ends.
    upper, lower : ndarray of int64
        Half-edges that start at the upper, or lower, side of a cell inside the region: one at the
        right, or left, end of each run of a class, in the order of the runs.
    outer, outer_at : ndarray of int64, shape (m,)
        Half-edges that start on the perimeter, and where; in the order of the perimeter.
    starts, ends : ndarray of bool, shape (n,)
        Whether a half-edge starts, or ends, on the perimeter.
    ring, ahead, rings
        Ring of each half-edge, steps from it to the ring's first one, number of rings. A ring with
        half-edges that start on the perimeter begins with such a one.
    """

    owner: Index
    goal: NDArray[np.int8]
    upper: Index
    lower: Index
    outer: Index
    outer_at: Index
    starts: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    ring: Index
    ahead: Index
    rings: int

    def ring_at(self, samples: Samples, row: Index, col: Index) -> Index:
        """Return the rings round outermost samples that have a class.

        A region whose perimeter lies in one part has no half-edge there; the ring along it is
        called `rings`.
        """
        if len(self.outer) == 0:
            return np.full(len(row), self.rings)
        after = np.searchsorted(self.outer_at, sample_positions(samples, row, col))
        return self.ring[self.outer[after % len(self.outer)]]


def link(samples: Samples, cells: Cells) -> HalfEdges:
    """Link the half-edges of classes: each to the one that starts where it ends."""
    owner = np.flatnonzero(cells.bounding)
    side = (owner & 3).astype(np.int8)
    goal = cells.target.ravel().take(owner)
    near = np.flatnonzero(_on_perimeter(samples, cells.index).take(owner >> 2))
    index = cells.index[owner[near] >> 2]
    starts, starts_at = _outer(near, side_positions(samples, index, side[near]), len(owner))
    ends, ends_at = _outer(near, side_positions(samples, index, goal[near]), len(owner))

    successor = np.empty(len(owner), np.int64)
    upper, right, lower, left = (np.flatnonzero((side == one) & ~starts) for one in range(4))
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


def _on_perimeter(samples: Samples, cell: Index) -> NDArray[np.bool_]:
    """Tell which cells lie in the first or last row or column."""
    rows, cols = samples.labels.shape
    row, col = samples.places(cell)
    return np.asarray((row == 0) | (row == rows - 2) | (col == 0) | (col == cols - 2))


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
