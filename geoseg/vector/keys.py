"""Ids of features by their place on the Earth."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import GeoBox
from geoseg.vector.samples import Floats, Index

ORDER = 26
"""Bits of each coordinate: cells of 0.3 m in latitude and of 0.6 m along the equator."""


def place_keys(polygons: NDArray[np.object_], grid: GeoBox) -> Index:
    """Return the Hilbert key of a point inside each polygon, in cells of longitude and latitude.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        In pixel coordinates of `grid`. Without a CRS the cells are pixels.
    grid : GeoBox

    Returns
    -------
    ndarray of int64
        Less than 2^52, so that a JavaScript number holds it.
    """
    if len(polygons) == 0:
        return np.empty(0, np.int64)
    points = shapely.get_coordinates(shapely.point_on_surface(polygons))
    side = 1 << ORDER
    if grid.crs is None:
        return hilbert_keys(points.astype(np.int64))
    from pyproj import CRS, Transformer

    source = CRS.from_user_input(grid.crs)
    degrees = Transformer.from_crs(source, "OGC:CRS84", always_xy=True)
    longitude, latitude = degrees.transform(*grid.to_crs(points).T)
    shares = np.column_stack([(np.asarray(longitude) + 180) / 360 % 1, (np.asarray(latitude) + 90) / 180])
    return hilbert_keys((np.nan_to_num(shares, posinf=0.0) * side).astype(np.int64))


def hilbert_keys(cells: Index | Floats) -> Index:
    """Return how far along the Hilbert curve cells of a square of 2^ORDER a side lie (Skilling, 2004).

    Examples
    --------
    >>> hilbert_keys(np.array([[0, 0], [1, 0], [1, 1], [0, 1]])).tolist()
    [0, 1, 2, 3]
    """
    x, y = np.clip(np.asarray(cells, np.int64), 0, (1 << ORDER) - 1).T
    keys = np.zeros(len(x), np.int64)
    for bit in range(ORDER - 1, -1, -1):
        right, up = x >> bit & 1, y >> bit & 1
        keys = keys << 2 | (3 * right ^ up)
        low = (1 << bit) - 1
        x, y = x & low, y & low
        mirrored = (up == 0) & (right == 1)
        x, y = np.where(mirrored, low - x, x), np.where(mirrored, low - y, y)
        swapped = up == 0
        x, y = np.where(swapped, y, x), np.where(swapped, x, y)
    return keys
