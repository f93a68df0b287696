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
from geoseg.models.document import CardProperties
from geoseg.values import ClassInfo, GeoBox, Window


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure over all of the known ground, with its 95 % interval.

    The interval is the percentile interval of the bootstrap over spatial blocks; NaN where there is none.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class PixelScore:
    """One class against everything else, known pixel by known pixel."""

    info: ClassInfo
    precision: Figure
    recall: Figure
    f1: Figure
    iou: Figure
    truth_pixels: int
    predicted_pixels: int


@dataclass(frozen=True, slots=True)
class PixelFigures:
    """All known pixels."""

    classes: tuple[PixelScore, ...]
    """Without the background."""
    accuracy: Figure
    """Share of the known pixels with the right class, background included."""
    mean_iou: Figure
    """Of the classes that occur in truth or prediction, without the background."""
    labels: tuple[str, ...]
    """Names of the rows and columns of `confusion`: the background, then the classes."""
    confusion: tuple[tuple[int, ...], ...]
    """Pixels: row the true class, column the predicted one."""
    known_pixels: int
    unknown_pixels: int
    """Pixels of the grid that were left out."""
    known_m2: float
    """Ground of the known pixels; NaN without a CRS."""


@dataclass(frozen=True, slots=True)
class MatchScore:
    """Objects matched one to one; pairs from this IoU on count as found: 0.5, 0.55 … 0.95."""

    iou: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class SizeScore:
    """Objects of one class of size, matched at IoU 0.5 (among objects of all sizes)."""

    low_m2: float
    high_m2: float
    """Geodesic area, ``low <= area < high``; high may be infinite."""
    truth: int
    found: int
    """True objects of this size with a partner."""
    predicted: int
    right: int
    """Predicted objects of this size with a partner."""
    precision: float
    """right / predicted; recall is found / truth, and f1 their harmonic mean."""
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """The polygons of one class; precision, recall and F1 at IoU 0.5, means over 0.5, 0.55 … 0.95."""

    info: ClassInfo
    truth: int
    predicted: int
    matched: int
    """Pairs at IoU 0.5."""
    excused: int
    """Objects without a partner that count neither as missed nor as false: more than half of each lies where
    the truth or the prediction is unknown."""
    precision: Figure
    recall: Figure
    f1: Figure
    mean_precision: Figure
    mean_recall: Figure
    mean_f1: Figure
    by_iou: tuple[MatchScore, ...]
    sizes: tuple[SizeScore, ...]
    """Empty without a CRS."""
    split: int
    """True objects that hold two or more predicted ones (at least half of each lies inside)."""
    merged: int
    """Predicted objects that hold two or more true ones."""
    false_per_km2: Figure
    """Predicted objects without a partner at IoU 0.5, per square kilometre of known ground."""


@dataclass(frozen=True, slots=True)
class OutlineScore:
    """How well the outlines of one class agree."""

    info: ClassInfo
    boundary_iou: Figure
    """IoU of the pixels within a band on the inner side of the outline (Cheng et al. 2021)."""
    width_m: float
    """Of the band; NaN without a CRS."""
    width_px: tuple[int, int]
    """The same in whole pixels of the grid: rows, columns."""
    pairs: int
    """Objects matched at IoU 0.5, whose outlines are compared."""
    mean_m: Figure
    """Distance from points of either outline to the other, in metres (pixels without a CRS)."""
    p95_m: Figure
    """Its 95th percentile."""


@dataclass(frozen=True, slots=True)
class CocoScore:
    """What COCO says of the objects of one class; NaN where there are none of a size."""

    info: ClassInfo
    ap: float
    """Mean over IoU 0.5, 0.55 … 0.95; then at 0.5 and 0.75."""
    ap50: float
    ap75: float
    ap_by_size: tuple[float, float, float]
    """Of small (up to 32² pixels of the grid), medium (96²) and large objects."""
    ar: float
    """Mean of the recall over the same thresholds, however many objects are found."""
    ar_by_size: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pixels of similar probability, ``low <= p < high`` (the last bin includes 1); shares NaN if empty."""

    low: float
    high: float
    pixels: int
    mean_probability: float
    true_share: float
    """Share of the pixels that are of the class."""


@dataclass(frozen=True, slots=True)
class ThresholdScore:
    """Pixels of one class if it were wherever its probability reaches a threshold."""

    threshold: float
    precision: float
    recall: float
    iou: float
    f1: float


@dataclass(frozen=True, slots=True)
class ConfidenceScore:
    """What the probabilities of one class are worth."""

    info: ClassInfo
    bins: tuple[ReliabilityBin, ...]
    """Ten of equal width."""
    calibration_error: Figure
    """Expected calibration error: mean over pixels of |mean probability - true share| of their bin."""
    brier: float
    """Mean squared difference between probability and truth."""
    curve: tuple[ThresholdScore, ...]
    """Thresholds 0.02, 0.04 … 0.98."""
    best: ThresholdScore
    """Of thresholds in steps of 0.004, the one with the largest IoU (and so the largest F1, which grows with
    it); all NaN where the class does not occur."""
    used: float
    """The threshold that the prediction was made with, as far as it is known; else NaN."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How the intervals were made."""

    side_m: float
    """Of a block, in metres (pixels without a CRS)."""
    blocks: int
    """With known ground."""
    replicates: int
    """0 where there are too few blocks."""
    seed: int


@dataclass(frozen=True, slots=True)
class WorstTile:
    """A window of the grid with much that is wrong."""

    window: Window
    iou: float
    """Of all classes together (right foreground pixels / foreground of truth or prediction)."""
    false_pixels: int
    """Foreground where the truth has none; missed: none where it has."""
    missed_pixels: int
    wrong_class_pixels: int
    center: tuple[float, float]
    """(x, y) in the grid's CRS."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one evaluation."""

    truth: str
    """Truth and prediction are names of files; for a model, of what it wrote."""
    prediction: str
    model: str | None
    scene: str | None
    probability: str | None
    labelled_area: str | None
    grid: GeoBox
    """The pixels that were compared."""
    resolution_m: tuple[float, float] | None
    """Ground size of a pixel along columns and rows; None without a CRS."""
    classes: tuple[ClassInfo, ...]
    """Without the background; objects and outlines have a score for each."""
    pixels: PixelFigures
    objects: tuple[ObjectScore, ...]
    outlines: tuple[OutlineScore, ...]
    confidence: tuple[ConfidenceScore, ...]
    """Empty without probabilities."""
    resampling: Resampling
    worst: tuple[WorstTile, ...]
    """The worst first."""
    notes: tuple[str, ...]
    """What a reader should know, one line each."""
    version: str
    """Of geoseg."""
    coco: tuple[CocoScore, ...] = ()
    """One for each class; empty where it was not asked for."""

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
