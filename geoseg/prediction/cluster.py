"""The dask cluster that works blocks: a local one that is started here, or one that is given."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from geoseg.backends.hardware import VISIBLE
from geoseg.errors import BackendUnavailable, InvalidOption
from geoseg.prediction.budget import FEWEST_THREADS
from geoseg.prediction.resources import Resources

SCHEDULER_SECONDS, WORKER_SECONDS = 10, 60
"""How long to wait for the answer of a scheduler, and for the first worker of a cluster."""

_DIED = (RuntimeError, OSError)  # also that it took too long
"""What starting a cluster raises where a process of it died."""


@contextlib.contextmanager
def connect(resources: Resources, **scheduler: Any) -> Iterator[Any]:
    """Connect to the cluster that is given, or start one, and check that it can do the work.

    Parameters
    ----------
    **scheduler
        Arguments for the scheduler of a cluster that is started.

    Raises
    ------
    InvalidOption
        If there is no such cluster, or no worker of it can do the work.
    """
    from distributed import Client

    # What happens to the run is said in one line; the cluster's own log would bury it.
    for name in ("distributed", "distributed.client", "distributed.nanny", "asyncio", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        if resources.scheduler is None:
            cluster = stack.enter_context(_local_cluster(resources, scheduler))
            client = stack.enter_context(Client(cluster, set_as_default=False))
        else:
            client = stack.enter_context(_client_of(resources.scheduler))
        _check_workers(client, resources)
        yield client


@contextlib.contextmanager
def _local_cluster(resources: Resources, scheduler: Mapping[str, Any]) -> Iterator[Any]:
    """Start a cluster; its processes do not hear Ctrl-C, this one ends them.

    They have from the thread that starts them which signals are blocked. Where one of them dies while
    they start, all are started once more.

    Raises
    ------
    BackendUnavailable
        If they do not start.
    """
    from distributed import LocalCluster

    with ThreadPoolExecutor(1, initializer=_block_interrupts) as starter:
        start = partial(
            LocalCluster,
            n_workers=resources.workers,
            threads_per_worker=resources.threads,
            worker_class=_worker_class(resources.gpus),
            dashboard_address=None,
            # Another port than that of a cluster that runs beside, and not for others to see.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0", **scheduler},
            resources={"GPU": FEWEST_THREADS} if resources.gpu else None,
            silence_logs=logging.CRITICAL,
        )
        started = starter.submit(start)
        try:
            if isinstance(started.exception(), _DIED):
                started = starter.submit(start)
            if isinstance(error := started.exception(), _DIED):
                raise BackendUnavailable(
                    f"the worker processes did not start ({error.__cause__ or error}); is there memory for "
                    "them? fewer take less: --workers"
                ) from error
            yield started.result()
        finally:
            with contextlib.suppress(Exception):  # that it did not start has been raised
                started.result().close()


def _block_interrupts() -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        from multiprocessing.resource_tracker import ensure_running

        ensure_running()  # it would unblock them when a process is started
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


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


def _client_of(address: str) -> Any:
    from distributed import Client

    if not address.startswith(("tcp://", "tls://", "ucx://", "ws://", "wss://", "inproc://")):
        raise InvalidOption(f"--scheduler {address}: not an address such as tcp://host:8786")
    try:
        return Client(address, timeout=SCHEDULER_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InvalidOption(f"--scheduler {address}: no scheduler answers there") from error
    except (TypeError, ImportError, RuntimeError) as error:  # tls without certificates, no ucx here
        scheme = address.partition(":")[0]
        raise InvalidOption(
            f"--scheduler {address}: dask is not set up for {scheme} here: {error}"
        ) from error


def _check_workers(client: Any, resources: Resources) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError as error:
        raise InvalidOption(
            f"the cluster has no worker after {WORKER_SECONDS} s; start some and try again"
        ) from error
    if resources.gpu and not offers_gpu(client):
        raise InvalidOption('no worker of the cluster offers a GPU; start workers with --resources "GPU=1"')


def offers_gpu(client: Any) -> bool:
    """Return whether a worker of the cluster declares the resource ``GPU``."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker["resources"].get("GPU", 0) >= 1 for worker in workers)
