"""Areas and lengths on the ellipsoid, whatever the CRS."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import GeoBox
from geoseg.vector.samples import Floats

if TYPE_CHECKING:
    from pyproj import Geod

EDGE = 16.0
"""Longest edge in pixels that is measured as one geodesic.

An edge is straight in the CRS, a geodesic is not: over 16 pixels of 30 m they part by millimetres.
"""


def measure(polygons: NDArray[np.object_], grid: GeoBox) -> tuple[Floats, Floats]:
    """Return geodesic areas and perimeters.

    Vertices are mapped to longitude and latitude of the CRS's own datum and joined by geodesics
    (Karney, 2013); longer edges are divided first, so that they follow the straight lines of the CRS.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, shape (n,)
        In pixel coordinates of `grid`.
    grid : GeoBox

    Returns
    -------
    area : ndarray of float64, shape (n,)
        In square metres, holes taken off; NaN without a CRS that has an ellipsoid.
    perimeter : ndarray of float64, shape (n,)
        In metres, holes included; NaN likewise.
    """
    unknown = np.full(len(polygons), np.nan)
    if grid.crs is None or len(polygons) == 0:
        return unknown, unknown.copy()
    from pyproj import CRS, Transformer

    crs = CRS.from_user_input(grid.crs)
    ellipsoid, geodetic = crs.get_geod(), crs.geodetic_crs
    if ellipsoid is None or geodetic is None:
        return unknown, unknown.copy()
    to_degrees = Transformer.from_crs(crs, geodetic, always_xy=True)
    rings, owner = shapely.get_rings(shapely.segmentize(polygons, EDGE), return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    x, y = grid.to_crs(points).T
    longitude, latitude = to_degrees.transform(x, y)
    starts = np.searchsorted(ring, np.arange(len(rings) + 1))
    area, perimeter = _measure_rings(ellipsoid, longitude, latitude, starts)
    first = np.searchsorted(owner, np.arange(len(polygons)))
    outer = np.zeros(len(rings), bool)
    outer[first] = True
    signed = np.where(outer, np.abs(area), -np.abs(area))
    return np.add.reduceat(signed, first), np.add.reduceat(perimeter, first)


def pixel_area(bounds: Floats, grid: GeoBox) -> float:
    """Return about the largest geodesic area that a pixel has within bounds.

    The largest of 25 pixels: it changes slowly over a scene.

    Parameters
    ----------
    bounds : ndarray of float64, shape (4,)
        Smallest column and row, largest column and row.
    grid : GeoBox

    Returns
    -------
    float
        In square metres; NaN without a CRS that has an ellipsoid, and where one of them has no area.
    """
    cols, rows = np.meshgrid(np.linspace(bounds[0], bounds[2], 5), np.linspace(bounds[1], bounds[3], 5))
    area, _ = measure(shapely.box(cols, rows, cols + 1, rows + 1).ravel(), grid)
    return float(area.max()) if np.isfinite(area).all() else np.nan


def _measure_rings(
    ellipsoid: Geod, longitude: Floats, latitude: Floats, starts: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    area, perimeter = np.empty(len(starts) - 1), np.empty(len(starts) - 1)
    bounds = starts.tolist()
    for ring, (first, stop) in enumerate(pairwise(bounds)):
        area[ring], perimeter[ring] = ellipsoid.polygon_area_perimeter(
            longitude[first : stop - 1], latitude[first : stop - 1]
        )
    return area, perimeter
