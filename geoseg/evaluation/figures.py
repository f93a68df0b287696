"""From counts by block to figures, with intervals from resampling the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.objects import THRESHOLDS, Comparison
from geoseg.evaluation.result import (
    ConfidenceScore,
    Figure,
    MatchScore,
    ObjectScore,
    OutlineScore,
    PixelFigures,
    PixelScore,
    ReliabilityBin,
    ThresholdScore,
)
from geoseg.evaluation.stream import BlockCounts, Tally
from geoseg.metrics.pixels import (
    BINS,
    LEVELS,
    brier_score,
    calibration_error,
    fold,
    threshold_counts,
)
from geoseg.values import ClassInfo

REPLICATES = 1000
_CURVE = range(5, LEVELS - 1, 5)

Array = NDArray[np.float64]


class Sums(NamedTuple):
    """Counts added up, over everything (``m = 1``), block by block, or over resampled blocks."""

    pixels: Array
    """Shape (m, n + 1, n + 1)."""
    boundary: Array
    """Shape (m, n, 2)."""
    bins: Array
    """Shape (m, n, BINS, 3)."""
    objects: Array
    """Shape (m, n, thresholds, 3). Found, false, missed."""
    distances: Array
    """Shape (m, n, 2). Sum of the distances between matched outlines, and number of points."""


@dataclass(frozen=True, eq=False, slots=True)
class Estimator:
    """Computes figures from the whole and from resamples of the blocks."""

    whole: Sums
    resamples: Sums | None
    """None where there are too few blocks for an interval."""

    def __call__(self, statistic: Callable[[Sums], Array]) -> Figure:
        """Return a figure; `statistic` gives one value for each of the ``m`` sums."""
        value = float(statistic(self.whole)[0])
        if self.resamples is None:
            return Figure(value)
        return Figure(value, *percentile_interval(statistic(self.resamples)))


def make_estimator(
    tally: Tally, comparisons: Sequence[Comparison], block: tuple[int, int], seed: int
) -> Estimator:
    """Bring all counts to their blocks, add them up and resample them."""
    count = len(comparisons)
    for comparison in comparisons:
        for place in (comparison.places, comparison.pair_places):
            for row, col in _keys(place, block):
                tally.blocks.setdefault((row, col), BlockCounts.empty(count))
    keys = {key: index for index, key in enumerate(sorted(tally.blocks))}
    blocks = [tally.blocks[key] for key in keys]
    objects = np.zeros((len(keys), count, len(THRESHOLDS), 3))
    distances = np.zeros((len(keys), count, 2))
    for number, comparison in enumerate(comparisons):
        at = _indices(comparison.places, block, keys)
        np.add.at(objects[:, number], at, comparison.counts)
        at = _indices(comparison.pair_places, block, keys)[comparison.pair]
        points = np.column_stack([comparison.distances, np.ones(len(at))])
        np.add.at(distances[:, number], at, points)
    sums = Sums(
        np.array([part.pixels for part in blocks], float).reshape(len(keys), count + 1, count + 1),
        np.array([part.boundary for part in blocks], float).reshape(len(keys), count, 2),
        np.array([part.bins for part in blocks], float).reshape(len(keys), count, BINS, 3),
        objects,
        distances,
    )
    whole = Sums(*(part.sum(axis=0, keepdims=True) for part in sums))
    enough = known_blocks(tally) >= FEWEST_BLOCKS
    return Estimator(whole, _resample(sums, seed) if enough else None)


def known_blocks(tally: Tally) -> int:
    """Return the number of blocks with known pixels."""
    return sum(1 for counts in tally.blocks.values() if counts.pixels.any())


def pixel_figures(
    estimate: Estimator, classes: Sequence[ClassInfo], unknown_pixels: int, pixel_m2: float
) -> PixelFigures:
    """Return the figures of all pixels."""
    matrix = estimate.whole.pixels[0].astype(np.int64)
    known = int(matrix.sum())
    return PixelFigures(
        classes=tuple(_pixel_score(estimate, info, i, matrix) for i, info in enumerate(classes, 1)),
        accuracy=estimate(lambda s: _ratio(np.trace(s.pixels, axis1=1, axis2=2), s.pixels.sum(axis=(1, 2)))),
        mean_iou=estimate(_mean_iou),
        labels=("background", *(info.name for info in classes)),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        known_pixels=known,
        unknown_pixels=unknown_pixels,
        known_m2=known * pixel_m2,
    )


def object_score(
    estimate: Estimator, info: ClassInfo, number: int, comparison: Comparison, known_m2: float
) -> ObjectScore:
    """Return the figures of the objects of a class; `number` counts classes from 0."""
    found, false, missed = estimate.whole.objects[0, number].astype(np.int64).T.tolist()
    pixel_m2 = known_m2 / max(estimate.whole.pixels.sum(), 1)

    def figure(kind: Callable[[Array, Array, Array], Array], thresholds: slice) -> Figure:
        return estimate(lambda s: kind(*np.moveaxis(s.objects[:, number, thresholds], -1, 0)).mean(axis=-1))

    first, every = slice(0, 1), slice(None)
    return ObjectScore(
        info=info,
        truth=found[0] + missed[0],
        predicted=found[0] + false[0],
        matched=found[0],
        excused=comparison.excused,
        precision=figure(_precision, first),
        recall=figure(_recall, first),
        f1=figure(_f1, first),
        mean_precision=figure(_precision, every),
        mean_recall=figure(_recall, every),
        mean_f1=figure(_f1, every),
        by_iou=tuple(
            MatchScore(threshold, *(float(kind(*counts)) for kind in (_precision, _recall, _f1)))
            for threshold, *counts in zip(
                THRESHOLDS, *(np.array(part, float) for part in (found, false, missed)), strict=True
            )
        ),
        sizes=comparison.sizes,
        split=comparison.split,
        merged=comparison.merged,
        false_per_km2=estimate(
            lambda s: _ratio(s.objects[:, number, 0, 1], s.pixels.sum(axis=(1, 2)) * pixel_m2 / 1e6)
        ),
    )


def outline_score(
    estimate: Estimator,
    info: ClassInfo,
    number: int,
    comparison: Comparison,
    width: tuple[float, tuple[int, int]],
) -> OutlineScore:
    """Return the figures of the outlines of a class."""
    ninety_fifth = np.percentile(comparison.distances, 95) if len(comparison.distances) else np.nan
    return OutlineScore(
        info=info,
        boundary_iou=estimate(lambda s: _ratio(s.boundary[:, number, 0], s.boundary[:, number, 1])),
        width_m=width[0],
        width_px=width[1],
        pairs=len(comparison.pair_places),
        mean_m=estimate(lambda s: _ratio(s.distances[:, number, 0], s.distances[:, number, 1])),
        p95_m=Figure(float(ninety_fifth)),
    )


def confidence_score(
    estimate: Estimator, info: ClassInfo, number: int, histogram: NDArray[np.int64], used: float
) -> ConfidenceScore:
    """Return what the probabilities of a class are worth."""
    curve = _thresholds(histogram)
    defined = [score for score in curve[1:] if score.iou == score.iou]
    nothing = ThresholdScore(*(float("nan"),) * 5)
    occurs = bool(histogram[:, 1].any())
    pixels, said, true = fold(histogram).T.astype(float)
    return ConfidenceScore(
        info=info,
        bins=tuple(
            ReliabilityBin(i / BINS, (i + 1) / BINS, int(pixels[i]), float(mean), float(share))
            for i, (mean, share) in enumerate(
                zip(_ratio(said, pixels * (LEVELS - 1)), _ratio(true, pixels), strict=True)
            )
        ),
        calibration_error=estimate(lambda s: calibration_error(s.bins[:, number])),
        brier=brier_score(histogram),
        curve=tuple(curve[level] for level in _CURVE),
        best=max(defined, key=lambda score: score.iou) if occurs and defined else nothing,
        used=used,
    )


def _thresholds(histogram: NDArray[np.int64]) -> list[ThresholdScore]:
    found, false, missed = (part.astype(float) for part in threshold_counts(histogram))
    columns = (
        _precision(found, false, missed),
        _recall(found, false, missed),
        _ratio(found, found + false + missed),
        _f1(found, false, missed),
    )
    return [
        ThresholdScore(level / (LEVELS - 1), *(float(column[level]) for column in columns))
        for level in range(LEVELS)
    ]


def _pixel_score(estimate: Estimator, info: ClassInfo, number: int, matrix: NDArray[np.int64]) -> PixelScore:
    def counts(sums: Sums) -> tuple[Array, Array, Array]:
        found = sums.pixels[:, number, number]
        return (
            found,
            sums.pixels[:, :, number].sum(axis=1) - found,
            sums.pixels[:, number].sum(axis=1) - found,
        )

    return PixelScore(
        info=info,
        precision=estimate(lambda s: _precision(*counts(s))),
        recall=estimate(lambda s: _recall(*counts(s))),
        f1=estimate(lambda s: _f1(*counts(s))),
        iou=estimate(lambda s: _iou(*counts(s))),
        truth_pixels=int(matrix[number].sum()),
        predicted_pixels=int(matrix[:, number].sum()),
    )


def _mean_iou(sums: Sums) -> Array:
    found = np.diagonal(sums.pixels, axis1=1, axis2=2)[:, 1:]
    union = (sums.pixels.sum(axis=1) + sums.pixels.sum(axis=2))[:, 1:] - found
    each = _ratio(found, union)
    occur = np.isfinite(each)
    return _ratio(np.where(occur, each, 0).sum(axis=1), occur.sum(axis=1).astype(float))


def _resample(sums: Sums, seed: int) -> Sums:
    count = len(sums.pixels)
    flat = np.concatenate([part.reshape(count, -1) for part in sums], axis=1)
    drawn = resampled_sums(flat, REPLICATES, seed)
    edges = np.cumsum([part[0].size for part in sums])[:-1]
    return Sums(
        *(
            piece.reshape(REPLICATES, *part.shape[1:])
            for piece, part in zip(np.split(drawn, edges, axis=1), sums, strict=True)
        )
    )


def _keys(places: Array, block: tuple[int, int]) -> list[tuple[int, int]]:
    return [(int(row // block[0]), int(col // block[1])) for col, row in places.tolist()]


def _indices(places: Array, block: tuple[int, int], keys: dict[tuple[int, int], int]) -> NDArray[np.int64]:
    return np.array([keys[key] for key in _keys(places, block)], np.int64)


def _ratio(part: Array, whole: Array) -> Array:
    """Divide; NaN where there is nothing to divide by."""
    ratio: Array = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
    return ratio


def _precision(found: Array, false: Array, missed: Array) -> Array:
    return _ratio(found, found + false)


def _recall(found: Array, false: Array, missed: Array) -> Array:
    return _ratio(found, found + missed)


def _f1(found: Array, false: Array, missed: Array) -> Array:
    return _ratio(2 * found, 2 * found + false + missed)


def _iou(found: Array, false: Array, missed: Array) -> Array:
    return _ratio(found, found + false + missed)


FEWEST_BLOCKS = 8
"""With fewer, the resamples are too few different ones for an interval to mean anything."""

_CHUNK = 1 << 22
"""Weights held at a time."""


def resample_weights(blocks: int, replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each block is drawn in each replicate, some replicates at a time.

    Parameters
    ----------
    blocks : int
        As many are drawn with replacement in every replicate (Efron & Tibshirani 1993; blocks of
        neighbours as in Hall 1985).

    Yields
    ------
    ndarray of float64, shape (some, blocks)
        Whole numbers.
    """
    rng = np.random.default_rng(seed)
    share = np.full(blocks, 1 / blocks)
    step = max(1, _CHUNK // blocks)
    for start in range(0, replicates, step):
        yield rng.multinomial(blocks, share, size=min(step, replicates - start)).astype(np.float64)


def resampled_sums(counts: NDArray[np.float64], replicates: int, seed: int) -> NDArray[np.float64]:
    """Return the sums of counts over resampled blocks.

    Parameters
    ----------
    counts : ndarray of float64, shape (blocks, k)

    Returns
    -------
    ndarray of float64, shape (replicates, k)
    """
    weights = resample_weights(len(counts), replicates, seed)
    return np.concatenate([part @ counts for part in weights])


def percentile_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % percentile interval of replicates; NaN where fewer than half of them have a meaning."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values) or len(known) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
