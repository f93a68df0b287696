"""Polygons from pixels to the CRS of a layer, with the coordinates that its file will hold."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import GeoBox
from geoseg.vector.antimeridian import cut
from geoseg.vector.reproject import WGS84, reproject

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
