"""From probabilities to class ids."""

from __future__ import annotations

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
    """
    ids = np.array(rule.channels, np.uint8)
    if len(ids) == 1:
        return np.where(values[0] > rule.level, ids[0], np.uint8(0))
    winner = values.argmax(axis=0)
    return np.where(values.max(axis=0) > rule.level, ids[winner], np.uint8(0))
