"""Boxes of longitudes and latitudes, the way STAC has them: those across 180° begin in the east."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

if TYPE_CHECKING:
    import pyproj
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

Degrees = tuple[float, float, float, float]
"""West, south, east, north in degrees; west is more than east across 180°."""

OUTLINE = shapely.get_coordinates(shapely.segmentize(shapely.box(0, 0, 1, 1), 1 / 16))
"""Places along the edges of a unit square: straight edges become curves in another CRS."""


def bounds_in_degrees(bounds: NDArray[np.float64], crs: pyproj.CRS) -> list[Degrees | None]:
    """Return boxes in degrees around boxes in another CRS.

    Parameters
    ----------
    bounds : ndarray of float64, shape (n, 4)
        Smallest x, smallest y, largest x, largest y in `crs`.

    Returns
    -------
    list of Degrees or None
        None where a box has no place on the Earth, or reaches half around it.

    Examples
    --------
    >>> import pyproj
    >>> utm = np.array([[500_000.0, 0.0, 611_000.0, 110_000.0]])
    >>> [tuple(round(edge, 1) for edge in box) for box in bounds_in_degrees(utm, pyproj.CRS("EPSG:32633"))]
    [(15.0, 0.0, 16.0, 1.0)]
    """
    low, size = bounds[:, None, :2], (bounds[:, 2:] - bounds[:, :2])[:, None]
    return outlines_in_degrees(low + size * OUTLINE, crs)


def outlines_in_degrees(outlines: NDArray[np.float64], crs: pyproj.CRS) -> list[Degrees | None]:
    """Return boxes in degrees around outlines in another CRS, given by points: shape (n, points, 2)."""
    import pyproj

    transformer = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    lon, lat = transformer.transform(outlines[..., 0], outlines[..., 1])
    return [_box(*pair) for pair in zip(np.asarray(lon), np.asarray(lat), strict=True)]


def _box(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> Degrees | None:
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    if np.ptp(lon) >= 180:  # the short way round
        lon = np.where(lon < 0, lon + 360, lon)
    if np.ptp(lon) >= 180:
        return None
    west, east = (float(edge) - (360 if edge > 180 else 0) for edge in (lon.min(), lon.max()))
    return west, float(lat.min()), east, float(lat.max())


def area_of(box: Degrees) -> BaseGeometry:
    """Return a box as polygons with longitudes from -180 to 180.

    Examples
    --------
    >>> area_of((170.0, 0.0, -170.0, 10.0)).area
    200.0
    """
    west, south, east, north = box
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])
