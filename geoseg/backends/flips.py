"""Test-time flips: the mean of what a model says about a tile and about its mirror images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Predictor

FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""Axes of a batch that are reversed, one entry a pass: none, left and right, up and down, both."""


@dataclass(frozen=True, slots=True)
class FlippingPredictor:
    """Averages any predictor over `FLIPS`; the result no longer depends on which way round a tile is.

    Turns by 90° are left out: they would change the shape of tiles that are not square.

    Parameters
    ----------
    inner : Predictor
        Called once for each flip, with the whole batch, so that it needs no more memory than alone.
    """

    inner: Predictor

    @property
    def name(self) -> str:
        """Runtime and precision, and that the flips are averaged: other bits than without."""
        return f"{self.inner.name}, mean of {len(FLIPS)} flips"

    @property
    def device(self) -> str:
        """Where the inner predictor runs."""
        return self.inner.device

    @property
    def normalizes(self) -> bool:
        """Whether the inner predictor takes uint8 tiles."""
        return self.inner.normalizes

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        """Map ``(n, bands, rows, cols)`` to the mean over the flips, rounded half up.

        The sum is of integers: it is the same in any order, and the mean of four equal values is
        that value.
        """
        total: NDArray[np.uint32] | None = None
        for axes in FLIPS:
            # Contiguous, as backends take a batch for the memory that it is.
            there = np.ascontiguousarray(np.flip(batch, axes)) if axes else batch
            back = np.flip(self.inner(there), axes).astype(np.uint32)
            total = back if total is None else total + back
        assert total is not None
        return ((total + len(FLIPS) // 2) // len(FLIPS)).astype(np.uint16)


_conforming: type[Predictor] = FlippingPredictor
