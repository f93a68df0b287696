"""From a finished run to a model folder: measure, round, export, quantize, and say all of it on the card."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.assessment.context import measure_context
from geoseg.assessment.int8 import LabelledTile, Verdict, ship_int8, ship_int8_parts
from geoseg.backends import architectures
from geoseg.backends.export import export_onnx
from geoseg.backends.maskrcnn import MaskRCNN, export_parts
from geoseg.backends.quantize import TILES
from geoseg.errors import InvalidModel
from geoseg.labels.classes import IGNORE
from geoseg.models.bundle import CONFIG, ONNX, WEIGHTS, Bundle, save_bundle
from geoseg.models.card import Head
from geoseg.models.card_json import make_document
from geoseg.models.document import CardDocument, Instances
from geoseg.models.inputs import InputSpec
from geoseg.models.value_check import value_statistics
from geoseg.prediction.view import PART_MARGIN, SMALLEST_PART, smallest_object_m2
from geoseg.training.calibrate import Fitted, calibrate_objects, calibrate_pixels
from geoseg.training.data.holdout import Split
from geoseg.training.data.sampler import Sampler, validation_tiles
from geoseg.training.description import accuracy, calibration, hyperparameters, training_data
from geoseg.training.events import Event, Noted, ignore
from geoseg.training.instances import boxes_of, sizes_of
from geoseg.training.loop import rule_of
from geoseg.training.network import Start
from geoseg.training.recipe import Recipe
from geoseg.training.task import normalize
from geoseg.training.validate import CONTEXT, Reading, Score, answers, best_reading, sweep
from geoseg.values import ClassRule, Patch, Window
from geoseg.vector.pieces import Calibration
from geoseg.vector.split import SplitRule

_THRESHOLDS = sorted((round(0.3 + 0.05 * step, 2) for step in range(12)), key=lambda value: abs(value - 0.5))
"""Nearest to one half first: of equals the first is taken."""

_GATES, _CONFIDENCES = (0.05, 0.1, 0.2), (0.0, 0.6, 0.7, 0.8)
"""Of splitting, and lowest mean probabilities of polygons, that are tried besides none."""

_LABELLED_TILE = 512

_SAMPLES = 400
"""Training samples that the card's statistics of values are taken from."""


def publish(
    recipe: Recipe,
    split: Split,
    sampler: Sampler,
    start: Start,
    best: Path,
    *,
    on_event: Callable[[Event], None] = ignore,
) -> Bundle:
    """Write the model folder of a run's best weights, replacing what is there.

    Weights are rounded to half precision first; threshold and figures are measured afterwards,
    with the weights that are written.

    Parameters
    ----------
    recipe, split, sampler, start
        As for `geoseg.training.loop.train`.
    best : Path
        Folder with the weights to publish.
    on_event : callable
        Told what is done, and whether INT8 is shipped.

    Raises
    ------
    InvalidModel
        If the run has left no model yet.
    UnwritableOutput
        If the model folder cannot be written.
    """
    on_event(Noted("measuring on the places held out"))
    network = architectures.load(best)
    architectures.round_to_half(network)
    finds = isinstance(network, MaskRCNN)  # its scores are of objects, not of pixels
    pixels = None if finds else calibrate_pixels(network, recipe, split)
    architectures.round_to_half(network)
    reading, scores = measure(network, recipe, split)
    rule, smallest = reading.rule, _smallest(recipe)
    objects = None if finds else calibrate_objects(network, recipe, split, reading, smallest)
    head = Head(
        tuple(spec.info for spec in recipe.data.classes), rule.channels, rule_of(recipe)[1], rule.threshold
    )
    properties: dict[str, object] = {
        **_described(recipe, split, sampler, start, network),
        "geoseg:accuracy": [
            *accuracy(scores, split.validation, rule, recipe.draws.resolution_m, smallest),
            *calibration(pixels, objects),
        ],
        **_chosen(recipe, reading, objects),
    }
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        architectures.save(network, start.config, place)
        if isinstance(network, MaskRCNN):
            files = {name: place / name for name in (WEIGHTS, CONFIG)}
            parts = export_parts(network, place, len(recipe.data.bands), place / WEIGHTS)
            how, files = _instances(recipe, sampler, start), files | parts
            properties["geoseg:instances"] = how.model_dump(mode="json")
            if recipe.card.int8:
                on_event(Noted("quantizing to INT8"))
                verdict = _int8(recipe, split, sampler, partial(ship_int8_parts, parts, how, head))
                on_event(Noted(verdict.reason))
                files |= verdict.files
                properties |= verdict.properties
            head = replace(head, channels=tuple(info.id for info in head.classes), activation="probability")
            return save_bundle(recipe.out, _document(recipe, head, properties), files, overwrite=True)
        export_onnx(network, place / ONNX, len(recipe.data.bands), 256, weights=place / WEIGHTS)
        files = {name: place / name for name in (WEIGHTS, CONFIG, ONNX)}
        plain = save_bundle(place / "plain", _document(recipe, head, properties), files)
        on_event(Noted("measuring how far the network looks"))
        properties |= measure_context(plain, _picture(recipe, split)).properties
        if recipe.card.int8:
            on_event(Noted("quantizing to INT8"))
            ship = partial(ship_int8, place / ONNX, head, folder=place)
            verdict = _int8(recipe, split, sampler, ship)
            on_event(Noted(verdict.reason))
            files |= verdict.files
            properties |= verdict.properties
        return save_bundle(recipe.out, _document(recipe, head, properties), files, overwrite=True)


