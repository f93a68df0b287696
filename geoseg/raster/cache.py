"""How much GDAL should keep of what it unpacks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

BLOCK_CACHE = 64 << 20
"""Bytes that GDAL may keep of the blocks of open files; its default is 5 % of the machine's memory."""

LARGEST_CACHE = 512 << 20
"""Bytes above which a file of strips is rather unpacked again and again."""

TILED_WINDOWS, STRIPED_WINDOWS = 6, 32
"""Windows, with what else is in their blocks, that are kept at most of a file of tiles, and of one of
strips: where windows are small, memory is scarce."""


def useful_cache(block: tuple[int, int], width: int, window: tuple[int, int], pixel: int) -> int:
    """Return how many bytes GDAL should keep of a file, so that neighbouring windows unpack it once.

    Windows come row by row; threads begin a row before the last of the row above is read. Room for two
    rows is enough for all. Of tiles, less costs little: those between a window and the next to its
    right come first. Strips reach across the whole file, and all that a window touches are wanted by
    each window to its right: there much is given, and no more than for tiles where that is not enough.

    Parameters
    ----------
    block : tuple of int
        Rows and columns of the file's blocks.
    width : int
        Columns of the file.
    window : tuple of int
        Rows and columns of a window, at most.
    pixel : int
        Bytes of a pixel, see `pixel_bytes`.

    Returns
    -------
    int
        At most `BLOCK_CACHE` for tiles, `LARGEST_CACHE` for strips.
    """
    height, across = block
    rows, cols = window
    two, one = ((count * rows + 2 * height) * width * pixel for count in (2, 1))
    area = (rows + height) * min(cols + across, width) * pixel
    if across >= width:
        limit = min(STRIPED_WINDOWS * area, LARGEST_CACHE)
        for needed in (two, one):
            if needed <= limit:
                return needed
    return min(two, TILED_WINDOWS * area, BLOCK_CACHE)


def pixel_bytes(scene: SceneInfo) -> int:
    """Return the bytes of a pixel of a scene as GDAL keeps it: all bands, alpha and masks."""
    stored = scene.stored_bands
    bands = len(stored) + len(scene.alpha)
    masks = {"none": 0, "dataset": 1, "bands": len(stored)}[scene.mask]
    return bands * max(np.dtype(band.dtype).itemsize for band in stored) + masks
