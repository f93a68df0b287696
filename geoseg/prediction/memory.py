"""How much memory a run takes at its peak, by its plan and its resources, and how much it may have.

Every figure that is not the size of an array in `geoseg.prediction` (blocks, reading), `geoseg.grid`,
`geoseg.raster.scene` or `geoseg.vector` was measured as the peak resident size of runs, and rounded up.
The sum is meant to be a ceiling: at least what a run takes, and not much more.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoseg.grid import Axis
from geoseg.prediction.plan import Plan
from geoseg.prediction.resources import Resources
from geoseg.raster.describe import pixel_bytes
from geoseg.raster.handles import useful_cache

LIBRARIES = 210_000_000
"""The interpreter and what a prediction imports, without a backend."""

CLUSTER_LIBRARIES = 50_000_000
"""What dask.distributed and its scheduler add to the process that starts a local cluster."""

WORKER_LIBRARIES = 150_000_000
"""A worker's interpreter, dask.distributed and what is imported to read, infer and trace: it writes
nothing, and what that imports is the larger part of `LIBRARIES`."""

WRITING = 105_000_000
"""Shaping a batch of polygons and writing it: vertices, a table, the format's own buffers."""

RASTER = 60_000_000
"""Writing a raster, its cache aside: buffers of the compressing threads, overviews."""

STRIP = 1 << 24
"""Pixels of each band that `geoseg.raster.scene` holds at a time while it reads."""

OUTLINE = 16
"""Bytes that tracing takes for outlines, for each pixel of a block: of a city, one in fifteen."""

PART = 60
"""Bytes of unfinished polygons that wait at the lower seam, for each column of the grid."""

ADDRESSES = 15 * 10**8
"""Address space that libraries and stacks of threads reserve and never use, measured (up to 1.25 GB) and
rounded up."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a run takes at its peak.

    Parameters
    ----------
    parts : tuple of (str, int)
        What for, and bytes; over all processes of the run on this machine.
    """

    parts: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(size for _, size in self.parts)


def memory_use(plan: Plan, resources: Resources) -> MemoryUse:
    """Return what a run takes at its peak, over all of its processes on this machine.

    What runs on the workers of somebody's cluster is counted as one process with the threads of
    `resources`: there the result is what the run takes here and on one worker.

    Parameters
    ----------
    plan : Plan
    resources : Resources
    """
    separate = not resources.alone
    workers, blocks = resources.workers or 1, math.prod(plan.tiles.block_shape)
    inferring, threads = min(workers, blocks), min(workers * resources.threads, blocks)
    extent, network = _extent(plan), resources.network
    busy = min(resources.threads * (resources.batch if network.requests else 1), network.requests or 1 << 30)
    tile = plan.tiles.rows.size * plan.tiles.cols.size
    at_work = max(_inferring(plan, extent, resources), _blending(plan, extent), _tracing(plan, extent))
    parts = {
        "libraries": LIBRARIES + separate * (CLUSTER_LIBRARIES + workers * WORKER_LIBRARIES),
        # The process that shares out the work has loaded the model too, to plan with.
        "model": separate * network.fixed + inferring * int(network.fixed + busy * network.pixel * tile),
        "blocks at work": threads * at_work,
        "blocks in flight": min(resources.in_flight, blocks)
        * _waiting(plan, extent, read=separate and resources.gpu),
        "strips between blocks": _between_rows(plan),
        "polygons": WRITING + PART * plan.grid.width,
        "file cache": _caches(plan, resources, inferring if separate else None) + plan.wants_raster * RASTER,
    }
    return MemoryUse(tuple(parts.items()))


def largest_side(axis: Axis, block: int) -> int:
    """Return the pixels along an axis that the tiles of a block cover, at most.

    Examples
    --------
    >>> largest_side(Axis(950, 64, 16), block=2)
    112
    """
    count = len(axis)
    # A lone last tile belongs to the block before it.
    tiles = min(count, block + (count > block and (count - 1) % block == 0))
    return min(axis.n, (tiles - 1) * axis.stride + axis.size)


def source_pixels(plan: Plan) -> float:
    """Return the pixels of the file that are read for each pixel of the working grid."""
    grid, (height, width) = plan.grid, _source_shape(plan)
    return max(1.0, height * width / (grid.height * grid.width))


def _source_shape(plan: Plan) -> tuple[int, int]:
    """Return rows and columns of what is read: the scene, or its coarsest overview that is fine enough."""
    grid, scene = plan.grid, plan.scene
    shapes = [(scene.geobox.height, scene.geobox.width), *scene.overviews]
    finer = [(rows, cols) for rows, cols in shapes if rows >= grid.height and cols >= grid.width]
    return min(finer, default=shapes[0], key=lambda shape: shape[0] * shape[1])


