"""How GDAL is set up for reading and writing, and how much of what it unpacks it may keep."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import rasterio
from rasterio._env import set_proj_data_search_path
from rasterio.env import GDALDataFinder, PROJDataFinder, get_gdal_config, set_gdal_config

from geoseg.raster.drivers import is_remote
from geoseg.raster.remote import network_options

BLOCK_CACHE = 64 << 20
"""Bytes that GDAL may keep of the blocks of open files; its default is 5 % of the machine's memory."""

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
_lock = threading.Lock()
_wanted: list[int] = []  # of GDAL's cache, which is of the process
_callers = [BLOCK_CACHE]  # size of the cache, put back when nothing of geoseg's is open


@contextlib.contextmanager
def environment(uri: str, cache: int | None = BLOCK_CACHE) -> Iterator[None]:
    """Set GDAL up for reading or writing `uri`, with the data files that belong to this GDAL.

    Parameters
    ----------
    cache : int or None
        Bytes of blocks for `caching`; None: somebody else sees to that.
    """
    # A URL allows that one file and no other. Set even though it is the default elsewhere: what the
    # main thread configures, other threads see unless they set it themselves.
    options = _CONFIGURATION | (network_options(uri) if is_remote(uri) else _LOCAL)
    # A PROJ_DATA or GDAL_DATA of another installation (conda, QGIS) breaks the wheel's own libraries.
    gdal_data, proj_data = GDALDataFinder().search_wheel(), PROJDataFinder().search_wheel()
    if gdal_data:
        options["GDAL_DATA"] = gdal_data
    if proj_data and ("PROJ_DATA" in os.environ or "PROJ_LIB" in os.environ):
        set_proj_data_search_path(proj_data)
    with rasterio.Env(**options), contextlib.nullcontext() if cache is None else caching(cache):
        yield


@contextlib.contextmanager
def caching(size: int) -> Iterator[None]:
    """Let GDAL keep so many bytes of blocks, over all open files of the process; of several, the most.

    The user's environment variable GDAL_CACHEMAX goes first.
    """
    with _lock:
        if not _wanted:
            _callers[0] = int(get_gdal_config("GDAL_CACHEMAX"))
        _wanted.append(size)
        _fit_cache()
    try:
        yield
    finally:
        with _lock:
            _wanted.remove(size)
            _fit_cache()


def _fit_cache() -> None:
    if "GDAL_CACHEMAX" in os.environ:
        return
    # Of the process; an Env would undo it at its end.
    set_gdal_config("GDAL_CACHEMAX", max(_wanted, default=_callers[0]))
