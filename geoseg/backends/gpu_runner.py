"""A network's way to an NVIDIA GPU and back: lanes of copies, one queue of passes, recorded passes."""

from __future__ import annotations

import logging
import queue
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from numpy.typing import NDArray

from geoseg.backends.replay import Batch, ReplayChoice, first_line, measure_replay
from geoseg.backends.torch_ends import Forward

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

LANES = 3
"""Batches under way to a GPU, on it, and back: while one is computed, others are copied there and back."""

_ALLOCATION = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")

_log = logging.getLogger("geoseg")


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether PyTorch, or a library of CUDA's, says that it found no room for something."""
    return any(hint in str(error) for hint in _ALLOCATION)


class GpuRunner:
    """Runs whole batches on an NVIDIA GPU; copies of one batch run beside the forward pass of another.

    Each of the `LANES` has a stream for its copies and page-locked memory at both ends, without which
    a copy would wait for the computing. All forward passes are queued on one stream, where the memory
    of one serves the next. Callers in as many threads as there are lanes keep the GPU busy.

    What cuDNN has chosen for a layer is remembered by thread and by shape, and to choose for a whole
    network can take seconds. So one thread queues all passes, and a batch that is smaller than one
    before it is filled up with its last tile.

    Batches of one shape may be replayed from a recorded pass, see `geoseg.backends.replay`; all others
    are launched.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._compute = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._passes = ThreadPoolExecutor(1, "gpu")
        self._largest = LargestBatches()
        self._recorded: RecordedPass | None = None
        self._asked: Batch | None = None
        self._lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        for _ in range(LANES):
            self._lanes.put(_Lane(device))

    def __call__(self, batch: NDArray[Any]) -> Forward:
        """Run a batch."""
        lane = self._lanes.get()
        try:
            with torch.cuda.device(self._device), torch.inference_mode():
                return self._run(lane, batch)
        finally:
            self._lanes.put(lane)

    def _run(self, lane: _Lane, batch: NDArray[Any]) -> Forward:
        count = self._largest.count_for(batch)
        try:
            return self._run_filled(lane, batch, count)
        except RuntimeError as error:
            if count == len(batch) or not out_of_memory(error):
                raise
        # Another program has taken the room that there was; the batch alone may still fit.
        self.forget()
        return self._run_filled(lane, batch, len(batch))

    def _run_filled(self, lane: _Lane, batch: NDArray[Any], count: int) -> Forward:
        tiles, sent = lane.send(batch, count)
        results, done = self._in_turn(self._queue_pass, tiles, sent)
        self._largest.ran(batch)
        values, broken = lane.fetch(results, done)
        return values[: len(batch)], bool(broken)

    def _in_turn(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Call a function on the thread that queues all passes."""

        def call() -> _Result:
            with torch.cuda.device(self._device), torch.inference_mode():
                return function(*arguments)

        return self._passes.submit(call).result()

    def _queue_pass(self, tiles: torch.Tensor, sent: Any) -> tuple[tuple[torch.Tensor, ...], Any]:
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(sent)
            results = self._forward(tiles)
            tiles.record_stream(self._compute)  # its memory may be reused only after this
            return results, self._compute.record_event()

    def _forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, ...]:
        recorded = self._recorded
        if recorded is not None and recorded.takes(tiles):
            return recorded(tiles)
        results: tuple[torch.Tensor, ...] = self._model(tiles)
        return results

    def try_replay(self, batch: Batch) -> ReplayChoice:
        """Measure whether replaying such batches is faster, and do so where it is."""
        self._asked, self._recorded = batch, None
        return self._in_turn(self._measure, batch)

    def _measure(self, batch: Batch) -> ReplayChoice:
        tiles = cache(lambda: _zeros(batch).to(self._device))  # which may not fit either
        recorded: list[RecordedPass] = []

        def record() -> Callable[[], object]:
            recorded.append(RecordedPass(self._model, tiles(), self._compute))
            return lambda: self._finished(recorded[0], tiles())

        choice = measure_replay(lambda: self._finished(self._model, tiles()), record)
        if choice.replay:
            self._recorded = recorded[0]
        return choice

    def replay(self, batch: Batch) -> None:
        """Record a pass for such batches, unless that was done or has failed before."""
        if batch == self._asked:
            return
        self._asked, self._recorded = batch, None
        self._in_turn(self._record, batch)

    def _record(self, batch: Batch) -> None:
        try:
            tiles = _zeros(batch).to(self._device)
            self._finished(self._model, tiles)
            self._recorded = RecordedPass(self._model, tiles, self._compute)
        except RuntimeError as error:
            reason = first_line(error)
            _log.warning("passes are launched one by one: a CUDA graph could not be recorded: %s", reason)

    def forget(self) -> None:
        """Give the memory of a recorded pass back, and fill batches up no more to what did not fit."""
        self._recorded = None
        self._largest.forget()
        torch.cuda.empty_cache()

    def _finished(self, run: Callable[[torch.Tensor], object], tiles: torch.Tensor) -> None:
        with torch.cuda.stream(self._compute):
            run(tiles)
        self._compute.synchronize()


