"""Rasters of probabilities over the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.labels.masks import read_nearest
from geoseg.labels.places import box_of
from geoseg.metrics.calibration import to_levels
from geoseg.values import GeoBox, Window

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

_ROUNDING = 1e-6

Ids = NDArray[np.uint8]
Known = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class ProbabilityMap:
    """A raster of probabilities over the grid, one band a class.

    Parameters
    ----------
    scene : SceneInfo
    grid : GeoBox
        Pixels of another grid take the value of the raster's pixel under their centre.
    name : str
    ids : tuple of int
        The class id of each band.
    threshold : float
        The largest probability is the pixel's class if it reaches this (``>=``).
    """

    scene: SceneInfo
    grid: GeoBox
    name: str
    ids: tuple[int, ...]
    threshold: float

    def read(self, window: Window) -> tuple[Ids, Known]:
        """Return class ids and what is known, each of shape ``window.shape``."""
        probability, known = self._probability(window)
        winner = np.array(self.ids, np.uint8)[probability.argmax(axis=0)]
        reached = probability.max(axis=0) >= self.threshold - _ROUNDING
        return np.where(reached & known, winner, 0).astype(np.uint8), known

    def levels(self, window: Window) -> tuple[NDArray[np.uint8], Known]:
        """Return probabilities in steps of 1/250, shape (bands, rows, cols), and what is known.

        Raises
        ------
        InvalidOption
            If a value lies outside 0 … 1.
        UnreadableScene
        """
        probability, known = self._probability(window)
        return to_levels(probability), known

    def _probability(self, window: Window) -> tuple[NDArray[np.float32], Known]:
        pixels, known = read_nearest(self.scene, self.grid, box_of(window), window.shape)
        probability = np.asarray(pixels, np.float32)
        if probability.size and not (probability.min() >= -_ROUNDING and probability.max() <= 1 + _ROUNDING):
            raise InvalidOption(f"{self.name}: holds values outside 0 … 1, which are no probabilities")
        return probability, known
