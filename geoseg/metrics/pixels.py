"""Counts of right and wrong pixels, and the ratios made of them."""

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

    Parameters
    ----------
    true_positives, false_positives, false_negatives, true_negatives : int
        Numbers of pixels (or objects, where the last is 0).
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0

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
    size : int

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
