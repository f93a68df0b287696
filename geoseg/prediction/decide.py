"""Deciding a run: scene, model and machine are read once; plan and resources follow from that."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.backends.footprint import Footprint, footprint
from geoseg.backends.hardware import gpu_count, usable_cores, visible_gpus
from geoseg.errors import UnreadableScene
from geoseg.models.value_check import unlike_training
from geoseg.prediction.blocks import stretched
from geoseg.prediction.budget import default_budget, fit_run
from geoseg.prediction.journal import kept_sides
from geoseg.prediction.options import AUTO, PredictOptions
from geoseg.prediction.plan import Plan, make_plan
from geoseg.prediction.report import Remarks
from geoseg.prediction.resources import LIBRARIES, Machine, Resources, memory_limit
from geoseg.prediction.view import View, check_resolution, choose_bands, needs_stretch, working_grid
from geoseg.prediction.wiring import Work
from geoseg.values import Patch, Window

if TYPE_CHECKING:
    from geoseg.backends.select import PredictorRecipe
    from geoseg.models.bundle import Bundle
    from geoseg.models.card import ModelCard
    from geoseg.raster.describe import SceneInfo

SAMPLE_PIXELS = 1 << 18
"""Pixels of the scene that are compared with the training: an overview, or four windows spread over it."""

AOI_MEMORY = 50_000_000
"""Bytes that reading the area of interest may take in any case."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model on the backend that runs it; found, loaded and compiled when first asked for, and once.

    Parameters
    ----------
    options : PredictOptions
        Model, backend, device, precision, flips and number of processes.
    chosen : PredictorRecipe, optional
        What another process has chosen.
    cores : int, optional
        That this process may use; None: all of the machine's, shared with its workers.
    """

    options: PredictOptions
    chosen: PredictorRecipe | None = None
    cores: int | None = None

    @property
    def cores_each(self) -> int:
        """Those of each process that runs it."""
        return max(1, (self.cores or usable_cores()) // (self.options.workers or 1))

    @cached_property
    def bundle(self) -> Bundle:
        """The model's files and card."""
        from geoseg.models.bundle import find_model

        return find_model(self.options.model)

    @cached_property
    def recipe(self) -> PredictorRecipe:
        """Backend, device and precision, and how any process loads the same."""
        from geoseg.backends.select import choose_predictor

        options = self.options
        if self.chosen is not None:
            return replace(self.chosen, threads=self.cores)
        return choose_predictor(
            self.bundle,
            backend=options.backend,
            device=options.device,
            threads=self.cores_each if options.workers else self.cores,
            precision=options.precision,
            flips=options.tta,
            threshold=self.bundle.card.threshold if options.threshold == AUTO else options.threshold,
        )

    @cached_property
    def network(self) -> Footprint:
        """What it takes in memory, in each process."""
        return footprint(self.bundle, self.recipe.load(), self.cores_each)


@dataclass(frozen=True, eq=False, slots=True)
class Decision:
    """A run that is decided: the work, how fast it is done, and what to know of it."""

    work: Work
    resources: Resources
    remarks: Remarks

    @property
    def plan(self) -> Plan:
        """What fixes every bit of the result."""
        return self.work.plan


