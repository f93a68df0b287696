"""Rasters of probabilities over the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.labels.classes import ClassTable
from geoseg.labels.masks import check_placeable, read_nearest
from geoseg.labels.places import box_of
from geoseg.metrics.pixels import to_levels
from geoseg.raster.encoding import read_facts
from geoseg.values import GeoBox, Window

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

DEFAULT_THRESHOLD = 0.5
"""Of probabilities of which neither the user nor their file says which threshold is meant."""

_ROUNDING = 1e-6

Ids = NDArray[np.uint8]
Known = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class ProbabilityMap:
    """A raster of probabilities over the grid, one band a class."""

    scene: SceneInfo
    grid: GeoBox
    """Pixels of another grid take the value of the raster's pixel under their centre."""
    name: str
    ids: tuple[int, ...]
    """The class id of each band."""
    threshold: float
    """The largest probability is the pixel's class if it reaches this (``>=``)."""

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


def probability_map(
    raster: SceneInfo, name: str, table: ClassTable, grid: GeoBox, threshold: float | None
) -> ProbabilityMap:
    """Return a raster of probabilities over the grid.

    A band is of the class that its name says, else that its metadata says, else they come in order.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    threshold : float or None
        None: what the raster says, else `DEFAULT_THRESHOLD`.

    Raises
    ------
    InvalidOption
        If it has more bands than there are classes, or cannot be placed on the grid.
    """
    if len(raster.bands) > len(table.ids):
        raise InvalidOption(
            f"{name}: has {len(raster.bands)} bands for {len(table.ids)} classes ({table.text})"
        )
    facts = read_facts(raster)
    by_name = [table.find(band.description) if band.description else None for band in raster.bands]
    named = tuple(found for found in by_name if found is not None and found > 0)
    ids = table.ids[: len(raster.bands)]
    for known in (named, facts.band_ids):
        if len(set(known)) == len(raster.bands) and set(known) <= set(table.ids):
            ids = known
    given = (value for value in (threshold, facts.threshold) if value is not None)
    chosen = next(given, DEFAULT_THRESHOLD)
    check_placeable(raster.geobox, grid, name, "what it is compared with")
    return ProbabilityMap(raster, grid, name, ids, chosen)


def holds_probabilities(raster: SceneInfo) -> bool:
    """Return whether a raster holds probabilities: floating-point numbers, or bytes with a scale."""
    return all(band.read_dtype.startswith("float") for band in raster.bands)
