"""Areas of interest: from a file or a box to a mask of pixels."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoseg.errors import InvalidOption
from geoseg.values import GeoBox, Window
from geoseg.vectorfiles.crs import extent_of, extents, in_degrees, place_in_pixels, without_crs
from geoseg.vectorfiles.layers import read_layer, repair

if TYPE_CHECKING:
    import pyproj

_asking = threading.Lock()
_LEAF = 32
"""Side in pixels of the squares that are tested pixel by pixel."""


def read_aoi(
    path: str | os.PathLike[str],
    geobox: GeoBox,
    *,
    layer: str | None = None,
    option: str = "--aoi-layer",
    memory: int | None = None,
) -> BaseGeometry:
    """Read the areas of a vector file and return their union in pixel coordinates.

    Parameters
    ----------
    path : str or path
        Of a format that `read_layer` reads.
    geobox : GeoBox
        Grid whose pixel coordinates (col, row) are wanted; it needs a CRS.
    layer : str, optional
        Default: the only one that holds polygons.
    option : str
        What a user chooses the layer with, for messages.
    memory : int, optional
        Bytes that reading a file of text may take.

    Returns
    -------
    BaseGeometry
        Polygon or MultiPolygon, cut to the grid. Edges that become curves in the grid's CRS are
        followed.

    Raises
    ------
    InvalidOption
        If the file cannot be read, has no CRS or no areas, or they miss the grid.
    """
    name = os.fspath(path)
    if geobox.crs is None:
        raise InvalidOption(f"{name}: the scene has no CRS, so an area of interest cannot be placed in it")
    areas, crs = read_areas(path, layer=layer, option=option, memory=memory)
    inside = areas_within(areas, crs, geobox, name)
    if inside is None:
        raise InvalidOption(f"{name}: lies outside the scene: {extents(areas, crs, geobox)}")
    return inside


def read_areas(
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    option: str = "--aoi-layer",
    memory: int | None = None,
) -> tuple[BaseGeometry, pyproj.CRS]:
    """Return the union of the areas of a vector file, and their CRS; parameters as for `read_aoi`.

    Raises
    ------
    InvalidOption
        If the file cannot be read, has no CRS or no areas.
    """
    name = os.fspath(path)
    found = read_layer(Path(name), name, layer=layer, option=option, memory=memory)
    if found.crs is None:
        raise without_crs(Path(name))
    whole, areal, _ = repair(found.geometries)
    areas = shapely.union_all(whole[areal])
    if areas.is_empty:
        raise InvalidOption(f"{name}: holds no polygons")
    return areas, found.crs


def areas_within(areas: BaseGeometry, crs: pyproj.CRS, geobox: GeoBox, name: str) -> BaseGeometry | None:
    """Return what of some areas lies on a grid that has a CRS, in its pixel coordinates; None: nothing.

    Raises
    ------
    InvalidOption
        If one CRS is not defined where the other is needed.
    """
    return _cut(place_in_pixels(areas, crs, geobox, name), geobox)


def bbox_aoi(west: float, south: float, east: float, north: float, geobox: GeoBox) -> BaseGeometry:
    """Return a box, given in the CRS of the grid, in pixel coordinates of the grid.

    Raises
    ------
    InvalidOption
        If the box is empty or misses the grid; the message says if it looks like one in another CRS.

    Examples
    --------
    >>> grid = GeoBox(20, 30, (0.5, 0, 500_000, 0, -0.5, 5_000_000), "EPSG:32633")
    >>> bbox_aoi(500_001, 4_999_997, 500_004, 4_999_999, grid).bounds
    (2.0, 2.0, 8.0, 6.0)
    """
    name = f"--bbox {west:.12g} {south:.12g} {east:.12g} {north:.12g}"
    if not (west < east and south < north):
        raise InvalidOption(f"{name}: must be WEST SOUTH EAST NORTH with WEST < EAST and SOUTH < NORTH")
    box = shapely.box(west, south, east, north)
    inside = _cut(shapely.transform(box, geobox.to_pixels), geobox)
    if inside is None:
        place = f"the scene covers {extent_of(geobox)}"
        raise InvalidOption(f"{name}: lies outside the scene{_looks_like(box, geobox)}; {place}")
    return inside


def _looks_like(box: BaseGeometry, geobox: GeoBox) -> str:
    import pyproj

    degrees = geobox.crs is not None and pyproj.CRS.from_user_input(geobox.crs).is_geographic
    if geobox.crs is None or in_degrees(box.bounds) == degrees:
        return ""
    kind = "longitudes and latitudes" if in_degrees(box.bounds) else "coordinates of a projection"
    return f": it looks like {kind}, and has to be in the scene's CRS"


def aoi_mask(geometry: BaseGeometry, window: Window) -> NDArray[np.bool_]:
    """Return True where a pixel's centre lies inside the geometry, shape ``window.shape``.

    A pixel gets the same answer through any window: whole squares are decided by exact predicates on
    their pixel centres, the squares on the outline pixel by pixel.

    Parameters
    ----------
    geometry : BaseGeometry
        Polygon or MultiPolygon in pixel coordinates of the grid.
    window : Window
        Pixels of the grid.
    """
    # A prepared geometry builds its index at the first question: two threads at once crash in there.
    with _asking:
        return _mask(geometry, window)


def touches(geometry: BaseGeometry, other: BaseGeometry) -> bool:
    """Whether an area of interest and another geometry have a point in common; for any thread."""
    with _asking:
        shapely.prepare(geometry)
        return bool(shapely.intersects(geometry, other))


def _mask(geometry: BaseGeometry, window: Window) -> NDArray[np.bool_]:
    shapely.prepare(geometry)
    inside = np.zeros(window.shape, bool)
    squares = [window] if window.height and window.width else []
    while squares:
        square = squares.pop()
        centers = shapely.box(
            square.col + 0.5, square.row + 0.5, square.col_stop - 0.5, square.row_stop - 0.5
        )
        if shapely.contains_properly(geometry, centers):
            inside[square.within(window)] = True
        elif max(square.shape) <= _LEAF:
            row, col = np.mgrid[square.row : square.row_stop, square.col : square.col_stop]
            inside[square.within(window)] = shapely.contains_xy(geometry, col + 0.5, row + 0.5)
        elif shapely.intersects(geometry, centers):
            squares += _quarters(square)
    return inside


def _quarters(square: Window) -> list[Window]:
    rows = (square.row, square.row + square.height // 2, square.row_stop)
    cols = (square.col, square.col + square.width // 2, square.col_stop)
    quarters = [
        Window(rows[i], cols[j], rows[i + 1] - rows[i], cols[j + 1] - cols[j]) for i in (0, 1) for j in (0, 1)
    ]
    return [quarter for quarter in quarters if quarter.height and quarter.width]


def _cut(areas: BaseGeometry, geobox: GeoBox) -> BaseGeometry | None:
    """Return what of the areas lies on the grid; None: nothing."""
    inside = shapely.intersection(areas, shapely.box(0, 0, geobox.width, geobox.height))
    parts = [part for part in shapely.get_parts(shapely.get_parts(inside)) if part.area > 0]
    return shapely.union_all(parts) if parts else None