def _extent(plan: Plan) -> int:
    """Return the pixels that the tiles of a block cover, at most."""
    tiles = plan.tiles
    return largest_side(tiles.rows, tiles.block) * largest_side(tiles.cols, tiles.block)


def _read_size(plan: Plan) -> int:
    """Return the bytes of a pixel in all bands that are read."""
    return sum(np.dtype(band.read_dtype).itemsize for band in plan.scene.bands if band.index in plan.bands)


def _inferring(plan: Plan, extent: int, resources: Resources) -> int:
    """Return the bytes of a block while it is read and inferred."""
    channels, bands, tile = _channels(plan), len(plan.bands), plan.tiles.rows.size * plan.tiles.cols.size
    size, shrink = _read_size(plan), source_pixels(plan)
    # Stored values, masks and validity of the strip that is being read, and what it is averaged to.
    source = min(extent * shrink, float(STRIP))
    reading = source * (size + 4) + (source / shrink) * 4 * bands * (plan.grid != plan.scene.geobox)
    # The running sums, and their copies for the block itself and its neighbours.
    summing = extent * (8 * channels + 1)
    batch = min(resources.batch, (plan.tiles.block + 1) ** 2)
    # Normalized tiles and their probabilities in float32; filling the invalid pixels of one.
    each = 8 * bands + 10 * channels
    if resources.gpu and size == bands and plan.stretch is None:
        # Bytes go there and 16 bits come back, through page-locked memory both ways.
        each = 3 * bands + 6 * channels
    tiles = tile * (batch * each + 56)
    return int(extent * (size + 3) + max(reading, summing + tiles))


def _blending(plan: Plan, extent: int) -> int:
    """Return the bytes of a block while it is blended: sums, probabilities, validity."""
    return extent * (6 * _channels(plan) + 3)


def _tracing(plan: Plan, extent: int) -> int:
    """Return the bytes of a block while it is traced and counted: labels, their borders, outlines."""
    several = 10 if _channels(plan) > 1 else 0
    return extent * (2 * _channels(plan) + 12 + several + OUTLINE)


def _waiting(plan: Plan, extent: int, *, read: bool) -> int:
    """Return the bytes of a block that has been inferred, and of its result; or has been read ahead."""
    channels = _channels(plan)
    inferred = 4 * channels + 1 + plan.wants_raster * (2 * channels + 1)
    return extent * max(inferred, read * (_read_size(plan) + 2))


def _between_rows(plan: Plan) -> int:
    """Return the bytes of strips and margins that wait for the next row of blocks, and of weights."""
    channels, tiles = _channels(plan), plan.tiles
    a_column = tiles.rows.overlap * (4 * channels + 1) + tiles.halo * (2 * channels + 1)
    weights = sum(2 * len(axis) * axis.size + 32 * axis.n for axis in {tiles.rows, tiles.cols})
    return plan.grid.width * a_column + weights


def _caches(plan: Plan, resources: Resources, readers: int | None) -> int:
    """Return the bytes of GDAL's caches: of the only process, or of each that reads and that which writes."""
    read, written = _read_cache(plan), resources.cache * plan.wants_raster
    return max(read, written) if readers is None else readers * read + written


def _read_cache(plan: Plan) -> int:
    """Return the bytes of GDAL's cache: it fills while the scene stays open, with all of a small one."""
    scene, (height, width) = plan.scene, _source_shape(plan)
    pixel, grid, tiles = pixel_bytes(scene), plan.grid, plan.tiles
    rows = largest_side(tiles.rows, tiles.block) * height // grid.height + 4
    cols = largest_side(tiles.cols, tiles.block) * width // grid.width + 4
    useful = useful_cache(scene.block_shape, width, (rows, cols), pixel)
    return min(useful, height * width * pixel)


def _channels(plan: Plan) -> int:
    return len(plan.rule.channels)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may have at most, None where nothing says so.

    The least of the machine's memory, the limits of the control groups (version 1 and 2) that the
    process is in and of those above them, and its own limits ``RLIMIT_AS`` (less `ADDRESSES`) and
    ``RLIMIT_DATA``.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    return min([*_machine(), *_control_groups(root), *_own_limits()], default=None)


def _machine() -> Iterator[int]:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        if pages > 0 and size > 0:
            yield pages * size


def _control_groups(root: Path) -> Iterator[int]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, place = line.split(":", 2)
        if number == "0":
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path is often that outside of it: then only the topmost file is there.
        inside = Path(place.lstrip("/"))
        for group in (inside, *inside.parents):
            with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
                yield int((folder / group / name).read_text(encoding="ascii"))


def _own_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, unused in ((resource.RLIMIT_AS, ADDRESSES), (resource.RLIMIT_DATA, 0)):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield max(0, soft - unused)
