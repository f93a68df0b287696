"""Passes of a device that hold the tiles of several callers, such as small scenes side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Forward = tuple[NDArray[np.uint16], bool]
"""Probabilities ``(n, channels, rows, cols)``, and whether one of them is no number."""


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
    while the device is busy goes together: under load passes are full, else nobody is held up.

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
