"""How fast to run: threads, processes, batches. Nothing here changes a result."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from geoseg.errors import InvalidOption
from geoseg.prediction.blocks import BlockResult
from geoseg.prediction.graph import Work, run_on_cluster, run_on_threads
from geoseg.prediction.options import AUTO, PredictOptions

BATCH_PIXELS = 1 << 20
"""Pixels of a batch on the CPU: more than this gains nothing there."""


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
    gpu : bool
        Whether inference takes a unit of the resource ``GPU``.
    """

    threads: int
    in_flight: int
    batch: int
    workers: int | None = None
    scheduler: str | None = None
    gpu: bool = False

    @classmethod
    def detect(cls, options: PredictOptions, tile: int, device: str) -> Resources:
        """Choose from the machine what the options leave open."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        gpu = device.startswith("cuda")
        batch = (16 if gpu else max(1, BATCH_PIXELS // tile**2)) if options.batch == AUTO else options.batch
        workers = options.workers
        threads = max(1, cores // workers) if workers else max(2, cores)
        return cls(threads, (workers or 1) * threads + 1, batch, workers, options.scheduler, gpu)


@contextlib.contextmanager
def results(work: Work, resources: Resources) -> Iterator[Iterator[BlockResult]]:
    """Open the scheduler that the resources name and yield the iterator of block results."""
    if resources.workers is None and resources.scheduler is None:
        stream = run_on_threads(work, resources.threads, resources.in_flight)
        with contextlib.closing(stream):  # type: ignore[type-var]
            yield stream
        return
    with _client(resources) as client:
        stream = run_on_cluster(work, client, resources.in_flight, gpu=resources.gpu)
        with contextlib.closing(stream):  # type: ignore[type-var]
            yield stream


@contextlib.contextmanager
def _client(resources: Resources) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    if resources.scheduler is not None:
        try:
            client = Client(resources.scheduler, timeout="10s", set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise InvalidOption(f"--scheduler {resources.scheduler}: no scheduler answers there") from error
        with client:
            yield client
        return
    cluster = LocalCluster(
        n_workers=resources.workers,
        threads_per_worker=resources.threads,
        dashboard_address=None,
        resources={"GPU": 1} if resources.gpu else None,
    )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client
