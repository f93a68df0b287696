"""How GDAL is set up for reading and writing, and how much of what it unpacks it may keep."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import rasterio
from rasterio._env import set_proj_data_search_path
from rasterio.env import GDALDataFinder, PROJDataFinder, set_gdal_config

from geoseg.raster.cache import BLOCK_CACHE
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
_allowed = BLOCK_CACHE  # of GDAL's cache, which is of the process


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


def allow_cache(size: int) -> None:
    """Let GDAL keep so many bytes of blocks over all open files of the process; not less than usual.

    The user's environment variable GDAL_CACHEMAX goes first.
    """
    global _allowed  # noqa: PLW0603 (GDAL has one cache, and it has one size)
    _allowed = max(size, BLOCK_CACHE)
    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", _allowed)  # of the process; an Env would undo it at its end
