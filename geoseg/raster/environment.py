"""GDAL's settings, the size of its cache, and reads over a network that are tried again.

Of a URL GDAL fetches the blocks of a window side by side, neighbours in one request, and asks again after
HTTP 429, 500, 502, 503 and 504. It does not ask again after an answer that ends half-way: that is done here.

Network options: https://gdal.org/en/stable/user/virtual_file_systems.html#vsicurl-http-https-ftp-files-random-access
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TypeVar

import rasterio
from rasterio._env import set_proj_data_search_path
from rasterio.env import GDALDataFinder, PROJDataFinder, get_gdal_config, set_gdal_config
from rasterio.errors import RasterioError

from geoseg.raster.drivers import is_remote

BLOCK_CACHE = 64 << 20
"""Bytes that GDAL may keep of the blocks of open files; its default is 5 % of the machine's memory."""

LARGEST_CACHE = 512 << 20
"""Bytes above which a file of strips is rather unpacked again and again."""

TILED_WINDOWS, STRIPED_WINDOWS = 6, 32
"""Windows, with what else is in their blocks, that are kept at most of a file of tiles, and of one of
strips: where windows are small, memory is scarce."""

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
        Bytes of blocks for `caching`; None: the caller sets it.
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
    """Set the size of GDAL's cache of file blocks in bytes, for the process; of several, the largest counts.

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


def useful_cache(block: tuple[int, int], width: int, window: tuple[int, int], pixel: int) -> int:
    """Return the bytes of cache with which neighbouring windows unpack each block of a file once.

    Windows come row by row, and threads begin a row before the last window of the row above is read: two
    rows of windows are enough. A file of strips keeps two rows where they fit, else one, else what a file
    of tiles keeps. A file of tiles keeps up to `TILED_WINDOWS` windows: less costs little there.

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
    one, two = (rows + 2 * height) * width * pixel, (2 * rows + 2 * height) * width * pixel
    area = (rows + height) * min(cols + across, width) * pixel
    if across >= width:
        limit = min(STRIPED_WINDOWS * area, LARGEST_CACHE)
        for needed in (two, one):
            if needed <= limit:
                return needed
    return min(two, TILED_WINDOWS * area, BLOCK_CACHE)


Result = TypeVar("Result")
PAUSES = (0.5, 2.0)
"""Seconds before what failed is done again."""

_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",  # the directories of most files in one request
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "CPL_VSIL_CURL_CHUNK_SIZE": "16384",  # what is fetched of a directory that is longer than that
    "CPL_VSIL_CURL_CACHE_SIZE": str(16 << 20),  # bytes, of the process
    "VSI_CACHE": "FALSE",  # one more cache, of each open file
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",  # seconds; about doubled each time
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",  # bytes a second, for the time below: a dead server is an error
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
}

# Asking again does not help, or GDAL has done so.
_FINAL = re.compile(
    r"response code: \d|too slow|timed out|connect to|resolve host|certificate|SSL|Credentials|AccessDenied"
    r"|not recognized|not a raster|does not exist"
)
_known_lock = threading.Lock()
_known: set[str] = set()  # URLs of which GDAL's cache may hold something


def network_options(uri: str) -> dict[str, str]:
    """Return GDAL's options for reading `uri` and no other; the user's environment goes first."""
    options = {name: value for name, value in _OPTIONS.items() if name not in os.environ}
    return options | {"CPL_VSIL_CURL_ALLOWED_FILENAME": uri}


def remember(uri: str) -> None:
    """Note that GDAL's cache may hold something of a URL from now on."""
    _known.add(uri)


def forget(uri: str) -> None:
    """Let GDAL forget what it knows of a URL, of which nothing is open: it may have changed."""
    with _known_lock:
        if uri not in _known:
            return
        _known.discard(uri)
        # GDAL's cache outlives the datasets, but for a file of this option, of which it goes at closing.
        options = network_options(uri) | {"CPL_VSIL_CURL_NON_CACHED": uri}
        with contextlib.suppress(RasterioError), rasterio.Env(**options):
            rasterio.open(uri, driver="GTiff", sharing=False).close()


def persistently(
    read: Callable[[], Result],
    anew: Callable[[], None],
    reason_of: Callable[[BaseException], str],
    errors: tuple[type[Exception], ...],
) -> Result:
    """Read, and try again after failures that may pass.

    Parameters
    ----------
    anew : callable
        Called in between: closes what is open, forgets what is known.
    reason_of : callable
        Returns GDAL's reason for an error of `errors`.
    """
    for pause in PAUSES:
        try:
            return read()
        except errors as error:
            if _FINAL.search(reason_of(error)):
                raise
        anew()
        time.sleep(pause)
    return read()


def explained(uri: str, reason: str) -> str | None:
    """Say in plain words why a URL cannot be read; None: GDAL's reason is all that is known.

    Parameters
    ----------
    reason : str
        GDAL's.
    """
    if found := re.search(r"response code: (\d+)", reason):
        code = found[1]
        if code in {"401", "403"}:
            return f"access denied (HTTP {code})"
        return f"no such file (HTTP {code})" if code in {"404", "410"} else f"the server says HTTP {code}"
    if "too slow" in reason or "timed out" in reason:
        return "the server does not answer"
    if "connect to" in reason or "resolve host" in reason:
        return f"no connection to the server ({reason.removeprefix('CURL error: ')})"
    if "not recognized" in reason and _ignores_ranges(uri):
        return "the server does not serve parts of files (byte ranges); download the file"
    return None


def _ignores_ranges(uri: str) -> bool:
    """Ask the server for one byte, and see whether the whole file is offered."""
    url = uri.removeprefix("/vsicurl/")
    if not url.startswith(("http://", "https://")):
        return False
    request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status) == 200
    except (OSError, ValueError):
        return False
