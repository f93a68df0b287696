"""Whether a GPU replays a recorded forward pass, or each is launched anew: a measured choice.

A small network on a large GPU waits for its kernels to be launched, one by one, from Python. A CUDA
graph records a pass once and launches all of it at once, with the same kernels and so the same bits;
it keeps memory of its own, and takes batches of one shape. What it gains depends on network, batch
and machine: so it is measured, where a run is long enough to pay that back.

`torch.compile` is left out: it compiles for a minute or more in the first run of each shape, needs a
C compiler beside Python, and fuses kernels, which gives other bits than the run before it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

ENOUGH_PASSES = 256
"""Passes of a process from which on it measures: that takes about as long as 16 of them, 6 % of these."""

PASSES = 6
"""Passes of each kind that are timed."""

GAIN = 1.05
"""How many times as fast replaying has to be: less does not pay for the memory that it keeps."""

Shape = tuple[int, int, int, int]
"""Of a batch: (n, bands, rows, cols)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The batches that a run consists of, but for a few: those that a recorded pass takes.

    Parameters
    ----------
    shape : tuple of int
        (n, bands, rows, cols).
    dtype : str
        ``uint8`` or ``float32``.
    """

    shape: Shape
    dtype: str


@dataclass(frozen=True, slots=True)
class ReplayChoice:
    """Whether to replay, and why: one short line for people."""

    replay: bool
    reason: str


@runtime_checkable
class Replaying(Protocol):
    """A predictor that can record a pass."""

    def try_replay(self, batch: Batch) -> ReplayChoice:
        """Measure both ways on such a batch, and go the faster one from now on."""
        ...

    def replay(self, batch: Batch) -> None:
        """Record a pass for such batches, unless that was done or has failed before."""
        ...

    def forget(self) -> None:
        """Give back the device's memory that the recorded pass holds, and what else is not in use."""
        ...


def worth_measuring(tiles: int, batch: Batch, workers: int) -> bool:
    """Return whether a run is long enough: `ENOUGH_PASSES` in each of its processes."""
    return tiles >= ENOUGH_PASSES * batch.shape[0] * workers


def choose_replay(eager: Sequence[float], replayed: Sequence[float]) -> ReplayChoice:
    """Choose by what some passes took, each way.

    Parameters
    ----------
    eager, replayed : sequence of float
        Seconds of each pass, one or more; compared by their medians, which one disturbed pass does
        not move.
    """
    gain = statistics.median(eager) / max(statistics.median(replayed), 1e-9)
    if gain >= GAIN:
        return ReplayChoice(True, f"CUDA graph: {gain:.1f} times as fast as eager")
    return ReplayChoice(False, f"eager: a CUDA graph is {gain:.2f} times as fast, too little to pay")


def measure_replay(
    eager: Callable[[], object],
    record: Callable[[], Callable[[], object]],
    clock: Callable[[], float] = time.perf_counter,
) -> ReplayChoice:
    """Time some passes each way and choose; whatever fails on the way is a reason to stay eager.

    Parameters
    ----------
    eager : callable
        Runs one pass and waits for its end.
    record : callable
        Records a pass and returns what replays it and waits for its end.
    clock : callable
        Returns seconds.
    """
    failed = "a pass could not be timed"
    try:
        launched = _timed(eager, clock)
        failed = "a CUDA graph could not be recorded"
        replayed = _timed(record(), clock)
    except RuntimeError as error:  # all that CUDA and PyTorch report
        return ReplayChoice(False, f"eager: {failed} ({first_line(error)})")
    return choose_replay(launched, replayed)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its kind; CUDA says much more."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _timed(run: Callable[[], object], clock: Callable[[], float]) -> list[float]:
    run()  # the first one looks for algorithms and takes memory
    seconds = []
    for _ in range(PASSES):
        began = clock()
        run()
        seconds.append(clock() - began)
    return seconds
