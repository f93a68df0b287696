"""What an evaluation found: frozen values, from which the terminal, JSON and the report are made.

Every figure is NaN where it has no meaning (nothing to divide by); in JSON that is ``null``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geoseg.evaluation.scores import ConfidenceScore, ObjectScore, OutlineScore, PixelFigures
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