class LargestBatches:
    """How many tiles of a shape and dtype have been run at once, at most."""

    def __init__(self) -> None:
        self._counts: dict[tuple[tuple[int, ...], str], int] = {}

    def count_for(self, batch: NDArray[Any]) -> int:
        """Return the tiles that a batch is to be filled up to: those of the largest that has run."""
        return max(len(batch), self._counts.get(_kind(batch), 0))

    def ran(self, batch: NDArray[Any]) -> None:
        """Remember a batch."""
        self._counts[_kind(batch)] = self.count_for(batch)

    def forget(self) -> None:
        """Begin anew."""
        self._counts.clear()


def _kind(batch: NDArray[Any]) -> tuple[tuple[int, ...], str]:
    return batch.shape[1:], batch.dtype.name


def _zeros(batch: Batch) -> torch.Tensor:
    return torch.zeros(batch.shape, dtype=getattr(torch, batch.dtype))


class RecordedPass:
    """A forward pass as a CUDA graph: kernels are launched all at once, over memory of its own.

    Parameters
    ----------
    model : Module
        Has run on such tiles before, on the same stream: algorithms are chosen.
    tiles : Tensor
        Of the shape and dtype that it will take.
    stream : Stream
        Where it is recorded, and will be replayed.

    Raises
    ------
    RuntimeError
        If CUDA cannot record the model, or lacks the memory.
    """

    def __init__(self, model: torch.nn.Module, tiles: torch.Tensor, stream: torch.cuda.Stream) -> None:
        self._tiles = tiles.clone()
        stream.synchronize()  # the clone was made elsewhere
        torch.cuda.current_stream().synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may take memory on the device meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._results: tuple[torch.Tensor, ...] = model(self._tiles)

    def takes(self, tiles: torch.Tensor) -> bool:
        """Return whether a batch is one of those that were recorded."""
        return tiles.shape == self._tiles.shape and tiles.dtype == self._tiles.dtype

    def __call__(self, tiles: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Queue a pass on the current stream; return copies that the next one leaves alone."""
        self._tiles.copy_(tiles)
        self._graph.replay()
        return tuple(result.clone() for result in self._results)


class _Lane:
    """One batch's way to the GPU and back, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pinned: dict[str, torch.Tensor] = {}

    def send(self, batch: NDArray[Any], count: int) -> tuple[torch.Tensor, Any]:
        """Begin to copy a batch, filled up to `count` tiles; return it there, and its arrival."""
        shape = (count, *batch.shape[1:])
        host = self._memory("there", shape, torch.from_numpy(batch[:0].copy()).dtype)
        host.numpy()[: len(batch)] = batch
        host.numpy()[len(batch) :] = batch[-1]
        with torch.cuda.stream(self._stream):
            tiles = host.to(self._device, non_blocking=True)
            return tiles, self._stream.record_event()

    def fetch(self, results: tuple[torch.Tensor, ...], done: Any) -> list[NDArray[Any]]:
        """Wait until `done`, and return copies of results that no later batch overwrites."""
        hosts = []
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(done)
            for number, result in enumerate(results):
                host = self._memory(f"back {number}", tuple(result.shape), result.dtype)
                host.copy_(result, non_blocking=True)
                result.record_stream(self._stream)
                hosts.append(host)
        self._stream.synchronize()
        return [host.numpy().copy() for host in hosts]

    def _memory(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return page-locked memory, the same each time while its shape stays."""
        kept = self._pinned.get(name)
        if kept is None or (tuple(kept.shape), kept.dtype) != (tuple(shape), dtype):
            kept = self._pinned[name] = torch.empty(shape, dtype=dtype, pin_memory=True)
        return kept
