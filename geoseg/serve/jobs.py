"""``Map this view``: a run over part of a scene, one at a time, whose result becomes a layer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geoseg.errors import GeosegError, InvalidOption
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.report import Event, Progress
from geoseg.prediction.session import Session
from geoseg.serve.layers import Layer, open_served
from geoseg.serve.mercator import from_degrees
from geoseg.serve.scenes import LiveScene
from geoseg.serve.tiles import Busy

MOST_PIXELS = 4 * 10**8
"""Pixels of the working grid of one job; what is larger is for the command line."""

State = Literal["running", "done", "failed", "cancelled"]


@dataclass(eq=False)
class Job:
    """A run that was asked for."""

    name: str
    """Of the layer that comes of it."""
    scene: str
    state: State = "running"
    share: float = 0.0
    """How much is done, 0 to 1."""
    message: str = ""
    """One line: what came of it, or why it failed."""

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return dict(vars(self))


class _Cancelled(Exception):
    pass


class Jobs:
    """Runs jobs, one after the other in a thread, and keeps what became of them.

    Parameters
    ----------
    options : PredictOptions
        Of each run, the area aside.
    folder : Path
        Where results are written.
    done : callable
        Takes the layer of each result.
    """

    def __init__(
        self, session: Session, options: PredictOptions, folder: Path, done: Callable[[Layer], None]
    ) -> None:
        self._session, self._options, self._folder, self._done = session, options, folder, done
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.known: dict[str, Job] = {}

    def begin(self, scene: LiveScene, bbox: tuple[float, float, float, float]) -> Job:
        """Begin a run over a box of longitudes and latitudes.

        Raises
        ------
        InvalidOption
            If the scene has nothing there, or too much.
        Busy
            If another is running.
        """
        options = self._options.model_copy(update={"bbox": crs_box(scene, bbox)})
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise Busy("another view is being mapped; wait for it or cancel it")
            job = Job(f"view-{len(self.known) + 1}", scene.name)
            self.known[job.name] = job
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(job, scene, options), name="geoseg-job")
            self._thread.start()
        return job

    def cancel(self) -> None:
        """End the run that is under way, if any, and wait for its end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, job: Job, scene: LiveScene, options: PredictOptions) -> None:
        def told(event: Event) -> None:
            if self._stop.is_set():
                raise _Cancelled
            if isinstance(event, Progress):
                job.share = event.blocks / event.blocks_total

        path = self._folder / f"{job.name}.gpkg"
        try:
            report = self._session.predict(scene.source, path, options, told)
            self._done(open_served(path, job.name, self._folder))
            failed = len(report.tally.failures)
            job.message = f"{report.features:,} features" + (f"; {failed} tiles unreadable" if failed else "")
            job.state, job.share = "done", 1.0
        except _Cancelled:
            job.state, job.message = "cancelled", "cancelled"
        except GeosegError as error:
            job.state, job.message = "failed", str(error)
        except BaseException as error:
            job.state, job.message = "failed", f"{type(error).__name__}: {error}"
            raise


def corners(text: str, reach: float = 180) -> tuple[float, float, float, float]:
    """Parse a box of longitudes and latitudes.

    Parameters
    ----------
    text : str
        ``west,south,east,north``.
    reach : float
        The easternmost longitude; beyond 180 a box may lie across it.

    Raises
    ------
    InvalidOption

    >>> corners("13.1,52.3,13.8,52.7")
    (13.1, 52.3, 13.8, 52.7)
    """
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError:
        west = east = south = north = 0.0
    if not (-reach <= west < east <= reach and -90 <= south < north <= 90):
        raise InvalidOption("bbox: takes degrees west,south,east,north: west < east, south < north")
    return west, south, east, north


def crs_box(scene: LiveScene, bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return a box of longitudes and latitudes as one in the scene's CRS, cut to the scene.

    Raises
    ------
    InvalidOption
        If the scene has nothing there, or more than `MOST_PIXELS`.
    """
    west, south, east, north = bbox
    around = np.array([[x, y] for x in np.linspace(west, east, 9) for y in np.linspace(south, north, 9)])
    pixels = scene.place.to_pixels(from_degrees(around))
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    grid = scene.plan.grid
    limit = np.array([grid.width, grid.height])
    low, high = limit, limit
    if len(pixels):
        low, high = np.clip(pixels.min(axis=0), 0, limit), np.clip(pixels.max(axis=0), 0, limit)
    if (high - low).min() < 1:
        raise InvalidOption(f"bbox: {scene.name} has nothing there")
    if (area := float(np.prod(high - low))) > MOST_PIXELS:
        raise InvalidOption(
            f"bbox: holds {area / 1e6:.0f} million pixels of {scene.name}, more than "
            f"{MOST_PIXELS / 1e6:.0f}; zoom in, or use geoseg predict"
        )
    x, y = grid.to_crs(np.array([low, high, [low[0], high[1]], [high[0], low[1]]])).T
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())
