"""Which polygons of a layer are looked at, in which order, and how many of all are right by a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index

STRATA = 4
"""Parts by size that a sample is drawn from; each has at least `FEWEST` of it."""

FEWEST = 5

LAST = 0.9
"""Share of the polygons that are more confident, or more compact, than one that is told for it."""


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """What is known of polygons; all arrays have the shape (n,)."""

    polygons: NDArray[np.object_]
    """Shapely geometries. Valid, in pixels."""
    confidence: Floats
    """float64. NaN where it is not known."""
    touches_edge: NDArray[np.bool_]
    """bool."""
    agreement: Floats
    """float64. IoU with the most similar polygon of an older layer; 1 without one."""

    def doubts(self) -> Floats:
        """Return how doubtful each polygon is, 0 … 3.5.

        The sum of: its place in the order of confidence and in that of compactness (Polsby and Popper's
        4πA/P²), either 0 … 1; half for touching the edge; how far the older layer disagrees.
        """
        unsure, odd = self._places()
        return unsure + odd + 0.5 * self.touches_edge + 1 - self.agreement

    def reasons(self) -> list[list[str]]:
        """Say of each polygon what makes it doubtful."""
        unsure, odd = self._places()
        told = {
            "low confidence": unsure > LAST,
            "odd shape": odd > LAST,
            "touches the edge": self.touches_edge,
            "not in the older layer": self.agreement < 0.1,
            "differs from the older layer": (self.agreement >= 0.1) & (self.agreement < 0.5),
        }
        return [[text for text, holds in told.items() if holds[i]] for i in range(len(self.polygons))]

    def _places(self) -> tuple[Floats, Floats]:
        length = np.maximum(shapely.length(self.polygons), 1e-12)
        compact = 4 * np.pi * shapely.area(self.polygons) / length**2
        return _places(-self.confidence), _places(-compact)


def _places(values: Floats) -> Floats:
    """Return the share of values that are smaller; 0 for one that is not known.

    >>> _places(np.array([3.0, 1.0, np.nan, 2.0, 3.0])).tolist()
    [0.5, 0.0, 0.0, 0.25, 0.5]
    """
    known = np.sort(values[np.isfinite(values)])
    found = np.searchsorted(known, values) / max(len(known), 1)
    return np.where(np.isfinite(values), found * len(known) / max(len(values) - 1, 1), 0.0)


def agreement(polygons: NDArray[np.object_], older: NDArray[np.object_]) -> Floats:
    """Return the IoU of each polygon with the most similar one of an older layer.

    Examples
    --------
    >>> old = np.array([shapely.box(0, 0, 2, 1)])
    >>> agreement(np.array([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 6)]), old).tolist()
    [0.5, 0.0]
    """
    one, two = shapely.STRtree(older).query(polygons, predicate="intersects")
    common = shapely.area(shapely.intersection(polygons[one], older[two]))
    union = shapely.area(polygons)[one] + shapely.area(older)[two] - common
    found = np.zeros(len(polygons))
    np.maximum.at(found, one, common / np.maximum(union, 1e-300))
    return found


def draw_sample(areas: Floats, count: int, seed: int) -> tuple[Index, Index]:
    """Draw polygons at random, as many from each part of a layer by size as it has of all.

    Parameters
    ----------
    areas : ndarray of float64, shape (n,)
    count : int
        All, where there are no more.

    Returns
    -------
    chosen : ndarray of int64, shape (min(count, n),)
        In random order: what has been looked at so far is a random sample as well.
    stratum : ndarray of int64, shape (n,)
        Of every polygon, by ascending size.

    Examples
    --------
    >>> chosen, stratum = draw_sample(np.arange(100.0), 40, seed=1)
    >>> np.bincount(stratum).tolist(), np.bincount(stratum[chosen]).tolist()
    ([25, 25, 25, 25], [10, 10, 10, 10])
    """
    total = len(areas)
    count = min(count, total)
    parts = np.array_split(np.argsort(areas, kind="stable"), max(1, min(STRATA, count // FEWEST)))
    stratum = np.empty(total, np.int64)
    ends = np.cumsum([0, *map(len, parts)]) * count / max(total, 1)
    ends = np.floor(ends + 0.5).astype(int)
    generator = np.random.default_rng(seed)
    chosen = []
    for number, part in enumerate(parts):
        stratum[part] = number
        chosen.append(generator.choice(part, ends[number + 1] - ends[number], replace=False))
    return generator.permutation(np.concatenate(chosen)).astype(np.int64), stratum


Z = 1.959963984540054
"""Two-sided 95 % of the normal distribution."""


class Stratum(NamedTuple):
    """A part of a layer, and what a sample of it has shown."""

    size: int
    """Polygons in all."""
    judged: int
    right: int


@dataclass(frozen=True, slots=True)
class Precision:
    """Share of a layer's polygons that are right, and its 95 % interval."""

    value: float
    low: float
    high: float
    judged: int
    size: int

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.value:.1%} right (95 % interval {self.low:.1%} to {self.high:.1%}), "
            f"by {self.judged:,} of {self.size:,} polygons"
        )


def precision(strata: Sequence[Stratum]) -> Precision | None:
    """Estimate a share from a stratified sample; None while a stratum has no verdict.

    The interval is Wilson's for each stratum, with the quantile that makes their weighted sum one of 95 %
    (Yan and Su 2010, Stratified Wilson and Newcombe Confidence Intervals); of one stratum it is Wilson's.

    Examples
    --------
    >>> found = precision([Stratum(1000, 10, 9)])
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.9, 0.596, 0.982)
    >>> print(precision([Stratum(900, 40, 40), Stratum(100, 10, 5)]))
    95.0% right (95 % interval 88.7% to 97.0%), by 50 of 1,000 polygons
    >>> precision([Stratum(900, 40, 40), Stratum(100, 0, 0)]) is None
    True
    """
    size = sum(part.size for part in strata)
    if not size or any(not part.judged for part in strata):
        return None
    shares = [(part.size / size, part.judged, part.right / part.judged) for part in strata]
    spreads = [weight * _half(n, p, Z) / Z for weight, n, p in shares]
    z = Z * math.sqrt(sum(spread**2 for spread in spreads)) / sum(spreads)
    middle = sum(weight * (n * p + z * z / 2) / (n + z * z) for weight, n, p in shares)
    half = sum(weight * _half(n, p, z) for weight, n, p in shares)
    value = sum(weight * p for weight, _, p in shares)
    judged = sum(part.judged for part in strata)
    return Precision(value, max(0.0, middle - half), min(1.0, middle + half), judged, size)


def _half(n: int, p: float, z: float) -> float:
    """Return half the width of Wilson's interval."""
    return z / (n + z * z) * math.sqrt(n * p * (1 - p) + z * z / 4)
