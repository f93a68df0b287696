"""What a run would do, without running it: what `geoseg plan` shows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from geoseg.prediction.calibration import keep, measure_pace, recall, tile_pixels
from geoseg.prediction.empty import EmptyGround
from geoseg.prediction.forecast import Forecast, Pace, count_empty, forward_ratio, make_forecast, tile_count
from geoseg.prediction.memory import MemoryUse, memory_use
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.plan import Plan
from geoseg.prediction.reading import area_of_interest
from geoseg.prediction.resources import Resources
from geoseg.prediction.wiring import Work

if TYPE_CHECKING:
    from geoseg.values import GeoBox, Window


@dataclass(frozen=True, slots=True)
class Outlook:
    """A plan, and what is expected of its run.

    Parameters
    ----------
    plan : Plan
    resources : Resources
    device : str
        Where the model runs.
    passes : int
        Forward passes over each tile.
    empty : int
        Tiles that certainly hold nothing to infer.
    memory : MemoryUse
        Of what the memory is made.
    forecast : Forecast
        Time and memory.
    """

    plan: Plan
    resources: Resources
    device: str
    passes: int
    empty: int
    memory: MemoryUse
    forecast: Forecast

    @property
    def empty_is_all(self) -> bool:
        """Whether no more tiles will be skipped: only a scene that marks pixels as invalid has more."""
        return not self.plan.scene.validity

    @property
    def tiles(self) -> int:
        """Tiles that will be inferred, at most."""
        return tile_count(self.plan.tiles) - self.empty

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
                "resolution_m": grid_resolution(scene.resolution, scene.geobox, plan.grid),
            },
            "model": plan.model_name,
            "model_digest": plan.model_digest,
            "plan_digest": plan.digest,
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
            "backend_reason": plan.reason,
            "device": self.device,
            "batch": resources.batch,
            "threads": resources.threads,
            "blocks_in_flight": resources.in_flight,
            "workers": resources.workers,
            "scheduler": resources.scheduler,
            "memory_bytes": {**dict(self.memory.parts), "total": self.memory.total},
            "predicted_seconds": None if self.forecast.seconds is None else round(self.forecast.seconds, 3),
            "predicted_from": self.forecast.source,
            "options": plan.options,
            "warnings": list(plan.warnings),
        }


def look_ahead(
    source: str | os.PathLike[str],
    options: PredictOptions,
    say: Callable[[str], None],
) -> Outlook:
    """Decide all that a run would decide, and say what it would take.

    Where nothing is remembered of the model's pace on this machine, it is measured for about two
    seconds, and remembered.

    Parameters
    ----------
    source : path or URL
        As for `geoseg.prediction.run.predict_scene`.
    options : PredictOptions
    say : callable
        Told what is being done.

    Raises
    ------
    GeosegError
        Where the run would refuse to begin.
    """
    from geoseg.backends.flips import FLIPS
    from geoseg.prediction.survey import survey

    say("looking at scene and model")
    work, resources = survey(source, options)
    predictor = work.load()
    pace = None
    if resources.scheduler is None:
        pace = recall(work.plan, resources)
        if pace is None:
            say(f"measuring the speed of {predictor.name}")
            pace = measure_pace(predictor, work.plan, resources.batch)
            pace = replace(pace, tile=pace.tile / max(1, len(resources.gpus)))
            keep(work.plan, resources, pace)
    empty = empty_tiles(work)
    memory = memory_use(work.plan, resources)
    passes = len(FLIPS) if options.tta else 1
    forecast = _forecast(work.plan, pace, empty, memory)
    return Outlook(work.plan, resources, predictor.device, passes, empty, memory, forecast)


def expect(work: Work, resources: Resources) -> Forecast:
    """Return what a run is expected to take by what is remembered; nothing is measured for it."""
    pace = None if resources.scheduler is not None else recall(work.plan, resources)
    return _forecast(work.plan, pace, empty_tiles(work), memory_use(work.plan, resources))


def empty_tiles(work: Work) -> int:
    """Return how many tiles certainly need no inference: no data, or outside the area asked for."""
    plan, ground = work.plan, EmptyGround(work.plan, work.coverage)
    if plan.aoi is None and work.coverage is None:
        return 0

    def empty(window: Window) -> bool:
        if ground(window):
            return True
        # An area may touch a tile and still hold no centre of a pixel of it.
        one_tile = window.height <= plan.tiles.rows.size and window.width <= plan.tiles.cols.size
        return plan.aoi is not None and one_tile and not area_of_interest(plan, window).any()

    return count_empty(plan.tiles, empty)


def grid_resolution(
    resolution: tuple[float, float] | None, scene: GeoBox, grid: GeoBox
) -> list[float] | None:
    """Return the metres a pixel of the working grid measures along columns and rows."""
    if resolution is None:
        return None
    across, down = resolution
    return [across * scene.width / grid.width, down * scene.height / grid.height]


def _forecast(plan: Plan, pace: Pace | None, empty: int, memory: MemoryUse) -> Forecast:
    tiles = tile_count(plan.tiles) - empty
    return make_forecast(pace, tiles, tiles * tile_pixels(plan), math.ceil(memory.total))
