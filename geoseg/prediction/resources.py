"""How fast to run: threads, processes, batches. Nothing here changes a result."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from geoseg.backends.base import usable_cores
from geoseg.backends.footprint import NOTHING, Footprint
from geoseg.backends.gpus import VISIBLE, gpu_count, visible_gpus
from geoseg.errors import GeosegError, InvalidOption
from geoseg.prediction.blocks import BlockResult
from geoseg.prediction.graph import Work, run_on_cluster, run_on_threads
from geoseg.prediction.options import AUTO, PredictOptions

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

WORKER_SECONDS = 60
"""How long to wait for the first worker of a cluster."""

BATCH_PIXELS = 3 << 19
"""Pixels of a batch on the CPU: enough that its end, where the engine runs dry, comes seldom."""

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
    """How fast to run, never what comes out.

    Parameters
    ----------
    threads : int
        Threads of the local scheduler, or of each worker process.
    in_flight : int
        Blocks begun before the first of them is delivered.
    batch : int
        Tiles in one forward pass.
    workers : int or None
        Processes of a local cluster.
    scheduler : str or None
        Address of a dask.distributed scheduler.
    device : str
        Where the model runs, as the predictor names it.
    gpus : tuple of str
        The GPUs that the workers share out, each under the name that CUDA knows it by; none where
        all run on `device`.
    network : Footprint
        What the model takes in each process.
    cache : int
        Bytes that GDAL may keep of what it reads and writes, in each process.
    """

    threads: int
    in_flight: int
    batch: int
    workers: int | None = None
    scheduler: str | None = None
    device: str = "cpu"
    gpus: tuple[str, ...] = ()
    network: Footprint = NOTHING
    cache: int = 0

    @classmethod
    def detect(
        cls,
        options: PredictOptions,
        tile: int,
        device: str,
        network: Footprint = NOTHING,
        cache: int = 0,
        gpus: tuple[str, ...] = (),
    ) -> Resources:
        """Choose from the machine what the options leave open.

        Parameters
        ----------
        gpus : tuple of str
            What `choose_gpus` says.
        """
        usual = 16 if device.startswith("cuda") else max(1, BATCH_PIXELS // tile**2)
        batch = usual if options.batch == AUTO else options.batch
        workers = options.workers
        threads = min(cores_each(workers), MOST_THREADS) if workers else _threads(1)
        in_flight = (workers or 1) * threads + 1
        shared = gpus[:workers] if workers else gpus
        found = cls(threads, in_flight, batch, workers, options.scheduler, device, shared, network, cache)
        return found if workers else found.on(gpus)

    @property
    def gpu(self) -> bool:
        """Whether the model runs on a GPU."""
        return self.device.startswith("cuda")

    @property
    def alone(self) -> bool:
        """Whether there are no processes but this one."""
        return self.workers is None and self.scheduler is None

    def on(self, gpus: tuple[str, ...]) -> Resources:
        """Return the same with a worker process for each of several GPUs; one needs none."""
        several = gpus if len(gpus) > 1 else ()
        threads = _threads(max(1, len(gpus)))
        found = replace(self, gpus=several, workers=len(several) or None)
        return found.cut(batch=self.batch, threads=threads)

    def cut(self, *, batch: int, threads: int | None = None) -> Resources:
        """Return less of the same: smaller batches, fewer threads and blocks in flight."""
        threads = self.threads if threads is None else threads
        return replace(self, batch=batch, threads=threads, in_flight=(self.workers or 1) * threads + 1)


def choose_gpus(options: PredictOptions, device: str, tiles: int) -> tuple[str, ...]:
    """Return the GPUs that the processes of a run share out, each under the name that CUDA knows it by.

    All that this process may use where none of them was named (``--device auto`` or ``cuda``); one for
    each `TILES_A_GPU` tiles where the number of processes was not asked for either. None on a CPU, on
    one GPU that was named, and for a cluster that runs already: its workers have theirs.
    """
    if device != "cuda" or options.scheduler is not None:
        return ()
    found = visible_gpus(os.environ, gpu_count())
    return found if options.workers else found[: max(1, tiles // TILES_A_GPU)]


def cores_each(workers: int) -> int:
    """Return the cores of this machine that each of so many worker processes can have, at least 1."""
    return max(1, usable_cores() // workers)


def _threads(workers: int) -> int:
    """Return the threads of each of so many processes: one more than cores, up to what is of use."""
    return min(cores_each(workers) + 1, MOST_THREADS)


@contextlib.contextmanager
def results(work: Work, resources: Resources) -> Iterator[Iterator[BlockResult]]:
    """Open the scheduler that the resources name and yield the iterator of block results."""
    if resources.alone:
        stream = run_on_threads(work, resources.threads, resources.in_flight)
        with contextlib.closing(stream):  # type: ignore[type-var]
            yield stream
        return
    with _client(resources) as client:
        in_flight = max(resources.in_flight, sum(client.nthreads().values()) + 1)
        stream = run_on_cluster(work, client, in_flight, gpu=resources.gpu and _offers_gpu(client))
        try:
            with contextlib.closing(stream):  # type: ignore[type-var]
                yield stream
        finally:
            if resources.scheduler is not None:  # its workers live on
                _close_everywhere(client, work.plan.scene)


@contextlib.contextmanager
def _client(resources: Resources) -> Iterator[Any]:
    """Connect to the cluster, or start one, and see that it can do the work."""
    from distributed import Client, LocalCluster
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    # What happens to the run is said in one line; the cluster's own log would bury it.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    lost = (CommClosedError, KilledWorker, CancelledError)
    with contextlib.ExitStack() as stack:
        try:
            if resources.scheduler is None:
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=resources.workers,
                        threads_per_worker=resources.threads,
                        worker_class=_worker_class(resources.gpus),
                        dashboard_address=None,
                        # Another port than that of a cluster that runs beside, and not for others to see.
                        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                        resources={"GPU": FEWEST_THREADS} if resources.gpu else None,
                        silence_logs=logging.CRITICAL,
                    )
                )
                client = stack.enter_context(Client(cluster, set_as_default=False))
            else:
                client = stack.enter_context(_connect(Client, resources.scheduler))
            _check_workers(client, resources)
            yield client
        except lost as error:
            raise GeosegError(
                f"the cluster was lost ({type(error).__name__}); the same command goes on"
            ) from error


def _worker_class(gpus: tuple[str, ...]) -> Any:
    """Return what starts a worker process: each in turn is shown one of several GPUs."""
    from distributed import Nanny

    if len(gpus) < 2:
        return Nanny

    class OnItsGpu(Nanny):  # type: ignore[misc]
        def __init__(self, *arguments: Any, name: int, **more: Any) -> None:
            # Where that process is started again, so is this.
            env = {VISIBLE: gpus[name % len(gpus)]}
            super().__init__(*arguments, name=name, env=env, **more)

    return OnItsGpu


def _close_everywhere(client: Any, scene: SceneInfo) -> None:
    from geoseg.raster.scene import close_scene

    with contextlib.suppress(Exception):  # the run has ended; a worker that is gone keeps nothing open
        client.run(close_scene, scene, on_error="ignore")


def _connect(client: Any, address: str) -> Any:
    message = f"--scheduler {address}: no scheduler answers there"
    if not address.startswith(("tcp://", "tls://", "ucx://", "ws://", "wss://", "inproc://")):
        raise InvalidOption(f"--scheduler {address}: not an address such as tcp://host:8786")
    try:
        return client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InvalidOption(message) from error


def _check_workers(client: Any, resources: Resources) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError as error:
        raise InvalidOption(
            f"the cluster has no worker after {WORKER_SECONDS} s; start some and try again"
        ) from error
    if resources.gpu and not _offers_gpu(client):
        raise InvalidOption('no worker of the cluster offers a GPU; start workers with --resources "GPU=1"')


def _offers_gpu(client: Any) -> bool:
    """Return whether a worker of the cluster declares the resource ``GPU``."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker["resources"].get("GPU", 0) >= 1 for worker in workers)
