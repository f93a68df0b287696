"""Where on the Earth grids and labels lie, and how pixels of one grid lie on another."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.values import GeoBox, Window
from geoseg.vectorfiles.crs import extent_of, way

if TYPE_CHECKING:
    import pyproj

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels (col, row) of a grid."""

Extent = tuple[float, float, float, float]
"""West, south, east, north in degrees (WGS 84)."""

Points = NDArray[np.float64]

DEGREES = "EPSG:4326"

_LATTICE = 16
"""Steps a side of the lattice that is carried from one CRS to another exactly."""

_STRAIGHT = 0.05
"""Pixels by which the middle of a step may differ from the straight line: else all is carried exactly."""


def box_of(window: Window) -> Box:
    """Return left, top, right, bottom of a window."""
    return float(window.col), float(window.row), float(window.col_stop), float(window.row_stop)


@lru_cache(maxsize=32)
def change(origin: str, target: str) -> pyproj.Transformer | None:
    """Return what carries x, y of one CRS to another; None where both are the same."""
    import pyproj

    one, two = pyproj.CRS.from_user_input(origin), pyproj.CRS.from_user_input(target)
    if one.equals(two, ignore_axis_order=True):
        return None
    return way(one, two)


def carry(pixels: Points, origin: GeoBox, target: GeoBox) -> Points:
    """Carry pixel coordinates (n, 2) as (col, row) from one grid to another.

    A grid without a CRS lies on one that has a CRS pixel by pixel. What has no place on the other
    grid is not finite.
    """
    if origin == target or (origin.crs is None) != (target.crs is None):
        return pixels
    points = origin.to_crs(pixels)
    moved = change(origin.crs, target.crs) if origin.crs and target.crs else None
    if moved is not None:
        points = np.column_stack(moved.transform(points[:, 0], points[:, 1]))
    with np.errstate(invalid="ignore"):
        return target.to_pixels(points)


def pixel_centers(box: Box, shape: tuple[int, int], origin: GeoBox, target: GeoBox) -> tuple[Points, Points]:
    """Return columns and rows on the target of the centres of pixels that part a box of the origin.

    Parameters
    ----------
    box : Box
        In pixels of `origin`.
    shape : (rows, cols)
        Of the pixels that part it evenly, and of the result.

    Returns
    -------
    cols, rows : ndarray of float64, shape (rows, cols)
        Interpolated in a lattice of exact ones where that is straight enough.
    """
    left, top, right, bottom = box
    # Every other point is interpolated between, those between them say how straight the lattice is.
    steps = np.linspace(0, 1, 2 * _LATTICE + 1)
    x, y = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
    exact = carry(np.column_stack([x.ravel(), y.ravel()]), origin, target)
    exact = exact.reshape(len(steps), len(steps), 2)
    lattice = exact[::2, ::2]
    middle = (lattice[:-1, :-1] + lattice[1:, :-1] + lattice[:-1, 1:] + lattice[1:, 1:]) / 4
    with np.errstate(invalid="ignore"):
        straight = (np.abs(middle - exact[1::2, 1::2]) <= _STRAIGHT).all()
    if straight:
        down, across = (_shares(size) for size in shape)
        cols, rows = (down @ lattice[..., axis] @ across.T for axis in (0, 1))
        return cols, rows
    height, width = shape
    x, y = np.meshgrid(
        left + (np.arange(width) + 0.5) / width * (right - left),
        top + (np.arange(height) + 0.5) / height * (bottom - top),
    )
    found = carry(np.column_stack([x.ravel(), y.ravel()]), origin, target)
    return found[:, 0].reshape(shape), found[:, 1].reshape(shape)


def _shares(size: int) -> Points:
    """Return the shares of lattice points in `size` evenly spaced centres, shape (size, lattice)."""
    place = (np.arange(size) + 0.5) / size * _LATTICE
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_LATTICE + 1))), np.float64)


def same_grid(one: GeoBox, other: GeoBox) -> bool:
    """Tell whether pixels of two grids are the same ground, but for rounding."""
    if one == other:
        return True
    if one.shape != other.shape or (one.crs is None) != (other.crs is None):
        return False
    if one.crs and other.crs and change(one.crs, other.crs) is not None:
        return False
    corners = np.array([[0.0, 0.0], [one.width, 0.0], [0.0, one.height]])
    step = max(abs(one.transform[i]) for i in (0, 1, 3, 4))
    return bool(np.allclose(one.to_crs(corners), other.to_crs(corners), rtol=0, atol=1e-3 * step))


def outline_in(geobox: GeoBox, crs: pyproj.CRS, box: Box | None = None) -> shapely.Polygon:
    """Return the outline of a grid, or of a box of its pixels, in another CRS; its edges are followed.

    Raises
    ------
    InvalidOption
        If the grid has no place there.
    """
    frame = shapely.box(*(box or (0, 0, geobox.width, geobox.height)))
    ring = shapely.segmentize(frame, max(geobox.width, geobox.height) / 64)
    transformer = way(str(geobox.crs), crs)

    def place(points: Points) -> Points:
        xy = geobox.to_crs(points)
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    placed: shapely.Polygon = shapely.transform(ring, place)
    if not np.isfinite(placed.bounds).all():
        raise InvalidOption(f"the scene has no place in the CRS of its labels ({crs.name})")
    return placed


def outline_in_degrees(geobox: GeoBox, box: Box | None = None) -> shapely.Polygon:
    """Return `outline_in` longitude and latitude (WGS 84)."""
    import pyproj

    return outline_in(geobox, pyproj.CRS.from_user_input(DEGREES), box)


def outline_on(outline: shapely.Polygon, geobox: GeoBox) -> shapely.Polygon:
    """Return an outline in degrees (WGS 84) in pixels of a grid; the inverse of `outline_in_degrees`.

    What lies where the CRS of the grid is not defined is far from it: the result is empty then.
    """
    degrees = GeoBox(1, 1, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), DEGREES)
    placed = carry(shapely.get_coordinates(outline), degrees, geobox)
    return shapely.Polygon(placed) if np.isfinite(placed).all() else shapely.Polygon()


def extent_in_degrees(geometries: NDArray[np.object_], crs: pyproj.CRS, name: str) -> Extent:
    """Return the extent of geometries.

    Raises
    ------
    InvalidOption
        If their coordinates are not possible in their CRS.
    """
    forward = way(crs, DEGREES)
    west, south, east, north = forward.transform_bounds(*shapely.total_bounds(geometries))
    if not (np.isfinite([west, south, east, north]).all() and max(abs(south), abs(north)) <= 90):
        raise InvalidOption(
            f"{name}: its coordinates do not fit its CRS ({crs.name}); is that the right one?"
        )
    return west, south, east, north


def check_overlap(name: str, own: GeoBox, geobox: GeoBox, ground: str) -> None:
    """Check that a mask meets a grid at all.

    Raises
    ------
    InvalidOption
        If they do not; the message has both extents, each in its CRS.
    """
    if not outline_in_degrees(own).envelope.intersects(outline_in_degrees(geobox).envelope):
        raise InvalidOption(
            f"{name}: lies elsewhere than {ground}: it covers {extent_of(own)}, the scene {extent_of(geobox)}"
        )
