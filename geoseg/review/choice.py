"""Which polygons of a layer are looked at, and in which order. Pure."""

from __future__ import annotations

from dataclasses import dataclass

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
    """What is known of polygons; all arrays have the shape (n,).

    Parameters
    ----------
    polygons : ndarray of shapely geometries
        Valid, in pixels.
    confidence : ndarray of float64
        NaN where it is not known.
    touches_edge : ndarray of bool
    agreement : ndarray of float64
        IoU with the most similar polygon of an older layer; 1 without one.
    """

    polygons: NDArray[np.object_]
    confidence: Floats
    touches_edge: NDArray[np.bool_]
    agreement: Floats

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
    seed : int

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
