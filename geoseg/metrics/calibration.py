"""Whether probabilities mean what they say: histograms that add up, and what follows from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
