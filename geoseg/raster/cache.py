"""How much GDAL should keep of what it unpacks. Pure."""

from __future__ import annotations

BLOCK_CACHE = 64 << 20
"""Bytes that GDAL may keep of the blocks of open files; its default is 5 % of the machine's memory."""

LARGEST_CACHE = 512 << 20
"""Bytes above which a file of strips is rather unpacked again and again."""


def useful_cache(block: tuple[int, int], width: int, rows: int, pixel: int) -> int:
    """Return how many bytes GDAL should keep of a file, so that neighbouring windows unpack it once.

    Windows come row by row. Of tiles, those between a window and the next are enough, and `BLOCK_CACHE`
    holds these. Strips reach across the whole file: all that a window touches are wanted by each
    window to its right. Threads begin a row of windows before the last of the row above is read: room
    for both keeps them from driving each other's strips out.

    Parameters
    ----------
    block : tuple of int
        Rows and columns of the file's blocks.
    width : int
        Columns of the file.
    rows : int
        Rows of a window, at most.
    pixel : int
        Bytes of a pixel in all bands.

    Returns
    -------
    int
        `BLOCK_CACHE` at least, `LARGEST_CACHE` at most.
    """
    height, across = block
    if across < width:
        return BLOCK_CACHE
    needed = ((count * rows + 2 * height) * width * pixel for count in (2, 1))
    return max(BLOCK_CACHE, next((size for size in needed if size <= LARGEST_CACHE), 0))
