"""Where labels change: all that a region's outlines are made from.

Most of a region is flat. A few passes over its labels, a byte a pixel, find the places where they
change; whatever follows looks at those alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.samples import Index, Samples

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
    flat, stride = samples.labels.ravel(), samples.stride
    across = np.empty(len(flat), bool)
    np.not_equal(flat[1:], flat[:-1], out=across[:-1])
    across[stride - 1 :: stride] = False
    # Round a cell labels change twice or more, so three of its sides tell.
    cells = flat[stride:] != flat[:-stride]
    cells |= across[:-stride]
    cells |= across[stride:]
    cells[stride - 1 :: stride] = False
    across[stride - 1 :: stride] = True
    return Changes(where(across), where(cells))


def where(flags: NDArray[np.bool_]) -> Index:
    """Return the indices of the few flags that are set; quicker than `numpy.flatnonzero` for these.

    Parameters
    ----------
    flags : ndarray of bool, shape (n,)
        Contiguous.
    """
    whole = len(flags) // _WORD * _WORD
    words = np.flatnonzero(flags[:whole].view(np.uint64) != 0)
    place = np.flatnonzero(flags[:whole].reshape(-1, _WORD)[words])
    found = words[place // _WORD] * _WORD + place % _WORD
    return np.append(found, whole + np.flatnonzero(flags[whole:]))
