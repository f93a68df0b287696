"""Pictures of single tiles: scene, truth and prediction side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.inputs import Inputs
from geoseg.evaluation.rasters import read_nearest
from geoseg.values import Window


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


def tile_layers(inputs: Inputs, window: Window) -> TileLayers:
    """Read what was compared in one window of the grid.

    Parameters
    ----------
    inputs : Inputs
    window : Window
        Inside the grid.

    Raises
    ------
    UnreadableScene
    """
    found = inputs.read(window)
    return TileLayers(_scene_rgb(inputs, window), found.truth, found.prediction, found.known)


def _scene_rgb(inputs: Inputs, window: Window) -> NDArray[np.uint8] | None:
    """Return the scene over a window for people to look at, uint8, shape (3, rows, cols)."""
    if inputs.scene is None:
        return None
    pixels, valid = read_nearest(inputs.scene, inputs.grid, window)
    by_color = {band.color: i for i, band in enumerate(inputs.scene.bands)}
    order = [by_color.get(name, min(i, len(pixels) - 1)) for i, name in enumerate(("red", "green", "blue"))]
    shown = pixels[order]
    if shown.dtype != np.uint8:
        shown = _stretched(shown.astype(np.float64), valid)
    return np.where(valid, shown, 0).astype(np.uint8)


def _stretched(pixels: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Spread the values between the 2nd and 98th percentile of the window over 0 … 255."""
    if not valid.any():
        return pixels
    low, high = np.percentile(pixels[:, valid], [2, 98])
    return np.asarray(np.clip((pixels - low) / max(high - low, 1e-12) * 255, 0, 255))
