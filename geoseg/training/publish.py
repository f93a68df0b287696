"""From a finished run to a model folder: measure, round, export, and say all of it on the card."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from geoseg.backends import architectures
from geoseg.backends.export import export_onnx
from geoseg.models.bundle import CONFIG, ONNX, WEIGHTS, Bundle, save_bundle
from geoseg.models.card import Head, make_document
from geoseg.models.inputs import InputSpec
from geoseg.training.recipe import Recipe
from geoseg.training.samples import Chip, Split, read_index
from geoseg.training.validate import Answer, Score, answers, best_threshold, score, total
from geoseg.values import ClassInfo

TILE, OVERLAP = 512, 128
"""Tile size and overlap that the card suggests, in pixels."""

MIN_AREA_M2 = 4.0
"""Predicted polygons that are smaller are left out, in square metres."""

_THRESHOLDS = tuple(round(0.4 + 0.05 * step, 2) for step in range(10))
_DESCRIPTION = (
    "Footprints of buildings from red, green, blue imagery of 0.2 to 0.6 m. A research-derived baseline, not "
    "commercially clean: among its training data are collections for research only (tier C) and collections "
    "whose terms are not stated (tier B); see geoseg:training_data. Meant for trying geoseg and as a start "
    "for fine-tuning."
)
_BUILDING = ClassInfo(1, "building", (228, 87, 46))
_INPUTS = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.5,) * 3, (0.5,) * 3)


def publish(recipe: Recipe, split: Split, folder: Path) -> Bundle:
    """Write the model folder of a run's best weights, replacing `folder`.

    Weights are rounded to half precision first; threshold and figures are measured afterwards,
    with the weights that are written.

    Raises
    ------
    InvalidModel
        If the run has left no model yet.
    UnwritableOutput
        If `folder` cannot be written.
    """
    module = architectures.load(recipe.output / "best")
    architectures.round_to_half(module)
    resolution = recipe.draws.resolution_m
    found = {name: list(answers(module, chips, resolution)) for name, chips in split.validation.items()}
    threshold = best_threshold(found, _THRESHOLDS, resolution)
    scores = measure(found, threshold, resolution)
    properties = {
        "description": _DESCRIPTION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "license": "other",
        "mlm:architecture": str(recipe.model["_model_class"]),
        "mlm:framework_version": version("torch"),
        "mlm:total_parameters": sum(value.numel() for value in module.parameters()),
        "mlm:pretrained": recipe.pretrained is not None,
        "mlm:pretrained_source": recipe.pretrained,
        "mlm:accelerator": "amd64",
        "mlm:hyperparameters": _hyperparameters(recipe),
        "geoseg:resolution_range_m": [recipe.draws.smallest_m, recipe.draws.largest_m],
        "geoseg:training_data": training_data(recipe, split),
        "geoseg:accuracy": accuracy(scores, split, threshold, resolution),
    }
    document = make_document(
        recipe.name,
        _INPUTS,
        Head((_BUILDING,), (1,), "sigmoid", threshold),
        tile=TILE,
        overlap=OVERLAP,
        resolution_m=resolution,
        extra=properties,
    )
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        architectures.save(module, recipe.model, place)
        export_onnx(module, place / ONNX, len(_INPUTS.bands), 256)
        files = {name: place / name for name in (WEIGHTS, CONFIG, ONNX)}
        return save_bundle(folder, document, files, overwrite=True)


def measure(found: Mapping[str, Sequence[Answer]], threshold: float, resolution_m: float) -> dict[str, Score]:
    """Score answers by place, pixels and objects."""
    return {
        name: total(score(answer, threshold, resolution_m, min_area_m2=MIN_AREA_M2) for answer in place)
        for name, place in found.items()
    }


def accuracy(
    scores: Mapping[str, Score], split: Split, threshold: float, resolution_m: float
) -> list[dict[str, object]]:
    """Return the card's rows: by place what is defined there, then means over the built places."""
    how = f"never trained on; resampled to {resolution_m} m, threshold {threshold}"
    objects = f"{how}; connected components one to one, predictions under {MIN_AREA_M2:g} m² left out"
    rows: list[dict[str, object]] = []

    def add(metric: str, value: float, where: str, note: str) -> None:
        rows.append({"metric": metric, "value": round(value, 4), "where": where, "how": note})

    for name, found in scores.items():
        where = f"{name} ({len(split.validation[name])} chips, {found.area_m2 / 1e6:.3f} km²)"
        if math.isnan(found.pixels.recall):
            add("false area share", found.false_share, where, how)
            add("false features per km²", found.false_per_km2, where, objects)
        else:
            add("pixel IoU", found.pixels.iou, where, how)
            add("object F1 at IoU 0.5", found.objects.f1, where, objects)
    built = [found for found in scores.values() if not math.isnan(found.pixels.recall)]
    where = f"mean over {len(built)} places with buildings"
    add("pixel IoU", float(np.mean([found.pixels.iou for found in built])), where, how)
    add("object F1 at IoU 0.5", float(np.mean([found.objects.f1 for found in built])), where, objects)
    return rows


def training_data(recipe: Recipe, split: Split) -> list[dict[str, object]]:
    """Return what the card says about each source that was trained on, terms as the index states them."""
    index = {(row["source"], row["stem"]): row for row in read_index(recipe.data / "index.csv")}
    groups: dict[tuple[str, str, str], list[Chip]] = {}
    for chip in split.training:
        row = index[chip.source, chip.stem]
        groups.setdefault((chip.source, row["licence"], row["tier"]), []).append(chip)
    entries: list[dict[str, object]] = []
    for (source, licence, tier), chips in sorted(groups.items()):
        places = sorted({index[chip.source, chip.stem]["place"] for chip in chips})
        area = sum(chip.mask.numel() * chip.gsd_m**2 for chip in chips) / 1e6
        note = f"tier {tier}; {len(chips)} chips, {area:.3f} km²; {'; '.join(places)}"
        entries.append({"name": source, "licence": licence[:200], "note": note})
    if recipe.draws.worlds:
        note = f"{recipe.draws.worlds} rendered scenes, {recipe.draws.synthetic_share:.0%} of the samples"
        entries.append(
            {"name": "synthetic (geoseg.training.synthetic)", "licence": "Apache-2.0", "note": note}
        )
    return entries


def _hyperparameters(recipe: Recipe) -> dict[str, object]:
    last, chosen = _rows(recipe.output / "training.csv")[-1], _chosen_step(recipe.output / "validation.csv")
    return {
        "seed": recipe.seed,
        "chosen_step": chosen,
        "steps": int(last["step"]) + 1,
        "training_minutes": round(float(last["seconds"]) / 60, 1),
        "hardware": f"CPU, {recipe.optimization.threads} threads, no GPU",
        "draws": recipe.draws.model_dump(mode="json"),
        "optimization": recipe.optimization.model_dump(mode="json"),
        "versions": {
            name: version(name) for name in ("torch", "segmentation-models-pytorch", "timm", "torchvision")
        },
    }


def _chosen_step(path: Path) -> int:
    """Return the step whose averaged weights did best: those in the folder ``best``."""
    built: dict[int, list[float]] = {}
    empty: dict[int, list[float]] = {}
    for row in _rows(path):
        if math.isnan(float(row["recall"])):
            empty.setdefault(int(row["step"]), []).append(float(row["false_share"]))
        else:
            built.setdefault(int(row["step"]), []).append(float(row["iou"]))
    return max(built, key=lambda step: float(np.mean(built[step])) - float(np.mean(empty.get(step, [0.0]))))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
