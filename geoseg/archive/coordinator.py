"""Handing scenes to workers, hearing what became of them, and putting results in place.

A small scene is one task of one worker; a large one is spread: its blocks go to all. A few
more scenes are under way than workers are free, so that none waits.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any

from geoseg.archive.cluster import KEPT, NO_ANSWER, Lost, asked, revive, slots
from geoseg.archive.lease import Lease
from geoseg.archive.manifest import Manifest, Result
from geoseg.archive.places import Outcome, Places, forget_reports, move_into_place, read_report, sync_folders
from geoseg.archive.scene import Job, Scene, spread_scene, work_scene
from geoseg.errors import GeosegError

MANY_BLOCKS = 64
"""A scene of more blocks is spread over all workers."""

FEW_BLOCKS = 4
"""So is one of more than these, where fewer scenes are left than workers."""

SPREAD = 2
"""Scenes that are spread at the same time: when one ends, the workers have the next."""

GPU_SHARE = 0.5
"""Of a unit of the resource ``GPU`` that a small scene takes: twice as many are read and traced side by side
as passes are under way, so that these can be filled with tiles of several."""

TRIES = 4
"""Workers that a scene may kill before it is given up; the last of them, it was alone on the cluster."""

COMMIT_SECONDS = 0.5
"""How often what has ended is written down."""

FETCH_SECONDS = 2.0
"""How long to wait for what a worker has of a scene that has ended."""

REVIVE_SECONDS = 10.0
"""How often it is looked whether workers that died are started again."""

LOST_SECONDS = 10.0
"""A scheduler that does not answer for so long is lost."""


@dataclass(frozen=True, slots=True)
class Task:
    """A scene that is with the workers."""

    name: str
    future: Any
    spread: bool
    alone: bool


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a run is."""

    scenes: int
    scenes_total: int
    """`scenes`, `scenes_total`: Those that have come to an end, of those that were to do."""
    failed: int
    """Of them, those without a whole result."""
    pixels: int
    """That the model worked on."""
    seconds: float
    doing: tuple[tuple[str, str], ...] = ()


