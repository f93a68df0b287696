"""Pictures of a tile for a page: scene, classes, and what differs, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

Color = tuple[int, int, int]

LARGEST = 400
"""Pixels of the longer side of a picture: sharp at the width that four in a row have on a screen."""

RIGHT, HIT, MISSED, FALSE, CONFUSED, UNKNOWN, UNKNOWN_LINE = range(7)
"""Values of `difference`: rightly nothing, found, missed, invented, the wrong class, no truth (hatched)."""

DIFFERENCE_COLORS: Mapping[int, Color] = {
    HIT: (176, 186, 196),
    MISSED: (0, 114, 178),
    FALSE: (230, 159, 0),
    CONFUSED: (204, 121, 167),
    UNKNOWN: (224, 224, 220),
    UNKNOWN_LINE: (140, 140, 136),
}
"""Errors in the colours of Okabe and Ito (2008), which colour-blind readers tell apart and which differ
in lightness on paper too; what is right is grey, what is rightly nothing is transparent."""

_HATCH = 8
_Pixel = TypeVar("_Pixel", bound=np.generic)


def difference(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], known: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return what is right and what is wrong at each pixel.

    Parameters
    ----------
    truth, prediction : ndarray of uint8, shape (rows, cols)
        Class ids; 0 is the background.
    known : ndarray of bool, shape (rows, cols)
        False: there is no truth, or no prediction, to compare.

    Returns
    -------
    ndarray of uint8, shape (rows, cols)
        `RIGHT` … `UNKNOWN`.
    """
    result = np.full(truth.shape, RIGHT, np.uint8)
    result[(truth != 0) & (truth == prediction)] = HIT
    result[(truth != 0) & (prediction == 0)] = MISSED
    result[(truth == 0) & (prediction != 0)] = FALSE
    result[(truth != 0) & (prediction != 0) & (truth != prediction)] = CONFUSED
    result[~known] = UNKNOWN
    return result


def scene_picture(scene: NDArray[np.uint8]) -> str:
    """Return a scene of shape (3 or 1, rows, cols) as a JPEG in a data URI, averaged where it is large."""
    from PIL import Image

    colors = np.broadcast_to(scene, (3, *scene.shape[1:]))
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(colors, 0, 2)))
    size = _shown(image.height, image.width)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BOX)
    return _data_uri(image, "jpeg", quality=82, optimize=True)


def class_picture(classes: NDArray[np.uint8], known: NDArray[np.bool_], colors: Mapping[int, Color]) -> str:
    """Return class ids as a PNG in a data URI: the background is transparent, unknown pixels hatched.

    Parameters
    ----------
    classes : ndarray of uint8, shape (rows, cols)
        Class ids; 0 is the background.
    known : ndarray of bool, shape (rows, cols)
        False pixels are hatched, whatever their class.
    colors : mapping of int to (red, green, blue)
        Of the classes; one that is missing is black.
    """
    values = _thin(classes)
    known = _thin(known)
    # Class ids reach 255: they are numbered anew, so that two entries are left for the hatching.
    present = [int(value) for value in np.unique(values[known]) if value][:253]
    codes = np.zeros(256, np.uint8)
    codes[present] = np.arange(len(present)) + 1
    indices = codes[values]
    fill, stroke = len(present) + 1, len(present) + 2
    indices[~known] = _hatched(values.shape, fill, stroke)[~known]
    palette = [(255, 255, 255), *(colors.get(value, (0, 0, 0)) for value in present)]
    palette += [DIFFERENCE_COLORS[UNKNOWN], DIFFERENCE_COLORS[UNKNOWN_LINE]]
    return _palette_png(indices, palette)


def difference_picture(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], known: NDArray[np.bool_]
) -> str:
    """Return `difference` as a PNG in a data URI, in `DIFFERENCE_COLORS`."""
    indices = difference(_thin(truth), _thin(prediction), _thin(known))
    unknown = indices == UNKNOWN
    indices[unknown] = _hatched(indices.shape, UNKNOWN, UNKNOWN_LINE)[unknown]
    return _palette_png(indices, [(255, 255, 255), *(DIFFERENCE_COLORS[k] for k in range(1, 7))])


def _shown(height: int, width: int) -> tuple[int, int]:
    """Return (width, height) of the picture of a tile: a whole fraction of it, so that all four fit."""
    step = _step(height, width)
    return -(-width // step), -(-height // step)


def _step(height: int, width: int) -> int:
    return max(1, -(-max(height, width) // LARGEST))


def _thin(array: NDArray[_Pixel]) -> NDArray[_Pixel]:
    """Keep the pixel in the middle of each cell: a class has no average."""
    step = _step(*array.shape)
    rows, cols = (np.minimum(np.arange(0, side, step) + step // 2, side - 1) for side in array.shape)
    return array[np.ix_(rows, cols)]


def _hatched(shape: tuple[int, int], fill: int, stroke: int) -> NDArray[np.uint8]:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.where((rows + cols) % _HATCH < 2, stroke, fill).astype(np.uint8)


def _palette_png(indices: NDArray[np.uint8], palette: list[Color]) -> str:
    from PIL import Image

    image = Image.fromarray(indices)
    image.putpalette([value for color in palette for value in color])
    return _data_uri(image, "png", optimize=True, transparency=0)


def _data_uri(image: Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
