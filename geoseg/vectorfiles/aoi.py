"""Areas of interest: from a file or a box to a mask of pixels."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPoint
from shapely.geometry.base import BaseGeometry

from geoseg.errors import InvalidOption
from geoseg.values import GeoBox, Window
from geoseg.vectorfiles.crs import without_crs
from geoseg.vectorfiles.layers import read_layer, repair

if TYPE_CHECKING:
    import pyproj

_asking = threading.Lock()
_LEAF = 32
"""Side in pixels of the squares that are tested pixel by pixel."""

_STEPS = 512
"""Edges get a vertex at least every scene diagonal / `_STEPS` before they are reprojected."""


def read_aoi(path: str | os.PathLike[str], geobox: GeoBox) -> BaseGeometry:
    """Read the areas of a vector file and return their union in pixel coordinates.

    Parameters
    ----------
    path : str or path
        Of a format that `read_layer` reads; its first layer.
    geobox : GeoBox
        Grid whose pixel coordinates (col, row) are wanted; it needs a CRS.

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
    areas, crs = _read(Path(name), name)
    if areas.is_empty:
        raise InvalidOption(f"{name}: holds no polygons")
    return _cut(place_in_pixels(areas, crs, geobox, name), geobox, name)


def bbox_aoi(west: float, south: float, east: float, north: float, geobox: GeoBox) -> BaseGeometry:
    """Return a box, given in the CRS of the grid, in pixel coordinates of the grid.

    Raises
    ------
    InvalidOption
        If the box is empty or misses the grid.
    """
    name = f"--bbox {west:g} {south:g} {east:g} {north:g}"
    if not (west < east and south < north):
        raise InvalidOption(f"{name}: must be WEST SOUTH EAST NORTH with WEST < EAST and SOUTH < NORTH")
    box = shapely.box(west, south, east, north)
    return _cut(shapely.transform(box, geobox.to_pixels), geobox, name)


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


def _read(path: Path, name: str) -> tuple[BaseGeometry, pyproj.CRS]:
    layer = read_layer(path, name)
    if layer.crs is None:
        raise without_crs(path)
    whole, areal, _ = repair(layer.geometries)
    return shapely.union_all(whole[areal]), layer.crs


def place_in_pixels(areas: Any, crs: pyproj.CRS, geobox: GeoBox, name: str) -> Any:
    """Carry polygons over into pixel coordinates of a grid, following edges that become curves.

    Parameters
    ----------
    areas : geometry or ndarray of geometries
        Valid, in `crs`. Where that is not the grid's, what lies further from the grid than an
        eighth of its extent is cut off.
    crs : pyproj.CRS
    geobox : GeoBox
        Has a CRS.
    name : str
        For messages.

    Raises
    ------
    InvalidOption
        If one CRS is not defined where the other is needed.
    """
    import pyproj

    target = pyproj.CRS.from_user_input(geobox.crs)
    if crs.equals(target, ignore_axis_order=True):
        return shapely.transform(areas, geobox.to_pixels)
    forward = pyproj.Transformer.from_crs(crs, target, always_xy=True)
    ground = _ground_in(geobox, pyproj.Transformer.from_crs(target, crs, always_xy=True))
    if not np.isfinite(ground.bounds).all():
        raise InvalidOption(f"{name}: the scene has no place in its CRS ({crs.name})")
    # Only the neighbourhood of the scene is carried over: elsewhere the projection may be undefined.
    west, south, east, north = ground.bounds
    reach = max(east - west, north - south)
    near = shapely.intersection(areas, ground.envelope.buffer(reach / 8, join_style="mitre"))
    dense = shapely.segmentize(near, reach / _STEPS)

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return geobox.to_pixels(np.column_stack(forward.transform(points[:, 0], points[:, 1])))

    placed = shapely.transform(dense, place)
    if not np.isfinite(shapely.get_coordinates(placed)).all():
        raise InvalidOption(f"{name}: reaches where the scene's CRS ({target.name}) is not defined")
    return shapely.make_valid(placed)


def _ground_in(geobox: GeoBox, backward: pyproj.Transformer) -> BaseGeometry:
    outline = shapely.segmentize(shapely.box(0, 0, geobox.width, geobox.height), geobox.width / 64)
    corners = geobox.to_crs(shapely.get_coordinates(outline))
    x, y = backward.transform(corners[:, 0], corners[:, 1])
    return MultiPoint(np.column_stack([x, y]))


def _cut(areas: BaseGeometry, geobox: GeoBox, name: str) -> BaseGeometry:
    inside = shapely.intersection(areas, shapely.box(0, 0, geobox.width, geobox.height))
    parts = [part for part in shapely.get_parts(shapely.get_parts(inside)) if part.area > 0]
    if not parts:
        raise InvalidOption(f"{name}: lies outside the scene")
    return shapely.union_all(parts)