class Coordinator:
    """Does scenes on a cluster.

    Parameters
    ----------
    job : Job
    manifest : Manifest
    lease : Lease
    client : distributed.Client
    on_event : callable
        Called with `Progressed` after every commit.
    """

    def __init__(
        self,
        job: Job,
        manifest: Manifest,
        lease: Lease,
        client: Any,
        on_event: Callable[[Progressed], None],
    ) -> None:
        self._job = job
        self._manifest = manifest
        self._lease = lease
        self._client = client
        self._on_event = on_event
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._running: dict[str, Task] = {}
        self._waiting: deque[str] = deque()
        self._large: deque[str] = deque()
        self._suspects: deque[str] = deque()
        self._outcomes: list[Outcome] = []
        self._begun: list[str] = []
        self._states: Counter[str] = Counter()
        self._pixels = 0
        self._total = self._sent = 0
        self._start = self._committed = self._answered = self._revived = time.monotonic()
        self._slots = slots(client)

    def work(self, names: Iterable[str]) -> Counter[str]:
        """Do these scenes; return how many came to which end.

        Raises
        ------
        GeosegError
            If no scene can be done any more: a full disk, a lost scheduler or lease.
        """
        self._waiting.extend(names)
        self._total = len(self._waiting)
        try:
            while self._left:
                self._submit()
                self._listen()
                self._commit()
        except BaseException:
            self._call_back()
            raise
        self._manifest.write_status({"running": False}, now=True)
        return self._states

    @property
    def _left(self) -> bool:
        """Whether there is anything to do, to hear of or to write down."""
        return any((self._waiting, self._running, self._large, self._suspects, self._outcomes))

    def _submit(self) -> None:
        """Hand out as many scenes as workers are free, and one more for each worker."""
        workers, free = self._slots
        spread = sum(task.spread for task in self._running.values())
        while self._large and spread < SPREAD:
            self._send(self._large.popleft(), spread=True)
            spread += 1
        left = len(self._waiting) + len(self._running)
        limit = MANY_BLOCKS if left > free else FEW_BLOCKS
        while self._waiting and len(self._running) - spread < free + workers:
            self._send(self._waiting.popleft(), limit=limit if free > 1 else None)
        if not self._running and self._suspects:
            self._send(self._suspects.popleft(), alone=True)

    def _send(
        self, name: str, *, spread: bool = False, alone: bool = False, limit: int | None = None
    ) -> None:
        scene = self._known(name)
        given = (self._job, Scene(name, scene.location, scene.identity, scene.bands))
        self._sent += 1
        key = f"geoseg_scene-{self._job.places.run}-{self._sent}-{name}"
        if spread:
            future = self._client.submit(spread_scene, *given, key=key, pure=False, priority=1)
        else:
            resources = {"GPU": GPU_SHARE} if self._job.gpu else None
            future = self._client.submit(
                work_scene, *given, limit, key=key, pure=False, priority=-1, resources=resources
            )
        self._running[key] = Task(name, future, spread, alone)
        self._begun.append(name)
        self._watch(future)

    def _watch(self, future: Any) -> None:
        future.add_done_callback(lambda done: self._ended.put(done.key))

    def _listen(self) -> None:
        """Wait for scenes to end, for a moment at most."""
        for key in _taken(self._ended, timeout=0.25):
            task = self._running[key]
            outcome = self._outcome(task)
            if outcome is None:  # what it gave was lost with its worker: it is made again
                self._watch(task.future)
                continue
            del self._running[key]
            task.future.release()
            if outcome.ending == "stop":
                raise GeosegError(f"{outcome.reason}; {KEPT}")
            if outcome.ending == "large":
                self._large.append(task.name)
            elif outcome.ending == "killed":
                self._count_deaths(task, outcome)
            else:
                self._outcomes.append(outcome)

    def _outcome(self, task: Task) -> Outcome | None:
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            outcome: Outcome = task.future.result(timeout=FETCH_SECONDS)
        except TimeoutError:
            return None
        except KilledWorker as error:
            deaths = error.allowed_failures + 1
            return Outcome(task.name, "killed", f"{deaths} workers died of it", deaths=deaths)
        except (CancelledError, CommClosedError):
            raise
        except Exception as error:
            return Outcome(task.name, "failed", f"a defect in geoseg: {type(error).__name__}: {error}")
        return outcome

    def _count_deaths(self, task: Task, outcome: Outcome) -> None:
        """Count the workers that died; a scene of which they die when it is alone is given up."""
        scene = self._known(task.name)
        tries = scene.tries + outcome.deaths
        self._manifest.put([replace(scene, tries=tries)])
        if task.alone and tries >= TRIES:
            reason = f"{tries} workers died of it; --retry failed tries again"
            self._outcomes.append(replace(outcome, ending="killed", reason=reason))
        elif tries >= TRIES // 2:
            self._suspects.append(task.name)
        else:
            self._waiting.append(task.name)

    def _commit(self, *, now: bool = False) -> None:
        """Put results in place and write down what has ended; look after the cluster."""
        resting = time.monotonic() - self._committed < COMMIT_SECONDS
        if resting and self._running and not now:
            return
        self._lease.check()
        moved = [one for one in self._outcomes if one.ending in ("done", "partial")]
        lost = {one.name for one in moved if not move_into_place(self._job.places, one)}
        sync_folders(self._job.places, (one.name for one in moved))
        again = [self._forgotten(name) for name in lost]
        results = [self._result(one) for one in self._outcomes if one.name not in lost]
        running = {task.name for task in self._running.values()}
        begun = [replace(self._known(name), state="running") for name in self._begun if name in running]
        self._manifest.put([*begun, *again, *results])
        forget_reports(self._job.places, (one.name for one in moved))
        for result in results:
            self._states[result.state] += 1
            self._pixels += result.pixels or 0
        self._outcomes, self._begun = [], []
        self._committed = time.monotonic()
        if self._answers():
            self._slots = slots(self._client)
            if time.monotonic() - self._revived > REVIVE_SECONDS:
                revive(self._client)
                self._revived = time.monotonic()
        self._tell()

    def _result(self, outcome: Outcome) -> Result:
        return finished(self._job.places, self._job.digest, self._known(outcome.name), outcome)

    def _known(self, name: str) -> Result:
        scene = self._manifest.get(name)
        assert scene is not None
        return scene

    def _forgotten(self, name: str) -> Result:
        self._waiting.append(name)
        return replace(self._known(name), state="pending")

    def _answers(self) -> bool:
        """Whether the scheduler can be asked.

        Raises
        ------
        Lost
            If it cannot for long.
        """
        if self._client.status == "running":
            self._answered = time.monotonic()
            return True
        if time.monotonic() - self._answered > LOST_SECONDS or self._client.status == "closed":
            raise Lost(NO_ANSWER)
        return False

    def _tell(self) -> None:
        failed = sum(self._states[state] for state in ("failed", "partial", "quarantined"))
        seconds = time.monotonic() - self._start
        told = Progressed(
            self._states.total(), self._total, failed, self._pixels, seconds, tuple(self._doing())
        )
        self._manifest.write_status({"running": True, "seconds": round(seconds, 1), "pixels": self._pixels})
        self._on_event(told)

    def _doing(self) -> Iterator[tuple[str, str]]:
        """Yield which worker does which scene, as far as that is known here."""
        if self._client.status != "running":
            return
        for worker, keys in asked(self._client.processing).items():
            names = [self._running[key].name for key in keys if key in self._running]
            yield str(worker), names[0] if names else ("a block of a large scene" if keys else "")

    def _call_back(self) -> None:
        """Take back what is under way; put in place what has ended, where that can be done."""
        with contextlib.suppress(Exception):  # a cluster that is lost
            self._client.cancel([task.future for task in self._running.values()], force=True)
        names = {task.name for task in self._running.values()}
        reports = (read_report(self._job.places.report(name)) for name in names)
        self._outcomes += [one for one in reports if one is not None]
        names -= {one.name for one in self._outcomes}
        self._running = {}
        with contextlib.suppress(GeosegError):  # the first error says why
            self._commit(now=True)
            self._manifest.put([replace(self._known(name), state="pending") for name in names])
            self._manifest.write_status({"running": False}, now=True)


def finished(places: Places, digest: str, scene: Result, outcome: Outcome) -> Result:
    """Return what the manifest says of a scene that has come to an end."""
    ending = outcome.ending
    state: Any = "quarantined" if ending == "killed" else ending
    whole = ending in ("done", "partial")
    return replace(
        scene,
        state=state,
        reason=outcome.reason,
        digest=digest,
        seconds=outcome.seconds,
        features=outcome.features,
        coverage=outcome.coverage,
        pixels=outcome.pixels,
        tries=0 if whole else scene.tries,
        files=places.files(scene.name) if whole else (),
    )


def _taken(ended: queue.SimpleQueue[str], timeout: float) -> Iterator[str]:
    try:
        yield ended.get(timeout=timeout)
        while True:
            yield ended.get_nowait()
    except queue.Empty:
        return
