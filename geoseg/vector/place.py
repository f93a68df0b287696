"""Polygons on the Earth: placed in the CRS of a layer, measured on the ellipsoid, named by their place."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import GeoBox
from geoseg.vector.antimeridian import cut
from geoseg.vector.reproject import WGS84, reproject
from geoseg.vector.samples import Floats, Index

DECIMALS = 9
"""Of degrees in GeoJSON, a tenth of a millimetre: rounding moves no vertex that one could tell apart."""


def place(polygons: NDArray[np.object_], grid: GeoBox, crs: str | None) -> tuple[NDArray[np.object_], float]:
    """Map polygons from pixels to the layer's CRS, valid and with shells counter-clockwise.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        In pixel coordinates of `grid`.
    grid : GeoBox
    crs : str or None
        None: that of `grid`. In `WGS84`, which only GeoJSON takes, they are cut at the antimeridian and
        rounded.

    Returns
    -------
    placed : ndarray of shapely geometries
    deviation : float
        Pixels by which edges are off where they could not follow their images in the CRS.

    Raises
    ------
    InvalidOption
        If the CRS cannot hold the polygons.
    """
    if crs is None or crs == grid.crs:
        return repaired(np.asarray(shapely.transform(polygons, grid.to_crs), object)), 0.0
    placed, deviation = reproject(polygons, grid, crs)
    placed = repaired(placed)
    return (cut_and_rounded(placed) if crs == WGS84 else placed), deviation


def repaired(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Repair polygons that rounding or reprojection has folded; turn shells counter-clockwise."""
    broken = ~shapely.is_valid(polygons)
    polygons[broken] = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    turned: NDArray[np.object_] = shapely.orient_polygons(polygons)
    return turned


def cut_and_rounded(placed: NDArray[np.object_]) -> NDArray[np.object_]:
    """Cut polygons in longitude and latitude at the antimeridian; round coordinates."""
    bounds = shapely.bounds(placed)
    beyond = np.flatnonzero((bounds[:, 0] < -180) | (bounds[:, 2] > 180))
    placed[beyond] = [cut(polygon) for polygon in placed[beyond]]
    return repaired(shapely.transform(placed, lambda points: points.round(DECIMALS)))


MARGIN = 1.5
"""How many times as large as the largest of a few a pixel may be."""

ROUNDING = 2.0**-56
"""Error of the area at an edge, as a share of the squared radius of the ellipsoid: 6 cm² on Earth.

About twice what the series of Karney (2013) lose where they nearly cancel, e² · radius² · 2^-52 for an
edge, and forty times the largest error seen: a polygon of 3e-11 m² came out as 1e-5 m².
"""

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
    spans = pairwise(starts.tolist())
    sizes = [ellipsoid.polygon_area_perimeter(longitude[i : j - 1], latitude[i : j - 1]) for i, j in spans]
    area, perimeter = np.array(sizes, np.float64).T
    first = np.searchsorted(owner, np.arange(len(polygons)))
    outer = np.zeros(len(rings), bool)
    outer[first] = True
    signed = np.where(outer, np.abs(area), -np.abs(area))
    return np.add.reduceat(signed, first), np.add.reduceat(perimeter, first)


def area_limits(polygons: NDArray[np.object_], grid: GeoBox) -> tuple[Floats, Floats]:
    """Return between what `measure` gives for polygons; ten times as fast as measuring.

    Their area in pixels, and that of their bounds, by that of the smallest and the largest of 81 pixels
    between them: pixels change slowly over a scene. No part of a polygon exceeds the second.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, shape (n,)
        In pixel coordinates of `grid`.
    grid : GeoBox

    Returns
    -------
    least, most : ndarray of float64, shape (n,)
        In square metres, square pixels without a CRS; 0 and infinite where it is not known.

    Examples
    --------
    >>> area_limits(np.array([shapely.box(0, 0, 2, 3)]), GeoBox(9, 9, (1, 0, 0, 0, 1, 0), None))
    (array([4.]), array([9.]))
    """
    west, north, east, south = shapely.bounds(polygons).T
    least, most = shapely.area(polygons) / MARGIN, MARGIN * (east - west) * (south - north)
    if grid.crs is None or len(polygons) == 0:
        return np.asarray(least), np.asarray(most)
    # From a pixel before them to one behind: within a pixel at a pole, areas change more than `MARGIN`.
    left, top = west.min() - 1, north.min() - 1
    cols, rows = np.meshgrid(np.linspace(left, east.max(), 9), np.linspace(top, south.max(), 9))
    area, _ = measure(shapely.box(cols, rows, cols + 1, rows + 1).ravel(), grid)
    if not np.isfinite(area).all():
        return np.zeros(len(polygons)), np.full(len(polygons), np.inf)
    from pyproj import CRS

    ellipsoid = CRS.from_user_input(grid.crs).get_geod()
    radius = 0.0 if ellipsoid is None else ellipsoid.a
    # Long edges are measured in parts.
    edges = shapely.get_num_coordinates(polygons) + shapely.length(polygons) / EDGE
    error = edges * ROUNDING * radius**2
    return np.asarray(least * area.min() - error), np.asarray(most * area.max() + error)


ORDER = 26
"""Bits of each coordinate: cells of 0.3 m in latitude and of 0.6 m along the equator."""


def place_keys(polygons: NDArray[np.object_], grid: GeoBox) -> Index:
    """Return the Hilbert key of a point inside each polygon, in cells of longitude and latitude.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        In pixel coordinates of `grid`. Without a CRS that PROJ knows a way from the cells are pixels: of a
        site's own axes, or of another planet.
    grid : GeoBox

    Returns
    -------
    ndarray of int64
        Less than 2^52, so that a JavaScript number holds it.
    """
    if len(polygons) == 0:
        return np.empty(0, np.int64)
    points = shapely.get_coordinates(shapely.point_on_surface(polygons))
    if grid.crs is None:
        return hilbert_keys(points.astype(np.int64))
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        degrees = Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True)
    except ProjError:
        return hilbert_keys(points.astype(np.int64))
    found = np.array(degrees.transform(*grid.to_crs(points).T))
    found[np.isinf(found)] = np.nan  # outside the CRS's domain
    shares = np.column_stack([(found[0] + 180) / 360 % 1, (found[1] + 90) / 180])
    return hilbert_keys((np.nan_to_num(shares) * (1 << ORDER)).astype(np.int64))


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
