"""Pictures of single tiles: scene, truth and prediction side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class TileLayers:
    """What lies in one window of the grid.

    Parameters
    ----------
    scene : ndarray of uint8, shape (3, rows, cols), or None
        Red, green, blue; None without a scene.
    truth, prediction : ndarray of uint8, shape (rows, cols)
        Class ids, 0 is the background.
    known : ndarray of bool, shape (rows, cols)
        False pixels were not compared.
    """

    scene: NDArray[np.uint8] | None
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    known: NDArray[np.bool_]
