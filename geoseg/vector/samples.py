"""The class labels and probabilities at the pixel centres that a region is traced from; where they change.

Outlines run between pixel centres. Four neighbouring centres are the corners of a *cell*; a cell
belongs to the region of its upper left pixel, so the line through the centres of a region's first
row is the seam to the region above.

Most of a region is flat. A few passes over its labels, a byte a pixel, find the places where they
change; whatever follows looks at those alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.values import ClassRule, ProbabilityBlock, Window

INVALID = -1
"""Label of samples without probability: nodata, and what lies outside the grid."""

Index = NDArray[np.int64]
Floats = NDArray[np.float64]
Labels = NDArray[np.signedinteger[Any]]
"""Class ids, 0 background, `INVALID`; bytes where the ids allow it."""


RIGHT, BELOW = 1, 2
"""Bits of `Samples.cuts`."""

_BAND = 1 << 18
"""Pixels that are looked at in one go for changes of labels."""

_WORD = 8
"""Flags that are looked at together."""


@dataclass(frozen=True, eq=False, slots=True)
class Cuts:
    """Grid edges between two pixels of one class that belong to different objects.

    Both sides may still turn out to be one object, connected elsewhere: the cut is then dropped.
    """

    row: Index
    col: Index
    """`row`, `col`: int64, shape (n,). Grid position of the upper or left pixel; one may be named twice."""
    below: NDArray[np.bool_]
    """bool, shape (n,). Whether the other pixel lies below, else to the right."""


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """Labels at the pixel centres of a region and of the next row and column.

    A sample is named by its flat index in `labels`, a cell by that of its upper left sample.
    """

    row: int
    col: int
    """`row`, `col`: Grid position of the first sample; -1 where the region begins at the scene's edge."""
    labels: Labels
    """int8 or int16, shape (rows, cols). See `Labels`; outside the grid is invalid. In C order."""
    window: Window
    """What `values`, `winner` and `strongest` cover: at least the samples inside the grid."""
    values: NDArray[np.uint16]
    """uint16, shape (channels, *window.shape). Probabilities."""
    winner: NDArray[np.uint8]
    """uint8, shape window.shape. Channel with the largest probability, the first of equals."""
    strongest: NDArray[np.uint16]
    """uint16, shape window.shape. That probability."""
    level: float
    """Threshold between two integers."""
    cuts: NDArray[np.uint8] | None = None
    """uint8, shape (rows, cols), or None. Whether a sample is cut off from its `RIGHT` neighbour, or from
    that `BELOW`; None: none is."""

    @property
    def stride(self) -> int:
        """Samples in a row."""
        return int(self.labels.shape[1])

    def places(self, index: Index) -> tuple[Index, Index]:
        """Return the local rows and columns of samples."""
        # Unlike numpy's divmod, its division by one number is vectorized.
        rows = index // self.stride
        return rows, index - rows * self.stride

    def is_cut(self, index: Index, across: NDArray[np.bool_] | bool) -> NDArray[np.bool_]:
        """Tell where there is a cut between samples and their right, else lower, neighbours."""
        if self.cuts is None:
            return np.zeros(len(index), bool)
        return np.asarray(self.cuts.ravel().take(index) & np.where(across, RIGHT, BELOW) > 0)

    def leads(self, rows: Index, cols: Index, across: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return by how much the first label leads the second one at either end of grid edges.

        A class is as strong as its probability; the background as strong as the threshold, or as
        the channel that beats it. The lead is positive at the first end, negative at the second;
        ties count as half a step, so neither is ever 0.

        Parameters
        ----------
        rows, cols : ndarray of int64, shape (n,)
            Local place of the first, upper or left, samples.
        across : ndarray of bool, shape (n,)
            Whether the other one lies to the right, else below. Both are valid; their labels differ
            unless there is a cut between them, which runs half-way.
        """
        pitch = self.window.width
        first = (rows + (self.row - self.window.row)) * pitch + (cols + (self.col - self.window.col))
        second = first + np.where(across, 1, pitch)
        if len(self.values) == 1:
            probability = self.values.ravel()
            here, there = probability.take(first) - self.level, probability.take(second) - self.level
            if self.cuts is not None:
                cut = self.is_cut(rows * self.stride + cols, across)
                here[cut] = there[cut] = 1.0
            return np.abs(here), -np.abs(there)
        index = rows * self.stride + cols
        labels = self.labels.ravel()
        one, two = labels.take(index) > 0, labels.take(index + np.where(across, 1, self.stride)) > 0
        winner, values = self.winner.ravel(), self.values.reshape(len(self.values), -1)
        ours, theirs = winner.take(first), winner.take(second)
        leads = []
        for end in (first, second):
            p, q = values[ours, end], values[theirs, end]
            rest_p = np.where(ours == theirs, self.level, np.maximum(p, self.level))
            rest_q = np.where(ours == theirs, self.level, np.maximum(q, self.level))
            leads.append(np.where(one, p, rest_p) - np.where(two, q, rest_q))
        return np.maximum(leads[0], 0.5), np.minimum(leads[1], -0.5)


def take_samples(
    block: ProbabilityBlock,
    region: Window,
    grid_shape: tuple[int, int],
    rule: ClassRule,
    cuts: Cuts | None = None,
) -> Samples:
    """Label the pixel centres of a region and of the next row and column.

    Cuts outside, or between pixels of different classes, are ignored.

    Raises
    ------
    ValueError
        If the block does not cover the region and the pixels round it.
    """
    row, col = region.row - (region.row == 0), region.col - (region.col == 0)
    frame = Window(row, col, region.row_stop - row + 1, region.col_stop - col + 1)
    grid = Window(0, 0, *grid_shape)
    inside = frame.intersection(grid)
    around = Window(region.row - 1, region.col - 1, region.height + 2, region.width + 2)
    around.intersection(grid).within(block.window)  # raises where it is not
    rows, cols = inside.within(block.window)
    values = np.ascontiguousarray(block.values)
    winner, best = _strongest(values)
    ids = np.array(rule.channels, np.int8 if max(rule.channels) <= np.iinfo(np.int8).max else np.int16)
    labels = np.full(frame.shape, INVALID, ids.dtype)
    target = labels[inside.within(frame)]
    # Compared as integers: numpy would turn every pixel into a float to compare it with the level.
    np.greater_equal(best[rows, cols], int(np.ceil(rule.level)), out=target)
    if len(ids) > 1:
        np.multiply(target, ids.take(winner[rows, cols]), out=target)
    elif ids[0] != 1:
        np.multiply(target, ids[0], out=target)
    valid = block.valid[rows, cols]
    if not valid.all():
        np.copyto(target, INVALID, where=~valid)
    samples = Samples(row, col, labels, block.window, values, winner, best, rule.level)
    return samples if cuts is None else replace(samples, cuts=_cuts_within(samples, cuts))


def _cuts_within(samples: Samples, cuts: Cuts) -> NDArray[np.uint8] | None:
    """Mark the cuts between samples of one class."""
    labels, below = samples.labels, cuts.below.astype(np.int64)
    row, col = cuts.row - samples.row, cuts.col - samples.col
    inside = (row >= 0) & (col >= 0) & (row + below < labels.shape[0]) & (col + 1 - below < labels.shape[1])
    row, col, below = row[inside], col[inside], below[inside]
    same = (labels[row, col] > 0) & (labels[row, col] == labels[row + below, col + 1 - below])
    if not same.any():
        return None
    marks = np.zeros(labels.shape, np.uint8)
    for bit, chosen in ((RIGHT, same & (below == 0)), (BELOW, same & (below == 1))):
        marks[row[chosen], col[chosen]] |= bit
    return marks


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
    right, below = [marked[cuts.ravel().take(marked) & bit > 0] for bit in (RIGHT, BELOW)]
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
