"""Labelled polygons from vector files: any CRS, classes by attribute, invalid ones repaired."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.training.data.classes import ClassTable, hint, text_of
from geoseg.training.data.extent import check_overlap, extent_in_degrees, outline_in
from geoseg.training.data.footprints import Footprints
from geoseg.values import GeoBox
from geoseg.vectorfiles.aoi import place_in_pixels
from geoseg.vectorfiles.crs import without_crs
from geoseg.vectorfiles.layers import VectorLayer, polygons_of, read_layer, repair

if TYPE_CHECKING:
    import pyproj


@dataclass(frozen=True, eq=False, slots=True)
class Polygons:
    """Polygons with class ids, in the CRS of their file.

    Parameters
    ----------
    name : str
        The file, for messages.
    parts : ndarray of Polygon, shape (n,)
        Valid; multipolygons are taken apart.
    ids : ndarray of uint8, shape (n,)
        Class ids, or `IGNORE`.
    crs : pyproj.CRS
        Of the coordinates.
    notes : tuple of str
        What a user should know, one line each.
    """

    name: str
    parts: NDArray[np.object_]
    ids: NDArray[np.uint8]
    crs: pyproj.CRS
    notes: tuple[str, ...] = ()

    def over(self, geobox: GeoBox, pixel_m: tuple[float, float], gap_m: float) -> Footprints:
        """Place the polygons that lie on a ground, and somewhat beyond, on its pixels.

        Parameters
        ----------
        geobox : GeoBox
            Native pixels of the ground; it needs a CRS.
        pixel_m : (float, float)
            Metres that a pixel measures along its row and along its column.
        gap_m : float
            See `Footprints`.

        Raises
        ------
        InvalidOption
            If the polygons reach where the CRS of the ground is not defined.
        """
        west, south, east, north = outline_in(geobox, self.crs).bounds
        reach = max(east - west, north - south)
        vicinity = shapely.box(west - reach, south - reach, east + reach, north + reach)
        found = np.flatnonzero(shapely.intersects(self.parts, vicinity))
        placed = place_in_pixels(self.parts[found], self.crs, geobox, self.name)
        parts, index = polygons_of(np.asarray(placed, object))
        metres = shapely.transform(parts, lambda points: points * pixel_m)
        return Footprints(np.asarray(metres, object), self.ids[found[index]], pixel_m, gap_m)

    def check_overlap(self, geobox: GeoBox, ground: str) -> None:
        """Check that the polygons meet a ground at all.

        Raises
        ------
        InvalidOption
            If they do not; the message has both extents in degrees.
        """
        check_overlap(self.name, extent_in_degrees(self.parts, self.crs, self.name), geobox, ground)


def read_polygons(
    path: Path, table: ClassTable | None, *, attribute: str | None = None, layer: str | None = None
) -> Polygons:
    """Read the polygons of a vector file.

    Parameters
    ----------
    path : Path
        Of a format that `read_layer` reads.
    table : ClassTable or None
        Classes by name and id; None: the polygons are areas, all with id 1.
    attribute : str or None
        Holds the class; None: there is only one.
    layer : str or None
        None: the first.

    Raises
    ------
    InvalidOption
        If the file cannot be read, has no such layer or attribute, no CRS, no polygons, or a class
        that is not in the table.
    """
    found = _read(path, attribute, layer)
    assert found.crs is not None
    notes = []
    if layer is None and len(found.layers) > 1:
        notes.append(f"{path}: has {len(found.layers)} layers; {found.layers[0]!r} is used")
    parts, owners, told = _areal(found.geometries, path)
    if attribute is None or table is None:
        only = table.only(f"{path}: give class_attribute") if table else 1
        ids = np.full(len(found.geometries), only, np.uint8)
    else:
        used = np.unique(owners)
        ids = np.zeros(len(found.geometries), np.uint8)
        values = np.asarray(found.columns[attribute], object)[used]
        ids[used] = table.look_up(values, f"{path}: attribute {attribute!r}")
    return Polygons(str(path), parts, ids[owners], found.crs, (*notes, *told))


def attribute_values(path: Path, attribute: str) -> list[str]:
    """Return the distinct values of an attribute of the first layer as text, sorted, without empty ones.

    Raises
    ------
    InvalidOption
        If the file cannot be read, or has no such attribute or no CRS.
    """
    values = np.asarray(_read(path, attribute, None).columns[attribute], object)
    return sorted({text_of(value) for value in values} - {""})


def _areal(
    geometries: NDArray[np.object_], path: Path
) -> tuple[NDArray[np.object_], NDArray[np.int64], list[str]]:
    """Return polygons, which feature each is part of, and what was wrong with them."""
    whole, areal, broken = repair(geometries)
    kept = areal & (shapely.area(whole) > 0)
    if not kept.any():
        raise InvalidOption(f"{path}: holds no polygons with an area ({len(geometries)} features)")
    notes = []
    if repaired := int(np.count_nonzero(broken & kept)):
        notes.append(f"{path}: {repaired} of {len(geometries)} polygons were invalid and are repaired")
    if empty := np.flatnonzero(areal & ~kept).tolist():
        notes.append(
            f"{path}: {len(empty)} polygons have no area and are left out (first: feature {empty[0]})"
        )
    owners = np.flatnonzero(kept)
    parts, index = polygons_of(whole[owners])
    return parts, owners[index], notes


def _read(path: Path, attribute: str | None, layer: str | None) -> VectorLayer:
    found = read_layer(path, str(path), layer=layer, columns=[attribute] if attribute else [])
    if attribute is not None and attribute not in found.available:
        raise InvalidOption(f"{path}: has no attribute {attribute!r}{hint(attribute, found.available)}")
    if found.crs is None:
        raise without_crs(path)
    return found
