"""Mask rasters as labels: on the scene's grid or any other, windows of them, the nearest value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio.windows
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.raster.scene import open_scene
from geoseg.raster.source import opened, translating
from geoseg.training.data.classes import ClassTable, map_values
from geoseg.training.data.extent import check_overlap, outline_in_degrees
from geoseg.training.data.footprints import Box
from geoseg.training.data.sample import IGNORE
from geoseg.training.data.spec import MaskValues
from geoseg.values import GeoBox, Window

_CELL = 32
"""Side in pixels of the squares of a mask that are looked at for objects."""

_STRIP = 1 << 22
"""Pixels of a mask that are held at a time while it is looked through."""

_LATTICE = 17
"""Points a side that are carried from one CRS to another; between them, lines are straight enough."""


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask on disk.

    Parameters
    ----------
    uri, driver : str
        From `geoseg.raster.source.resolve`.
    name : str
        What the user called it.
    geobox : GeoBox
        Its grid.
    ids : mapping of int to int
        Class id by value.
    """

    uri: str
    driver: str
    name: str
    geobox: GeoBox
    ids: Mapping[int, int]

    @classmethod
    def open(cls, path: Path, table: ClassTable, values: MaskValues | None) -> MaskFile:
        """Look at a mask.

        Its nodata value says nothing, unless `values` names it; 0 is background all the same, since
        many tools tag it.

        Raises
        ------
        UnreadableScene
            If GDAL cannot read it.
        InvalidOption
            If `values` names a class that does not exist.
        """
        info = open_scene(path)
        ids = table.mask_ids(values, f"{path}: mask_values")
        nodata = info.bands[0].nodata
        if nodata and float(nodata).is_integer() and int(nodata) not in (values or {}):
            ids[int(nodata)] = IGNORE
        return cls(info.uri, info.driver, str(path), info.geobox, ids)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Read class ids of the first band, a palette's indices as they are; NaN says nothing.

        Raises
        ------
        UnreadableScene
            If it is broken in there.
        InvalidOption
            If it holds a value that stands for no class.
        """
        frame = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        with translating(self.name), opened(self.uri, (self.driver,)) as dataset:
            values = dataset.read(1, window=frame)
        unknown = np.isnan(values) if values.dtype.kind == "f" else np.zeros((), bool)
        try:
            labels = map_values(np.where(unknown, 0, values) if unknown.any() else values, self.ids)
        except ValueError as error:
            known = ", ".join(str(value) for value in sorted(self.ids))
            raise InvalidOption(
                f"{self.name}: value {error} is no class; mask_values knows {known}"
            ) from None
        if unknown.any():
            labels[unknown] = IGNORE
        return labels


@dataclass(frozen=True, eq=False, slots=True)
class MaskLabels:
    """A mask as the truth over a scene.

    Parameters
    ----------
    file : MaskFile
        The mask.
    scene : GeoBox
        Native pixels of the scene.
    spots : ndarray of float64, shape (n, 2)
        Centres of squares of the mask with objects, native pixels of the scene (col, row).
    """

    file: MaskFile
    scene: GeoBox
    spots: NDArray[np.float64]

    @classmethod
    def over(cls, file: MaskFile, scene: GeoBox, name: str) -> MaskLabels:
        """Look a mask through, once, in strips.

        Raises
        ------
        InvalidOption
            If it has a CRS and the scene has none, or the other way round, and another size; or a
            value that stands for no class; or if they do not meet.
        """
        if (file.geobox.crs is None or scene.crs is None) and file.geobox.shape != scene.shape:
            raise InvalidOption(
                f"{file.name}: is {_size(file.geobox)}, {name} is {_size(scene)}, and without a CRS in both "
                "they cannot be laid over each other"
            )
        if file.geobox.crs is not None and scene.crs is not None:
            check_overlap(file.name, outline_in_degrees(file.geobox).bounds, scene, name)
        labels = cls(file, scene, np.empty((0, 2)))
        found = [labels._to_scene(cells) for cells in _objects(file)]
        spots = np.concatenate([np.empty((0, 2)), *found])
        inside = ((spots >= 0) & (spots < (scene.width, scene.height))).all(axis=1)
        return cls(file, scene, spots[inside])

    def burn(self, box: Box, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the mask's classes under the centres of pixels that part the box; `IGNORE` beyond it."""
        cols, rows = self._centers(box, shape)
        col, row = np.floor(cols).astype(np.int64), np.floor(rows).astype(np.int64)
        height, width = self.file.geobox.shape
        inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
        labels = np.full(shape, IGNORE, np.uint8)
        if inside.any():
            col, row = col[inside], row[inside]
            top, left = int(row.min()), int(col.min())
            window = Window(top, left, int(row.max()) + 1 - top, int(col.max()) + 1 - left)
            labels[inside] = self.file.read(window)[row - top, col - left]
        return labels

    def _centers(self, box: Box, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mask columns and rows of pixel centres, interpolated in a lattice of exact ones."""
        left, top, right, bottom = box
        steps = np.linspace(0, 1, _LATTICE)
        x, y = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
        exact = self._to_mask(np.column_stack([x.ravel(), y.ravel()]))
        lattice = exact.reshape(_LATTICE, _LATTICE, 2)
        down, across = (_weights(size) for size in shape)
        cols, rows = (down @ lattice[..., axis] @ across.T for axis in (0, 1))
        return cols, rows

    def _to_mask(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        return _carry(pixels, self.scene, self.file.geobox)

    def _to_scene(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        return _carry(pixels, self.file.geobox, self.scene)


def _carry(pixels: NDArray[np.float64], origin: GeoBox, target: GeoBox) -> NDArray[np.float64]:
    """Carry pixel coordinates (col, row) from one grid to another."""
    if origin == target or origin.crs is None or target.crs is None:
        return pixels
    points = origin.to_crs(pixels)
    if origin.crs != target.crs:
        import pyproj

        one, two = pyproj.CRS.from_user_input(origin.crs), pyproj.CRS.from_user_input(target.crs)
        forward = pyproj.Transformer.from_crs(one, two, always_xy=True)
        points = np.column_stack(forward.transform(points[:, 0], points[:, 1]))
        points[~np.isfinite(points).all(axis=1)] = -1e12  # beyond any raster
    return target.to_pixels(points)


def _weights(size: int) -> NDArray[np.float64]:
    """Return the shares of lattice points in `size` evenly spaced centres, shape (size, lattice)."""
    place = (np.arange(size) + 0.5) / size * (_LATTICE - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_LATTICE))), np.float64)


def _objects(file: MaskFile) -> Iterator[NDArray[np.float64]]:
    """Yield centres (col, row) of cells with objects, strip by strip."""
    height, width = file.geobox.shape
    rows = max(1, _STRIP // (width * _CELL)) * _CELL
    for top in range(0, height, rows):
        labels = file.read(Window(top, 0, min(rows, height - top), width))
        row, col = np.nonzero((labels != 0) & (labels != IGNORE))
        cells = np.unique(np.column_stack([col // _CELL, row // _CELL]), axis=0)
        yield np.asarray((cells + 0.5) * _CELL + (0, top), np.float64)


def _size(geobox: GeoBox) -> str:
    return f"{geobox.width} x {geobox.height} pixels"
