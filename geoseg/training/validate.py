"""How good the network is on ground it was never trained on, place by place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
import torch
from numpy.typing import NDArray

from geoseg.backends.base import Activation, to_probabilities
from geoseg.grid import Axis, TileGrid, classify
from geoseg.labels.classes import IGNORE
from geoseg.metrics import Confusion, confusion, match_objects
from geoseg.training.data.ground import Ground
from geoseg.training.data.sampler import region_on, validation_tiles
from geoseg.training.task import normalize
from geoseg.values import ClassRule, ProbabilityBlock, Window
from geoseg.vector.pieces import PLAIN, Calibration, Piece, confident
from geoseg.vector.split import SplitRule, find_cuts
from geoseg.vector.trace import trace

LARGEST, CONTEXT = 1024, 32
"""Most pixels a side that the network sees at once as inner ground, and as context beyond it."""

WHOLE = 4096
"""Most pixels a side of a ground that is answered, and scored, in one piece."""

_MULTIPLE = 32


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What the network says about a piece of ground, at the resolution it was asked at."""

    pixels: NDArray[np.uint8]
    """uint8, shape (bands, rows, cols). The ground."""
    values: NDArray[np.uint16]
    """uint16, shape (channels, rows, cols). Probabilities, 65535 is certain."""
    labels: NDArray[np.uint8]
    """uint8, shape (rows, cols). Class ids, 0 background, 255 unknown."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How probabilities become pixels and polygons of classes, as `geoseg predict` makes them."""

    rule: ClassRule
    split: SplitRule | None = None
    """When parts of an object are objects."""
    min_confidence: float = 0.0
    """Polygons of a lower confidence are left out."""
    calibration: Calibration = PLAIN


@dataclass(frozen=True, slots=True)
class Score:
    """Counts over one place, or several: scores add up."""

    pixels: tuple[Confusion, ...]
    objects: tuple[Confusion, ...]
    """`pixels`, `objects`: One a class: pixels, and polygons matched at IoU 0.5 or more."""
    area_m2: float = 0.0
    """Known ground."""

    def __add__(self, other: Score) -> Score:
        return Score(
            tuple(a + b for a, b in zip(self.pixels, other.pixels, strict=True)),
            tuple(a + b for a, b in zip(self.objects, other.objects, strict=True)),
            self.area_m2 + other.area_m2,
        )

    @property
    def built(self) -> bool:
        """True if there is anything to be found."""
        return any(not math.isnan(counts.recall) for counts in self.pixels)

    @property
    def iou(self) -> float:
        """Mean intersection over union of the classes that are there."""
        return _mean(counts.iou for counts in self.pixels if not math.isnan(counts.recall))

    @property
    def f1(self) -> float:
        """Mean F1 of the objects of the classes that are there."""
        return _mean(counts.f1 for counts in self.objects if not math.isnan(counts.recall))

    @property
    def false_per_km2(self) -> float:
        """Predicted polygons without a true partner, per square kilometre."""
        false = sum(counts.false_positives for counts in self.objects)
        return false / self.area_m2 * 1e6 if self.area_m2 else math.nan

    @property
    def false_share(self) -> float:
        """Share of the known ground that a class is wrongly seen on."""
        known = self.pixels[0].total
        return sum(counts.false_positives for counts in self.pixels) / known if known else math.nan


