"""What a worker does with one scene of an archive, and the place where it leaves the result.

Results are written into a folder of the run and moved into place by the coordinator: a worker that
outlived its run changes nothing. A report is written last, so that whoever finds one has it all.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from geoseg.archive.facts import stamp_at
from geoseg.archive.identity import identity_of, same_scene
from geoseg.archive.places import Ending, Outcome, Places, read_report
from geoseg.backends.select import PredictorRecipe
from geoseg.errors import (
    BackendUnavailable,
    GeosegError,
    InvalidModel,
    MissingExtra,
    NoSpaceLeft,
    UnreadableScene,
    UnwritableOutput,
)
from geoseg.files import replacing
from geoseg.prediction.budget import GPU_BATCH
from geoseg.prediction.decide import Model
from geoseg.prediction.options import AUTO, PredictOptions
from geoseg.prediction.report import Event, Planned, RunReport
from geoseg.prediction.session import Session
from geoseg.raster.opening import unpack_on


class Unseen(GeosegError):
    """A folder that a worker does not see."""


_OF_THE_RUN = (Unseen, NoSpaceLeft, InvalidModel, BackendUnavailable, MissingExtra)
"""Errors that the next scene would meet as well."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all scenes of a run have in common; travels with each."""

    places: Places
    options: PredictOptions
    """Those that all scenes share."""
    recipe: PredictorRecipe
    digest: str
    """Of model and options."""
    gpu: bool = False
    """Whether a scene takes a part of the resource ``GPU``."""
    hosts: frozenset[str] = frozenset()
    """Where the servers of scenes may lead besides themselves."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene on its way to a worker."""

    name: str
    """`name`, `location`, `bands`: See `geoseg.archive.entries.Entry`."""
    location: str
    identity: str
    """Of what lies there."""
    bands: tuple[int, ...] | None = None


class TooLarge(Exception):
    """A scene of more blocks than one worker is to do."""


def work_scene(job: Job, scene: Scene, limit: int | None) -> Outcome:
    """Do a scene in this process, unless it has more than `limit` blocks."""
    return _attempt(job, scene, _session(job), _refusing(limit))


def spread_scene(job: Job, scene: Scene) -> Outcome:
    """Do a scene on all workers: its blocks go from worker to worker, the polygons come here."""
    from distributed import worker_client
    from distributed.scheduler import KilledWorker

    model = Model(job.options, job.recipe, _cores())
    try:
        with worker_client() as client:
            return _attempt(job, scene, Session(job.options, model, client), _welcome)
    except KilledWorker as error:
        deaths = error.allowed_failures + 1
        return Outcome(scene.name, "killed", f"{deaths} workers died of one of its blocks", deaths=deaths)


def _attempt(job: Job, scene: Scene, session: Session, on_event: Callable[[Event], None]) -> Outcome:
    began = time.monotonic()
    known = read_report(job.places.report(scene.name))
    if known is not None:  # finished on a worker that died before it could say so
        return known
    name, (out, *raster) = scene.name, job.places.targets(scene.name)
    own = {"raster": raster[0] if raster else None, "bands": scene.bands or job.options.bands}
    options = job.options.model_copy(update=own)
    try:
        _check_seen(job.places, scene.location)
        _make_room(job.places, name)
        report = session.predict(scene.location, out, options, on_event, job.places.staged)
        check_unchanged(scene, job.hosts)
        outcome = _outcome(job, scene, report, time.monotonic() - began)
        _write(job.places.report(name), asdict(outcome))
        return outcome
    except TooLarge as large:
        return Outcome(name, "large", blocks=large.args[0])
    except GeosegError as error:
        writable = os.access(job.places.out / job.places.run, os.W_OK)
        ending: Ending = "failed" if writable and not isinstance(error, _OF_THE_RUN) else "stop"
        return Outcome(name, ending, str(error), seconds=time.monotonic() - began)
    except Exception as error:
        if _is_of_dask(error):
            raise
        return Outcome(name, "failed", f"a defect in geoseg: {type(error).__name__}: {error}")


