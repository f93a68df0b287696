"""Ground in degrees the way STAC has it, and the area that is asked for: whether a scene lies in it.

Boxes of longitudes and latitudes that lie across 180° begin in the east.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import shapely
from shapely import affinity

from geoseg.errors import InvalidOption
from geoseg.vectorfiles.aoi import areas_within, read_areas
from geoseg.vectorfiles.crs import in_degrees, other_file, way

if TYPE_CHECKING:
    import pyproj
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoseg.values import GeoBox

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
    transformer = way(crs, "OGC:CRS84")
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


MARGIN = 0.01
"""Degrees by which boxes of lists may be off: a scene that is so near is opened."""


@dataclass(frozen=True, eq=False, slots=True)
class Area:
    """The ground that is asked for."""

    areas: BaseGeometry
    crs: pyproj.CRS
    name: str
    """For messages."""
    degrees: BaseGeometry | None
    """The same in longitudes and latitudes; None where it reaches far around the Earth."""

    @classmethod
    def of_file(cls, path: Path, layer: str | None) -> Self:
        """Read the polygons of ``--aoi``."""
        areas, crs = read_areas(path, layer=layer)
        return cls(areas, crs, str(path), _in_degrees(areas, crs))

    @classmethod
    def of_box(cls, box: tuple[float, float, float, float], wanted: str | None) -> Self:
        """Return the area of ``--bbox``: west, south, east, north, in degrees or in the CRS `wanted`.

        Raises
        ------
        InvalidOption
            If the box is none, or not in its CRS.
        """
        west, south, east, north = box
        name = f"--bbox {west:g} {south:g} {east:g} {north:g}"
        crs = _crs(wanted or "OGC:CRS84")
        if crs.is_geographic and not in_degrees(box):
            raise InvalidOption(f"{name}: these are no degrees; name their CRS: --bbox-crs EPSG:CODE")
        if not (south < north and west != east and (west < east or crs.is_geographic)):
            raise InvalidOption(f"{name}: must be WEST SOUTH EAST NORTH with SOUTH < NORTH and WEST < EAST")
        if crs.is_geographic:
            west, east = (edge - 360 if edge > 180 else edge for edge in (west, east))
        areas = area_of((west, south, east, north))
        return cls(areas, crs, name, _in_degrees(areas, crs))

    def may_touch(self, box: Degrees) -> bool:
        """Whether a scene with this box, as a list has it, need be opened."""
        if self.degrees is None:
            return True
        return bool(shapely.intersects(self.degrees, area_of(box).buffer(MARGIN, join_style="mitre")))

    def touches(self, grid: GeoBox) -> bool:
        """Whether any of it lies in a scene that has a CRS; True where that cannot be told: its run will."""
        try:
            return areas_within(self.areas, self.crs, grid, self.name) is not None
        except InvalidOption:
            return True

    @property
    def digest(self) -> str:
        """Tells the area from any other, whatever file it came from."""
        return hashlib.sha256(self.areas.wkb + self.crs.to_wkt().encode()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        """Write it as GeoParquet, which keeps every coordinate, for the runs of the scenes."""
        import geopandas

        geopandas.GeoSeries([self.areas], crs=self.crs).to_frame("geometry").to_parquet(path)


def _crs(text: str) -> pyproj.CRS:
    import pyproj

    try:
        named = other_file(text)
        found = None if named else pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError:
        found = None
    if found is None:
        raise InvalidOption(f"--bbox-crs {text}: is no CRS; an example: EPSG:32633")
    return found


def _in_degrees(areas: BaseGeometry, crs: pyproj.CRS) -> BaseGeometry | None:
    """Return areas in degrees, once more on either side: whoever counts to 360 means the same ground."""
    west, south, east, north = areas.bounds
    dense = areas
    if not crs.is_geographic:
        dense = shapely.segmentize(areas, max(east - west, north - south) / 256)
    transformer = way(crs, "OGC:CRS84")
    placed = shapely.transform(dense, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
    bounds = shapely.bounds(shapely.get_parts(placed))
    torn = not crs.is_geographic and (bounds[:, 2] - bounds[:, 0] >= 180).any()
    if torn or not np.isfinite(bounds).all():
        return None
    parts = shapely.get_parts(shapely.make_valid(placed))
    turns = [affinity.translate(part, turn) for part in parts for turn in (-360, 0, 360)]
    found: BaseGeometry = shapely.GeometryCollection(turns)
    shapely.prepare(found)
    return found
