"""Where labels change: all that a region's outlines are made from.

Most of a region is flat. A few passes over its labels, a byte a pixel, find the places where they
change; whatever follows looks at those alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.samples import Index, Labels, Samples

_BAND = 1 << 18
"""Pixels that are looked at in one go."""

_WORD = 8
"""Flags that are looked at together."""


@dataclass(frozen=True, eq=False, slots=True)
class Changes:
    """Flat indices of samples and cells where labels change.

    Parameters
    ----------
    across : ndarray of int64, shape (n,)
        Samples whose right neighbour has another label, and the last sample of every row; increasing.
    cells : ndarray of int64, shape (m,)
        Cells with corners of different labels, increasing.
    """

    across: Index
    cells: Index


def find_changes(samples: Samples) -> Changes:
    """Find where labels change."""
    rows, stride = samples.labels.shape
    # A few rows at a time, so that flags stay in the processor's cache.
    step = max(1, _BAND // stride)
    across, cells = [], []
    for row in range(0, rows, step):
        found = _in_band(samples.labels[row : row + step + 1], step)
        across.append(found[0] + row * stride)
        cells.append(found[1] + row * stride)
    return Changes(np.concatenate(across), np.concatenate(cells))


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