def _is_of_dask(error: BaseException) -> bool:
    """Whether the cluster is in trouble, rather than the scene."""
    from concurrent.futures import CancelledError

    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    return isinstance(error, KilledWorker | CommClosedError | CancelledError)


def _check_seen(places: Places, location: str) -> None:
    """See that this worker, which may have joined late, is where the others are."""
    from distributed import get_worker

    run = str(places.out / places.run)
    for folder in (run, os.path.dirname(location)) if os.path.isabs(location) else (run,):
        if not os.path.isdir(folder):
            raise Unseen(f"worker {get_worker().address}: does not see {folder}; end it, or mount that there")


def check_unchanged(scene: Scene, hosts: frozenset[str]) -> None:
    """Check that what has been read is what had been looked at: its result is remembered as of that.

    Parameters
    ----------
    scene : Scene
    hosts : frozenset of str
        Where its server may lead besides itself.

    Raises
    ------
    UnreadableScene
    """
    if os.path.isabs(scene.location):
        unchanged = same_scene(scene.identity, identity_of(Path(scene.location)))
    else:  # a server that says nothing of its files leaves it open
        unchanged = stamp_at(scene.location, hosts) in {"", scene.identity}
    if not unchanged:
        raise UnreadableScene(f"{scene.location}: changed during this run; the same command does it again")


def _make_room(places: Places, name: str) -> None:
    try:
        for target in places.targets(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            places.staged(target).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{error.filename}: cannot be made ({error.strerror})") from error


def _refusing(limit: int | None) -> Callable[[Event], None]:
    def refuse(event: Event) -> None:
        if isinstance(event, Planned):
            rows, cols = event.plan.tiles.block_shape
            if limit is not None and rows * cols > limit:
                raise TooLarge(rows * cols)

    return refuse


def _welcome(_event: Event) -> None:
    """Take any scene."""


def _outcome(job: Job, scene: Scene, report: RunReport, seconds: float) -> Outcome:
    failures, reason = report.tally.failures, ""
    if failures:
        tiles = "1 tile" if len(failures) == 1 else f"{len(failures)} tiles"
        reason = f"{tiles} could not be read, the first: {failures[0].reason}"
        if not report.coverage:
            raise UnreadableScene(f"{scene.location}: nothing of it could be read: {reason}")
    rows, cols = report.plan.tiles.block_shape
    return Outcome(
        scene.name,
        "partial" if failures else "done",
        reason,
        job.places.run,
        scene.identity,
        job.digest,
        round(seconds, 3),
        report.features,
        round(report.coverage, 6),
        report.pixels,
        max(0, rows * cols - report.blocks_known),
    )


def _write(path: Path, facts: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(facts), encoding="utf-8")


_opening = threading.Lock()


@lru_cache(maxsize=2)
def _opened(options: PredictOptions, recipe: PredictorRecipe, cores: int) -> Session:
    unpack_on(cores)
    return Session(options, Model(options, recipe, cores))


def _session(job: Job) -> Session:
    """Return the session of this process for a run: model and compiled network are opened once."""
    with _opening:
        return _opened(job.options, job.recipe, _cores())


def _cores() -> int:
    """Return the cores that this worker may use: the threads that it was started with."""
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def unseen_folders(places: Places, text: str, sources: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the folders that this worker needs and does not see.

    Parameters
    ----------
    text : str
        What is in `Places.token`: another folder of the same path is no good.
    sources : tuple of str
        Folders of scenes.
    """
    try:
        seen = places.token.read_text(encoding="utf-8") == text
    except OSError:
        seen = False
    rasters = (str(root / places.run) for root in places.roots[1:])
    unseen = tuple(folder for folder in (*rasters, *sources) if not os.path.exists(folder))
    return unseen if seen else (str(places.out), *unseen)


def choose_recipe(options: PredictOptions) -> PredictorRecipe:
    """Load the model on this worker, and return how all others load the same: on GPUs, to fill its passes."""
    recipe = Model(options, cores=_cores()).recipe
    if not recipe.device.startswith("cuda"):
        return recipe
    return replace(recipe, gather=GPU_BATCH if options.batch == AUTO else options.batch)
