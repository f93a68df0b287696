"""Labels that hold clusters of touching objects: what lies between them is made unknown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.training.data.sample import IGNORE

_STEP = 40
"""Grey values that a seam between two roofs, or a roof and the ground, differs by at least."""


def forget_rims(
    labels: NDArray[np.uint8], pixels: NDArray[np.uint8], radius: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return labels with rims and seams set to `IGNORE`.

    Unknown becomes the band round every outline, the gaps that a closing of the objects would fill,
    and, inside of objects, where the picture changes by much: there one roof ends and another begins.
    Even roofs stay objects, background further away stays background.

    Parameters
    ----------
    labels : ndarray of uint8, shape (rows, cols)
        Class ids, 0 background, `IGNORE`.
    pixels : ndarray of uint8, shape (bands, rows, cols)
        The picture.
    radius : (float, float)
        Width of the band on either side of an outline, in pixels along a row and along a column. Seams
        are looked for at half of it: the morphological gradient of the mean of the bands.

    Examples
    --------
    >>> labels = np.zeros((9, 9), np.uint8)
    >>> labels[2:7, 2:7] = 1
    >>> forget_rims(labels, np.zeros((3, 9, 9), np.uint8), (1.0, 1.0))[4].tolist()
    [0, 255, 255, 1, 1, 1, 255, 255, 0]
    """
    objects = (labels != 0) & (labels != IGNORE)
    disk = _ellipse(radius)
    margin = [(2 * (size // 2),) * 2 for size in disk.shape]
    # Beyond the edge the picture goes on as it is there, so that its edge is no outline.
    around = np.pad(objects, margin, mode="edge")
    grown = ndimage.binary_dilation(around, disk)
    unknown = grown & ~ndimage.binary_erosion(around, disk, border_value=1)
    unknown |= ndimage.binary_erosion(grown, disk, border_value=1) & ~around
    (top, _), (left, _) = margin
    unknown = unknown[top : top + labels.shape[0], left : left + labels.shape[1]]
    grey = ndimage.gaussian_filter(pixels.mean(axis=0), [side / 3 for side in reversed(radius)])
    near = _ellipse((radius[0] / 2, radius[1] / 2))
    seams = ndimage.grey_dilation(grey, footprint=near) - ndimage.grey_erosion(grey, footprint=near)
    return np.where(unknown | (objects & (seams > _STEP)), np.uint8(IGNORE), labels)


def _ellipse(radius: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the pixels within `radius` of the middle one; its neighbours always are."""
    across, down = (max(1.0, side) for side in radius)
    rows, cols = np.ogrid[-int(down) : int(down) + 1, -int(across) : int(across) + 1]
    return np.asarray((rows / down) ** 2 + (cols / across) ** 2 <= 1)