def decide(
    source: str | os.PathLike[str],
    options: PredictOptions,
    model: Model | None = None,
    out: Path | None = None,
) -> Decision:
    """Open scene and model, read what a run depends on, and decide everything.

    Parameters
    ----------
    model : Model, optional
        That is open already; it must be the one that the options name.
    out : Path, optional
        The output: the blocks of an interrupted run that lie beside it are resumed.

    Raises
    ------
    GeosegError
        If the scene, the model and the options cannot be read or do not fit together, or into the memory.
    """
    from geoseg.raster.coverage import read_coverage
    from geoseg.raster.drivers import is_remote
    from geoseg.raster.environment import BLOCK_CACHE
    from geoseg.raster.scene import close_scene, open_scene, read_patch

    scene, model = open_scene(source), model or Model(options)
    with contextlib.ExitStack() as undo:
        undo.callback(close_scene, scene)
        card = model.bundle.card
        view = _look(scene, card, options, out)
        recipe = model.recipe
        predictor = recipe.load()
        coverage = read_coverage(scene)
        # Of a scene behind a URL only what is asked for is fetched.
        unlike = () if is_remote(scene.uri) else value_warnings(scene, view, card)
        shares = predictor.device == "cuda" and model.cores is None  # one process of several has one GPU
        gpus = visible_gpus(os.environ, gpu_count()) if shares else ()
        machine = Machine(model.cores or usable_cores(), gpus, memory_limit(), BLOCK_CACHE)
        plan = make_plan(scene, card, options, view, predictor.name)
        known = kept_sides(out, plan) if out is not None and options.resume else ()
        plan, resources = fit_run(plan, options, predictor.device, model.network, machine, known)
        undo.pop_all()  # the scene stays open for the run
    warnings = (*scene.warnings, *check_resolution(scene, card), *unlike)
    reason = recipe.reason + (f"; on {len(resources.gpus)} GPUs" if len(resources.gpus) > 1 else "")
    work = Work(
        plan,
        partial(read_patch, scene, grid=plan.grid, bands=plan.bands),
        recipe.load,
        resources.batch,
        coverage=coverage,
    )
    return Decision(work, resources, Remarks(warnings, reason))


def read_middle(source: str | os.PathLike[str], model: str, side: int) -> Patch:
    """Read the middle of a scene as a model sees it: its bands, its resolution, its range of values.

    Parameters
    ----------
    model : str
        See `geoseg.models.bundle.find_model`.
    side : int
        Rows and cols in pixels of the model's resolution; fewer where the scene is smaller.

    Raises
    ------
    GeosegError
        If scene and model cannot be read or do not fit together.
    """
    from geoseg.raster.scene import close_scene, open_scene, read_patch

    options = PredictOptions(model=model)
    scene = open_scene(source)
    try:
        view = _look(scene, Model(options).bundle.card, options)
        height, width = (min(side, size) for size in view.grid.shape)
        window = Window((view.grid.height - height) // 2, (view.grid.width - width) // 2, height, width)
        return stretched(read_patch(scene, window, view.grid, view.bands), view.stretch)
    finally:
        close_scene(scene)


def value_warnings(scene: SceneInfo, view: View, card: ModelCard) -> tuple[str, ...]:
    """Warn in one line, or none, of values far from those of the training.

    Nothing is read where the card does not say what the model was trained on. A scene that is
    damaged is not judged: the run will name what it cannot read.
    """
    if card.trained_on is None:
        return ()
    from geoseg.raster.scene import sample

    try:
        known = []
        for patch in sample(scene, view.bands, budget=SAMPLE_PIXELS):
            pixels = stretched(patch, view.stretch).pixels
            known.append(pixels.reshape(len(pixels), -1) if patch.valid.all() else pixels[:, patch.valid])
    except UnreadableScene:
        return ()
    return unlike_training(np.concatenate(known, axis=1), card.trained_on, card.inputs.bands)


def _look(scene: SceneInfo, card: ModelCard, options: PredictOptions, out: Path | None = None) -> View:
    """Choose bands, working grid and CRS; read the area of interest and the range of values."""
    from geoseg.raster.scene import estimate_stretch
    from geoseg.vector.sink import layer_crs
    from geoseg.vectorfiles.aoi import bbox_aoi, read_aoi

    check_resolution(scene, card)
    bands = choose_bands(scene, card.inputs.bands, options.bands)
    grid = working_grid(scene.geobox, scene.resolution, card.resolution_m)
    crs = layer_crs(options.crs, scene.geobox.crs, out)
    aoi = None
    if options.aoi is not None:
        budget = default_budget(memory_limit()) if options.max_memory == "auto" else options.max_memory
        memory = max(budget - LIBRARIES, AOI_MEMORY)
        aoi = read_aoi(options.aoi, grid, layer=options.aoi_layer, memory=memory)
    elif options.bbox is not None:
        aoi = bbox_aoi(*options.bbox, grid)
    stretch = None
    chosen = [band for band in scene.bands if band.index in bands]
    if not isinstance(options.stretch, str):
        stretch = (options.stretch,) * len(bands)
    elif options.stretch == "auto" and needs_stretch(chosen, card.inputs, scene.name):
        stretch = estimate_stretch(scene, bands)
    return View(grid, bands, stretch, aoi, crs)
