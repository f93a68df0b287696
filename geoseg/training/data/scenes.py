"""Labelled scenes, read window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import Footprints
from geoseg.labels.masks import Mask, check_placeable
from geoseg.labels.places import Box, carry, check_overlap
from geoseg.raster.describe import SceneInfo
from geoseg.training.data.ground import Arrays, Ground, Labels, native_box, to_bytes
from geoseg.values import GeoBox, Window

SMEAR = 4
"""Pixels of a file or its overviews that resampling and their making may mix into a pixel."""

_CELL = 32
"""Side in pixels of the squares of a mask that are looked at for objects."""

_STRIP = 1 << 22
"""Pixels of a mask that are held at a time while it is looked through."""


@dataclass(frozen=True, eq=False, slots=True)
class SceneGround(Ground):
    """A scene on disk, or a block of one; every read opens the file anew."""

    source: str
    name: str
    scene: SceneInfo
    """From `geoseg.raster.scene.open_scene`."""
    bands: tuple[int, ...]
    """Bands to read, in the order of the samples."""
    limits: tuple[tuple[float, float], ...] | None
    """Stretch of each band; None: the scene is 8-bit."""
    pixel_m: tuple[float, float]
    labels: Labels
    spots: NDArray[np.float64]
    """float64, shape (n, 2). Points on objects, native pixels (col, row), within `region`."""
    region: Window
    known: Footprints | None = None
    """Where labels are complete; None: everywhere."""
    forbidden: Footprints | None = None
    """What training must not see."""
    facts: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole scene."""
        return self.scene.geobox.shape

    @property
    def narrowed(self) -> bool:
        """Whether there is ground in `region` that is held out or where labels are not complete."""
        return self.known is not None or self.forbidden is not None

    @property
    def has_objects(self) -> bool:
        """Whether any object lies in `region`."""
        return len(self.spots) > 0

    def permits(self, boxes: NDArray[np.object_], scale: float) -> NDArray[np.bool_]:
        """Say which boxes keep clear of what is forbidden and meet known ground."""
        reach = SMEAR * max(1.0, scale)
        left, top, right, bottom = shapely.bounds(boxes).T
        grown = shapely.box(left - reach, top - reach, right + reach, bottom + reach)
        fit = np.ones(len(boxes), bool) if self.forbidden is None else ~self.forbidden.touched(grown)
        return fit if self.known is None else fit & self.known.touched(boxes)

    def read(self, window: Window, shape: tuple[int, int]) -> Arrays:
        """Read pixels (resampled, stretched, filled as in prediction) and labels."""
        from geoseg.raster.scene import read_patch
        from geoseg.raster.stretch import apply_stretch

        box = self.scene.geobox
        grid = box if shape == box.shape else box.resized(*shape)
        patch = read_patch(self.scene, window, grid, self.bands)
        native = native_box(window, shape, self.shape)
        labels = self.labels.burn(native, window.shape)
        if self.known is not None:
            labels[self.known.burn(native, window.shape) == 0] = IGNORE
        labels[~patch.valid] = IGNORE
        pixels = patch.pixels if self.limits is None else apply_stretch(patch.pixels, self.limits)
        return to_bytes(pixels, patch.valid), labels


@dataclass(frozen=True, eq=False, slots=True)
class MaskLabels:
    """A mask as the truth over a scene."""

    mask: Mask
    """Class ids by value."""
    scene: GeoBox
    """Native pixels of the scene."""
    spots: NDArray[np.float64]
    """float64, shape (n, 2). Centres of squares of the mask with objects, native pixels of the scene (col,
    row)."""

    @classmethod
    def over(cls, mask: Mask, scene: GeoBox, name: str) -> MaskLabels:
        """Look a mask through, once, in strips.

        Raises
        ------
        InvalidOption
            If it has a CRS and the scene has none, or the other way round, and another size; or a
            value that stands for no class; or if they do not meet.
        """
        check_placeable(mask.geobox, scene, mask.name, name)
        if mask.geobox.crs is not None and scene.crs is not None:
            check_overlap(mask.name, mask.geobox, scene, name)
        found = [carry(cells, mask.geobox, scene) for cells in _objects(mask)]
        spots = np.concatenate([np.empty((0, 2)), *found])
        inside = ((spots >= 0) & (spots < (scene.width, scene.height))).all(axis=1)
        return cls(mask, scene, spots[inside])

    def burn(self, box: Box, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the mask's classes under the centres of pixels that part the box; `IGNORE` beyond it."""
        return self.mask.over(self.scene, box, shape).astype(np.uint8)  # UNKNOWN becomes IGNORE


def _objects(mask: Mask) -> Iterator[NDArray[np.float64]]:
    """Yield centres (col, row) of cells with objects, strip by strip."""
    height, width = mask.geobox.shape
    rows = max(1, _STRIP // (width * _CELL)) * _CELL
    for top in range(0, height, rows):
        labels = mask.read(Window(top, 0, min(rows, height - top), width))
        row, col = np.nonzero(labels > 0)
        cells = np.unique(np.column_stack([col // _CELL, row // _CELL]), axis=0)
        yield np.asarray((cells + 0.5) * _CELL + (0, top), np.float64)
