"""The figures of an evaluation by what they judge: pixels, objects, outlines, confidence.

Every figure is NaN where it has no meaning (nothing to divide by).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from geoseg.values import ClassInfo


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval.

    Parameters
    ----------
    value : float
        Over all of the known ground; NaN where it has no meaning.
    low, high : float
        Percentile interval of the bootstrap over spatial blocks; NaN where there is none.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class PixelScore:
    """One class against everything else, pixel by pixel.

    Parameters
    ----------
    info : ClassInfo
    precision, recall, f1, iou : Figure
        0 … 1.
    truth_pixels, predicted_pixels : int
        Known pixels of the class in the truth and in the prediction.
    """

    info: ClassInfo
    precision: Figure
    recall: Figure
    f1: Figure
    iou: Figure
    truth_pixels: int
    predicted_pixels: int


@dataclass(frozen=True, slots=True)
class PixelFigures:
    """All known pixels.

    Parameters
    ----------
    classes : tuple of PixelScore
        Without the background.
    accuracy : Figure
        Share of the known pixels with the right class, background included.
    mean_iou : Figure
        Mean IoU of the classes that occur in truth or prediction, without the background.
    labels : tuple of str
        Names of the rows and columns of `confusion`: the background, then the classes.
    confusion : tuple of tuple of int
        Pixels: row the true class, column the predicted one.
    known_pixels, unknown_pixels : int
        Pixels of the grid that were compared, and that were left out.
    known_m2 : float
        Ground of the known pixels in square metres; NaN without a CRS.
    """

    classes: tuple[PixelScore, ...]
    accuracy: Figure
    mean_iou: Figure
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    known_pixels: int
    unknown_pixels: int
    known_m2: float


@dataclass(frozen=True, slots=True)
class MatchScore:
    """Objects matched one to one from one IoU on.

    Parameters
    ----------
    iou : float
        Pairs from this IoU on count as found: 0.5, 0.55 … 0.95.
    precision, recall, f1 : float
    """

    iou: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class SizeScore:
    """Objects of one class of size, matched at IoU 0.5 (among objects of all sizes).

    Parameters
    ----------
    low_m2, high_m2 : float
        Geodesic area, ``low <= area < high``; high may be infinite.
    truth, found : int
        True objects of this size, and those of them with a partner.
    predicted, right : int
        Predicted objects of this size, and those of them with a partner.
    precision, recall, f1 : float
        right / predicted, found / truth, and their harmonic mean.
    """

    low_m2: float
    high_m2: float
    truth: int
    found: int
    predicted: int
    right: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """The polygons of one class.

    Parameters
    ----------
    info : ClassInfo
    truth, predicted, matched : int
        Objects that count, and pairs at IoU 0.5.
    excused : int
        Objects without a partner that count neither as missed nor as false: more than half of
        them lies where the truth or the prediction is unknown.
    precision, recall, f1 : Figure
        At IoU 0.5.
    mean_precision, mean_recall, mean_f1 : Figure
        Means over the IoU thresholds 0.5, 0.55 … 0.95.
    by_iou : tuple of MatchScore
        At each of these thresholds.
    sizes : tuple of SizeScore
        Empty without a CRS.
    split : int
        True objects that hold two or more predicted ones (at least half of each lies inside).
    merged : int
        Predicted objects that hold two or more true ones.
    false_per_km2 : Figure
        Predicted objects without a partner at IoU 0.5, per square kilometre of known ground.
    """

    info: ClassInfo
    truth: int
    predicted: int
    matched: int
    excused: int
    precision: Figure
    recall: Figure
    f1: Figure
    mean_precision: Figure
    mean_recall: Figure
    mean_f1: Figure
    by_iou: tuple[MatchScore, ...]
    sizes: tuple[SizeScore, ...]
    split: int
    merged: int
    false_per_km2: Figure


@dataclass(frozen=True, slots=True)
class OutlineScore:
    """How well the outlines of one class agree.

    Parameters
    ----------
    info : ClassInfo
    boundary_iou : Figure
        IoU of the pixels within the band's width of the outline, on its inner side (Cheng et al. 2021).
    width_m : float
        The band's width in metres; NaN without a CRS.
    width_px : tuple of int
        The same in whole pixels of the grid: rows, columns.
    pairs : int
        Objects matched at IoU 0.5, whose outlines are compared.
    mean_m, p95_m : Figure
        Mean and 95th percentile of the distance from points of either outline to the other, in
        metres (pixels without a CRS).
    """

    info: ClassInfo
    boundary_iou: Figure
    width_m: float
    width_px: tuple[int, int]
    pairs: int
    mean_m: Figure
    p95_m: Figure


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pixels of similar probability, and whether they are as often right as they say.

    Parameters
    ----------
    low, high : float
        Probabilities ``low <= p < high`` (the last bin includes 1).
    pixels : int
    mean_probability, true_share : float
        What was said, and the share of the pixels that are of the class; NaN for an empty bin.
    """

    low: float
    high: float
    pixels: int
    mean_probability: float
    true_share: float


@dataclass(frozen=True, slots=True)
class ThresholdScore:
    """Pixels of one class if it were wherever its probability reaches a threshold.

    Parameters
    ----------
    threshold, precision, recall, iou, f1 : float
    """

    threshold: float
    precision: float
    recall: float
    iou: float
    f1: float


@dataclass(frozen=True, slots=True)
class ConfidenceScore:
    """What the probabilities of one class are worth.

    Parameters
    ----------
    info : ClassInfo
    bins : tuple of ReliabilityBin
        Ten of equal width.
    calibration_error : Figure
        Expected calibration error: mean over pixels of |mean probability - true share| of their bin.
    brier : float
        Mean squared difference between probability and truth.
    curve : tuple of ThresholdScore
        Thresholds 0.02, 0.04 … 0.98.
    best : ThresholdScore
        Of thresholds in steps of 0.004, the one with the largest IoU (and so the largest F1, which
        grows with it); all NaN where the class does not occur.
    used : float
        The threshold that the prediction was made with, as far as it is known; else NaN.
    """

    info: ClassInfo
    bins: tuple[ReliabilityBin, ...]
    calibration_error: Figure
    brier: float
    curve: tuple[ThresholdScore, ...]
    best: ThresholdScore
    used: float
