"""Opening datasets with GDAL, keeping a few open in each process, and how its exceptions become one line.

Only with what `geoseg.raster.source.resolve` has found to be safe.

GDAL keeps the blocks that it has unpacked (or fetched) with the dataset that they came from, so windows that
share blocks unpack them once only where they are read through the same dataset. A dataset serves one thread
at a time, so reads of one scene wait for each other: what that costs is less than what several datasets
would unpack again, and other scenes are not waited for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT

from geoseg.errors import UnreadableScene, silenced
from geoseg.raster.drivers import is_remote, remote_uri
from geoseg.raster.environment import (
    BLOCK_CACHE,
    caching,
    environment,
    explained,
    forget,
    persistently,
    remember,
    useful_cache,
)

Result = TypeVar("Result")

MOST_THREADS = 4
"""Threads that unpack the blocks of a window of a GeoTIFF, few, as each takes memory."""

Key = tuple[str, int | None, bool]
"""Of a dataset: uri, overview, warped."""

Enter = Callable[[contextlib.ExitStack], rasterio.DatasetReader]
"""Opens a dataset and registers with the stack what closes it."""

Reads = tuple[tuple[int, int], int]
"""Of windows that are read one after the other: rows and columns, at most, and bytes of a pixel."""

KEPT = 4
"""Datasets that stay open; a run needs one, or two where a stretch is measured on an overview."""


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


_threads = [os.environ.get("GDAL_NUM_THREADS", str(min(MOST_THREADS, os.cpu_count() or 1)))]

_UNKNOWN = "not recognized as being in a supported"

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises: its own errors, and where it forgets to wrap them (closing, copying), GDAL's."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something that is safe to hand to GDAL."""

    uri: str
    """Absolute path, or a ``/vsi…`` path for a URL."""
    drivers: tuple[str, ...]
    """Drivers to try, in order; one for a local file."""
    name: str
    """What the user called it, for messages."""


@contextlib.contextmanager
def translating(name: str) -> Iterator[None]:
    """Turn what rasterio and GDAL raise into `UnreadableScene`: one line with the innermost reason."""
    try:
        yield
    except UnreadableScene:
        raise
    except (*GDAL_ERRORS, OSError) as error:
        reason = reason_of(error)
        unknown = _UNKNOWN in reason
        message = "not a raster that GDAL can read" if unknown else f"cannot be read ({reason})"
        if (uri := remote_uri(name)) is not None:
            message = explained(uri, reason) or message
        raise UnreadableScene(f"{name}: {message}") from error


def reading(source: Source | str, read: Callable[[], Result]) -> Result:
    """Call `read`, which opens and reads a scene; of a URL, try again where the network failed.

    Raises
    ------
    UnreadableScene
        See `translating`.
    """
    uri, name = (source.uri, source.name) if isinstance(source, Source) else (source, source)
    with translating(name):
        return persistently(read, partial(anew, uri), reason_of, GDAL_ERRORS) if is_remote(uri) else read()


def anew(uri: str) -> None:
    """Close a file and forget what is cached of it: it may have changed."""
    close_kept(uri)
    if is_remote(uri):
        forget(uri)


