"""How fast a run goes: threads, processes, batches, GPUs; how much memory that takes, and how much there is.

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

from geoseg.backends.footprint import NOTHING, Footprint
from geoseg.grid import Axis
from geoseg.prediction.plan import Plan
from geoseg.raster.describe import choose_overview, pixel_bytes
from geoseg.raster.environment import useful_cache

LIBRARIES = 210_000_000
"""The interpreter and what a prediction imports, without a backend."""

CLUSTER_LIBRARIES = 50_000_000
"""What dask.distributed and its scheduler add to the process that starts a local cluster."""

WORKER_LIBRARIES = 150_000_000
"""A worker's interpreter, dask.distributed and what is imported to read, infer and trace: it writes
nothing, and what that imports is the larger part of `LIBRARIES`."""

WRITING = 109_000_000
"""Shaping a batch of polygons and writing it: vertices, a table, the format's own buffers."""

RASTER = 60_000_000
"""Writing a raster, its cache aside: buffers of the compressing threads, overviews."""

STRIP = 1 << 24
"""Pixels of each band that `geoseg.raster.scene` holds at a time while it reads."""

OUTLINE = 16
"""Bytes that tracing takes for outlines, for each pixel of a block: of a city, one in fifteen."""

SPLITTING = 28
"""Bytes that splitting takes for each pixel of a block, all of it one building; of a dense town, 17."""

PART = 360
"""Bytes of polygons that wait at the lower seam for what they are part of or near to, for each column of the
grid: in a dense town a feature of 5 kB every 20 columns."""

VIEWS = 4
"""Bytes of what tiles see of objects, for each pixel of a tile: a mask and its validity, everywhere twice."""

ADDRESSES = 15 * 10**8
"""Address space that libraries and stacks of threads reserve and never use, measured (up to 1.25 GB) and
rounded up."""


