"""Tiles of the model, inferred when the map needs them: once for all who ask, kept while memory allows."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import BatchSize, predict_batches
from geoseg.errors import GeosegError, UnreadableScene
from geoseg.grid import Tile
from geoseg.prediction.blocks import cut, prepare
from geoseg.prediction.decide import Decision
from geoseg.prediction.plan import Plan
from geoseg.prediction.wiring import certainly_empty
from geoseg.values import Patch


class Busy(GeosegError):
    """More was asked for at once than there is memory for; it can be asked for again."""


@dataclass(frozen=True, eq=False, slots=True)
class Inferred:
    """What is known of a tile."""

    values: NDArray[np.uint16] | None = None
    """uint16, shape (channels, tile, tile), or None. None: the tile holds no valid pixel, or could not be
    read."""
    valid: NDArray[np.bool_] | None = None
    """bool, the shape of the tile within the grid, or None. None where `values` are."""
    broken: bool = False
    """Whether it could not be read."""


@dataclass(eq=False, slots=True)
class Entry:
    """A tile that is wanted, or kept: `users` wait for it or draw it."""

    decision: Decision
    tile: Tile
    size: int
    users: int = 0
    future: Future[Inferred] = field(default_factory=Future)


Key = tuple[Decision, int, int]


class ModelTiles:
    """Infers tiles on threads, and keeps as many as fit into the memory, those last asked for.

    What somebody waits for or draws is never let go, so all of it together fits too.

    Parameters
    ----------
    memory : int
        Bytes.
    threads : int
        That read and infer.
    """

    def __init__(self, memory: int, threads: int) -> None:
        self.memory = memory
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._waiting: deque[Entry] = deque()
        self._batches: dict[Decision, BatchSize] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="geoseg-tile")
        self.used = 0
        self.inferred = 0

    def warm(self, decision: Decision, tile: Tile) -> None:
        """Infer a tile before anybody asks."""
        (entry,) = self.take(decision, [tile])
        entry.future.add_done_callback(lambda _: self.give_back([entry]))

    def close(self) -> None:
        """Begin nothing more; what is under way ends."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, decision: Decision, tiles: Sequence[Tile]) -> list[Entry]:
        """Return entries whose futures give the tiles; give each back (`give_back`).

        Raises
        ------
        Busy
            If they do not fit into the memory beside those that others have taken.
        """
        size = tile_bytes(decision.plan)
        with self._lock:
            keys = [(decision, tile.row, tile.col) for tile in tiles]
            held = sum(entry.size for entry in self._entries.values() if entry.users)
            known = [self._entries.get(key) for key in keys]
            if held and held + size * sum(not (one and one.users) for one in known) > self.memory:
                raise Busy("too many tiles are asked for at once; ask again in a second")
            taken = [
                one or self._want(key, Entry(decision, tile, size))
                for key, tile, one in zip(keys, tiles, known, strict=True)
            ]
            for key, entry in zip(keys, taken, strict=True):
                entry.users += 1
                self._entries.move_to_end(key)
            self._shrink()
        return taken

    def _want(self, key: Key, entry: Entry) -> Entry:
        self._entries[key] = entry
        self.used += entry.size
        self._waiting.append(entry)
        self._pool.submit(self._work)
        return entry

    def give_back(self, entries: Sequence[Entry]) -> None:
        """Give back what `take` returned; what nobody waits for any more is not begun."""
        with self._lock:
            for entry in entries:
                entry.users -= 1
                if not entry.users and entry.future.cancel():
                    self._drop(entry)
            self._shrink()

    def _work(self) -> None:
        """Infer what waits longest."""
        with self._lock:
            chosen = self._next()
        if not chosen:
            return
        decision = chosen[0].decision
        try:
            batch = self._batches.setdefault(decision, BatchSize(decision.resources.batch))
            results = infer_tiles(decision, [entry.tile for entry in chosen], batch)
        except BaseException as error:
            for entry in chosen:
                self._forget(entry)
                entry.future.set_exception(error)
            return
        for entry, result in zip(chosen, results, strict=True):
            if result.broken:  # the file may be whole again when somebody else asks
                self._forget(entry)
            entry.future.set_result(result)
        with self._lock:
            self.inferred += len(chosen)
            self._shrink()

    def _next(self) -> list[Entry]:
        """Take what was asked for first; for a GPU a batch, for a CPU one, which is done sooner alone."""
        chosen: list[Entry] = []
        while self._waiting:
            resources, first = self._waiting[0].decision.resources, chosen[:1]
            if first and (not resources.gpu or self._waiting[0].decision is not first[0].decision):
                break
            if len(chosen) == resources.batch:
                break
            entry = self._waiting.popleft()
            if entry.future.set_running_or_notify_cancel():
                chosen.append(entry)
        return chosen

    def _forget(self, entry: Entry) -> None:
        with self._lock:
            self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        key = (entry.decision, entry.tile.row, entry.tile.col)
        if self._entries.get(key) is entry:
            del self._entries[key]
            self.used -= entry.size

    def _shrink(self) -> None:
        if self.used > self.memory:
            for entry in [*self._entries.values()]:
                if not entry.users and entry.future.done():
                    self._drop(entry)
                    if self.used <= self.memory:
                        break


def tile_bytes(plan: Plan) -> int:
    """Return what a tile takes that is kept: probabilities and validity."""
    return plan.tiles.rows.size * plan.tiles.cols.size * (2 * len(plan.rule.channels) + 1)


def infer_tiles(decision: Decision, tiles: Sequence[Tile], batch: BatchSize) -> list[Inferred]:
    """Read and infer tiles; each has the values that it has in a run of the plan."""
    work, plan = decision.work, decision.plan
    predictor = work.load()
    results: list[Inferred] = [Inferred()] * len(tiles)
    patches: dict[int, Patch] = {}
    for number, tile in enumerate(tiles):
        inside = tile.window.intersection(plan.tiles.window)
        if certainly_empty(plan, work.coverage, inside):
            continue
        try:
            patch = work.read(inside)
        except UnreadableScene:
            results[number] = Inferred(broken=True)
            continue
        if patch.valid.any():
            patches[number] = patch
    if patches:
        inputs = np.stack(
            [
                prepare(
                    plan,
                    cut(patch, tiles[number].window.intersection(plan.tiles.window), tiles[number]),
                    predictor.normalizes,
                )
                for number, patch in patches.items()
            ]
        )
        found = predict_batches(predictor, inputs, batch)
        for values, (number, patch) in zip(found, patches.items(), strict=True):
            results[number] = Inferred(values, patch.valid)
    return results
