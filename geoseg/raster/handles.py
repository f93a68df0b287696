"""Datasets that stay open from one read to the next: a few in each process.

GDAL keeps the blocks that it has unpacked (or fetched) with the dataset that they came from, so
windows that share blocks unpack them once only where they are read through the same dataset. A dataset
serves one thread at a time, so reads of one scene wait for each other: what that costs is less than
what several datasets would unpack again, and other scenes are not waited for. Only where `CROWD` threads
want one, as where a GPU has to be fed, is a file on this machine opened once more.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geoseg.raster.drivers import is_remote
from geoseg.raster.environment import caching

if TYPE_CHECKING:
    import rasterio

Key = tuple[str, int | None, bool]
"""Of a dataset: uri, overview, warped."""

Place = tuple[Key, int]
"""Of a handle: there may be several of a key."""

Enter = Callable[[contextlib.ExitStack], "rasterio.DatasetReader"]
"""Opens a dataset and registers with the stack what closes it."""

Cache = Callable[["rasterio.DatasetReader"], int]
"""Returns the bytes of a dataset's blocks that GDAL should keep."""

KEPT = 4
"""Datasets that stay open; a run needs one, or two where a stretch is measured on an overview."""

CROWD = 3
"""Threads that have a dataset or wait for it, from which on the next opens another."""

MOST = 3
"""Datasets of one file at most: as many threads unpack what a GPU infers in the same time, or nearly."""

Stamp = tuple[int, ...]
"""What changes when a file is replaced or written to."""


@dataclass(eq=False, slots=True)
class _Handle:
    """A dataset, or the place of one that is not open yet.

    `users` (those who have it or wait for it) and `gone` belong to `_guard`, the rest to whoever holds
    `lock`: its `owner`, who may have taken it several times.
    """

    place: Place
    lock: Any = field(default_factory=threading.RLock)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    dataset: rasterio.DatasetReader | None = None
    files: dict[str, Stamp | None] = field(default_factory=dict)
    cache: int = 0
    owner: int | None = None
    depth: int = 0
    users: int = 0
    gone: bool = False


_guard = threading.RLock()
_handles: OrderedDict[Place, _Handle] = OrderedDict()
_of_the_parent: list[object] = []


@contextlib.contextmanager
def kept_open(key: Key, enter: Enter, cache: Cache | None = None) -> Iterator[rasterio.DatasetReader]:
    """Give the dataset of `key` to this thread alone; open it if it is not, or if its files changed.

    What fails with it closes it.

    Parameters
    ----------
    key : Key
    enter : callable
        Opens the dataset.
    cache : callable, optional
        Returns the bytes that GDAL should keep while the dataset is open.
    """
    handle = _take(key)
    try:
        if handle.dataset is None:
            handle.dataset = enter(handle.stack)
            handle.files = {} if is_remote(key[0]) else _stamps(handle.dataset.files)
        if cache is not None and (size := cache(handle.dataset)) > handle.cache:
            handle.stack.enter_context(caching(size))
            handle.cache = size
        yield handle.dataset
    except BaseException:
        _drop(handle)
        raise
    finally:
        _leave(handle)


def close_kept(uri: str) -> None:
    """Close what is open of a file; what is in use, when it no longer is."""
    with _guard:
        for handle in [handle for (key, _), handle in _handles.items() if key[0] == uri]:
            _drop(handle)


def _take(key: Key) -> _Handle:
    """Return the handle of a key with its lock held; close those that were not used for long."""
    while True:
        with _guard:
            place = _choose(key)
            handle = _handles.setdefault(place, _Handle(place))
            _handles.move_to_end(place)
            handle.users += 1
            for other in list(_handles.values())[:-KEPT]:
                _drop(other)
        handle.lock.acquire()
        handle.owner, handle.depth = threading.get_ident(), handle.depth + 1
        if not handle.gone and handle.files == _stamps(handle.files):
            return handle
        _drop(handle)
        _leave(handle)


def _choose(key: Key) -> Place:
    """Return the place of the handle that this thread has already, or of the one that fewest want."""
    users = {place: handle.users for place, handle in _handles.items() if place[0] == key}
    mine = [place for place in users if _handles[place].owner == threading.get_ident()]
    if mine:  # else two threads might wait for each other
        return mine[0]
    least = min(users, key=users.__getitem__, default=(key, 0))
    if users.get(least, 0) < CROWD or len(users) == MOST or is_remote(key[0]):
        return least
    return next(place for number in range(MOST) if (place := (key, number)) not in users)


def _leave(handle: _Handle) -> None:
    handle.depth -= 1
    if not handle.depth:
        handle.owner = None
    with _guard:
        handle.users -= 1
        if handle.gone and not handle.users:
            handle.stack.close()
    handle.lock.release()


def _drop(handle: _Handle) -> None:
    """Let nobody else have a dataset, and close it once nobody uses it."""
    with _guard:
        if handle.gone:
            return
        handle.gone = True
        if _handles.get(handle.place) is handle:
            del _handles[handle.place]
        if not handle.users:
            handle.stack.close()


def _stamps(names: Iterable[str]) -> dict[str, Stamp | None]:
    """Return the state of files by name; None for what is no file (yet, or any more)."""
    return {name: _stamp(name) for name in names}


def _stamp(name: str) -> Stamp | None:
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _after_fork() -> None:
    """Open anew in a child: what is open is the parent's, down to the places in the files.

    It is not even closed: another thread of the parent may have been inside GDAL.
    """
    global _guard, _handles
    _of_the_parent.append(_handles)
    _guard, _handles = threading.RLock(), OrderedDict()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
