"""A network's way to an NVIDIA GPU and back: lanes of copies, one queue of passes, several callers in one."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.errors import BackendUnavailable

Forward = tuple[NDArray[np.uint16], bool]
"""Probabilities ``(n, channels, rows, cols)``, and whether one of them is NaN."""


@dataclass(eq=False, slots=True)
class _Caller:
    tiles: NDArray[Any]
    answer: Future[Forward] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[object, ...]:
        """What tiles of one pass have in common."""
        return self.tiles.dtype, self.tiles.shape[1:]


class Gatherer:
    """Puts the tiles that threads bring at the same time into common passes.

    A thread that finds the device free runs what is there, and waits for nothing more to come. What comes
    while the device is busy goes together: under load passes are full, otherwise no thread waits.

    Parameters
    ----------
    run : callable
        Runs a batch of tiles.
    most : int
        Tiles of a pass with those of several callers.
    passes : int
        Under way at a time.
    """

    def __init__(self, run: Callable[[NDArray[Any]], Forward], most: int, passes: int) -> None:
        self._run = run
        self._most = most
        self._turns = threading.Semaphore(passes)
        self._lock = threading.Lock()
        self._waiting: list[_Caller] = []

    def __call__(self, batch: NDArray[Any]) -> Forward:
        """Run a batch, with those of others or alone."""
        caller = _Caller(batch)
        with self._lock:
            self._waiting.append(caller)
        with self._turns:
            if together := self._take(caller):
                self._work(together)
        return caller.answer.result()

    def _take(self, first: _Caller) -> list[_Caller]:
        """Take a caller off the list, and those that fit beside it; none where it was taken by another."""
        with self._lock:
            if first not in self._waiting:
                return []
            taken, count = [first], len(first.tiles)
            for other in self._waiting:
                if other is not first and other.kind == first.kind and count + len(other.tiles) <= self._most:
                    taken.append(other)
                    count += len(other.tiles)
            self._waiting = [other for other in self._waiting if other not in taken]
        return taken

    def _work(self, callers: list[_Caller]) -> None:
        """Answer callers by one pass; where that fails one by one, so that each has its own error."""
        several = len(callers) > 1
        try:
            values, broken = self._run(np.concatenate([one.tiles for one in callers]))
        except Exception as error:
            if not several:
                callers[0].answer.set_exception(error)
                return
            broken, self._most = True, self._most // 2  # it may have been the memory
        if broken and several:
            for one in callers:
                self._work([one])
            return
        ends = np.cumsum([len(one.tiles) for one in callers])
        for one, part in zip(callers, np.split(values, ends[:-1]), strict=True):
            one.answer.set_result((part, broken))


LANES = 3
"""Batches under way to a GPU, on it, and back: while one is computed, others are copied there and back."""

_ALLOCATION = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether PyTorch, or a library of CUDA's, says that it found no room for something."""
    return any(hint in str(error) for hint in _ALLOCATION)


def find_device(name: str) -> torch.device:
    """Return the device that a name means.

    Raises
    ------
    BackendUnavailable
        If PyTorch sees no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendUnavailable(f"device {name}: PyTorch knows no such device") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendUnavailable(f"device {name}: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    if device.type not in ("cpu", "cuda"):
        raise BackendUnavailable(f"device {name}: geoseg runs on cpu and cuda")
    return device


@contextlib.contextmanager
def telling_full_gpus(name: str) -> Iterator[None]:
    """Tell of a GPU that has no room for a model, while it is moved there, as `BackendUnavailable`."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise BackendUnavailable(
            f"device {name}: no room for the model in what is free of the GPU's memory; "
            "give --device cpu, or another GPU (cuda:N)"
        ) from error


class GpuRunner:
    """Runs whole batches on an NVIDIA GPU; copies of one batch run beside the forward pass of another.

    Each of the `LANES` has a stream for its copies and page-locked memory at both ends, without which
    a copy would wait for the computing. All forward passes are queued on one stream, where the memory
    of one serves the next. Callers in as many threads as there are lanes keep the GPU busy.

    What cuDNN has chosen for a layer is remembered by thread and by shape, and to choose for a whole
    network can take seconds. So one thread queues all passes, and a batch that is smaller than one
    before it is filled up with its last tile.

    Parameters
    ----------
    fill : int
        Tiles that every batch is filled up to.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device, fill: int = 0) -> None:
        self._model = model
        self._device = device
        self._fill = fill
        self._compute = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._passes = ThreadPoolExecutor(1, "gpu")
        self._largest: dict[tuple[tuple[int, ...], str], int] = {}  # tiles, by their shape and dtype
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
        count = max(len(batch), self._fill, self._largest.get(_kind(batch), 0))
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
        results, done = self._passes.submit(self._queue_pass, tiles, sent).result()
        self._largest[_kind(batch)] = max(count, self._largest.get(_kind(batch), 0))
        values, broken = lane.fetch(results, done)
        return values[: len(batch)], bool(broken)

    def _queue_pass(self, tiles: torch.Tensor, sent: Any) -> tuple[tuple[torch.Tensor, ...], Any]:
        """Queue a forward pass; called on the one thread that does so."""
        with torch.cuda.device(self._device), torch.inference_mode(), torch.cuda.stream(self._compute):
            self._compute.wait_event(sent)
            results: tuple[torch.Tensor, ...] = self._model(tiles)
            tiles.record_stream(self._compute)  # its memory may be reused only after this
            return results, self._compute.record_event()

    def forget(self) -> None:
        """Give back memory that is not in use, and fill batches up no more to what did not fit."""
        self._largest.clear()
        self._fill = 0
        torch.cuda.empty_cache()


def _kind(batch: NDArray[Any]) -> tuple[tuple[int, ...], str]:
    return batch.shape[1:], batch.dtype.name


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
