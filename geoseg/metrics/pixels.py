"""Counts of right and wrong pixels, by class and by probability, and the ratios made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often two yes/no maps agree; adds up over chips, tiles and places.

    Every ratio is NaN where it has no meaning (nothing to divide by): a place without buildings
    has no recall, it is not perfect.
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0
    """Numbers of pixels (or objects, where the last is 0)."""

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.true_negatives + other.true_negatives,
        )

    @property
    def total(self) -> int:
        """Number of pixels or objects counted."""
        return self.true_positives + self.false_positives + self.false_negatives + self.true_negatives

    @property
    def iou(self) -> float:
        """Intersection over union of the positives (Jaccard index)."""
        union = self.true_positives + self.false_positives + self.false_negatives
        return _ratio(self.true_positives, union)

    @property
    def precision(self) -> float:
        """Share of the predicted positives that are right."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the true positives that are found."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall (Dice coefficient)."""
        total = 2 * self.true_positives + self.false_positives + self.false_negatives
        return _ratio(2 * self.true_positives, total)


def confusion(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], known: NDArray[np.bool_] | None = None
) -> Confusion:
    """Compare two maps pixel by pixel.

    Parameters
    ----------
    predicted, truth : ndarray of bool, one shape
        Where the class is.
    known : ndarray of bool, the same shape, optional
        Only these pixels count; leave out where the truth is unknown.

    Raises
    ------
    ValueError
        If the shapes differ (broadcasting would count pixels twice) or an array is not bool.
    """
    arrays = [predicted, truth] if known is None else [predicted, truth, known]
    if any(array.shape != predicted.shape for array in arrays):
        raise ValueError(f"shapes differ: {[array.shape for array in arrays]}")
    if any(array.dtype != np.bool_ for array in arrays):
        raise ValueError(f"arrays must be bool, not {[str(array.dtype) for array in arrays]}")
    if known is not None:
        predicted, truth = predicted[known], truth[known]
    both = int(np.count_nonzero(predicted & truth))
    positives, actual = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
    return Confusion(both, positives - both, actual - both, predicted.size - positives - actual + both)


def confusion_matrix(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    """Count how often each true class meets each predicted one.

    Parameters
    ----------
    truth, predicted : ndarray of uint8, shape (n,)
        Numbers of classes below `size`; 0 is the background.

    Returns
    -------
    ndarray of int64, shape (size, size)
        Row the true class, column the predicted one.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1], np.uint8), np.array([0, 1, 0], np.uint8), 2)
    array([[1, 0],
           [1, 1]])
    """
    counts = np.bincount(truth.astype(np.int64) * size + predicted, minlength=size * size)
    return counts.reshape(size, size)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


LEVELS = 251
"""Probabilities are counted in steps of 1/250, those of an 8-bit probability raster."""

BINS = 10
"""Bins of the reliability diagram, of equal width."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def to_levels(probability: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round probabilities in 0 … 1 to whole steps of 1/250."""
    return np.asarray(np.rint(probability * (LEVELS - 1)), np.uint8)


def level_histogram(levels: NDArray[np.uint8], truth: NDArray[np.bool_]) -> Counts:
    """Count the pixels of each level, those that are not of the class and those that are.

    Parameters
    ----------
    levels : ndarray of uint8, shape (n,)
        0 … 250.
    truth : ndarray of bool, shape (n,)

    Returns
    -------
    ndarray of int64, shape (LEVELS, 2)
    """
    counts = np.bincount(levels.astype(np.int64) * 2 + truth, minlength=2 * LEVELS)
    return counts.reshape(LEVELS, 2)


def fold(histogram: Counts) -> Counts:
    """Fold a histogram of levels into the bins of the diagram.

    Parameters
    ----------
    histogram : ndarray of int64, shape (LEVELS, 2)

    Returns
    -------
    ndarray of int64, shape (BINS, 3)
        Pixels, sum of their levels, pixels of the class.
    """
    level = np.arange(LEVELS)
    place = np.minimum(level * BINS // (LEVELS - 1), BINS - 1)
    both = histogram.sum(axis=1)
    bins = np.zeros((BINS, 3), np.int64)
    np.add.at(bins, place, np.column_stack([both, both * level, histogram[:, 1]]))
    return bins


def calibration_error(bins: NDArray[np.number]) -> Floats:
    """Return the expected calibration error (Naeini et al. 2015; Guo et al. 2017).

    Parameters
    ----------
    bins : ndarray, shape (..., BINS, 3)
        From `fold`; sums of several are fine.

    Returns
    -------
    ndarray of float64, shape (...)
        Mean over pixels of the distance between mean probability and share of the class in their
        bin; NaN without pixels.
    """
    gap = np.abs(bins[..., 1] / (LEVELS - 1) - bins[..., 2]).sum(axis=-1)
    total = bins[..., 0].sum(axis=-1)
    error: Floats = np.divide(gap, total, out=np.full(np.shape(gap), np.nan), where=np.asarray(total) > 0)
    return error


def brier_score(histogram: Counts) -> float:
    """Return the mean squared difference between probability and truth; NaN without pixels."""
    probability = np.arange(LEVELS) / (LEVELS - 1)
    total = int(histogram.sum())
    squares = histogram[:, 0] @ probability**2 + histogram[:, 1] @ (1 - probability) ** 2
    return float(squares / total) if total else float("nan")


def threshold_counts(histogram: Counts) -> tuple[Counts, Counts, Counts]:
    """Return true positives, false positives and false negatives at each level as threshold.

    Each of shape (LEVELS,); a pixel is positive if its level reaches the threshold (``>=``).
    """
    reached = np.cumsum(histogram[::-1], axis=0)[::-1]
    return reached[:, 1], reached[:, 0], histogram[:, 1].sum() - reached[:, 1]


def inner_band(mask: NDArray[np.bool_], width: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that lie within a distance of its outline.

    That is the mask without its erosion by a rectangle of ``2 * width + 1`` pixels, the band of
    boundary IoU (Cheng et al. 2021, "Boundary IoU", whose implementation erodes by a square). What
    lies outside the array counts as part of the mask: the array's edge is no outline.

    Parameters
    ----------
    mask : ndarray of bool, shape (rows, cols)
    width : tuple of int
        Pixels along rows and columns, 1 or more: an anisotropic grid has one for each axis.

    Raises
    ------
    ValueError
        If a width is below 1.

    Examples
    --------
    >>> mask = np.zeros((5, 5), bool)
    >>> mask[1:, 1:] = True
    >>> inner_band(mask, (1, 1)).astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 1, 1],
           [0, 1, 0, 0, 0],
           [0, 1, 0, 0, 0],
           [0, 1, 0, 0, 0]])
    """
    if min(width) < 1:
        raise ValueError(f"the width {width} of the band is below one pixel")
    near = ~mask
    for axis, reach in enumerate(width):
        near = _spread(near, axis, reach)
    return mask & near


def _spread(marks: NDArray[np.bool_], axis: int, reach: int) -> NDArray[np.bool_]:
    """Return True within `reach` pixels of a mark along an axis, by differences of a running sum."""
    size = marks.shape[axis]
    total = np.cumsum(marks, axis=axis, dtype=np.int32)
    last = np.minimum(np.arange(size) + reach, size - 1)
    before = np.arange(size) - reach - 1
    counts = np.take(total, last, axis=axis)
    inside = before >= 0
    if inside.any():
        first = int(np.flatnonzero(inside)[0])
        rest = [slice(None)] * marks.ndim
        rest[axis] = slice(first, None)
        counts[tuple(rest)] -= np.take(total, before[first:], axis=axis)
    return np.asarray(counts > 0)
