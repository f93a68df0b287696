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
    number : ndarray of int64, shape (4 * cells,)
        The half-edge that starts at a cell's side; -1 for none.
    cell, side : ndarray of int64, shape (n,)
        Where each half-edge starts; cells counted in their list.
    goal : ndarray of int64, shape (n,)
        Side of the cell where it ends.
    starts_at, ends_at : ndarray of int64, shape (n,)
        Perimeter positions of its ends; -1 inside the region.
    ring, ahead, rings
        Ring of each half-edge, steps from it to the ring's first one, number of rings. A ring with
        half-edges that start on the perimeter begins with such a one.
    """

    number: Index
    cell: Index
    side: Index
    goal: Index
    starts_at: Index
    ends_at: Index
    ring: Index
    ahead: Index
    rings: int

    def at(self, cells: Cells, index: Index, side: int) -> Index:
        """Return the half-edges that start at a side of the cells with these flat indices."""
        return self.number[4 * np.searchsorted(cells.index, index) + side]

    def ring_at(self, samples: Samples, row: Index, col: Index) -> Index:
        """Return the rings round outermost samples that have a class.

        A region whose perimeter lies in one part has no half-edge there; the ring along it is
        called `rings`.
        """
        outer = np.flatnonzero(self.starts_at >= 0)
        if len(outer) == 0:
            return np.full(len(row), self.rings)
        outer = outer[np.argsort(self.starts_at[outer])]
        after = np.searchsorted(self.starts_at[outer], sample_positions(samples, row, col))
        return self.ring[outer[after % len(outer)]]


def link(samples: Samples, cells: Cells) -> HalfEdges:
    """Link the half-edges of classes: each to the one that starts where it ends."""
    owner = np.flatnonzero(cells.bounding)
    cell, side = owner // 4, owner % 4
    goal = cells.target.ravel()[owner].astype(np.int64)
    number = np.full(4 * len(cells.index), -1)
    number[owner] = np.arange(len(owner))
    index = cells.index[cell]
    starts_at, ends_at = side_positions(samples, index, side), side_positions(samples, index, goal)
    successor = np.empty(len(owner), np.int64)

    inner = np.flatnonzero(ends_at < 0)
    toward = goal[inner]
    beyond = cell[inner] + np.where(toward == 1, 1, -1)
    upright = toward % 2 == 0
    step = np.where(toward[upright] == 0, -samples.stride, samples.stride)
    beyond[upright] = np.searchsorted(cells.index, index[inner[upright]] + step)
    successor[inner] = number[4 * beyond + (toward + 2) % 4]

    starts, ends = np.flatnonzero(starts_at >= 0), np.flatnonzero(ends_at >= 0)
    starts = starts[np.argsort(starts_at[starts])]
    if len(starts):
        after = np.searchsorted(starts_at[starts], ends_at[ends], side="right")
        successor[ends] = starts[after % len(starts)]
    ring, ahead, rings = _rings(successor, starts_at >= 0)
    return HalfEdges(number, cell, side, goal, starts_at, ends_at, ring, ahead, rings)


def _rings(successor: Index, preferred: NDArray[np.bool_]) -> tuple[Index, Index, int]:
    """Tell the rings apart; each begins with a preferred half-edge if it has one."""
    n = len(successor)
    rank = np.arange(n) + np.where(preferred, 0, n)
    leader, ahead = cycles(successor, rank)
    leaders = leader == rank
    numbers = np.cumsum(leaders) - 1
    ring = numbers[leader % n] if n else leader
    return ring, ahead, int(leaders.sum())
