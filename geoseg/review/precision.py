"""How many of all polygons are right, by a random sample of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
