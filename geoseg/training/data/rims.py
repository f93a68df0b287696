"""Labels that draw touching objects as one: what may lie between them is made unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.labels.classes import IGNORE

if TYPE_CHECKING:
    import torch

_STEP = 40
"""Grey values by which the two sides of a seam differ, one roof and the next or a roof and the ground."""


def forget_rims(
    labels: NDArray[np.uint8], pixels: NDArray[np.uint8], radius: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return labels with rims and seams set to `IGNORE`.

    Unknown become the band round every outline, gaps between objects that are narrower than two such
    bands, and, inside of objects, where the picture changes by much: there one roof ends and another
    begins. Even roofs stay objects, ground further away stays background.

    Parameters
    ----------
    labels : ndarray of uint8, shape (rows, cols)
        Class ids, 0 background, `IGNORE`.
    pixels : ndarray of uint8, shape (bands, rows, cols)
        The picture.
    radius : (float, float)
        Width of the band on either side of an outline, in pixels along a row and along a column, rounded
        to at least 1. Seams are looked for at half of it: the morphological gradient of the mean of the
        bands, smoothed.

    Examples
    --------
    >>> labels = np.zeros((9, 9), np.uint8)
    >>> labels[2:7, 2:7] = 1
    >>> forget_rims(labels, np.zeros((3, 9, 9), np.uint8), (1.0, 1.0))[4].tolist()
    [0, 255, 255, 1, 1, 1, 255, 255, 0]
    """
    import torch
    from torch.nn.functional import avg_pool2d

    across, down = radius
    reach, half, third = ((_whole(down / n), _whole(across / n)) for n in (1, 2, 3))
    objects = torch.from_numpy((labels != 0) & (labels != IGNORE))[None].float()
    grown = _largest(objects, reach)
    closed = -_largest(-grown, reach)
    band = grown + _largest(-objects, reach)  # 1 where both lie within reach
    grey = torch.from_numpy(pixels).float().mean(0, keepdim=True)
    smooth = avg_pool2d(grey, [2 * side + 1 for side in third], 1, third, count_include_pad=False)
    seams = _largest(smooth, half) + _largest(-smooth, half)
    unknown = (band + closed * (1 - objects) + objects * (seams > _STEP)) > 0
    return np.where(unknown[0].numpy(), np.uint8(IGNORE), labels)


def _largest(values: torch.Tensor, reach: tuple[int, int]) -> torch.Tensor:
    """Return the largest value within `reach` rows and columns; what lies beyond the edge does not count."""
    from torch.nn.functional import max_pool2d

    return max_pool2d(values, [2 * side + 1 for side in reach], 1, reach)


def _whole(size: float) -> int:
    return max(1, round(size))
