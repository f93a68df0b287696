"""The ground that is asked for: whether a scene lies in it, and the file that scenes are clipped by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import shapely
from shapely import affinity

from geoseg.archive.degrees import Degrees, area_of
from geoseg.errors import InvalidOption
from geoseg.vectorfiles.aoi import areas_within, read_areas
from geoseg.vectorfiles.crs import other_file
from geoseg.vectorfiles.placing import in_degrees

if TYPE_CHECKING:
    import pyproj
    from shapely.geometry.base import BaseGeometry

    from geoseg.values import GeoBox

MARGIN = 0.01
"""Degrees by which boxes of lists may be off: a scene that is so near is opened."""


@dataclass(frozen=True, eq=False, slots=True)
class Area:
    """The ground that is asked for.

    Parameters
    ----------
    areas : BaseGeometry
    crs : pyproj.CRS
    name : str
        For messages.
    degrees : BaseGeometry or None
        The same in longitudes and latitudes; None where it reaches far around the Earth.
    """

    areas: BaseGeometry
    crs: pyproj.CRS
    name: str
    degrees: BaseGeometry | None

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
    import pyproj

    west, south, east, north = areas.bounds
    dense = areas
    if not crs.is_geographic:
        dense = shapely.segmentize(areas, max(east - west, north - south) / 256)
    transformer = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
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