def measure(network: torch.nn.Module, recipe: Recipe, split: Split) -> tuple[Reading, dict[str, Score]]:
    """Choose on the places held out, of one class or of objects, how it is read; score by those polygons.

    What is chosen is the threshold, whether objects that touch are told apart, and the lowest confidence.
    """
    finds = isinstance(network, MaskRCNN)  # tells objects apart itself
    rule, activation = rule_of(recipe)
    resolution, smallest = recipe.draws.resolution_m, SMALLEST_PART * _smallest(recipe)
    readings = [Reading(rule)]
    if finds or len(rule.channels) == 1:
        apart = [None, *(SplitRule(gate, smallest / resolution**2) for gate in _GATES if not finds)]
        readings = [
            Reading(ClassRule(rule.channels, value), split, confidence)
            for value, split, confidence in product(_THRESHOLDS, apart, _CONFIDENCES[: 1 if finds else None])
        ]
    found = {
        name: sweep(
            answers(network, grounds, resolution, activation), readings, resolution, _smallest(recipe)
        )
        for name, grounds in split.validation.items()
    }
    chosen = best_reading(found.values())
    return readings[chosen], {name: scores[chosen] for name, scores in found.items()}


def _described(
    recipe: Recipe, split: Split, sampler: Sampler, start: Start, network: torch.nn.Module
) -> dict[str, object]:
    """Return what the card says of a model and its training, figures aside."""
    return {
        "description": recipe.card.description
        or f"Trained by geoseg on {len(split.training)} pieces of ground.",
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "license": recipe.card.licence,
        "mlm:architecture": str(start.config["_model_class"]),
        "mlm:framework_version": version("torch"),
        "mlm:total_parameters": sum(value.numel() for value in network.parameters()),
        "mlm:pretrained": start.source is not None,
        "mlm:pretrained_source": start.source,
        "mlm:hyperparameters": hyperparameters(recipe, start),
        "geoseg:resolution_range_m": [recipe.draws.smallest_m, recipe.draws.largest_m],
        "geoseg:training_data": training_data(recipe, split, start),
        "geoseg:training_statistics": value_statistics(_values(recipe, sampler)).as_property(),
    }


def _chosen(recipe: Recipe, reading: Reading, objects: Fitted | None) -> dict[str, object]:
    """Return what the card says of how polygons are made; the threshold is of the head."""
    properties: dict[str, object] = {}
    if recipe.card.min_area_m2 is not None:
        properties["geoseg:min_area_m2"] = recipe.card.min_area_m2
    if reading.split is not None:
        properties["geoseg:split"] = {
            "gate": reading.split.gate,
            "smallest_m2": SMALLEST_PART * _smallest(recipe),
            "margin_m": PART_MARGIN * recipe.draws.resolution_m,
        }
    least = reading.min_confidence
    if objects is not None:
        properties["geoseg:confidence"] = {"slope": objects.slope, "intercept": objects.intercept}
        least = round(float(Calibration(objects.slope, objects.intercept)(np.array(least))), 4)
    if least > 0:
        properties["geoseg:min_confidence"] = least
    return properties


