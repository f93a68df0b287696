"""Vector files: read whole (they are small), repaired, carried over into pixels of the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.values import GeoBox, Window
from geoseg.vectorfiles.aoi import place_in_pixels
from geoseg.vectorfiles.formats import FORMATS
from geoseg.vectorfiles.layers import polygons_of, read_layer, repair

if TYPE_CHECKING:
    import pyproj

Polygons = NDArray[np.object_]

SUFFIXES = tuple(suffix for one in FORMATS for suffix in one.suffixes)
"""File names that are taken for vector files; all others are taken for rasters."""


@dataclass(frozen=True, eq=False, slots=True)
class VectorFile:
    """The polygons of a layer.

    Parameters
    ----------
    name : str
        What the user called the file.
    polygons : ndarray of (Multi)Polygon, shape (n,)
        Valid and not empty, in `crs`.
    columns : mapping of str to ndarray, each of shape (n,)
        The columns that were asked for and are there.
    available : tuple of str
        All columns of the layer.
    crs : pyproj.CRS or None
    repaired, dropped : int
        Polygons that were not valid; features that are no polygons.
    """

    name: str
    polygons: Polygons
    columns: Mapping[str, NDArray[Any]]
    available: tuple[str, ...]
    crs: pyproj.CRS | None
    repaired: int = 0
    dropped: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class PolygonLayer:
    """Polygons with classes over the grid.

    Parameters
    ----------
    polygons : ndarray of (Multi)Polygon, shape (n,)
        Valid, in pixel coordinates (col, row) of the grid; whole, also where they reach beyond it.
    labels : ndarray of uint8, shape (n,)
        Class ids. Of polygons that overlap, the later one has the pixel.
    ignored : ndarray of (Multi)Polygon, shape (m,)
        Inside these nothing is known.
    """

    polygons: Polygons
    labels: NDArray[np.uint8]
    ignored: Polygons
    _trees: tuple[shapely.STRtree, shapely.STRtree] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        trees = shapely.STRtree(self.polygons), shapely.STRtree(self.ignored)
        object.__setattr__(self, "_trees", trees)

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return class ids and what is known, by pixel centres, each of shape ``window.shape``."""
        box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
        chosen, hiding = (np.sort(tree.query(box)) for tree in self._trees)
        ids = burn(self.polygons[chosen], self.labels[chosen], window)
        known = burn(self.ignored[hiding], np.ones(len(hiding), np.uint8), window) == 0
        return ids, known


def is_vector(path: str) -> bool:
    """Tell by its name whether a file is taken for a vector file."""
    return Path(path).suffix.lower() in SUFFIXES


def burn(polygons: Polygons, values: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """Draw polygons, later ones over earlier ones, where the pixel's centre lies inside; 0 elsewhere."""
    if not len(polygons):
        return np.zeros(window.shape, np.uint8)
    from rasterio import Affine
    from rasterio.features import rasterize

    shapes = zip(polygons, values.tolist(), strict=True)
    place = Affine.translation(window.col, window.row)
    return np.asarray(rasterize(shapes, window.shape, fill=0, transform=place, dtype="uint8"))


def read_vector(path: str, *, layer: str | None = None, columns: Sequence[str] = ()) -> VectorFile:
    """Read the polygons of a layer; broken ones are repaired and counted.

    Parameters
    ----------
    path : str
        Of a format that `read_layer` reads.
    layer : str, optional
        The first unless given.
    columns : sequence of str
        Attributes to read; those that the layer lacks are left out.

    Raises
    ------
    InvalidOption
        If it cannot be read or has no such layer.
    """
    found = read_layer(Path(path), path, layer=layer, columns=columns)
    geometries, areal, broken = repair(found.geometries)
    kept = areal & (shapely.area(geometries) > 0)
    return VectorFile(
        path,
        geometries[kept],
        {name: values[kept] for name, values in found.columns.items()},
        found.available,
        found.crs,
        int(np.count_nonzero(broken)),
        int(np.count_nonzero(~kept)),
    )


def to_grid(file: VectorFile, grid: GeoBox) -> tuple[Polygons, NDArray[np.bool_]]:
    """Carry polygons over into pixels of the grid.

    Returns
    -------
    polygons : ndarray, shape (k,)
        Those that share area with the grid.
    kept : ndarray of bool, shape (n,)
        Which of the file's they are.

    Raises
    ------
    InvalidOption
        If only one of file and grid has a CRS, or one is not defined where the other is needed.
    """
    if (file.crs is None) != (grid.crs is None):
        without = file.name if file.crs is None else "the grid of the rasters"
        raise InvalidOption(f"{file.name}: cannot be placed, since {without} has no CRS")
    if file.crs is None:
        placed: Polygons = shapely.transform(file.polygons, grid.to_pixels)
    else:
        placed = place_in_pixels(file.polygons, file.crs, grid, file.name)
    frame = shapely.box(0, 0, grid.width, grid.height)
    kept = shapely.intersects(placed, frame) & ~shapely.touches(placed, frame)
    return areas_of(placed[kept]), kept


def areas_of(geometries: Polygons) -> Polygons:
    """Leave the polygons of each geometry: repairing and cutting may have added lines and points."""
    mixed = np.flatnonzero(~np.isin(shapely.get_type_id(geometries), (3, 6)))
    for index in mixed.tolist():
        polygons, _ = polygons_of(geometries[index : index + 1])
        geometries[index] = shapely.MultiPolygon(polygons.tolist())
    return geometries
