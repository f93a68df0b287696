"""Rasters of probabilities over the grid, and what a raster that geoseg wrote says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class RasterFacts:
    """What a raster says about itself; all of it may be missing.

    Parameters
    ----------
    names : mapping of int to str
        Names of classes by id.
    band_ids : tuple of int
        The class id of each band of probabilities; empty where not every band has its own.
    threshold : float or None
        In (0, 1): from which probability on a pixel was taken to be of its class.
    """

    names: Mapping[int, str]
    band_ids: tuple[int, ...]
    threshold: float | None


def read_facts(scene: SceneInfo) -> RasterFacts:
    """Return what a raster's metadata says, as `geoseg predict` writes it.

    Raises
    ------
    UnreadableScene
    """
    from geoseg.raster.encoding import CLASS_ITEM
    from geoseg.raster.opening import opened, translating

    with translating(scene.uri), opened(scene.uri, (scene.driver,)) as dataset:
        items = {str(key): str(value) for key, value in dataset.tags().items()}
        bands = [str(dataset.tags(band.index).get(CLASS_ITEM, "")) for band in scene.bands]
    return facts_of(items, bands)


def facts_of(items: Mapping[str, str], bands: Sequence[str]) -> RasterFacts:
    """Make sense of metadata that anybody may have written; what makes none is left out.

    Parameters
    ----------
    items : mapping of str to str
        Of the file.
    bands : sequence of str
        The class id of each band as text, empty where there is none.
    """
    from geoseg.raster.encoding import CLASS_PREFIX, THRESHOLD_ITEM

    named = {
        key.removeprefix(CLASS_PREFIX): name for key, name in items.items() if key.startswith(CLASS_PREFIX)
    }
    ids = [int(text) for text in bands if _is_number(text)]
    whole = len(ids) == len(bands) == len(set(ids)) and all(1 <= one <= 255 for one in ids)
    try:
        threshold = float(items.get(THRESHOLD_ITEM, ""))
    except ValueError:
        threshold = 0.0
    return RasterFacts(
        {int(number): name for number, name in named.items() if _is_number(number)},
        tuple(ids) if whole else (),
        threshold if 0 < threshold < 1 else None,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 3
