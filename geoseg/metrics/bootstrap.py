"""Intervals from resampling spatial blocks: neighbouring pixels do not vary independently."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FEWEST_BLOCKS = 8
"""With fewer, the resamples are too few different ones for an interval to mean anything."""

_CHUNK = 1 << 22
"""Weights held at a time."""


def resample_weights(blocks: int, replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each block is drawn in each replicate, some replicates at a time.

    Parameters
    ----------
    blocks : int
        As many are drawn with replacement in every replicate (Efron & Tibshirani 1993; blocks of
        neighbours as in Hall 1985).

    Yields
    ------
    ndarray of float64, shape (some, blocks)
        Whole numbers.
    """
    rng = np.random.default_rng(seed)
    share = np.full(blocks, 1 / blocks)
    step = max(1, _CHUNK // blocks)
    for start in range(0, replicates, step):
        yield rng.multinomial(blocks, share, size=min(step, replicates - start)).astype(np.float64)


def resampled_sums(counts: NDArray[np.float64], replicates: int, seed: int) -> NDArray[np.float64]:
    """Return the sums of counts over resampled blocks.

    Parameters
    ----------
    counts : ndarray of float64, shape (blocks, k)

    Returns
    -------
    ndarray of float64, shape (replicates, k)
    """
    weights = resample_weights(len(counts), replicates, seed)
    return np.concatenate([part @ counts for part in weights])


def percentile_interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of replicates; NaN where fewer than half of them have a meaning."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values) or len(known) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
