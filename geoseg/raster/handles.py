"""Datasets that stay open from one read to the next: a few in each process.

GDAL keeps the blocks that it has unpacked (or fetched) with the dataset that they came from, so
windows that share blocks unpack them once only where they are read through the same dataset. A dataset
serves one thread at a time, so reads of one scene wait for each other: what that costs is less than
what several datasets would unpack again, and other scenes are not waited for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geoseg.raster.drivers import is_remote
from geoseg.raster.environment import BLOCK_CACHE, caching

if TYPE_CHECKING:
    import rasterio

Key = tuple[str, int | None, bool]
"""Of a dataset: uri, overview, warped."""

Enter = Callable[[contextlib.ExitStack], "rasterio.DatasetReader"]
"""Opens a dataset and registers with the stack what closes it."""

Cache = Callable[["rasterio.DatasetReader"], int]
"""Returns the bytes of a dataset's blocks that GDAL should keep."""

KEPT = 4
"""Datasets that stay open; a run needs one, or two where a stretch is measured on an overview."""

LARGEST_CACHE = 512 << 20
"""Bytes above which a file of strips is rather unpacked again and again."""

TILED_WINDOWS, STRIPED_WINDOWS = 6, 32
"""Windows, with what else is in their blocks, that are kept at most of a file of tiles, and of one of
strips: where windows are small, memory is scarce."""

Stamp = tuple[int, ...]
"""What changes when a file is replaced or written to."""


@dataclass(eq=False, slots=True)
class _Handle:
    """A dataset, or the place of one that is not open yet.

    `_guard` protects `users` (threads that have it or wait for it) and `gone`, `lock` the rest.
    """

    lock: Any = field(default_factory=threading.RLock)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    dataset: rasterio.DatasetReader | None = None
    files: dict[str, Stamp | None] = field(default_factory=dict)
    cache: int = 0
    users: int = 0
    gone: bool = False


_guard = threading.RLock()
_handles: OrderedDict[Key, _Handle] = OrderedDict()
_of_the_parent: list[object] = []


@contextlib.contextmanager
def kept_open(key: Key, enter: Enter, cache: Cache | None = None) -> Iterator[rasterio.DatasetReader]:
    """Give the dataset of `key` to this thread alone; open it if it is not, or if its files changed.

    What fails with it closes it.

    Parameters
    ----------
    enter : callable
        Opens the dataset.
    cache : callable, optional
        Returns the bytes that GDAL should keep while the dataset is open.
    """
    handle = _take(key)
    try:
        if handle.dataset is None:
            handle.dataset = enter(handle.stack)
            names = () if is_remote(key[0]) else handle.dataset.files
            handle.files = {name: stamp(name) for name in names}
        if cache is not None and (size := cache(handle.dataset)) > handle.cache:
            handle.stack.enter_context(caching(size))
            handle.cache = size
        yield handle.dataset
    except BaseException:
        _drop(key, handle)
        raise
    finally:
        _leave(handle)


def close_kept(uri: str) -> None:
    """Close what is open of a file; what is in use, when it no longer is."""
    with _guard:
        for key in [key for key in _handles if key[0] == uri]:
            _drop(key, _handles[key])


def useful_cache(block: tuple[int, int], width: int, window: tuple[int, int], pixel: int) -> int:
    """Return how many bytes GDAL should keep of a file, so that neighbouring windows unpack it once.

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


def _take(key: Key) -> _Handle:
    """Return the handle of a key with its lock held; close those that were not used for long."""
    while True:
        with _guard:
            handle = _handles.setdefault(key, _Handle())
            _handles.move_to_end(key)
            handle.users += 1
            for other in list(_handles)[:-KEPT]:
                _drop(other, _handles[other])
        handle.lock.acquire()
        if not handle.gone and handle.files == {name: stamp(name) for name in handle.files}:
            return handle
        _drop(key, handle)
        _leave(handle)


def _leave(handle: _Handle) -> None:
    with _guard:
        handle.users -= 1
        if handle.gone and not handle.users:
            handle.stack.close()
    handle.lock.release()


def _drop(key: Key, handle: _Handle) -> None:
    """Let nobody else have a dataset, and close it once nobody uses it."""
    with _guard:
        if handle.gone:
            return
        handle.gone = True
        if _handles.get(key) is handle:
            del _handles[key]
        if not handle.users:
            handle.stack.close()


def stamp(name: str) -> Stamp | None:
    """Return the state of a file; None for what is no file (yet, or any more)."""
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(name)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _after_fork() -> None:
    """Open files anew in a child: the parent's share their positions with it.

    The parent's are not closed: another thread of the parent may have been inside GDAL.
    """
    global _guard, _handles
    _of_the_parent.append(_handles)
    _guard, _handles = threading.RLock(), OrderedDict()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
