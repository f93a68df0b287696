"""How GDAL is set up for reading and writing, and how much of what it unpacks it may keep."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import rasterio
from rasterio._env import set_proj_data_search_path
from rasterio.env import GDALDataFinder, PROJDataFinder, set_gdal_config

from geoseg.raster.drivers import is_remote
from geoseg.raster.remote import network_options

_CONFIGURATION = {
    "GDAL_VRT_ENABLE_PYTHON": "NO",  # code in a VRT is never run
    # Else the missing part of a truncated file is read as grey, zeros or whatever the memory held.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}
_LOCAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",  # else .msk, .ovr and .aux.xml are not seen
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",  # a local file has no business on the network
}

BLOCK_CACHE = 64 << 20
"""Bytes that GDAL may keep of the blocks of open files; its default is 5 % of the machine's memory."""

LARGEST_CACHE = 512 << 20
"""Bytes above which a file of strips is rather unpacked again and again."""


@contextlib.contextmanager
def environment(uri: str) -> Iterator[None]:
    """Set GDAL up for reading or writing `uri`, with the data files that belong to this GDAL."""
    # A URL allows that one file and no other. Set even though it is the default elsewhere: what the
    # main thread configures, other threads see unless they set it themselves.
    options = _CONFIGURATION | (network_options(uri) if is_remote(uri) else _LOCAL)
    # A PROJ_DATA or GDAL_DATA of another installation (conda, QGIS) breaks the wheel's own libraries.
    gdal_data, proj_data = GDALDataFinder().search_wheel(), PROJDataFinder().search_wheel()
    if gdal_data:
        options["GDAL_DATA"] = gdal_data
    if proj_data and ("PROJ_DATA" in os.environ or "PROJ_LIB" in os.environ):
        set_proj_data_search_path(proj_data)
    allow_cache(_allowed)
    with rasterio.Env(**options):
        yield


_allowed = BLOCK_CACHE


def allow_cache(size: int) -> None:
    """Let GDAL keep so many bytes of blocks, over all open files of the process.

    The user's environment variable GDAL_CACHEMAX goes first.
    """
    global _allowed  # noqa: PLW0603 (GDAL's cache is of the process, and so is its size)
    _allowed = size
    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", size)  # of the process; an Env would undo it at its end


def useful_cache(block: tuple[int, int], width: int, rows: int, pixel: int) -> int:
    """Return how many bytes GDAL should keep of a file, so that neighbouring windows unpack it once.

    Windows come row by row. Of tiles, those between a window and the next are enough, and `BLOCK_CACHE`
    holds these. Strips reach across the whole file: all that a window touches are wanted by each
    window to its right.

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
    """
    height, across = block
    needed = (rows + 2 * height) * width * pixel
    strips = across >= width
    return needed if strips and BLOCK_CACHE < needed <= LARGEST_CACHE else BLOCK_CACHE
