"""How fast to run: threads, processes, batches, GPUs. Nothing here changes a result. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.backends.footprint import NOTHING, Footprint
from geoseg.prediction.options import AUTO, PredictOptions

BATCH_PIXELS = 3 << 19
"""Pixels of a batch on the CPU: enough that its end, where the engine runs dry, comes seldom."""

GPU_BATCH = 16
"""Tiles of a batch on a GPU."""

MOST_THREADS = 8
"""Threads of a run in one process: one more than cores, as most wait for the backend, which has threads of
its own. To read, cut, blend and trace, a thread takes a second for 25 megapixels; more than these are in
each other's way, and a large machine takes several processes better."""

FEWEST_THREADS = 3
"""Threads that keep a backend busy for most of the time, and blocks that a process infers on a GPU at once:
as many as batches are under way to it and back."""

TILES_A_GPU = 2000
"""Tiles that are worth another GPU: about what one does while another's process starts, for which ten
seconds are assumed."""


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

    def cores_each(self, workers: int) -> int:
        """Return the cores that each of so many worker processes can have, at least 1."""
        return max(1, self.cores // workers)


def choose_resources(
    options: PredictOptions, tile: int, device: str, machine: Machine, network: Footprint = NOTHING
) -> Resources:
    """Choose from the machine what the options leave open.

    Parameters
    ----------
    tile : int
        Side of a tile in pixels.
    device : str
        Where the model runs, as the predictor names it.
    machine : Machine
        Its GPUs are those that `choose_gpus` says.
    network : Footprint
        What the model takes in each process.

    Examples
    --------
    >>> chosen = choose_resources(PredictOptions(), 512, "cpu", Machine(cores=4))
    >>> chosen.threads, chosen.in_flight, chosen.batch
    (5, 6, 6)
    """
    usual = GPU_BATCH if device.startswith("cuda") else max(1, BATCH_PIXELS // tile**2)
    batch = usual if options.batch == AUTO else options.batch
    workers, gpus = options.workers, machine.gpus
    if workers is None:  # a process for each of several GPUs; one GPU needs none
        gpus = gpus if len(gpus) > 1 else ()
        workers, cores = len(gpus) or None, machine.cores_each(max(1, len(gpus)))
        threads = min(cores + 1, MOST_THREADS)
    else:
        gpus, threads = gpus[:workers], min(machine.cores_each(workers), MOST_THREADS)
    in_flight = (workers or 1) * threads + 1
    return Resources(
        threads, in_flight, batch, workers, options.scheduler, device, gpus, network, machine.cache
    )


def choose_gpus(options: PredictOptions, found: tuple[str, ...], device: str, tiles: int) -> tuple[str, ...]:
    """Return the GPUs that the processes of a run share out.

    All that were found where none of them was named (``--device auto`` or ``cuda``); one for each
    `TILES_A_GPU` tiles where the number of processes was not asked for either. None on a CPU, on one GPU
    that was named, and for a cluster that runs already: its workers have theirs.

    Examples
    --------
    >>> choose_gpus(PredictOptions(), ("0", "1"), "cuda", tiles=2 * TILES_A_GPU)
    ('0', '1')
    >>> choose_gpus(PredictOptions(), ("0", "1"), "cuda", tiles=10)
    ('0',)
    >>> choose_gpus(PredictOptions(), ("0", "1"), "cuda:1", tiles=2 * TILES_A_GPU)
    ()
    """
    if device != "cuda" or options.scheduler is not None:
        return ()
    return found if options.workers else found[: max(1, tiles // TILES_A_GPU)]
