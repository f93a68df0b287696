"""Looking at a scene and a model once, before the work: what they are, and what a plan needs of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.prediction.budget import settle_memory
from geoseg.prediction.fit import choose_bands, needs_stretch, working_grid
from geoseg.prediction.forecast import tile_count
from geoseg.prediction.journal import known_blocks
from geoseg.prediction.machine import default_budget, memory_limit
from geoseg.prediction.options import Limits, PredictOptions
from geoseg.prediction.plan import Plan, View, make_plan
from geoseg.prediction.resources import Resources, choose_gpus, cores_each
from geoseg.prediction.wiring import Work
from geoseg.values import GeoBox, Patch, Window

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoseg.backends.select import PredictorRecipe
    from geoseg.models.bundle import Bundle
    from geoseg.models.card import ModelCard
    from geoseg.raster.describe import SceneInfo


@dataclass(frozen=True, slots=True)
class PlanReader:
    """Reads windows of a plan's working grid; opens the scene itself on whichever worker it runs."""

    plan: Plan

    def __call__(self, window: Window) -> Patch:
        """Read pixels and validity.

        Raises
        ------
        UnreadableScene
            If the scene is broken in there.
        """
        from geoseg.raster.scene import read_patch

        return read_patch(self.plan.scene, window, self.plan.grid, self.plan.bands)


def survey(
    source: str | os.PathLike[str],
    options: PredictOptions,
    out: Path | None = None,
) -> tuple[Work, Resources]:
    """Open scene and model, look at the scene once, and decide everything.

    Parameters
    ----------
    source : path or URL
    options : PredictOptions
    out : Path, optional
        The output: blocks that an interrupted run has left beside it are gone on with.

    Raises
    ------
    GeosegError
        If the scene, the model and the options cannot be read or do not fit together.
    """
    from geoseg.raster.scene import close_scene, open_scene

    scene = open_scene(source)
    try:
        return _decide(scene, options, out)
    except BaseException:
        close_scene(scene)
        raise


def _decide(scene: SceneInfo, options: PredictOptions, out: Path | None) -> tuple[Work, Resources]:
    from geoseg.backends.select import choose_predictor
    from geoseg.models.bundle import find_model
    from geoseg.prediction.likeness import value_warnings
    from geoseg.raster.coverage import read_coverage
    from geoseg.raster.drivers import is_remote

    bundle = find_model(options.model)
    card = bundle.card
    bands = choose_bands(scene, card.inputs.bands, options.bands)
    grid = working_grid(scene.geobox, scene.resolution, card.resolution_m)
    crs, aoi = _crs(scene, options, out), _aoi(grid, options)
    view = View(grid, bands, _stretch(scene, card, bands, options), aoi, crs)
    recipe = choose_predictor(
        bundle,
        backend=options.backend,
        device=options.device,
        threads=cores_each(options.workers) if options.workers else None,
        precision=options.precision,
        flips=options.tta,
    )
    plan, resources = _share_out(scene, bundle, view, options, out, recipe)
    if not is_remote(scene.uri):  # of those only what is asked for is fetched
        plan = replace(plan, warnings=(*plan.warnings, *value_warnings(plan, card)))
    if len(resources.gpus) > 1:
        recipe = replace(recipe, reason=f"{recipe.reason}; on {len(resources.gpus)} GPUs")
    plan = replace(plan, reason=recipe.reason)
    work = Work(plan, PlanReader(plan), recipe.load, resources.batch, coverage=read_coverage(scene))
    return work, resources


def _share_out(
    scene: SceneInfo,
    bundle: Bundle,
    view: View,
    options: PredictOptions,
    out: Path | None,
    recipe: PredictorRecipe,
) -> tuple[Plan, Resources]:
    """Decide on tiles, blocks, batches, threads and processes, within the memory that there is."""
    from geoseg.backends.footprint import footprint
    from geoseg.raster.environment import BLOCK_CACHE

    predictor = recipe.load()
    plan = make_plan(scene, bundle.card, options, view, precision=predictor.name, reason=recipe.reason)
    network = footprint(bundle, predictor, cores_each(options.workers or 1))
    gpus = choose_gpus(options, predictor.device, tile_count(plan.tiles))
    resources = Resources.detect(options, plan.tiles.rows.size, predictor.device, network, BLOCK_CACHE, gpus)
    limit = memory_limit()
    known = known_blocks(out, plan) if out is not None and options.resume else ()
    cuda = network.fixed if resources.gpu else 0
    default = default_budget(limit, cuda=cuda, workers=resources.workers or 0)
    return settle_memory(plan, resources, options, default=default, limit=limit, known=known)


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
    plan = survey(source, PredictOptions(model=model, precision="f32"))[0].plan  # nothing is inferred
    height, width = (min(side, size) for size in plan.grid.shape)
    window = Window((plan.grid.height - height) // 2, (plan.grid.width - width) // 2, height, width)
    patch = PlanReader(plan)(window)
    if plan.stretch is None:
        return patch
    from geoseg.raster.stretch import apply_stretch

    return Patch(apply_stretch(patch.pixels, plan.stretch), patch.valid)


def _aoi(grid: GeoBox, options: PredictOptions) -> BaseGeometry | None:
    from geoseg.vectorfiles.aoi import bbox_aoi, read_aoi

    if options.aoi is not None:
        return read_aoi(options.aoi, grid, layer=options.aoi_layer)
    if options.bbox is not None:
        return bbox_aoi(*options.bbox, grid)
    return None


def _crs(scene: SceneInfo, options: PredictOptions, out: Path | None) -> str | None:
    """Return the CRS of the polygons where it is not the scene's."""
    from geoseg.vector.reproject import layer_crs
    from geoseg.vector.sink import in_degrees

    return layer_crs(options.crs, scene.geobox.crs, degrees=out is not None and in_degrees(out))


def _stretch(
    scene: SceneInfo, card: ModelCard, bands: tuple[int, ...], options: PredictOptions
) -> tuple[Limits, ...] | None:
    if options.stretch == "none":
        return None
    if options.stretch != "auto":
        return (options.stretch,) * len(bands)
    chosen = [band for band in scene.bands if band.index in bands]
    if not needs_stretch(chosen, card.inputs, scene.name):
        return None
    from geoseg.raster.stretch import estimate_stretch

    return estimate_stretch(scene, bands)
