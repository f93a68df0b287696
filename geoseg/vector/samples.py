"""The class labels and probabilities at the pixel centres that a region is traced from.

Outlines run between pixel centres. Four neighbouring centres are the corners of a *cell*; a cell
belongs to the region of its upper left pixel, so the line through the centres of a region's first
row is the seam to the region above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.values import ClassRule, ProbabilityBlock, Window

INVALID = -1
"""Label of samples without probability: nodata, and what lies outside the grid."""

Index = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """Labels at the pixel centres of a region and of the next row and column.

    Parameters
    ----------
    row, col : int
        Grid position of the first sample; -1 where the region begins at the scene's edge.
    labels : ndarray of int16, shape (rows, cols)
        Class id, 0 background, `INVALID`; outside the grid is invalid.
    inside : Window
        The part of the samples that lies in the grid.
    values : ndarray of uint16, shape (channels, *inside.shape)
        Probabilities.
    winner : ndarray of uint8, shape inside.shape
        Channel with the largest probability, the first of equals.
    strongest : ndarray of uint16, shape inside.shape
        That probability.
    level : float
        Threshold between two integers.
    """

    row: int
    col: int
    labels: NDArray[np.int16]
    inside: Window
    values: NDArray[np.uint16]
    winner: NDArray[np.uint8]
    strongest: NDArray[np.uint16]
    level: float

    @property
    def stride(self) -> int:
        """Samples in a row: a cell is named by the flat index of its upper left sample."""
        return int(self.labels.shape[1])

    def leads(self, ends: tuple[Index, Index, Index, Index]) -> tuple[Floats, Floats]:
        """Return by how much the first label leads the second one at either end of grid edges.

        A class is as strong as its probability; the background as strong as the threshold, or as
        the channel that beats it. Where the labels differ the lead is positive at the first end,
        negative at the second; ties count as half a step, so neither is ever 0.

        Parameters
        ----------
        ends : row and column of the first samples, row and column of the second ones
            Local to `labels`; all valid.
        """
        row, col = self.inside.row - self.row, self.inside.col - self.col
        first, second = (ends[0] - row, ends[1] - col), (ends[2] - row, ends[3] - col)
        one = self.labels[ends[0], ends[1]] > 0
        two = self.labels[ends[2], ends[3]] > 0
        if len(self.values) == 1:
            sign = np.where(one, 1.0, -1.0)
            probability = self.values[0]
            return sign * (probability[first] - self.level), sign * (probability[second] - self.level)
        ours, theirs = self.winner[first], self.winner[second]
        leads = []
        for end in (first, second):
            p, q = self.values[(ours, *end)], self.values[(theirs, *end)]
            rest_p = np.where(ours == theirs, self.level, np.maximum(p, self.level))
            rest_q = np.where(ours == theirs, self.level, np.maximum(q, self.level))
            leads.append(np.where(one, p, rest_p) - np.where(two, q, rest_q))
        return np.maximum(leads[0], 0.5), np.minimum(leads[1], -0.5)


def take_samples(
    block: ProbabilityBlock, region: Window, grid_shape: tuple[int, int], rule: ClassRule
) -> Samples:
    """Label the pixel centres of a region and of the next row and column.

    Raises
    ------
    ValueError
        If the block does not cover the region and the pixels after it.
    """
    row, col = region.row - (region.row == 0), region.col - (region.col == 0)
    frame = Window(row, col, region.row_stop - row + 1, region.col_stop - col + 1)
    inside = frame.intersection(Window(0, 0, *grid_shape))
    rows, cols = inside.within(block.window)
    values, valid = block.values[:, rows, cols], block.valid[rows, cols]
    winner, best = _strongest(values)
    ids = np.array(rule.channels, np.int16)
    labels = np.full(frame.shape, INVALID, np.int16)
    found = np.where(best > rule.level, ids[winner] if len(ids) > 1 else ids[0], np.int16(0))
    np.copyto(labels[inside.within(frame)], found, where=valid)
    return Samples(row, col, labels, inside, values, winner, best, rule.level)


def _strongest(values: NDArray[np.uint16]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Return the first channel with the largest value and that value, for every pixel."""
    winner = np.zeros(values.shape[1:], np.uint8)
    if len(values) == 1:
        return winner, values[0]
    best = values[0].copy()
    for channel in range(1, len(values)):
        np.copyto(winner, channel, where=values[channel] > best)
        np.maximum(best, values[channel], out=best)
    return winner, best
