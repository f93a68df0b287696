"""Where the blocks of a scene are worked: on threads, on a local cluster, or on a cluster that is given.

The wiring of a block is written once (`geoseg.prediction.wiring`) and submitted in two ways. On
threads it becomes dask graphs of at most `SPAN` blocks each, in which a block may start only after
the block some places before it has been delivered: back-pressure as edges of the graph. On a cluster
it becomes futures, block by block, a bounded number ahead of the sinks. Results come in the order of
the blocks; those that are known without work are handed out between the others.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from copy import copy
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from geoseg.errors import GeosegError
from geoseg.grid import BlockIndex
from geoseg.prediction.blocks import BlockResult, Stopped
from geoseg.prediction.cluster import connect, offers_gpu
from geoseg.prediction.resources import Resources
from geoseg.prediction.wiring import Wiring, Work, infer

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

SPAN = 256
"""Blocks of one graph: enough that the pause between two is not felt, few enough to stay small."""

READY = 4096
"""Empty blocks that may wait for the blocks before them to be done."""

Results = queue.Queue[list[BlockResult] | BaseException | None]


class Scheduler(contextlib.AbstractContextManager["Scheduler"]):
    """Works the blocks of one scene after the other; leaving it closes what it started.

    A cluster is started, or connected to, for the first scene that needs one. It serves all that
    follow, until one needs other processes or threads.

    Parameters
    ----------
    client : distributed.Client, optional
        Of a cluster that works all of them.
    """

    def __init__(self, client: Any = None) -> None:
        self._opened = contextlib.ExitStack()
        self._given = client
        self._client: Any = None
        self._serves: tuple[object, ...] = ()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the cluster that was started, or leave the one that was given."""
        self._client, self._serves = None, ()
        self._opened.pop_all().close()

    @contextlib.contextmanager
    def results(self, work: Work, resources: Resources) -> Iterator[Iterator[BlockResult]]:
        """Begin the work and yield the iterator of block results; leaving ends the work.

        Raises
        ------
        InvalidOption
            If there is no such cluster, or no worker of it can do the work.
        GeosegError
            If the cluster is lost on the way.
        """
        if resources.alone and self._given is None:
            stream = run_on_threads(work, resources.threads, resources.in_flight)
            with contextlib.closing(stream):
                yield stream
            return
        with self._cluster(resources) as client:
            in_flight = max(resources.in_flight, sum(client.nthreads().values()) + 1)
            stream = run_on_cluster(work, client, in_flight, gpu=resources.gpu and offers_gpu(client))
            try:
                with contextlib.closing(stream):
                    yield stream
            finally:
                _close_everywhere(client, work.plan.scene)

    @contextlib.contextmanager
    def _cluster(self, resources: Resources) -> Iterator[Any]:
        if self._given is not None:
            yield self._given
            return
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        processes = (resources.workers, resources.threads, resources.gpus)
        wanted = (resources.scheduler or processes, resources.gpu)
        try:
            if self._serves != wanted:
                self.close()
                self._client = self._opened.enter_context(connect(resources))
                self._serves = wanted
            yield self._client
        except (CommClosedError, KilledWorker, CancelledError) as error:
            self.close()
            raise GeosegError(
                f"the cluster was lost ({type(error).__name__}); the same command resumes the run"
            ) from error


def run_on_threads(work: Work, threads: int, in_flight: int) -> Generator[BlockResult, None, None]:
    """Return an iterator over the results of all blocks, worked by dask's threaded scheduler.

    The work begins at once: the first tiles are inferred while the caller still prepares its sinks. Close the
    iterator to end it.

    Parameters
    ----------
    threads : int
        Threads of the scheduler.
    in_flight : int
        Blocks that may be begun before the first of them has been taken from this iterator.
    """
    import dask.threaded  # noqa: F401  # here, where nothing else is imported beside it

    stream = _Graphs(work, threads, in_flight).results()
    next(stream)  # only what has been entered is closed
    return stream  # type: ignore[return-value]  # there is one None, and it has been taken


