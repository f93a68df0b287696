"""The cluster that a run of many scenes works on: given, or started here; and what its workers see."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from geoseg.archive.places import Places
from geoseg.archive.scene import unseen_folders
from geoseg.backends.hardware import gpu_count, usable_cores, visible_gpus
from geoseg.backends.select import PredictorRecipe, choose_backend
from geoseg.errors import GeosegError, InvalidOption, MissingExtra
from geoseg.models.bundle import Bundle
from geoseg.prediction.budget import MOST_THREADS
from geoseg.prediction.cluster import connect, offers_gpu
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.resources import Machine, Resources, memory_limit

WORKER_MEMORY = 1_500_000_000
"""Bytes for a worker: where there are fewer for each core, not every core gets one."""

FAILURES = 1
"""Workers that a task may kill before it is given up, where the cluster is started here."""


KEPT = "scenes that were finished are in place, and the same command resumes there"

NO_ANSWER = f"the cluster was lost: its scheduler does not answer; {KEPT}"


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that whoever started a run should know."""

    text: str


class Lost(GeosegError):
    """The scheduler of the cluster does not answer any more, or its workers cannot even load the model."""


@contextlib.contextmanager
def opened(
    options: PredictOptions, bundle: Bundle, client: Any = None, *, dashboard: bool = False
) -> Iterator[Any]:
    """Yield a client of the cluster that is given, named by the options, or started for this run.

    Parameters
    ----------
    dashboard : bool
        Whether a cluster that is started here serves one, to this machine alone.

    Raises
    ------
    InvalidOption
        If there is no such cluster.
    MissingExtra
        If a dashboard is wanted and what draws it is not installed.
    Lost
        If it does not answer any more.
    """
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    with ExitStack() as stack:
        client = client or stack.enter_context(_started(options, bundle, dashboard))
        try:
            yield client
        except (CancelledError, CommClosedError, KilledWorker) as error:
            raise Lost(f"the cluster was lost ({type(error).__name__}); {KEPT}") from error


@contextlib.contextmanager
def _started(options: PredictOptions, bundle: Bundle, dashboard: bool) -> Iterator[Any]:
    """Yield a client of the cluster that the options name, or of one that is started."""
    if options.scheduler:
        with connect(Resources(0, 0, 0, scheduler=options.scheduler)) as found:
            yield found
        return
    if dashboard and find_spec("bokeh") is None:
        raise MissingExtra("--dashboard", "dashboard")
    machine = Machine(usable_cores())
    wanted = {name: getattr(options, name) for name in ("backend", "device", "precision")}
    device = choose_backend(bundle, **wanted).device
    gpus = visible_gpus(os.environ, gpu_count()) if device == "cuda" else ()
    if device.startswith("cuda"):  # a process for each, and a thread to read and trace beside it
        workers, spare = options.workers or max(1, len(gpus)), 1
    else:
        workers, spare = options.workers or _workers(machine.cores), 0
    threads = min(max(1, machine.cores // workers) + spare, MOST_THREADS)
    resources = Resources(threads, 0, 0, workers, device=device, gpus=gpus)
    with connect(resources, allowed_failures=FAILURES, dashboard=dashboard) as found:
        yield found


def _workers(cores: int) -> int:
    memory = memory_limit()
    fitting = cores if memory is None else memory // WORKER_MEMORY
    return max(1, min(cores, fitting))


def takes_gpus(client: Any, recipe: PredictorRecipe) -> bool:
    """Whether scenes are to ask for the resource ``GPU``: they run on one, and workers declare it."""
    return recipe.device.startswith("cuda") and offers_gpu(client)


def check_places(client: Any, places: Places, text: str, locations: Sequence[str]) -> None:
    """Name a worker that does not see the folder of the archive or those of the scenes.

    Parameters
    ----------
    text : str
        What is in `Places.token`.
    locations : sequence of str
        Paths and URLs of scenes.

    Raises
    ------
    InvalidOption
    """
    sources = {os.path.dirname(path) for path in locations if os.path.isabs(path)}
    here = tuple(sorted(folder for folder in sources if os.path.isdir(folder)))
    try:
        answers = client.run(unseen_folders, places, text, here)
    except ModuleNotFoundError as error:
        raise InvalidOption(f"a worker of the cluster has no {error.name}; install geoseg there") from error
    for worker, unseen in answers.items():
        if unseen:
            raise InvalidOption(
                f"worker {worker}: does not see {unseen[0]}; all workers need the folders of scenes and "
                "results under the same path"
            )


def slots(client: Any) -> tuple[int, int]:
    """Return how many workers there are, and how many tasks they do at a time."""
    threads = asked(client.nthreads)
    return len(threads), sum(threads.values())


def asked(question: Callable[[], Any]) -> Any:
    """Ask the scheduler.

    Raises
    ------
    Lost
        If it does not answer.
    """
    try:
        return question()
    except OSError as error:
        raise Lost(NO_ANSWER) from error


def revive(client: Any) -> None:
    """Start workers again that died while they were starting: their nannies, of a cluster here, do not.

    See `distributed.nanny.Nanny`, which restarts those only that had been up.
    """
    from distributed.core import Status

    workers = getattr(client.cluster, "workers", {})
    for nanny in list(workers.values()):
        process = getattr(nanny, "process", None)
        if process is not None and process.status == Status.stopped and nanny.status == Status.running:
            client.cluster.sync(nanny.instantiate)
