"""Metres on the ground, whatever the CRS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.values import GeoBox


def ground_resolution(geobox: GeoBox) -> tuple[float, float] | None:
    """Return the size of a pixel on the ground at the grid's centre, along its columns and rows.

    Parameters
    ----------
    geobox : GeoBox
        Any affine transform, any CRS: degrees, feet, Web Mercator, rotated.

    Returns
    -------
    (float, float) or None
        Metres from a pixel to the next in its row, and in its column: geodesics on the ellipsoid of
        the CRS (Karney 2013, in PROJ). None without a CRS, with one that has no place on the Earth,
        or where the centre lies outside the CRS's domain.
    """
    center = np.array([[geobox.width / 2, geobox.height / 2]])
    steps = resolution_at(geobox, center)
    if steps is None or not np.isfinite(steps).all():
        return None
    return float(steps[0, 0]), float(steps[0, 1])


def resolution_at(geobox: GeoBox, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the size of a pixel on the ground at many places; see `ground_resolution`.

    Parameters
    ----------
    geobox : GeoBox
    points : ndarray of float64, shape (n, 2)
        Pixel coordinates (col, row).

    Returns
    -------
    ndarray of float64, shape (n, 2), or None
        Metres along columns and rows, not finite where a point lies outside the CRS's domain.
    """
    if geobox.crs is None:
        return None
    import pyproj

    crs = pyproj.CRS.from_user_input(geobox.crs)
    geodetic, geod = crs.geodetic_crs, crs.get_geod()
    if geodetic is None or geod is None:
        return None
    steps = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])
    ends = geobox.to_crs((points[:, None] + steps).reshape(-1, 2))
    transformer = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
    lon, lat = transformer.transform(ends[:, 0], ends[:, 1])
    known = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = np.where(known, lon, 0.0), np.where(known, lat, 0.0)
    _, _, metres = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    whole = known[::2] & known[1::2]
    return np.where(whole, metres, np.nan).reshape(-1, 2)
