"""The cluster that a run of many scenes works on: given, or started here; and what its workers see."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from geoseg.archive.scene import Places, unseen_folders
from geoseg.backends.hardware import usable_cores
from geoseg.errors import InvalidOption
from geoseg.prediction.memory import memory_limit
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.resources import Machine, Resources
from geoseg.prediction.schedulers import connect

WORKER_MEMORY = 1_500_000_000
"""Bytes for a worker: where there are fewer for each core, not every core gets one."""

FAILURES = 1
"""Workers that a task may kill before it is given up, where the cluster is started here."""


@contextlib.contextmanager
def opened(options: PredictOptions, scenes: int, client: Any = None) -> Iterator[Any]:
    """Yield a client of the cluster that is given, named by the options, or started for this run.

    Parameters
    ----------
    scenes : int
        No more workers are started than there are scenes.
    """
    if client is not None:
        yield client
        return
    machine = Machine(usable_cores())
    workers = options.workers or _workers(machine.cores, scenes)
    resources = Resources(
        machine.cores_each(workers), 0, 0, None if options.scheduler else workers, options.scheduler
    )
    with connect(resources, allowed_failures=FAILURES) as found:
        yield found


def _workers(cores: int, scenes: int) -> int:
    memory = memory_limit()
    fitting = cores if memory is None else max(1, memory // WORKER_MEMORY)
    return max(1, min(cores, fitting, scenes))


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
    threads = client.nthreads()
    return len(threads), sum(threads.values())
