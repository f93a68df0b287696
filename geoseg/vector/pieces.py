"""What tracing hands to joining: polygons that are whole, and parts that reach a seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import CERTAIN

NO_PIXEL = np.iinfo(np.int64).max
"""``Evidence.first_pixel`` of a part without pixels: the identity of the minimum."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the pixels of a piece; adding it up is associative and commutative.

    >>> (Evidence(4, 250_000, 17) + Evidence(2, 120_000, 9, touches_edge=True)).first_pixel
    9
    """

    pixels: int = 0
    """Number of pixels whose centre lies in the piece."""
    probability_sum: int = 0
    """Sum of their probabilities, 65535 is certain."""
    first_pixel: int = NO_PIXEL
    """Smallest ``row * grid width + col`` of them: an id that no block size changes."""
    touches_edge: bool = False
    """One of them lies in the first or last row or column of the grid."""
    touches_nodata: bool = False
    """One of them has an invalid pixel of the grid among its eight neighbours."""

    @property
    def confidence(self) -> float:
        """Mean probability of the pixels."""
        return self.probability_sum / self.pixels / CERTAIN

    def __add__(self, other: Evidence) -> Evidence:
        """Return the evidence of both pieces together."""
        return Evidence(
            self.pixels + other.pixels,
            self.probability_sum + other.probability_sum,
            min(self.first_pixel, other.first_pixel),
            self.touches_edge or other.touches_edge,
            self.touches_nodata or other.touches_nodata,
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """How likely polygons are right, from the mean probability of their pixels.

    By a logistic regression on its logit (Platt 1999); without one, it is the mean probability itself.

        >>> Calibration(2.0, -1.0)(np.array([0.5, 0.9, 1.0])).round(3).tolist()
        [0.269, 0.968, 1.0]
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the confidence of each mean probability, in 0 … 1 both."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return mean
        with np.errstate(divide="ignore", over="ignore"):
            likely: NDArray[np.float64] = 1 / (
                1 + np.exp(-self.slope * (np.log(mean) - np.log1p(-mean)) - self.intercept)
            )
        return likely


PLAIN = Calibration()
"""The mean probability as it is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole polygon of one class."""

    label: int
    """Class id."""
    polygon: shapely.Polygon
    """Shapely.Polygon. In pixel coordinates (col, row); shell counter-clockwise in the (col, row) plane."""
    evidence: Evidence


def confident(pieces: Sequence[Piece], calibration: Calibration, least: float) -> list[Piece]:
    """Return the pieces of at least this confidence."""
    sure = calibration(np.array([piece.evidence.confidence for piece in pieces])) >= least
    return [piece for piece, kept in zip(pieces, sure.tolist(), strict=True) if kept]


@dataclass(frozen=True, eq=False, slots=True)
class Arc:
    """A stretch of outline from one seam point to another, the piece on its left."""

    start: int
    end: int
    """`start`, `end`: Keys of the grid edges on a seam where the arc begins and ends: another arc of the same
    polygon ends and begins there, in the neighbouring region."""
    points: NDArray[np.float64]
    """float64, shape (n, 2). Vertices as (col, row), without the end point. The start point is among them
    where it is a vertex of the whole outline."""


@dataclass(frozen=True, eq=False, slots=True)
class OpenPiece:
    """A part of a polygon that goes on beyond a seam."""

    label: int
    """Class id."""
    evidence: Evidence
    """Of the pixels that the region owns."""
    rings: tuple[NDArray[np.float64], ...]
    """Tuple of ndarray, each of shape (n, 2). Outlines that are closed already, the piece on their left."""
    arcs: tuple[Arc, ...]
    """Outlines that go on beyond a seam."""
    contacts: tuple[int, ...]
    """Keys of the stretches of seam that the part covers; the part on the other side of the seam has the same
    key."""


@dataclass(frozen=True, eq=False, slots=True)
class Pieces:
    """What one region holds."""

    whole: tuple[Piece, ...]
    """Polygons that touch no seam."""
    parts: tuple[OpenPiece, ...]
    """Parts that have to be joined."""
