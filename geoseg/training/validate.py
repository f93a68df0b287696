"""How good the network is on ground it was never trained on, place by place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
import torch
from numpy.typing import NDArray

from geoseg.metrics import Confusion, confusion, match_objects
from geoseg.training.samples import BUILDING, UNKNOWN, Chip, mirrored, normalize, resize

_MULTIPLE = 32
_CONTEXT = 32


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What the network says about a chip, at the resolution it was asked at.

    Parameters
    ----------
    probability : ndarray of float32, shape (rows, cols)
        Of a building.
    mask : ndarray of uint8, shape (rows, cols)
        `BUILDING`, 0 or `UNKNOWN`.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Score:
    """Counts over one place, or several: scores add up.

    Parameters
    ----------
    pixels, objects : Confusion
        Pixels, and polygons matched at IoU 0.5 or more.
    area_m2 : float
        Known ground.
    """

    pixels: Confusion = field(default_factory=Confusion)
    objects: Confusion = field(default_factory=Confusion)
    area_m2: float = 0.0

    def __add__(self, other: Score) -> Score:
        return Score(self.pixels + other.pixels, self.objects + other.objects, self.area_m2 + other.area_m2)

    @property
    def false_per_km2(self) -> float:
        """Predicted polygons without a true partner, per square kilometre."""
        return self.objects.false_positives / self.area_m2 * 1e6 if self.area_m2 else math.nan

    @property
    def false_share(self) -> float:
        """Share of the known ground that is wrongly called building."""
        return self.pixels.false_positives / self.pixels.total if self.pixels.total else math.nan


def answers(module: torch.nn.Module, chips: Sequence[Chip], resolution_m: float) -> Iterator[Answer]:
    """Run the network over whole chips, resampled to `resolution_m` and mirrored at their edges."""
    was_training = module.training
    module.eval()
    try:
        for chip in chips:
            yield _answer(module, chip, resolution_m)
    finally:
        module.train(was_training)


def score(
    answer: Answer, threshold: float, resolution_m: float, *, objects: bool = True, min_area_m2: float = 0.0
) -> Score:
    """Compare an answer with its mask.

    Parameters
    ----------
    answer : Answer
        Of one chip.
    threshold : float
        Probability from which on a pixel is building.
    resolution_m : float
        Ground size of a pixel.
    objects : bool
        False leaves polygons out: they take longer than pixels.
    min_area_m2 : float
        Smaller polygons are dropped from the prediction.
    """
    known = answer.mask != UNKNOWN
    predicted = (answer.probability >= threshold) & known
    truth = answer.mask == BUILDING
    counts = confusion(predicted, truth, known)
    matched = Confusion()
    if objects:
        ours, theirs = outlines(predicted), outlines(truth)
        ours = ours[shapely.area(ours) * resolution_m**2 >= min_area_m2]
        matched = match_objects(ours, theirs, 0.5).counts
    return Score(counts, matched, float(np.count_nonzero(known)) * resolution_m**2)


def outlines(mask: NDArray[np.bool_]) -> NDArray[np.object_]:
    """Trace connected components (4 neighbours) to polygons in pixel coordinates (col, row)."""
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, connectivity=4)
    return np.array([shapely.geometry.shape(geometry) for geometry, _ in shapes], dtype=object)


def best_threshold(
    by_place: Mapping[str, Sequence[Answer]], candidates: Sequence[float], resolution_m: float
) -> float:
    """Return the threshold with the best mean of pixel IoU and object F1 over the built places."""
    built = [place for place in by_place.values() if any((answer.mask == BUILDING).any() for answer in place)]

    def quality(threshold: float) -> float:
        totals = [total(score(answer, threshold, resolution_m) for answer in place) for place in built]
        return float(np.mean([(found.pixels.iou + found.objects.f1) / 2 for found in totals]))

    return max(candidates, key=quality)


def total(scores: Iterable[Score]) -> Score:
    """Add scores up; the sum of none is all zeros."""
    return sum(scores, Score())


@torch.inference_mode()
def _answer(module: torch.nn.Module, chip: Chip, resolution_m: float) -> Answer:
    rows, cols = (max(1, round(size * chip.gsd_m / resolution_m)) for size in chip.mask.shape)
    pixels, mask = resize(chip.pixels, chip.mask, rows, cols)
    down, across = (mirrored(size, -_CONTEXT, _padded(size)) for size in (rows, cols))
    batch = normalize(pixels[:, down][:, :, across])[None].contiguous(memory_format=torch.channels_last)
    probability = module(batch).sigmoid()[0, 0, _CONTEXT : _CONTEXT + rows, _CONTEXT : _CONTEXT + cols]
    return Answer(probability.float().numpy(), mask.numpy())


def _padded(size: int) -> int:
    return -(-(size + 2 * _CONTEXT) // _MULTIPLE) * _MULTIPLE
