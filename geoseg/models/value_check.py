"""Whether the values of a scene are like those of a model's training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat, model_validator

BINS = 15
"""Bins of a histogram; odd, so that equal bands fall into the middle of their differences'."""

ENOUGH = 10_000
"""Pixels from which on a scene is judged: fewer may all lie on one roof."""

SHIFT = 1.5
"""Standard deviations of the training values between their mean and a scene's: beyond, it is warned."""

SPREAD = 4.0
"""Factor between the standard deviations of a scene and of the training values, either way."""

INVERTED = 0.25
"""Nats a value by which a scene must be more like the training values as a negative than as it is."""

FEW_VALUES = 1 << 17
"""Between the least and the largest of values that are counted each by itself."""

_FLOOR = 1e-3
"""Share that a bin is given at least: what was not met in training is rare, not impossible."""

Shares = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=3, max_length=255)]


class TrainingStatistics(BaseModel, frozen=True, extra="forbid", strict=True):
    """Values that the model was trained on, one entry a band.

    ``p1`` and ``p99`` are percentiles. ``histograms`` are shares in equal bins that sum to 1, values outside
    counted in the outermost: of each band over ``range``, then of the difference of each band to the one
    before it over a quarter of that range either way.
    """

    range: tuple[FiniteFloat, FiniteFloat]
    mean: tuple[FiniteFloat, ...]
    stddev: tuple[Annotated[FiniteFloat, Field(ge=0)], ...]
    p1: tuple[FiniteFloat, ...]
    p99: tuple[FiniteFloat, ...]
    histograms: tuple[Shares, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        bands = len(self.mean)
        if not bands == len(self.stddev) == len(self.p1) == len(self.p99):
            raise ValueError("mean, stddev, p1 and p99 must have one entry a band")
        if len(self.histograms) != 2 * bands - 1 or len({len(row) for row in self.histograms}) != 1:
            raise ValueError(f"histograms: must be {2 * bands - 1} of one length")
        if not self.range[0] < self.range[1]:
            raise ValueError("range: must be [low, high]")
        return self

    def as_property(self) -> dict[str, object]:
        """Return the JSON of the card's field, rounded."""
        short = {
            name: [float(f"{value:.5g}") for value in getattr(self, name)]
            for name in ("range", "mean", "stddev", "p1", "p99")
        }
        return {**short, "histograms": [[round(share, 5) for share in row] for row in self.histograms]}


def value_statistics(
    pixels: NDArray[np.generic], low: float = 0.0, high: float = 255.0, bins: int = BINS
) -> TrainingStatistics:
    """Describe pixel values, as a model sees them: after a stretch, before normalization.

    Parameters
    ----------
    pixels : ndarray, shape (bands, n)
        Valid pixels, at least one, in any real dtype.
    low, high : float
        Range of the histograms: that of the dtype for 8 bit.
    bins : int
        Of each histogram.
    """
    wide = pixels if pixels.dtype.kind == "f" else pixels.astype(np.int64)
    reach = (high - low) / 4
    rows, facts = [], []
    for band in pixels:
        values, counts = _counted(band)
        rows.append(_histogram(values, counts, low, high, bins))
        mean = np.average(values, weights=counts)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=counts))
        facts.append((mean, deviation, _percentile(values, counts, 0.01), _percentile(values, counts, 0.99)))
    for step in np.diff(wide, axis=0):
        rows.append(_histogram(*_counted(step), -reach, reach, bins))
    means, deviations, p1, p99 = np.array(facts, np.float64).T.tolist()
    return TrainingStatistics(
        range=(low, high),
        mean=tuple(means),
        stddev=tuple(deviations),
        p1=tuple(p1),
        p99=tuple(p99),
        histograms=tuple(map(tuple, rows)),
    )


def _counted(values: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the values that occur, sorted, and how often: of 8 bit they are few, whatever the scene."""
    if values.dtype.kind == "f" or int(values.max()) - int(values.min()) > FEW_VALUES:
        known, counts = np.unique(values, return_counts=True)
        return known.astype(np.float64), counts
    least = int(values.min())
    counts = np.bincount(values.astype(np.intp) - least)
    (known,) = np.nonzero(counts)
    return (known + least).astype(np.float64), counts[known]


def _percentile(values: NDArray[np.float64], counts: NDArray[np.intp], share: float) -> float:
    """Return a percentile of values that occur so often, by linear interpolation as numpy's."""
    ends = np.cumsum(counts)
    place = share * (ends[-1] - 1)
    below, above = values[np.searchsorted(ends, [np.floor(place), np.ceil(place)], side="right")]
    return float(below + (above - below) * (place % 1))


def unlike_training(
    pixels: NDArray[np.generic], trained: TrainingStatistics, bands: Sequence[str]
) -> tuple[str, ...]:
    """Warn in one line, or none, of a scene whose values are far from those of the training.

    Three questions, the first that is answered with yes is told: does a band's mean lie more than
    `SHIFT` standard deviations off? is its standard deviation `SPREAD` times smaller or larger? is
    the scene by `INVERTED` more like the training data as a negative? The last compares
    cross-entropies under the training's histograms; the mean and the spread of a negative are often
    unremarkable, but shadows are dark in nature, and vegetation is not violet.

    Parameters
    ----------
    pixels : ndarray, shape (bands, n)
        Valid pixels that stand for the scene, as the model sees them; fewer than `ENOUGH` say nothing.
    trained : TrainingStatistics
        Of as many bands.
    bands : sequence of str
        Names for the message.
    """
    if pixels.shape[1] < ENOUGH:
        return ()
    seen = value_statistics(pixels, *trained.range, len(trained.histograms[0]))
    for band, name in enumerate(bands):
        known = f"{trained.mean[band]:.0f} ± {trained.stddev[band]:.0f}"
        found = f"{seen.mean[band]:.0f} ± {seen.stddev[band]:.0f} in {name}"
        shift = seen.mean[band] - trained.mean[band]
        if abs(shift) > SHIFT * trained.stddev[band]:
            how = "brighter" if shift > 0 else "darker"
            return (
                f"its values ({found}) are far {how} than those of the training ({known}); see --stretch",
            )
        if not trained.stddev[band] / SPREAD <= seen.stddev[band] <= trained.stddev[band] * SPREAD:
            how = "more" if seen.stddev[band] > trained.stddev[band] else "less"
            return (
                f"its values ({found}) vary far {how} than those of the training ({known}); see --stretch",
            )
    if inversion_evidence(seen, trained) > INVERTED:
        return ("its values look inverted, like a negative, compared with those of the training",)
    return ()


def inversion_evidence(seen: TrainingStatistics, trained: TrainingStatistics) -> float:
    """Return by how many nats the negative of the values is more like the training; below 0: less."""
    found, expected = np.array(seen.histograms), np.array(trained.histograms)
    surprise = -np.log(expected + _FLOOR)
    return float(((found - found[:, ::-1]) * surprise).sum(axis=1).mean())


def _histogram(
    values: NDArray[np.float64], counts: NDArray[np.intp], low: float, high: float, bins: int
) -> list[float]:
    places = np.clip(np.floor((values - low) * (bins / (high - low))), 0, bins - 1).astype(np.intp)
    return list((np.bincount(places, weights=counts, minlength=bins) / counts.sum()).tolist())
