"""What a model's card says of its training: figures, data, how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np
import torch

from geoseg.training.calibrate import Fitted
from geoseg.training.data.ground import Ground, SceneGround
from geoseg.training.data.holdout import Split
from geoseg.training.logs import read_rows
from geoseg.training.network import Start
from geoseg.training.recipe import Recipe
from geoseg.training.validate import Score, total
from geoseg.values import ClassRule

_CURVE_POINTS = 60


def accuracy(
    scores: Mapping[str, Score],
    places: Mapping[str, Sequence[Ground]],
    rule: ClassRule,
    resolution_m: float,
    min_area_m2: float,
) -> list[dict[str, object]]:
    """Return the card's rows: means over the built places, then by place what is defined there."""
    threshold = f", threshold {rule.threshold:g}" if len(rule.channels) == 1 else ""
    how = (
        "held out of this run; checkpoint, threshold and splitting chosen there; "
        f"resampled to {resolution_m:g} m{threshold}"
    )
    objects = f"{how}; polygons from {min_area_m2:g} m² on, one to one with connected components of the truth"
    rows: list[dict[str, object]] = []

    def add(metric: str, value: float, where: str, note: str) -> None:
        if math.isfinite(value):
            rows.append({"metric": metric, "value": round(value, 4), "where": where, "how": note})

    built = [found for found in scores.values() if found.built]
    empty = [found for found in scores.values() if not found.built and found.area_m2]
    where = f"mean over {len(built)} places with objects"
    add("pixel IoU", _mean([found.iou for found in built]), where, how)
    add("object F1 at IoU 0.5", _mean([found.f1 for found in built]), where, objects)
    if empty:
        whole = total(empty, rule)
        where = f"{len(empty)} places without objects ({whole.area_m2 / 1e6:.3f} km²)"
        add("false features per km²", whole.false_per_km2, where, objects)
    for name, found in scores.items():
        where = f"{name} ({len(places[name])} pieces, {found.area_m2 / 1e6:.3f} km²)"
        if found.built:
            add("pixel IoU", found.iou, where, how)
            add("object F1 at IoU 0.5", found.f1, where, objects)
        else:
            add("false area share", found.false_share, where, how)
    return rows


def calibration(pixels: Fitted | None, objects: Fitted | None) -> list[dict[str, object]]:
    """Return the card's rows on how far probabilities and confidences are from how often they are right."""
    rows: list[dict[str, object]] = []
    for what, fitted in (("pixels", pixels), ("objects at IoU 0.5", objects)):
        if fitted is not None:
            scaled = f"sigmoid({fitted.slope:g} x + {fitted.intercept:g}) of the log odds x"
            where = f"{fitted.places} places with objects, together"
            metric = f"expected calibration error, {what}"
            rows.append(
                {
                    "metric": metric,
                    "value": fitted.error,
                    "where": where,
                    "how": f"held out of this run, fitted there: {scaled}; 15 bins",
                }
            )
    return rows


def training_data(recipe: Recipe, split: Split, start: Start) -> list[dict[str, object]]:
    """Return what the card says about each source that was trained on, terms as the data states them."""
    groups: dict[tuple[str, str, str], list[Ground]] = {}
    for ground in split.training:
        facts = ground.facts
        key = (ground.source, facts.get("licence") or "not stated", facts.get("tier", ""))
        groups.setdefault(key, []).append(ground)
    entries: list[dict[str, object]] = []
    for (source, licence, tier), grounds in sorted(groups.items()):
        places = sorted({ground.facts.get("place", "") for ground in grounds} - {""})
        area = sum(ground.area_m2 for ground in grounds) / 1e6
        parts = [f"tier {tier}"] * bool(tier) + [f"{len(grounds)} pieces, {area:.3f} km²", *places]
        if any(isinstance(ground, SceneGround) and ground.narrowed for ground in grounds):
            parts.append("less what is held out or not labelled")
        entries.append({"name": source[:200], "licence": licence[:200], "note": "; ".join(parts)})
    for base in start.bases:
        name = f"weights of {base.card.name} {base.card.digest[:16]}"
        terms = str((base.document.properties.model_extra or {}).get("license", "not stated"))
        sources = ", ".join(sorted({source.name for source in base.document.properties.training_data}))
        entries.append({"name": name, "licence": terms, "note": f"trained on {sources}" if sources else None})
    return entries


def hyperparameters(recipe: Recipe, start: Start) -> dict[str, object]:
    """Return how the run was made: recipe, steps, time, hardware, versions, and its curve."""
    steps = read_rows(recipe.run_folder / "training.csv")
    last = steps[-1] if steps else {"step": "0", "seconds": "0"}
    curve = validation_curve(read_rows(recipe.run_folder / "validation.csv"))
    gpus = 0 if recipe.optimization.device == "cpu" else torch.cuda.device_count()
    hardware = (
        f"{gpus} × {torch.cuda.get_device_name(0)}"
        if gpus
        else f"CPU, {torch.get_num_threads()} threads, no GPU"
    )
    return {
        "seed": recipe.seed,
        "steps": int(last["step"]),
        "training_minutes": round(float(last["seconds"]) / 60, 1),
        "hardware": hardware,
        "start": start.source,
        "start_made_with": [
            (base.document.properties.model_extra or {}).get("mlm:hyperparameters") for base in start.bases
        ],
        "recipe": recipe.model_dump(
            mode="json",
            include={
                "draws": True,
                "model": {"arch", "encoder", "details"},
                "loss": True,
                "optimization": True,
            },
        ),
        "loss_curve": thin(
            [[int(row["step"]), loss] for row in steps if math.isfinite(loss := float(row["loss"]))]
        ),
        "validation_curve": thin([[step, round(iou, 4)] for step, iou in curve]),
        "versions": {
            name: version(name)
            for name in ("geoseg", "torch", "lightning", "segmentation-models-pytorch", "timm", "torchvision")
        },
    }


def validation_curve(rows: Sequence[Mapping[str, str]]) -> list[tuple[int, float]]:
    """Return (step, mean IoU of the built places) of every validation."""
    by_step: dict[int, list[float]] = {}
    for row in rows:
        if not math.isnan(iou := float(row["iou"])):
            by_step.setdefault(int(row["step"]), []).append(iou)
    return [(step, _mean(values)) for step, values in sorted(by_step.items())]


def thin(points: list[list[float]]) -> list[list[float]]:
    """Return at most a card's worth of points, evenly chosen, first and last among them."""
    if len(points) <= _CURVE_POINTS:
        return points
    chosen = np.linspace(0, len(points) - 1, _CURVE_POINTS).round().astype(int)
    return [points[index] for index in chosen]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
