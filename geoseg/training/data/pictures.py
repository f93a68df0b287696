"""Small labelled pictures, held in memory, such as chips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import Footprints
from geoseg.raster.resample import resample, restore, taps
from geoseg.training.data.ground import Arrays, area_of, grid_of, native_box
from geoseg.values import Window


@dataclass(frozen=True, eq=False, slots=True)
class PictureGround:
    """A small picture, in memory.

    Parameters
    ----------
    source, name : str
        Collection and name.
    pixel_m : (float, float)
        Metres that a pixel measures along its row and along its column.
    pixels : ndarray of uint8, shape (bands, rows, cols)
        Filled where invalid.
    labels : ndarray of uint8, shape (rows, cols)
        Class ids, 0, `IGNORE`.
    footprints : Footprints or None
        Used for the labels in place of `labels`, except where those are `IGNORE`.
    facts : mapping of str to str
        Place, licence, tier.
    weight : float
        How often the source is drawn, relative to others.
    """

    source: str
    name: str
    pixel_m: tuple[float, float]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    footprints: Footprints | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def region(self) -> Window:
        """The whole picture."""
        return Window(0, 0, *self.shape)

    @property
    def gsd_m(self) -> float:
        """Metres that a pixel measures."""
        return sum(self.pixel_m) / 2

    @property
    def area_m2(self) -> float:
        """Ground in the picture."""
        return area_of(self.region, self.pixel_m)

    @property
    def has_objects(self) -> bool:
        """Whether any pixel, or any polygon, has a class."""
        drawn = self.footprints is not None and len(self.footprints.spots) > 0
        return drawn or bool(((self.labels != 0) & (self.labels != IGNORE)).any())

    @property
    def spots(self) -> NDArray[np.float64]:
        """None: a picture is hardly larger than a window, its objects are met anyway."""
        return np.empty((0, 2))

    def grid(self, resolution_m: float) -> tuple[int, int]:
        """Return rows and columns of the picture at a resolution."""
        return grid_of(self.shape, self.pixel_m, resolution_m)

    def permits(self, boxes: NDArray[np.object_], scale: float) -> NDArray[np.bool_]:
        """Say which boxes training may see: all, a picture is held out as a whole or not at all."""
        return np.ones(len(boxes), bool)

    def read(self, window: Window, shape: tuple[int, int]) -> Arrays:
        """Read pixels (resampled as in prediction) and labels (burnt anew, or the nearest)."""
        rows = taps(window.row, window.row_stop, shape[0], self.shape[0])
        cols = taps(window.col, window.col_stop, shape[1], self.shape[1])
        part = self.pixels[:, rows.start : rows.stop, cols.start : cols.stop]
        if shape == self.shape:
            pixels = part.copy()
        else:
            values, _ = resample(part, np.ones(part.shape[1:], bool), rows, cols)
            pixels = np.asarray(restore(values, "uint8"), np.uint8)
        labels = self.labels[rows.nearest[:, None], cols.nearest]
        if self.footprints is not None:
            burnt = self.footprints.burn(native_box(window, shape, self.shape), window.shape)
            labels = np.where(labels == IGNORE, np.uint8(IGNORE), burnt)
        return pixels, labels
