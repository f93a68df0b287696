"""Sieve the classes of a layer: small islands go to the class next to them, so that they leave no holes.

An island is what pixel edges connect, of one class or of the background. One of too few pixels gets the
class, or becomes the background, with which it shares the longest border (GDAL's sieve: the largest
neighbour); all at once, by the classes that were there before. Longer or wider islands stay, so that what
becomes of a pixel depends on the pixels within reach of it alone, and is the same in any block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import classify
from geoseg.values import ClassRule, ProbabilityBlock
from geoseg.vector.rings import components
from geoseg.vector.samples import INVALID, Index, Labels
from geoseg.vector.shape import ShapeRules

LONGEST = 100
"""Pixels that a small island measures across or down at most."""


@dataclass(frozen=True, slots=True)
class IslandRule:
    """Pixels of the smallest island of a class that stays, and of the background."""

    smallest: float
    smallest_hole: float

    @property
    def reach(self) -> int:
        """Pixels round a pixel that decide on it."""
        return min(LONGEST, int(np.ceil(max(self.smallest, self.smallest_hole))))


def island_rule(rules: ShapeRules) -> IslandRule | None:
    """Return what is too small for a layer of several classes; None: nothing."""
    pixel = rules.metres_per_pixel**2
    smallest, hole = rules.min_area_m2 / pixel, rules.min_hole_m2 / pixel
    return IslandRule(smallest, hole) if max(smallest, hole) > 1 else None


def without_islands(rules: ShapeRules) -> ShapeRules:
    """Return the rules for polygons of which the small ones have gone to their neighbours already."""
    return replace(rules, min_area_m2=0.0, min_hole_m2=0.0)


def sieve(
    block: ProbabilityBlock,
    grid_shape: tuple[int, int],
    classes: ClassRule,
    islands: IslandRule,
    reach: int | None = None,
) -> ProbabilityBlock:
    """Return a block whose small islands have the class next to them.

    Parameters
    ----------
    block : ProbabilityBlock
        Right for pixels with `reach` pixels of the grid round them.
    grid_shape : tuple of int
        Rows and columns of the grid.
    classes : ClassRule
    islands : IslandRule
    reach : int, optional
        Where there is less round a block than the rule's.

    Examples
    --------
    >>> from geoseg.values import Window
    >>> values = np.zeros((2, 5, 5), np.uint16)
    >>> values[0], values[1, 1:3, 2] = 60000, 65535
    >>> block = ProbabilityBlock(Window(0, 0, 5, 5), values, np.ones((5, 5), bool))
    >>> classes = ClassRule((3, 4), 0.5)
    >>> np.unique(classify(sieve(block, (5, 5), classes, IslandRule(3, 0)).values, classes)).tolist()
    [3]
    """
    reach = islands.reach if reach is None else min(reach, islands.reach)
    labels = np.pad(
        np.where(block.valid, classify(block.values, classes), np.int16(INVALID)), 1, constant_values=INVALID
    )
    flat, stride = labels.ravel(), labels.shape[1]
    start = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
    length, label = np.diff(start, append=len(flat)), flat.take(start)
    number = _connected(flat, start, stride)
    row, col = np.divmod(start, stride)
    small = label >= 0
    for first, last, low, high, n in (
        (row, row, block.window.row, block.window.row_stop, grid_shape[0]),
        (col, col + length - 1, block.window.col, block.window.col_stop, grid_shape[1]),
    ):
        least, most = np.full(number.max() + 1, stride * len(labels)), np.zeros(number.max() + 1, np.int64)
        np.minimum.at(least, number, first)
        np.maximum.at(most, number, last)
        whole = ((least > 1) | (low == 0)) & ((most < high - low) | (high == n))
        small &= (whole & (most - least < reach))[number]
    small &= np.bincount(number, length)[number] < np.where(
        label == 0, islands.smallest_hole, islands.smallest
    )
    if not small.any():
        return block
    at = np.repeat(start[small], length[small])
    at += np.arange(len(at)) - np.repeat(np.cumsum(length[small]) - length[small], length[small])
    island = np.repeat(number[small], length[small])
    target = _neighbours(flat, at, island, stride)[island]
    row, col = np.divmod(at, stride)
    return replace(block, values=_given(block.values, row - 1, col - 1, target, classes))


def _connected(flat: Labels, start: Index, stride: int) -> Index:
    """Return the number of the island of each run of equal labels; `start` is where runs begin."""
    begins = np.zeros(len(flat), bool)
    begins[start] = True
    # Two runs meet first where one of them begins.
    meet = np.flatnonzero((flat[stride:] == flat[:-stride]) & (begins[stride:] | begins[:-stride]))
    above, below = (np.searchsorted(start, place, side="right") - 1 for place in (meet, meet + stride))
    return components(len(start), (above, below))


def _neighbours(flat: Labels, at: Index, island: Index, stride: int) -> Labels:
    """Return the label with the longest border for each island, the lowest of equals; 0: it has none."""
    keys = []
    for step in (-stride, -1, 1, stride):
        there = flat.take(at + step)
        other = (there >= 0) & (there != flat.take(at))
        keys.append(island[other] << 8 | there[other])
    key, count = np.unique(np.concatenate(keys), return_counts=True)
    order = np.lexsort((-count, key >> 8))
    key = key[order][np.diff(key[order] >> 8, prepend=-1) > 0]
    target = np.zeros(int(island.max()) + 1, np.int64)
    target[key >> 8] = key & 255
    return target


def _given(
    values: NDArray[np.uint16], row: Index, col: Index, label: Index, classes: ClassRule
) -> NDArray[np.uint16]:
    """Return probabilities by which pixels have other labels: the largest is that of the label."""
    least = np.uint16(np.ceil(classes.level))
    place = np.full(256, -1)
    place[list(classes.channels)[::-1]] = np.arange(len(classes.channels))[::-1]
    here, wanted, every = values[:, row, col], place[label], np.arange(len(row))
    winner, best = here.argmax(axis=0), np.maximum(here.max(axis=0), least)
    here[winner, every] = here[wanted, every]
    has = wanted >= 0
    here = np.minimum(here, np.where(has, best, least) - 1)
    here[wanted[has], every[has]] = best[has]
    result = values.copy()
    result[:, row, col] = here
    return result
