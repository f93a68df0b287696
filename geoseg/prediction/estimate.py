"""What a run would do and take, without running it: what ``geoseg plan`` shows.

A run takes as long as its start, the forward passes of its tiles, and what reading, blending, tracing
and writing cost for each pixel of the working grid. The passes of a few tiles are measured each time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import BatchSize, Model, predict_batches
from geoseg.grid import TileGrid
from geoseg.prediction.blocks import prepare
from geoseg.prediction.decide import decide
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.plan import Plan
from geoseg.prediction.report import Remarks
from geoseg.prediction.resources import Resources, memory_use
from geoseg.prediction.view import grid_resolution
from geoseg.prediction.wiring import area_of_interest, certainly_empty
from geoseg.values import Patch, Window

if TYPE_CHECKING:
    from geoseg.raster.coverage import Coverage

START_SECONDS = 1.5
"""Opening scene and model, and loading libraries, before the model is compiled."""

PIXEL_SECONDS = 40e-9
"""Reading, blending, tracing and writing of a pixel: 25 MPix/s."""

BUDGET = 1.5
"""Seconds of forward passes that are measured, after the first one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a machine works a model.

    Parameters
    ----------
    start : float
        Seconds before the first tile is done.
    tile : float
        Seconds of the forward pass of a tile, all threads at work.
    """

    start: float
    tile: float

    def seconds(self, tiles: int, pixels: int) -> float:
        """Return the wall time of a run.

        Parameters
        ----------
        tiles : int
            Tiles that are inferred.
        pixels : int
            Pixels of the working grid under them.

        Examples
        --------
        >>> Pace(start=2.0, tile=0.5).seconds(tiles=10, pixels=25_000_000)
        8.0
        """
        return self.start + tiles * self.tile + pixels * PIXEL_SECONDS


@dataclass(frozen=True, slots=True)
class Estimate:
    """A plan, and what its run is estimated to take.

    Parameters
    ----------
    device : str
        Where the model runs.
    passes : int
        Forward passes over each tile.
    empty : int
        Tiles that certainly hold nothing to infer.
    memory : dict of str to int
        Bytes at the peak, by what for.
    pace : Pace or None
        None on a cluster: nothing is measured there.
    """

    plan: Plan
    resources: Resources
    remarks: Remarks
    device: str
    passes: int
    empty: int
    memory: dict[str, int]
    pace: Pace | None

    @property
    def empty_is_all(self) -> bool:
        """Whether no more tiles will be skipped: only a scene that marks pixels as invalid has more."""
        return not self.plan.scene.validity

    @property
    def tiles(self) -> int:
        """Tiles that will be inferred, at most."""
        return tile_count(self.plan.tiles) - self.empty

    @property
    def seconds(self) -> float | None:
        """Wall time of the run; None on a cluster."""
        if self.pace is None:
            return None
        rows, cols = self.plan.tiles.rows, self.plan.tiles.cols
        added = min(rows.stride, rows.n) * min(cols.stride, cols.n)  # pixels, by a tile to its neighbours'
        return self.pace.seconds(self.tiles, self.tiles * added)

    @property
    def forward_ratio(self) -> float:
        """Pixels that the model sees for each pixel of the working grid."""
        return forward_ratio(self.plan.tiles, self.passes)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        plan, resources, scene = self.plan, self.resources, self.plan.scene
        down, across = plan.tiles.block_shape
        return {
            "scene": scene.uri,
            "size": [scene.geobox.width, scene.geobox.height],
            "resolution_m": None if scene.resolution is None else list(scene.resolution),
            "bands": list(plan.bands),
            "grid": {
                "size": [plan.grid.width, plan.grid.height],
                "resolution_m": grid_resolution(scene, plan.grid),
            },
            "model": plan.model_name,
            "model_digest": plan.model_digest,
            "plan_digest": plan.result_digest,
            "tiles": {
                "rows": len(plan.tiles.rows),
                "cols": len(plan.tiles.cols),
                "skipped": self.empty,
                "skipped_exact": self.empty_is_all,
                "to_infer": self.tiles,
            },
            "blocks": {"rows": down, "cols": across, "tiles_a_side": plan.tiles.block},
            "forward_pixels_per_pixel": round(self.forward_ratio, 4),
            "backend": plan.precision,
            "backend_reason": self.remarks.reason,
            "device": self.device,
            "batch": resources.batch,
            "threads": resources.threads,
            "blocks_in_flight": resources.in_flight,
            "workers": resources.workers,
            "scheduler": resources.scheduler,
            "memory_bytes": {**self.memory, "total": sum(self.memory.values())},
            "predicted_seconds": None if self.seconds is None else round(self.seconds, 3),
            "options": plan.options,
            "warnings": list(self.remarks.warnings),
        }


def estimate(
    source: str | os.PathLike[str],
    options: PredictOptions,
    say: Callable[[str], None],
    out: Path | None = None,
) -> Estimate:
    """Decide all that a run would decide, and estimate what it would take.

    Parameters
    ----------
    source : path or URL
        As for `geoseg.prediction.session.predict_scene`.
    say : callable
        Told what is being done.
    out : Path, optional
        The output of the run: its format may fix the CRS, and an interrupted run is resumed.

    Raises
    ------
    GeosegError
        Where the run would refuse to begin.
    """
    from geoseg.backends.base import FLIPS

    say("looking at scene and model")
    decision = decide(source, options, out=out)
    plan, resources = decision.plan, decision.resources
    predictor = decision.work.load()
    pace = None
    if resources.scheduler is None:
        say(f"measuring the speed of {predictor.name}")
        pace = measure_pace(predictor, plan, resources.batch)
        pace = replace(pace, tile=pace.tile / max(1, len(resources.gpus)))
    return Estimate(
        plan,
        resources,
        decision.remarks,
        device=predictor.device,
        passes=len(FLIPS) if options.tta else 1,
        empty=empty_tiles(plan, decision.work.coverage),
        memory=memory_use(plan, resources),
        pace=pace,
    )


def measure_pace(predictor: Model, plan: Plan, batch: int, *, budget: float = BUDGET) -> Pace:
    """Run the model on a few tiles of noise and return its pace.

    The first pass, which compiles the model, is timed on its own and counts as start.

    Parameters
    ----------
    plan : Plan
        Its tiles and inputs.
    batch : int
        Tiles in one forward pass; fewer where they do not fit on the device.
    budget : float
        Seconds after which no further pass is begun.

    Raises
    ------
    OutOfDeviceMemory
        If not even one tile fits on the device.
    """
    tiles = np.stack([prepare(plan, _noise(plan), predictor.normalizes)] * batch)
    size = BatchSize(batch)
    first = _timed(predictor, tiles, size)
    passes = [_timed(predictor, tiles, size)]
    while sum(passes) < budget:
        passes.append(_timed(predictor, tiles, size))
    steady = sum(passes) / len(passes)
    return Pace(START_SECONDS + max(0.0, first - steady), steady / batch)


def _noise(plan: Plan) -> Patch:
    """Return a tile of noise, in the dtype and the number of bands that the scene is read in."""
    size = plan.tiles.rows.size
    chosen = [band.read_dtype for band in plan.scene.bands if band.index in plan.bands]
    noise = np.random.default_rng(0).integers(0, 256, (len(plan.bands), size, size))
    return Patch(noise.astype(np.result_type(*chosen)), np.ones((size, size), bool))


def _timed(predictor: Model, tiles: NDArray[Any], size: BatchSize) -> float:
    began = time.perf_counter()
    predict_batches(predictor, tiles, size)
    return time.perf_counter() - began


def empty_tiles(plan: Plan, coverage: Coverage | None) -> int:
    """Return how many tiles certainly need no inference: no data, or outside the area asked for."""
    if plan.aoi is None and coverage is None:
        return 0

    def empty(window: Window) -> bool:
        if certainly_empty(plan, coverage, window):
            return True
        # An area may touch a tile and still hold no centre of a pixel of it.
        one_tile = window.height <= plan.tiles.rows.size and window.width <= plan.tiles.cols.size
        return plan.aoi is not None and one_tile and not area_of_interest(plan, window).any()

    return count_empty(plan.tiles, empty)


def count_empty(grid: TileGrid, empty: Callable[[Window], bool]) -> int:
    """Return how many tiles are certainly empty, asking about large windows first.

    Parameters
    ----------
    empty : callable
        Whether a window of the grid is certainly empty; what it says of a window it says of any part.
    """
    count = 0
    waiting = [(range(len(grid.rows)), range(len(grid.cols)))]
    while waiting:
        rows, cols = waiting.pop()
        first, last = grid.tile(rows[0], cols[0]).window, grid.tile(rows[-1], cols[-1]).window
        if empty(Window.around(first, last).intersection(grid.window)):
            count += len(rows) * len(cols)
        elif len(rows) > 1 or len(cols) > 1:
            waiting += [(down, across) for down in _halves(rows) for across in _halves(cols)]
    return count


def tile_count(grid: TileGrid) -> int:
    """Return the number of tiles of a grid."""
    return len(grid.rows) * len(grid.cols)


def forward_ratio(grid: TileGrid, passes: int = 1) -> float:
    """Return the pixels that the model sees for each pixel of the grid: what the overlap costs.

    Parameters
    ----------
    passes : int
        Forward passes over each tile.

    Examples
    --------
    >>> from geoseg.grid import Axis
    >>> forward_ratio(TileGrid(Axis(64, 64, 16), Axis(112, 64, 16), block=2))
    1.1428571428571428
    """
    return passes * tile_count(grid) * grid.rows.size * grid.cols.size / (grid.rows.n * grid.cols.n)


def _halves(span: range) -> list[range]:
    middle = (len(span) + 1) // 2
    return [part for part in (span[:middle], span[middle:]) if part]
