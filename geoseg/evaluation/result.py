"""What an evaluation found: frozen values, from which terminal, JSON, report and card are made.

Every figure is NaN where it has no meaning (nothing to divide by); in JSON that is ``null``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geoseg.errors import InvalidOption
from geoseg.evaluation.coco import CocoScore
from geoseg.evaluation.scores import ConfidenceScore, Figure, ObjectScore, OutlineScore, PixelFigures
from geoseg.models.document import CardProperties
from geoseg.values import ClassInfo, GeoBox, Window


@dataclass(frozen=True, slots=True)
class Resampling:
    """How the intervals were made.

    Parameters
    ----------
    side_m : float
        Side of a block in metres (pixels without a CRS).
    blocks : int
        Blocks with known ground.
    replicates, seed : int
        Of the bootstrap; 0 replicates where there are too few blocks.
    """

    side_m: float
    blocks: int
    replicates: int
    seed: int


@dataclass(frozen=True, slots=True)
class WorstTile:
    """A window of the grid with much that is wrong.

    Parameters
    ----------
    window : Window
        Pixels of the grid.
    iou : float
        Of all classes together (right foreground pixels / foreground of truth or prediction).
    false_pixels, missed_pixels, wrong_class_pixels : int
        Known pixels: foreground where the truth has none, none where it has, another class.
    center : tuple of float
        (x, y) in the grid's CRS.
    """

    window: Window
    iou: float
    false_pixels: int
    missed_pixels: int
    wrong_class_pixels: int
    center: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one evaluation.

    Parameters
    ----------
    truth, prediction : str
        What was compared: file names; for a model, what it wrote.
    model, scene, probability, labelled_area : str or None
        Where there were any.
    grid : GeoBox
        The pixels that were compared.
    resolution_m : tuple of float or None
        Ground size of a pixel along columns and rows; None without a CRS.
    classes : tuple of ClassInfo
        Without the background.
    pixels : PixelFigures
    objects : tuple of ObjectScore
        One for each class, as the next two.
    outlines : tuple of OutlineScore
    confidence : tuple of ConfidenceScore
        Empty without probabilities.
    resampling : Resampling
    worst : tuple of WorstTile
        The worst first.
    notes : tuple of str
        What a reader should know, one line each.
    version : str
        Of geoseg.
    coco : tuple of CocoScore
        One for each class; empty where it was not asked for.
    """

    truth: str
    prediction: str
    model: str | None
    scene: str | None
    probability: str | None
    labelled_area: str | None
    grid: GeoBox
    resolution_m: tuple[float, float] | None
    classes: tuple[ClassInfo, ...]
    pixels: PixelFigures
    objects: tuple[ObjectScore, ...]
    outlines: tuple[OutlineScore, ...]
    confidence: tuple[ConfidenceScore, ...]
    resampling: Resampling
    worst: tuple[WorstTile, ...]
    notes: tuple[str, ...]
    version: str
    coco: tuple[CocoScore, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values; NaN and infinity become None."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def card_properties(evaluation: Evaluation, properties: CardProperties) -> Mapping[str, object]:
    """Return the fields of a card that an evaluation fills, see `geoseg.models.card_json.amended`.

    Figures measured earlier stay; those of the same metric at the same place are replaced. The
    threshold is taken where there is one class: among several the likeliest wins.

    Parameters
    ----------
    evaluation : Evaluation
        Of the model, on ground that it was not trained on; the threshold is fitted to this ground.
    properties : CardProperties
        The card as it is.

    Raises
    ------
    InvalidOption
        If the evaluation has no figure to write.
    """
    rows = [row for row in _rows(evaluation) if math.isfinite(float(str(row["value"])))]
    if not rows:
        raise InvalidOption(
            "--write: nothing was measured: no known pixel of truth and prediction has a class"
        )
    measured = {(row["metric"], row["where"]) for row in rows}
    kept = [
        figure.model_dump() for figure in properties.accuracy if (figure.metric, figure.where) not in measured
    ]
    found: dict[str, object] = {"geoseg:accuracy": [*kept, *rows]}
    best = [score.best.threshold for score in evaluation.confidence]
    if len(best) == 1 and 0 < best[0] < 1:
        found["geoseg:threshold"] = best[0]
    return found


def _rows(evaluation: Evaluation) -> list[dict[str, object]]:
    # Names without folders: a card travels, and where files lay on this machine is nobody's business.
    names = (evaluation.truth, evaluation.scene or evaluation.prediction)
    where = " against ".join(name.replace("\\", "/").rstrip("/").rpartition("/")[2] for name in names)[:200]
    scores = [("pixel IoU", score.info.name, score.iou) for score in evaluation.pixels.classes]
    scores += [("object F1 at IoU 0.5", score.info.name, score.f1) for score in evaluation.objects]
    several = len(evaluation.classes) > 1
    return [
        {
            "metric": f"{metric}, {name}" if several else metric,
            "value": round(figure.value, 4),
            "where": where,
            "how": _how(figure, evaluation),
        }
        for metric, name, figure in scores
    ]


def _how(figure: Figure, evaluation: Evaluation) -> str:
    interval = "" if math.isnan(figure.low) else f"95 % interval {figure.low:.3f} to {figure.high:.3f}; "
    return f"geoseg evaluate {evaluation.version}; {interval}before the threshold was fitted"