def _instances(recipe: Recipe, sampler: Sampler, start: Start) -> Instances:
    """Return how objects are found: of which classes, in regions of which sizes, how many and how large."""
    anchors: Any = start.config["anchors"]
    boxes = boxes_of(sampler, recipe.seed)
    tiles = (recipe.card.tile / recipe.draws.crop) ** 2
    densest = math.ceil(max(len(box) for box in boxes) * tiles)
    return Instances(
        labels=tuple(spec.id for spec in recipe.data.classes),
        anchors=tuple(anchors),
        proposals=min(max(4 * densest, 100), 1000),
        objects=min(max(2 * densest, 100), 1000),
        largest_m=float(sizes_of(boxes)[-1]) * recipe.draws.resolution_m,
    )


def _smallest(recipe: Recipe) -> float:
    return smallest_object_m2(recipe.card.min_area_m2, recipe.draws.resolution_m)


def _document(recipe: Recipe, head: Head, properties: dict[str, object]) -> CardDocument:
    bands = recipe.data.bands
    return make_document(
        recipe.name,
        InputSpec(bands, "uint8", 1 / 255, (0.5,) * len(bands), (0.5,) * len(bands)),
        head,
        tile=recipe.card.tile,
        overlap=recipe.card.tile // 4 if recipe.card.overlap is None else recipe.card.overlap,
        resolution_m=recipe.draws.resolution_m,
        extra=properties,
    )


def _picture(recipe: Recipe, split: Split) -> Patch:
    """Return two tiles a side of the largest ground held out, mirrored where it is smaller."""
    side = 2 * recipe.card.tile
    ground = max(
        (ground for grounds in split.validation.values() for ground in grounds), key=lambda one: one.area_m2
    )
    tile = next(validation_tiles(ground, recipe.draws.resolution_m, side, 0))
    return Patch(tile.pixels.numpy(), np.ones((side, side), bool))


def _values(recipe: Recipe, sampler: Sampler) -> NDArray[np.uint8]:
    """Return values of training samples as they are drawn, of every fourth row and column: (bands, n)."""
    rng = np.random.default_rng(recipe.seed)
    drawn = (sampler.draw(rng)[0].numpy()[:, ::4, ::4] for _ in range(_SAMPLES))
    return np.concatenate([pixels.reshape(len(pixels), -1) for pixels in drawn], axis=1)


def _int8(recipe: Recipe, split: Split, sampler: Sampler, ship: Callable[..., Verdict]) -> Verdict:
    rng = np.random.default_rng(recipe.seed)
    calibration = (normalize(sampler.draw(rng)[0][None])[0].numpy() for _ in range(TILES))
    where = f"{len(split.validation)} places held out"
    try:
        return ship(calibration, _labelled(recipe, split), where=where)
    except InvalidModel as error:  # a network that NNCF or OpenVINO cannot quantize; the rest is as good
        reason = " ".join(str(error).partition(": ")[2].split())[:200]  # without the temporary file's name
        return Verdict(False, f"INT8 is not shipped: {reason}")


def _labelled(recipe: Recipe, split: Split) -> Iterator[LabelledTile]:
    """Yield all ground held out in tiles of one size; what is only context is not known."""
    size = _LABELLED_TILE
    for name, grounds in split.validation.items():
        for ground in grounds:
            for tile in validation_tiles(ground, recipe.draws.resolution_m, size, CONTEXT):
                labels = tile.labels.numpy()
                known = np.zeros(labels.shape, bool)
                inner = tile.inner.within(Window(0, 0, size, size))
                known[inner] = labels[inner] != IGNORE
                yield LabelledTile(normalize(tile.pixels[None])[0].numpy(), labels, known, name)