@dataclass(frozen=True, slots=True)
class Resources:
    """How fast to run, never what comes out."""

    threads: int
    """Threads of the local scheduler, or of each worker process."""
    in_flight: int
    """Blocks begun before the first of them is delivered."""
    batch: int
    """Tiles in one forward pass."""
    workers: int | None = None
    """Processes of a local cluster."""
    scheduler: str | None = None
    """Address of a dask.distributed scheduler."""
    device: str = "cpu"
    """Where the model runs, as the predictor names it."""
    gpus: tuple[str, ...] = ()
    """The GPUs that the workers share out, each under the name that CUDA knows it by; none where all run on
    `device`."""
    network: Footprint = NOTHING
    """What the model takes in each process."""
    cache: int = 0
    """Bytes that GDAL may keep of what it reads and writes, in each process."""

    @property
    def gpu(self) -> bool:
        """Whether the model runs on a GPU."""
        return self.device.startswith("cuda")

    @property
    def alone(self) -> bool:
        """Whether there are no processes but this one."""
        return self.workers is None and self.scheduler is None


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use."""

    cores: int
    gpus: tuple[str, ...] = ()
    """Each under the name that CUDA knows it by."""
    memory: int | None = None
    """Bytes at most; None: nothing says so."""
    cache: int = 0
    """Bytes that GDAL may keep, in each process."""


def memory_use(plan: Plan, resources: Resources) -> dict[str, int]:
    """Return the bytes that a run takes at its peak, by what for, over all of its processes on this machine.

    What runs on the workers of somebody's cluster is counted as one process with the threads of
    `resources`: there the result is what the run takes here and on one worker.
    """
    separate = not resources.alone
    workers, blocks = resources.workers or 1, math.prod(plan.tiles.block_shape)
    inferring, threads = min(workers, blocks), min(workers * resources.threads, blocks)
    tiles, network = plan.tiles, resources.network
    extent = largest_side(tiles.rows, tiles.block) * largest_side(tiles.cols, tiles.block)
    busy = min(resources.threads * (resources.batch if network.requests else 1), network.requests or 1 << 30)
    tile = tiles.rows.size * tiles.cols.size
    read, written = _read_cache(plan), plan.wants_raster * resources.cache
    return {
        "libraries": LIBRARIES + separate * (CLUSTER_LIBRARIES + workers * WORKER_LIBRARIES),
        # The process that shares out the work has loaded the model too, to plan with.
        "model": separate * network.fixed
        + inferring * int(network.fixed + busy * (network.pixel * tile + network.tile)),
        "blocks at work": threads * _at_work(plan, extent, resources),
        "blocks in flight": min(resources.in_flight, blocks)
        * _waiting(plan, extent, read=separate and resources.gpu),
        "strips between blocks": _between_rows(plan),
        "polygons": WRITING + PART * plan.grid.width,
        # GDAL's caches: of the only process, or of each that reads and that which writes.
        "file cache": (inferring * read + written if separate else max(read, written))
        + plan.wants_raster * RASTER,
    }


def largest_side(axis: Axis, block: int) -> int:
    """Return the pixels along an axis that the tiles of a block cover, at most.

    Examples
    --------
    >>> largest_side(Axis(950, 64, 16), block=2)
    112
    """
    tiles = max([len(axis.block_tiles(block, number)) for number in (0, axis.blocks(block) - 1)])
    return min(axis.n, (tiles - 1) * axis.stride + axis.size)


def _read_size(plan: Plan) -> int:
    """Return the bytes of a pixel in all bands that are read."""
    chosen = [band.read_dtype for band in plan.scene.bands if band.index in plan.bands]
    return sum([np.dtype(dtype).itemsize for dtype in chosen])


def _at_work(plan: Plan, extent: int, resources: Resources) -> int:
    """Return the bytes of a block while it is read and inferred, blended, or traced: the most of them."""
    channels, bands, tile = len(plan.rule.channels), len(plan.bands), plan.tiles.rows.size**2
    size, (_, (height, width)) = _read_size(plan), choose_overview(plan.scene, plan.grid)
    shrink = max(1.0, height * width / (plan.grid.height * plan.grid.width))
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
    inferring = int(extent * (size + 3) + max(reading, summing + tile * (batch * each + 56)))
    blending = extent * (6 * channels + 3)  # sums, probabilities, validity
    # Labels, their borders, outlines.
    tracing = extent * (2 * channels + 12 + 10 * (channels > 1) + OUTLINE)
    splitting = extent * (2 * channels + 1 + SPLITTING) * (plan.split is not None)
    return max(inferring, blending, splitting, tracing)


def _waiting(plan: Plan, extent: int, *, read: bool) -> int:
    """Return the bytes of a block that has been inferred, and of its result; or has been read ahead."""
    channels = len(plan.rule.channels)
    if plan.task == "instance":
        tiles, largest = plan.tiles, (plan.tiles.block + 1) ** 2
        return VIEWS * tiles.rows.size * tiles.cols.size * largest
    inferred = 4 * channels + 1 + plan.wants_raster * (2 * channels + 1)
    return extent * max(inferred, read * (_read_size(plan) + 2))


def _between_rows(plan: Plan) -> int:
    """Return the bytes of strips and margins that wait for the next row of blocks, and of weights."""
    channels, tiles = len(plan.rule.channels), plan.tiles
    if plan.task == "instance":  # two rows of tiles are compared
        across = len(tiles.cols) * tiles.cols.size
        return VIEWS * across * tiles.rows.size * 2
    a_column = tiles.rows.overlap * (4 * channels + 1) + tiles.halo * (2 * channels + 1)
    weights = sum([2 * len(axis) * axis.size + 32 * axis.n for axis in {tiles.rows, tiles.cols}])
    return plan.grid.width * a_column + weights


def _read_cache(plan: Plan) -> int:
    """Return the bytes of GDAL's cache: it fills while the scene stays open, with all of a small one."""
    scene, (_, (height, width)) = plan.scene, choose_overview(plan.scene, plan.grid)
    pixel, grid, tiles = pixel_bytes(scene), plan.grid, plan.tiles
    rows = largest_side(tiles.rows, tiles.block) * height // grid.height + 4
    cols = largest_side(tiles.cols, tiles.block) * width // grid.width + 4
    useful = useful_cache(scene.block_shape, width, (rows, cols), pixel)
    return min(useful, height * width * pixel)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may have at most; None if nothing limits them.

    The least of the machine's memory, the limits of the control groups (version 1 and 2) that the
    process is in and of those above them, and its own limits ``RLIMIT_AS`` (less `ADDRESSES`) and
    ``RLIMIT_DATA``.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    limits = list(_control_groups(root))
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        if pages > 0 and size > 0:
            limits.append(pages * size)
    with contextlib.suppress(ImportError):  # nor these
        import resource

        for kind, unused in ((resource.RLIMIT_AS, ADDRESSES), (resource.RLIMIT_DATA, 0)):
            soft, _ = resource.getrlimit(kind)
            if soft != resource.RLIM_INFINITY:
                limits.append(max(0, soft - unused))
    return min(limits, default=None)


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