class _Graphs:
    """The blocks of a scene as dask graphs of at most `SPAN` blocks, one after the other, on threads."""

    def __init__(self, work: Work, threads: int, in_flight: int) -> None:
        self._work, self._threads, self._in_flight = work, threads, in_flight
        self._stop = threading.Event()
        self._results: Results = queue.Queue(maxsize=1)
        self._wiring = Wiring(work, self._submit, self._stop.is_set)
        self._graph: dict[str, Any] = {}
        self._delivered: list[str] = []
        self._ready: list[BlockResult] = []
        self._blocks = 0

    def results(self) -> Iterator[BlockResult | None]:
        """Begin the work and yield None, then all results; the work is stopped where this is closed."""
        runner = threading.Thread(target=self._run_all, name="geoseg-graph", daemon=True)
        runner.start()
        try:
            yield None
            while (item := self._results.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield from item
        finally:
            self._stop.set()
            while runner.is_alive():
                with contextlib.suppress(KeyboardInterrupt):  # it is ending already
                    runner.join()

    def _run_all(self) -> None:
        try:
            for block in self._work.plan.tiles.blocks():
                self._add(block)
                if len(self._delivered) == SPAN or self._blocks == READY:
                    self._run()
            self._run()
            self._put(None)
        except BaseException as error:  # handed to the thread that waits for results
            with contextlib.suppress(Stopped):
                self._put(error)

    def _add(self, block: BlockIndex) -> None:
        """Add a block to the graph, or its result to those that wait for the block before it."""
        number = len(self._delivered)
        after = self._delivered[number - self._in_flight] if number >= self._in_flight else None
        result = self._wiring.add(block, after)
        self._blocks += 1
        if isinstance(result, BlockResult):
            self._ready.append(result)
            return
        previous = self._delivered[-1] if self._delivered else None
        deliver = partial(self._deliver, self._ready)
        self._delivered.append(self._submit(deliver, result, previous, key=f"deliver-{number}"))
        self._ready = []

    def _run(self) -> None:
        """Work the graph, and deliver its results."""
        waiting = self._wiring.waiting
        if self._delivered:
            from dask.threaded import get

            nodes = [key for key, node in waiting.items() if node == key]
            _, *values = get(self._graph, [self._delivered[-1], *nodes], num_workers=self._threads)
            waiting.update(zip(nodes, values, strict=True))
        self._put(self._ready)
        self._graph, self._delivered, self._ready, self._blocks = {}, [], [], 0

    def _submit(self, function: Callable[..., Any], *arguments: Any, key: str) -> str:
        self._graph[key] = (function, *arguments)
        return key

    def _deliver(self, ready: list[BlockResult], result: BlockResult, _previous: None) -> None:
        self._put([*ready, result])

    def _put(self, item: list[BlockResult] | BaseException | None) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                return self._results.put(item, timeout=0.1)
        raise Stopped


def run_on_cluster(
    work: Work, client: Any, in_flight: int, *, gpu: bool = False
) -> Generator[BlockResult, None, None]:
    """Yield the result of every block, worked by a dask.distributed cluster.

    Parameters
    ----------
    in_flight : int
        Blocks that may be submitted before the first of them has been taken from this iterator.
    gpu : bool
        Ask for one unit of the resource ``GPU`` for each inference: a worker infers as many blocks at a
        time as it declares, while others of its are read and traced.
    """

    def submit(function: Callable[..., Any], *arguments: Any, key: str) -> Any:
        resources = {"GPU": 1} if gpu and function is infer else None
        return client.submit(function, *arguments, key=key, pure=False, resources=resources)

    # A task, not scattered data: whatever is lost with a worker can be made again.
    there = replace(work, coverage=None)  # only the wiring asks for it
    shared = submit(copy, there, key=f"geoseg_work-{work.run}")
    plan = submit(attrgetter("plan"), shared, key=f"geoseg_plan-{work.run}")
    # A task goes to a worker that has something it is made of: at first all would go to one, and until
    # it is known how long one takes, no other worker helps. What fails is raised where it is taken.
    if gpu and shared.exception() is None and plan.exception() is None:
        client.replicate([shared, plan])
    wiring = Wiring(work, submit, None, shared=(shared, plan), apart=gpu)
    waiting: deque[Any] = deque()
    begun = 0
    try:
        for block in work.plan.tiles.blocks():
            waiting.append(wiring.add(block))
            begun += not isinstance(waiting[-1], BlockResult)
            while waiting and (
                begun >= in_flight or len(waiting) >= READY or isinstance(waiting[0], BlockResult)
            ):
                begun -= not isinstance(waiting[0], BlockResult)
                yield _result_of(waiting.popleft())
        while waiting:
            yield _result_of(waiting.popleft())
    finally:
        client.cancel([node for node in waiting if not isinstance(node, BlockResult)], force=True)


def _result_of(node: Any) -> Any:
    """Return a result that was known at once, or that of a future."""
    return node if isinstance(node, BlockResult) else node.result()


def _close_everywhere(client: Any, scene: SceneInfo) -> None:
    from geoseg.raster.scene import close_scene

    with contextlib.suppress(Exception):  # the run has ended; a worker that is gone keeps nothing open
        client.run(close_scene, scene, on_error="ignore")
