"""Plans over arrays in memory, so that promises are tested without files and real models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Predictor
from geoseg.errors import UnreadableScene
from geoseg.grid import Axis, Taper, TileGrid
from geoseg.models.inputs import InputSpec
from geoseg.prediction.plan import Plan
from geoseg.prediction.resources import Resources
from geoseg.prediction.schedulers import Scheduler
from geoseg.prediction.wiring import Work
from geoseg.raster.coverage import Coverage
from geoseg.raster.describe import Band, SceneInfo
from geoseg.values import ClassInfo, ClassRule, GeoBox, Patch, Window
from geoseg.vector.pieces import Joiner, Piece, Pieces
from geoseg.vector.shape import ShapeRules
from geoseg.vector.split import SplitRule

CLASSES = (ClassInfo(1, "one", (200, 60, 60)), ClassInfo(2, "two", (60, 200, 60)))


def scene_info(height: int, width: int, bands: int = 1) -> SceneInfo:
    return SceneInfo(
        uri="memory",
        driver="MEM",
        geobox=GeoBox(height, width, (0.5, 0.0, 600000.0, 0.0, -0.5, 5200000.0), "EPSG:32632"),
        bands=tuple(Band(i + 1, "float32") for i in range(bands)),
        alpha=(),
        mask="none",
        palette=None,
        warped=False,
        block_shape=(256, 256),
        overviews=(),
        resolution=(0.5, 0.5),
        fingerprint="memory",
        warnings=(),
    )


def make_test_plan(
    shape: tuple[int, int],
    *,
    tile: int = 16,
    overlap: int = 4,
    block: int = 2,
    taper: Taper = "hann",
    channels: int = 1,
    outline: Literal["smooth", "pixel"] = "smooth",
    margin: int = 1,
    split: SplitRule | None = None,
) -> Plan:
    height, width = shape
    scene = scene_info(height, width)
    ids = (1,) if channels == 1 else tuple(range(channels))
    return Plan(
        scene=scene,
        bands=(1,),
        stretch=None,
        grid=scene.geobox,
        tiles=TileGrid(Axis(height, tile, overlap), Axis(width, tile, overlap), block, taper, margin),
        aoi=None,
        model_name="test",
        model_digest="0" * 64,
        inputs=InputSpec(("gray",), "float32", 1.0, (0.0,), (1.0,)),
        classes=CLASSES[: max(1, channels - 1)],
        rule=ClassRule(ids, 0.5 if channels == 1 else 0.2),
        split=split,
        outline=outline,
        shape_rules=ShapeRules(),
        crs=None,
        precision="test",
        wants_raster=True,
    )


@dataclass(frozen=True)
class ArrayReader:
    """Reads from arrays; windows that touch a broken pixel fail as a broken file does."""

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    broken: NDArray[np.bool_] | None = None
    windows: list[Window] = field(default_factory=list)

    def __call__(self, window: Window) -> Patch:
        self.windows.append(window)
        rows, cols = window.within(Window(0, 0, *self.valid.shape))
        if self.broken is not None and self.broken[rows, cols].any():
            raise UnreadableScene("memory: broken in there")
        return Patch(self.pixels[:, rows, cols].copy(), self.valid[rows, cols].copy())


@dataclass(frozen=True)
class Load:
    """Returns a predictor; travels to other processes."""

    predictor: Predictor

    def __call__(self) -> Predictor:
        return self.predictor


@dataclass(frozen=True, eq=False)
class Outcome:
    values: NDArray[np.uint16]
    valid: NDArray[np.bool_]
    pieces: list[Piece]
    failures: int
    inferred: int
    skipped: int


def run_to_arrays(
    plan: Plan,
    read: Callable[[Window], Patch],
    predictor: Predictor,
    *,
    batch: int = 3,
    resources: Resources | None = None,
    coverage: Coverage | None = None,
) -> Outcome:
    resources = resources or Resources(threads=2, in_flight=3, batch=batch)
    work = Work(plan, read, Load(predictor), batch, coverage=coverage)
    height, width = plan.tiles.window.shape
    values = np.zeros((len(plan.rule.channels), height, width), np.uint16)
    valid = np.zeros((height, width), bool)
    joiner = Joiner(plan.tiles.window.shape)
    pieces: list[Piece] = []
    failures = inferred = skipped = 0
    with Scheduler() as scheduler, scheduler.results(work, resources) as stream:
        for result in stream:
            assert isinstance(result.pieces, Pieces)
            pieces += joiner.add(result.pieces)
            assert result.raster is not None
            rows, cols = result.raster.window.within(plan.tiles.window)
            values[:, rows, cols] = result.raster.values
            valid[rows, cols] = result.raster.valid
            failures += len(result.tally.failures)
            inferred += result.tally.inferred
            skipped += result.tally.skipped
    joiner.finish()
    return Outcome(values, valid, pieces, failures, inferred, skipped)
