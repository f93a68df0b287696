"""Running an evaluation: files, or a model and a scene, become figures."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.evaluation import EvaluateOptions
from geoseg.evaluation.figures import (
    FEWEST_BLOCKS,
    REPLICATES,
    confidence_score,
    known_blocks,
    make_estimator,
    object_score,
    outline_score,
    pixel_figures,
)
from geoseg.evaluation.inputs import Inputs, Sources, open_inputs
from geoseg.evaluation.layers import PolygonLayer
from geoseg.evaluation.objects import Comparison, Objects, coco_score, compare, known_parts, need_coco
from geoseg.evaluation.result import Evaluation, Resampling, WorstTile
from geoseg.evaluation.stream import STEP, TileErrors, walk
from geoseg.raster.describe import ground_resolution
from geoseg.values import CERTAIN, GeoBox

if TYPE_CHECKING:
    from geoseg.evaluation.stream import Tally
    from geoseg.prediction.options import PredictOptions
    from geoseg.prediction.report import Event, RunReport

SMALLEST_BLOCK = 16
"""Pixels: smaller blocks are no places but texture, and there would be too many."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths that the options give in metres, in pixels of the grid."""

    resolution: tuple[float, float] | None
    """Metres along columns and rows; None without a CRS, then all lengths are pixels."""
    block: tuple[int, int]
    band: tuple[int, int]
    """`block`, `band`: Rows and columns of a block, and of the band of boundary IoU."""
    band_m: float
    """The band's width that was asked for; NaN without a CRS."""


def evaluate(
    sources: Sources,
    options: EvaluateOptions,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    *,
    step: int = STEP,
) -> tuple[Evaluation, Inputs]:
    """Compare a prediction with the truth.

    Parameters
    ----------
    on_step : callable
        Called with the windows done and their number.
    step : int
        Side of the windows in pixels, a multiple of 256; it changes no figure.

    Returns
    -------
    Evaluation
    Inputs
        To read pictures of tiles from.

    Raises
    ------
    GeosegError
        For every foreseeable failure, before the walk where that is possible.
    """
    if options.coco:
        need_coco()
    inputs = open_inputs(sources, options)
    scores = getattr(inputs.prediction, "scores", None)
    if options.coco and scores is None:
        raise InvalidOption(
            f"--coco: {sources.prediction} has no attribute 'confidence' with a number for each polygon"
        )
    lengths = in_pixels(inputs.grid, options)
    tally = walk(inputs, lengths.block, lengths.band, step=step, on_step=on_step)
    if not known_blocks(tally):
        raise InvalidOption(
            f"{sources.truth}: no pixel is known in the truth and in {sources.prediction}; do they overlap?"
        )
    pairs = _objects(inputs, tally)
    comparisons = [compare(truth, prediction, inputs.grid) for truth, prediction, _ in pairs]
    found = _summarize(inputs, options, lengths, tally, comparisons)
    if options.coco:
        scored = zip(inputs.classes, pairs, strict=True)
        found = dataclasses.replace(
            found, coco=tuple(coco_score(info, *sides, inputs.grid) for info, sides in scored)
        )
    return found, inputs


@contextlib.contextmanager
def predicted(
    truth: str,
    scene: str,
    options: PredictOptions,
    compared: EvaluateOptions,
    on_event: Callable[[Event], None],
) -> Iterator[tuple[Sources, RunReport]]:
    """Run a model over a scene into a temporary folder and name what is to be compared.

    Inside a labelled area only that is predicted, unless `options` say where.

    Raises
    ------
    GeosegError
    """
    from geoseg.models.bundle import find_model
    from geoseg.prediction.session import predict_scene

    if compared.coco:
        need_coco()
    objects = find_model(options.model).card.task == "instance"
    with tempfile.TemporaryDirectory(prefix="geoseg-") as name:
        polygons = Path(name) / "polygons.gpkg"
        raster = None if objects else Path(name) / "probability.tif"  # objects have a score, pixels nothing
        aoi, layer = options.aoi, options.aoi_layer
        if aoi is None and options.bbox is None and compared.labelled_area is not None:
            aoi, layer = Path(compared.labelled_area), compared.labelled_area_layer
        chosen = options.model_copy(
            update={
                "raster": raster,
                "raster_content": "auto",
                "raster_resolution": "scene",
                "aoi": aoi,
                "aoi_layer": layer,
                "resume": False,
                "crs": None,
            }
        )
        report = predict_scene(scene, polygons, chosen, on_event)
        yield (
            Sources(
                truth=truth,
                prediction=str(polygons),
                probability=None if raster is None else str(raster),
                scene=scene,
                model=report.plan.model_name,
                classes=report.plan.classes,
                threshold=None if objects else report.plan.rule.threshold,
                failed_tiles=len(report.tally.failures),
            ),
            report,
        )


