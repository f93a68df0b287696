"""Metres on the ground, whatever the CRS."""

from __future__ import annotations

import numpy as np

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
    if geobox.crs is None:
        return None
    import pyproj

    crs = pyproj.CRS.from_user_input(geobox.crs)
    geodetic, geod = crs.geodetic_crs, crs.get_geod()
    if geodetic is None or geod is None:
        return None
    center = np.array([geobox.width / 2, geobox.height / 2])
    steps = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])
    points = geobox.to_crs(center + steps)
    transformer = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
    lon, lat = transformer.transform(points[:, 0], points[:, 1])
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    _, _, metres = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    return float(metres[0]), float(metres[1])