@torch.inference_mode()
def answers(
    network: torch.nn.Module, grounds: Iterable[Ground], resolution_m: float, activation: Activation
) -> Iterator[Answer]:
    """Run the network over grounds at `resolution_m`, each pixel once; yield an answer for each ground.

    Tiles see real ground beyond their edge where there is any, its mirror image elsewhere. Ground
    larger than `WHOLE` is answered tile by tile: objects across their borders count as two there.
    """
    device = next(network.parameters()).device
    for ground in grounds:
        region = region_on(ground, ground.grid(resolution_m))
        size = min(LARGEST, -(-max(region.shape) // _MULTIPLE) * _MULTIPLE) + 2 * CONTEXT
        parts: list[tuple[Window, Answer]] = []
        for tile in validation_tiles(ground, resolution_m, size, CONTEXT):
            logits = network(normalize(tile.pixels[None].to(device)))
            values = to_probabilities(logits.float().cpu().numpy(), activation)[0]
            rows, cols = tile.inner.within(Window(0, 0, size, size))
            pixels, labels = tile.pixels[:, rows, cols], tile.labels[rows, cols]
            answer = Answer(pixels.numpy(), values[:, rows, cols], labels.numpy())
            if max(region.shape) > WHOLE:
                yield answer
            else:
                parts.append((tile.place, answer))
        if parts:
            yield _assembled(parts, region)


def _assembled(parts: Sequence[tuple[Window, Answer]], region: Window) -> Answer:
    """Put answers over windows that partition a region together."""
    if len(parts) == 1:
        return parts[0][1]
    first = parts[0][1]
    pixels = np.empty((len(first.pixels), *region.shape), np.uint8)
    values = np.empty((len(first.values), *region.shape), np.uint16)
    labels = np.empty(region.shape, np.uint8)
    for place, answer in parts:
        rows, cols = place.within(region)
        pixels[:, rows, cols], values[:, rows, cols] = answer.pixels, answer.values
        labels[rows, cols] = answer.labels
    return Answer(pixels, values, labels)


def score(
    answer: Answer,
    reading: Reading | ClassRule,
    resolution_m: float,
    *,
    objects: bool = True,
    min_area_m2: float = 0.0,
) -> Score:
    """Compare an answer with its labels.

    Parameters
    ----------
    answer : Answer
        Of one piece of ground; objects are cut at its edge, in truth and answer alike.
    reading : Reading or ClassRule
        How probabilities become classes, and polygons.
    resolution_m : float
        Ground size of a pixel.
    objects : bool
        False leaves polygons out: they take longer than pixels.
    min_area_m2 : float
        Smaller polygons are dropped from the prediction.
    """
    reading = Reading(reading) if isinstance(reading, ClassRule) else reading
    return next(_scores(answer, [reading], resolution_m, min_area_m2, objects=objects))


def _scores(
    answer: Answer, readings: Sequence[Reading], resolution_m: float, min_area_m2: float, *, objects: bool
) -> Iterator[Score]:
    """Score an answer by several readings; those that differ in confidence alone share their polygons."""
    known = answer.labels != IGNORE
    truths = {one: (answer.labels == one) & known for one in foreground(readings[0].rule)}
    theirs = {one: outlines(truth) for one, truth in truths.items()} if objects else {}
    last: Reading | None = None
    for reading in readings:
        if last is None or (last.rule, last.split) != (reading.rule, reading.split):
            found = np.where(known, classify(answer.values, reading.rule), 0)
            pixels = tuple(confusion(found == one, truth, known) for one, truth in truths.items())
            pieces = objects_of(answer, reading, resolution_m, min_area_m2) if objects else []
            last = reading
        kept = confident(pieces, reading.calibration, reading.min_confidence)
        ours = {
            one: np.array([piece.polygon for piece in kept if piece.label == one], object) for one in truths
        }
        matched = [
            match_objects(ours[one], theirs[one], 0.5).counts if objects else Confusion() for one in truths
        ]
        yield Score(pixels, tuple(matched), float(np.count_nonzero(known)) * resolution_m**2)


def objects_of(
    answer: Answer, reading: Reading, resolution_m: float, min_area_m2: float = 0.0
) -> list[Piece]:
    """Trace the polygons of known ground from `min_area_m2` on, in pixel coordinates, of any confidence."""
    known = answer.labels != IGNORE
    rows, cols = (Axis(n, max(n, 8), 0) for n in known.shape)
    tiles = TileGrid(rows, cols, 1, margin=4)
    block = ProbabilityBlock(tiles.window, answer.values, known)
    split = reading.split
    cuts = None if split is None else find_cuts(block, tiles.window, tiles, reading.rule, split)
    pieces = trace(block, tiles.window, known.shape, reading.rule, "smooth", cuts).whole
    return [piece for piece in pieces if piece.polygon.area * resolution_m**2 >= min_area_m2]


def outlines(mask: NDArray[np.bool_]) -> NDArray[np.object_]:
    """Trace connected components (4 neighbours) to polygons in pixel coordinates (col, row)."""
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, connectivity=4)
    return np.array([shapely.geometry.shape(geometry) for geometry, _ in shapes], dtype=object)


def sweep(
    found: Iterable[Answer], readings: Sequence[Reading], resolution_m: float, min_area_m2: float = 0.0
) -> list[Score]:
    """Score answers by each of several readings, in one pass."""
    totals = [total((), reading.rule) for reading in readings]
    for answer in found:
        for number, one in enumerate(_scores(answer, readings, resolution_m, min_area_m2, objects=True)):
            totals[number] += one
    return totals


def best_reading(by_place: Iterable[Sequence[Score]]) -> int:
    """Return the number of the reading with the best mean of pixel IoU and object F1 over the built places.

    Of equals, and where no place is built, the first.

    Parameters
    ----------
    by_place : iterable of sequence of Score
        Of each place, a score a reading, as `sweep` gives them.
    """
    places = [scores for scores in by_place if scores[0].built]
    qualities = [
        _mean((found.iou + found.f1) / 2 for found in scores) for scores in zip(*places, strict=True)
    ]
    return int(np.argmax(qualities)) if qualities else 0


def merit(scores: Iterable[Score]) -> float:
    """Return what checkpoints are chosen by: mean IoU of built places less mean false share of empty ones."""
    found = list(scores)
    built = [place.iou for place in found if place.built]
    empty = [place.false_share for place in found if not place.built and place.area_m2]
    return (_mean(built) if built else 0.0) - (_mean(empty) if empty else 0.0)


def total(scores: Iterable[Score], rule: ClassRule) -> Score:
    """Add scores up; the sum of none is all zeros."""
    none = (Confusion(),) * len(foreground(rule))
    return sum(scores, Score(none, none))


def foreground(rule: ClassRule) -> tuple[int, ...]:
    """Return the class ids of a rule's channels without the background."""
    return tuple(channel for channel in rule.channels if channel)


def _mean(values: Iterable[float]) -> float:
    array = list(values)
    return float(np.mean(array)) if array else math.nan