def in_pixels(grid: GeoBox, options: EvaluateOptions) -> Lengths:
    """Return the lengths of the options in pixels.

    Raises
    ------
    InvalidOption
        If a block would be smaller than `SMALLEST_BLOCK` pixels.
    """
    resolution = ground_resolution(grid)
    across, down = resolution or (1.0, 1.0)
    block = (round(options.blocks / down), round(options.blocks / across))
    if min(block) < SMALLEST_BLOCK:
        smallest = SMALLEST_BLOCK * max(across, down)
        raise InvalidOption(
            f"--blocks {options.blocks:g}: a block must have {SMALLEST_BLOCK} pixels or more, "
            f"here {smallest:.4g} {'pixels' if resolution is None else 'm'}"
        )
    band = (max(1, round(options.boundary / down)), max(1, round(options.boundary / across)))
    return Lengths(resolution, block, band, options.boundary if resolution else float("nan"))


def _objects(inputs: Inputs, tally: Tally) -> list[tuple[Objects, Objects, NDArray[np.float64]]]:
    """Return the true and the predicted objects of each class, and how sure the latter are."""
    sides = []
    for layer, traced in ((inputs.truth, tally.truth), (inputs.prediction, tally.prediction)):
        if isinstance(layer, PolygonLayer):
            numbers = {info.id: number for number, info in enumerate(inputs.classes, 1)}
            labels = np.array([numbers.get(label, 0) for label in layer.labels.tolist()], np.int64)
            sides.append((labels, layer.polygons))
        else:
            labels = np.array([label for label, _ in traced], np.int64)
            # In the order of their places: the order in which windows complete them is chance.
            polygons = np.array([polygon for _, polygon in traced], dtype=object)
            order = np.lexsort(shapely.bounds(polygons).reshape(-1, 4).T)
            sides.append((labels[order], polygons[order]))
    scores = inputs.prediction.scores if isinstance(inputs.prediction, PolygonLayer) else None
    found = []
    for number in range(1, len(inputs.classes) + 1):
        truth, prediction = (
            known_parts(polygons[labels == number], tally.unknown, inputs.grid) for labels, polygons in sides
        )
        sure = np.empty(0) if scores is None else scores[sides[1][0] == number][prediction.which]
        found.append((truth, prediction, sure))
    return found


def _summarize(
    inputs: Inputs,
    options: EvaluateOptions,
    lengths: Lengths,
    tally: Tally,
    comparisons: list[Comparison],
) -> Evaluation:
    sources, classes = inputs.sources, inputs.classes
    blocks = known_blocks(tally)
    estimate = make_estimator(tally, comparisons, lengths.block, options.seed)
    pixel_m2 = float(np.prod(lengths.resolution)) if lengths.resolution else float("nan")
    pixels = pixel_figures(estimate, classes, tally.unknown_pixels, pixel_m2)
    each = list(zip(classes, range(len(classes)), comparisons, strict=True))
    band = (lengths.band_m, lengths.band)
    rated = () if inputs.probability is None else inputs.probability.ids
    used = sources.threshold if inputs.probability is None else inputs.probability.threshold
    if len(classes) > 1 and used is not None and used <= 1 / CERTAIN:  # the likeliest class wins
        used = None
    return Evaluation(
        truth=sources.truth,
        prediction=sources.prediction if sources.model is None else f"polygons of the model {sources.model}",
        model=sources.model,
        scene=sources.scene,
        probability=sources.probability if sources.model is None else None,
        labelled_area=options.labelled_area,
        grid=inputs.grid,
        resolution_m=lengths.resolution,
        classes=classes,
        pixels=pixels,
        objects=tuple(object_score(estimate, *one, pixels.known_m2) for one in each),
        outlines=tuple(outline_score(estimate, *one, band) for one in each),
        confidence=tuple(
            confidence_score(
                estimate, info, number, tally.histogram[number], float("nan") if used is None else used
            )
            for number, info in enumerate(classes)
            if info.id in rated
        ),
        resampling=Resampling(
            options.blocks, blocks, 0 if estimate.resamples is None else REPLICATES, options.seed
        ),
        worst=tuple(_worst(inputs.grid, errors) for errors in tally.worst),
        notes=(*inputs.notes, *_notes(inputs, options, lengths, blocks)),
        version=version("geoseg"),
    )


def _worst(grid: GeoBox, errors: TileErrors) -> WorstTile:
    window = errors.window
    center = np.array([[window.col + window.width / 2, window.row + window.height / 2]])
    x, y = grid.to_crs(center)[0].tolist()
    return WorstTile(
        window=window,
        iou=errors.right / (errors.right + errors.wrong),
        false_pixels=errors.false,
        missed_pixels=errors.missed,
        wrong_class_pixels=errors.wrong - errors.false - errors.missed,
        center=(x, y),
    )


def _notes(inputs: Inputs, options: EvaluateOptions, lengths: Lengths, blocks: int) -> list[str]:
    notes = []
    if blocks < FEWEST_BLOCKS:
        notes.append(
            f"no intervals: known ground in {blocks} of the blocks of {options.blocks:g} m, and fewer than "
            f"{FEWEST_BLOCKS} say nothing; smaller --blocks give more, but neighbours are alike"
        )
    if lengths.resolution is None:
        notes.append("no CRS: lengths are pixels, and areas in metres are unknown")
    elif options.boundary < 0.75 * max(lengths.resolution):
        notes.append(f"the band of {options.boundary:g} m is narrower than a pixel; one pixel is taken")
    if inputs.sources.failed_tiles:
        notes.append(f"{inputs.sources.failed_tiles} tiles of the scene could not be read and are left out")
    return notes
