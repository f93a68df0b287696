"""Mapping a scene's range of values to the 0 … 255 that an 8-bit model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoseg.raster.scene import SceneInfo, read_patch, sample
from geoseg.values import Window


def estimate_stretch(
    scene: SceneInfo, bands: Sequence[int], percentiles: tuple[float, float] = (2, 98)
) -> tuple[tuple[float, float], ...]:
    """Return the limits (low, high) of each band: percentiles of its valid pixels.

    They come from an overview or windows spread over the scene (`geoseg.raster.scene.sample`), always
    the same ones: estimate once for a scene, use the limits for all of it.

    Raises
    ------
    UnreadableScene
        If the scene cannot be read.
    """
    values = [patch.pixels[:, patch.valid] for patch in sample(scene, bands)]
    known = np.concatenate(values, axis=1)
    if not known.size:
        known = _first_valid(scene, bands)
    if not known.size:
        return ((0.0, 255.0),) * len(bands)  # a scene without data: nothing will be mapped
    limits = np.percentile(known, percentiles, axis=1)
    return tuple((float(low), float(high)) for low, high in limits.T)


def apply_stretch(pixels: NDArray[np.generic], limits: Sequence[tuple[float, float]]) -> NDArray[np.float32]:
    """Map low … high of each band linearly to 0 … 255, beyond them to the nearer end.

    Parameters
    ----------
    pixels : ndarray, shape (bands, rows, cols)
        Any real dtype.
    limits : sequence of (low, high)
        One for each band. Where they are equal, values above are 255, others 0.

    Returns
    -------
    ndarray of float32, shape (bands, rows, cols)
    """
    low, high = np.array(limits, np.float32).T[:, :, None, None]
    stretched = pixels.astype(np.float32)
    stretched -= low
    stretched /= np.maximum(high - low, np.float32(1e-20))
    np.clip(stretched, 0, 1, out=stretched)
    stretched *= 255
    return stretched


def _first_valid(scene: SceneInfo, bands: Sequence[int], side: int = 2048) -> NDArray[np.generic]:
    """Return the valid pixels of the first window that has any, for scenes that are nearly all nodata."""
    box = scene.geobox
    for row in range(0, box.height, side):
        for col in range(0, box.width, side):
            window = Window(row, col, side, side).intersection(box.window)
            patch = read_patch(scene, window, box, bands)
            if patch.valid.any():
                return patch.pixels[:, patch.valid]
    return np.empty((len(bands), 0))
