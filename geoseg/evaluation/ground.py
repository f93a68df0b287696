"""The pixels that are compared, where no raster says which."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from geoseg.errors import InvalidOption
from geoseg.evaluation.vectors import VectorFile
from geoseg.values import GeoBox
from geoseg.vectorfiles.crs import without_crs

if TYPE_CHECKING:
    import pyproj


def grid_over(file: VectorFile, resolution_m: float) -> GeoBox:
    """Return a grid over the bounding box of polygons, in the UTM zone (or UPS) of its centre.

    Parameters
    ----------
    file : VectorFile
        The labelled area, or the truth.
    resolution_m : float
        Side of a pixel in metres of the projection: within 0.1 % of the ground's inside the zone.

    Raises
    ------
    InvalidOption
        If there are no polygons, no CRS, or the box cannot be projected.
    """
    import pyproj

    if not len(file.polygons):
        raise InvalidOption(f"{file.name}: holds no polygons, so it does not say where to compare")
    if file.crs is None:
        raise without_crs(Path(file.name))
    bounds = shapely.total_bounds(file.polygons)
    geodetic = pyproj.CRS.from_epsg(4326)
    west, south, east, north = _bounds(bounds, file.crs, geodetic, file.name)
    target = _metric_crs((west + east) / 2, (south + north) / 2)
    left, bottom, right, top = _bounds(bounds, file.crs, target, file.name)
    width = max(1, math.ceil((right - left) / resolution_m))
    height = max(1, math.ceil((top - bottom) / resolution_m))
    transform = (resolution_m, 0.0, left, 0.0, -resolution_m, top)
    return GeoBox(height, width, transform, target.to_wkt())


def _bounds(
    bounds: np.ndarray[tuple[int], np.dtype[np.float64]], crs: pyproj.CRS, target: pyproj.CRS, name: str
) -> tuple[float, float, float, float]:
    import pyproj

    change = pyproj.Transformer.from_crs(crs, target, always_xy=True)
    west, south, east, north = bounds.tolist()
    moved = change.transform_bounds(west, south, east, north)
    if not np.isfinite(moved).all():
        raise InvalidOption(f"{name}: lies where its CRS ({crs.name}) is not defined")
    return moved


def _metric_crs(longitude: float, latitude: float) -> pyproj.CRS:
    import pyproj

    if abs(latitude) > 84:
        return pyproj.CRS.from_epsg(32661 if latitude > 0 else 32761)
    zone = min(int((longitude + 180) // 6) % 60, 59) + 1
    return pyproj.CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)