@contextlib.contextmanager
def opened(
    uri: str,
    drivers: tuple[str, ...],
    *,
    overview: int | None = None,
    warped: bool = False,
    quiet: bool = True,
    within: str | None = None,
    reads: Reads | None = None,
) -> Iterator[rasterio.DatasetReader]:
    """Open a raster for reading.

    Every call opens and closes a dataset of its own, but for URLs and what is to be kept.

    Parameters
    ----------
    uri, drivers
        From `resolve`.
    overview : int or None
        Overview to read instead of full resolution, 0 is the first.
    warped : bool
        View a raster that has only ground control points on the regular grid that they imply.
    quiet : bool
        Silence rasterio's warning about missing georeference: geoseg says it in its own words.
    within : str or None
        For `uri` that is a mosaic of geoseg's own making: the raster that it shows.
    reads : tuple, optional
        Keep the dataset open for the next call, and of its blocks what such windows share. Those of a
        GeoTIFF are then unpacked on up to four cores.

    Raises
    ------
    rasterio.errors.RasterioError
        To be wrapped by `translating`.
    """
    options = {} if overview is None else {"overview_level": overview}

    def enter(stack: contextlib.ExitStack) -> rasterio.DatasetReader:
        for driver in drivers:
            more = {"num_threads": _threads[0] if reads else "1"} if driver == "GTiff" else {}
            try:
                with silenced(NotGeoreferencedWarning) if quiet else contextlib.nullcontext():
                    dataset = rasterio.open(uri, driver=driver, sharing=False, **options, **more)
            except GDAL_ERRORS as error:
                if driver == drivers[-1] or _UNKNOWN not in reason_of(error):
                    raise
            else:
                stack.enter_context(dataset)
                return stack.enter_context(_warped(dataset)) if warped else dataset
        raise ValueError("no driver to try")

    cache = BLOCK_CACHE if reads is None else None
    with environment(within or uri, cache), contextlib.ExitStack() as stack:
        if is_remote(uri):
            remember(uri)
        if reads is not None or is_remote(uri):
            yield stack.enter_context(kept_open((uri, overview, warped), enter, reads))
        else:
            yield enter(stack)


def unpack_on(cores: int) -> None:
    """Let GDAL unpack on at most so many threads; the user's GDAL_NUM_THREADS goes first.

    With one of several GDAL takes twice the time of the CPU, and unpacks anew what it has in its cache.
    """
    if "GDAL_NUM_THREADS" not in os.environ:
        _threads[0] = str(min(MOST_THREADS, cores))


def _after_fork() -> None:
    """In a child open files anew, as the parent's share their positions with it, and unpack on one thread.

    GDAL would wait for threads that only the parent has. The parent's files are not closed: another thread
    of the parent may have been inside GDAL.
    """
    global _guard, _handles
    _threads[0] = "1"
    _of_the_parent.append(_handles)
    _guard, _handles = threading.RLock(), OrderedDict()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _warped(dataset: rasterio.DatasetReader) -> WarpedVRT:
    crs = dataset.gcps[1]
    palette = dataset.colorinterp[0].name == "palette"
    has_alpha = "alpha" in [color.name for color in dataset.colorinterp]
    return WarpedVRT(
        dataset,
        src_crs=crs,
        crs=crs,
        resampling=Resampling.nearest if palette else Resampling.bilinear,
        add_alpha=dataset.nodata is None and not has_alpha,
        tolerance=0,  # exact positions: a pixel is the same through any window
    )


def reason_of(error: BaseException) -> str:
    """Return the innermost message of a chain of exceptions as one line: GDAL's own reason comes last."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def kept_open(key: Key, enter: Enter, reads: Reads | None = None) -> Iterator[rasterio.DatasetReader]:
    """Give the dataset of `key` to this thread alone; open it if it is not, or if its files changed.

    What fails with it closes it.

    Parameters
    ----------
    enter : callable
        Opens the dataset.
    reads : tuple, optional
        What GDAL should keep blocks for while the dataset is open.
    """
    handle = _take(key)
    try:
        if handle.dataset is None:
            handle.dataset = enter(handle.stack)
            names = () if is_remote(key[0]) else handle.dataset.files
            handle.files = {name: stamp(name) for name in names}
        size = useful_cache(handle.dataset.block_shapes[0], handle.dataset.width, *reads) if reads else 0
        if size > handle.cache:
            handle.stack.enter_context(caching(size))
            handle.cache = size
        yield handle.dataset
    except BaseException:
        _drop(key, handle)
        raise
    finally:
        _leave(handle)


def close_kept(uri: str) -> None:
    """Close the datasets of a file; those in use, once they are not."""
    with _guard:
        for key in [key for key in _handles if key[0] == uri]:
            _drop(key, _handles[key])


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
    """Hand a dataset out no more, and close it once no thread uses it."""
    with _guard:
        if handle.gone:
            return
        handle.gone = True
        if _handles.get(key) is handle:
            del _handles[key]
        if not handle.users:
            handle.stack.close()


def stamp(name: str) -> Stamp | None:
    """Return the state of a file; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(name)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return None
