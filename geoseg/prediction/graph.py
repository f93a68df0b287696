"""The dask graph: blocks as tasks, a bounded number of them in flight.

The wiring of a block is written once (`_Wiring`) and submitted in two ways. On threads it becomes
dask graphs of `SPAN` blocks each, in which a block may start only after the block some places
before it has been delivered: back-pressure as edges of the graph. On a cluster it becomes futures,
block by block, a bounded number ahead of the sinks. Results come in the order of the blocks.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from geoseg.backends.base import BatchSize, Predictor
from geoseg.grid import BlockIndex
from geoseg.prediction.blocks import (
    BlockResult,
    Inferred,
    Reader,
    Stopped,
    Tally,
    blend_block,
    finish_block,
    infer_block,
    take_margin,
    take_share,
)
from geoseg.prediction.journal import Journal
from geoseg.prediction.plan import Plan

SPAN = 256
"""Blocks of one graph: enough that the pause between two is not felt, few enough to stay small."""

Submit = Callable[..., Any]
"""``submit(function, *arguments, key=…)`` returns a node that other nodes take as an argument."""


@dataclass(frozen=True, slots=True)
class Work:
    """How to do the blocks of a plan; travels to the workers.

    Parameters
    ----------
    read : Reader
        Opens the scene itself, on whichever worker it runs.
    load : callable
        Returns the predictor; loads it once per process.
    batch : int
        Tiles in one forward pass.
    journal : Journal or None
        Where inferred blocks are kept.
    """

    plan: Plan
    read: Reader
    load: Callable[[], Predictor]
    batch: int
    journal: Journal | None = None

    def keeping(self, journal: Journal | None) -> Work:
        """Return the same work with a journal of what was inferred."""
        return replace(self, journal=journal)


def run_on_threads(work: Work, threads: int, in_flight: int) -> Iterator[BlockResult]:
    """Yield the result of every block, worked by dask's threaded scheduler.

    Parameters
    ----------
    threads : int
        Threads of the scheduler.
    in_flight : int
        Blocks that may be begun before the first of them has been taken from this iterator.
    """
    stop = threading.Event()
    results: queue.Queue[BlockResult | BaseException | None] = queue.Queue(maxsize=1)
    runner = threading.Thread(
        target=_run_graph, args=(work, threads, in_flight, results, stop), name="geoseg-graph", daemon=True
    )
    runner.start()
    try:
        while (item := results.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while runner.is_alive():
            with contextlib.suppress(KeyboardInterrupt):  # it is ending already
                runner.join()


def _run_graph(
    work: Work,
    threads: int,
    in_flight: int,
    results: queue.Queue[BlockResult | BaseException | None],
    stop: threading.Event,
) -> None:
    def deliver(result: BlockResult, _previous: None) -> None:
        if stop.is_set():
            raise Stopped
        _put(results, result, stop)

    try:
        from dask.threaded import get

        graph: dict[str, Any] = {}

        def submit(function: Callable[..., Any], *arguments: Any, key: str) -> str:
            graph[key] = (function, *arguments)
            return key

        wiring = _Wiring(work, submit, stop.is_set)
        for span in _spans(work.plan.tiles.blocks()):
            graph.clear()
            delivered: list[str] = []
            for number, block in enumerate(span):
                after = delivered[number - in_flight] if number >= in_flight else None
                result = wiring.add(block, after)
                previous = delivered[-1] if delivered else None
                delivered.append(submit(deliver, result, previous, key=f"deliver-{number}"))
            wanted = [delivered[-1], *(node for node in wiring.waiting if isinstance(node, str))]
            values = get(graph, wanted, num_workers=threads)
            wiring.settle(dict(zip(wanted, values, strict=True)))
        _put(results, None, stop)
    except BaseException as error:  # handed to the thread that waits for results
        _put(results, error, stop)


def _spans(blocks: Iterator[BlockIndex]) -> Iterator[list[BlockIndex]]:
    while span := list(islice(blocks, SPAN)):
        yield span


def _put(results: queue.Queue[Any], item: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            results.put(item, timeout=0.1)
        except queue.Full:
            continue
        return


def run_on_cluster(work: Work, client: Any, in_flight: int, *, gpu: bool = False) -> Iterator[BlockResult]:
    """Yield the result of every block, worked by a dask.distributed cluster.

    Parameters
    ----------
    client : distributed.Client
    in_flight : int
        Blocks that may be submitted before the first of them has been taken from this iterator.
    gpu : bool
        Ask for one unit of the resource ``GPU`` for each inference.
    """

    def submit(function: Callable[..., Any], *arguments: Any, key: str) -> Any:
        resources = {"GPU": 1} if gpu and function is _infer else None
        return client.submit(function, *arguments, key=key, pure=False, resources=resources)

    # A task, not scattered data: whatever is lost with a worker can be made again.
    shared = submit(_same, work, key=f"geoseg_work-{work.plan.digest}")
    wiring = _Wiring(work, submit, None, shared=shared)
    waiting: deque[Any] = deque()
    try:
        for block in work.plan.tiles.blocks():
            waiting.append(wiring.add(block))
            if len(waiting) >= in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        client.cancel(list(waiting), force=True)


class _Wiring:
    """Adds the tasks of one block after the other, and keeps what later blocks will take."""

    def __init__(
        self, work: Work, submit: Submit, stopped: Callable[[], bool] | None, shared: Any = None
    ) -> None:
        self._tiles = work.plan.tiles
        self._digest = work.plan.digest[:16]
        self._work = work if shared is None else shared
        self._submit = submit
        self._stopped = stopped
        self._strips: dict[tuple[BlockIndex, BlockIndex], Any] = {}
        self._margins: dict[tuple[BlockIndex, BlockIndex], Any] = {}

    @property
    def waiting(self) -> list[Any]:
        """Strips and margins that blocks to come will take: nodes, or values once settled."""
        return [*self._strips.values(), *self._margins.values()]

    def settle(self, values: dict[Any, Any]) -> None:
        """Put values in the place of the nodes that are waiting."""
        self._strips = {between: values.get(node, node) for between, node in self._strips.items()}
        self._margins = {between: values.get(node, node) for between, node in self._margins.items()}

    def _key(self, name: str, *blocks: BlockIndex) -> str:
        # Keys name the plan: a cluster serves several runs at once.
        places = [f"{block.row}_{block.col}" for block in blocks]
        return "-".join([f"geoseg_{name}", self._digest, *places])

    def add(self, block: BlockIndex, after: Any = None) -> Any:
        """Submit a block and return the node of its result; blocks come row by row."""
        submit, work = self._submit, self._work
        followers = [taker for taker in self._tiles.followers(block) if taker != block]
        leaders = [giver for giver in self._tiles.leaders(block) if giver != block]
        inferred = submit(_infer, work, block, self._stopped, after, key=self._key("infer", block))
        tally = submit(_tally, inferred, key=self._key("tally", block))
        for taker in followers:
            self._strips[block, taker] = submit(
                take_share, inferred, taker, key=self._key("strip", block, taker)
            )
        strips = [self._strips.pop((giver, block)) for giver in leaders]
        blended = submit(_blend, work, block, inferred, strips, key=self._key("blend", block))
        for taker in followers:
            key = self._key("margin", block, taker)
            self._margins[block, taker] = submit(_margin, work, blended, taker, key=key)
        margins = [self._margins.pop((giver, block)) for giver in leaders]
        return submit(_finish, work, block, blended, margins, tally, key=self._key("result", block))


def _infer(work: Work, block: BlockIndex, stopped: Callable[[], bool] | None, _after: None) -> Inferred:
    if stopped is not None and stopped():
        raise Stopped
    if work.journal is not None and (known := work.journal.load(work.plan.tiles, block)):
        return known
    batch = _batch_size(work.plan.digest, work.batch)
    inferred = infer_block(work.plan, block, work.read, work.load(), batch, stopped)
    if work.journal is not None:
        work.journal.store(inferred)
    return inferred


@lru_cache(maxsize=8)
def _batch_size(_digest: str, tiles: int) -> BatchSize:
    """Return the batch size of a run in this process: it remembers what did not fit."""
    return BatchSize(tiles)


def _same(work: Work) -> Work:
    return work


def _tally(inferred: Inferred) -> Tally:
    return inferred.tally


def _blend(work: Work, block: BlockIndex, inferred: Inferred, strips: list[Any]) -> Any:
    return blend_block(work.plan, block, inferred, strips)


def _margin(work: Work, blended: Any, taker: BlockIndex) -> Any:
    return take_margin(work.plan, blended, taker)


def _finish(work: Work, block: BlockIndex, blended: Any, margins: list[Any], tally: Tally) -> BlockResult:
    return finish_block(work.plan, block, blended, margins, tally)
