"""Where on the Earth ground and labels lie, to compare what is in different CRSs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.training.data.footprints import Box
from geoseg.values import GeoBox

if TYPE_CHECKING:
    import pyproj

Extent = tuple[float, float, float, float]
"""West, south, east, north in degrees (WGS 84)."""


def outline_in(geobox: GeoBox, crs: pyproj.CRS, box: Box | None = None) -> shapely.Polygon:
    """Return the outline of a grid, or of a box of its pixels, in another CRS; its edges are followed.

    Raises
    ------
    InvalidOption
        If the grid has no place there.
    """
    import pyproj

    frame = shapely.box(*(box or (0, 0, geobox.width, geobox.height)))
    ring = shapely.segmentize(frame, max(geobox.width, geobox.height) / 64)
    transformer = pyproj.Transformer.from_crs(pyproj.CRS.from_user_input(geobox.crs), crs, always_xy=True)

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        xy = geobox.to_crs(points)
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    placed: shapely.Polygon = shapely.transform(ring, place)
    if not np.isfinite(placed.bounds).all():
        raise InvalidOption(f"the scene has no place in the CRS of its labels ({crs.name})")
    return placed


def outline_in_degrees(geobox: GeoBox, box: Box | None = None) -> shapely.Polygon:
    """Return `outline_in` longitude and latitude (WGS 84)."""
    import pyproj

    return outline_in(geobox, pyproj.CRS.from_epsg(4326), box)


def outline_on(outline: shapely.Polygon, geobox: GeoBox) -> shapely.Polygon:
    """Return an outline in degrees (WGS 84) in pixels of a grid; the inverse of `outline_in_degrees`.

    What lies where the CRS of the grid is not defined is far from it: the result is empty then.
    """
    import pyproj

    target = pyproj.CRS.from_user_input(geobox.crs)
    forward = pyproj.Transformer.from_crs(pyproj.CRS.from_epsg(4326), target, always_xy=True)
    xy = np.column_stack(forward.transform(*shapely.get_coordinates(outline).T))
    if not np.isfinite(xy).all():
        return shapely.Polygon()
    return shapely.Polygon(geobox.to_pixels(xy))


def extent_in_degrees(geometries: NDArray[np.object_], crs: pyproj.CRS, name: str) -> Extent:
    """Return the extent of geometries.

    Raises
    ------
    InvalidOption
        If their coordinates are not possible in their CRS.
    """
    import pyproj

    target = pyproj.CRS.from_epsg(4326)
    forward = pyproj.Transformer.from_crs(crs, target, always_xy=True)
    west, south, east, north = forward.transform_bounds(*shapely.total_bounds(geometries))
    if not (np.isfinite([west, south, east, north]).all() and max(abs(south), abs(north)) <= 90):
        raise InvalidOption(
            f"{name}: its coordinates do not fit its CRS ({crs.name}); is that the right one?"
        )
    return west, south, east, north


def check_overlap(name: str, extent: Extent, geobox: GeoBox, ground: str) -> None:
    """Check that labels meet a ground at all.

    Raises
    ------
    InvalidOption
        If they do not; the message has both extents.
    """
    theirs = outline_in_degrees(geobox).bounds
    if not shapely.box(*extent).intersects(shapely.box(*theirs)):
        raise InvalidOption(
            f"{name}: lies elsewhere than {ground}: it covers {_degrees(extent)}, "
            f"the scene {_degrees(theirs)}"
        )


def _degrees(extent: Extent) -> str:
    west, south, east, north = extent
    return f"{west:.4f} to {east:.4f} E, {south:.4f} to {north:.4f} N"
