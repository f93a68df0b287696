"""Labelled polygons from vector files: any CRS, classes by attribute, invalid ones repaired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption, suggest
from geoseg.labels.classes import ClassTable, Ids, text_of
from geoseg.labels.footprints import Footprints
from geoseg.labels.places import extent_in_degrees, outline_in, outline_in_degrees
from geoseg.labels.verdicts import RIGHT, WRONG, Verdicts
from geoseg.raster.drivers import HEAD, driver_of, remote_uri
from geoseg.values import GeoBox
from geoseg.vectorfiles.crs import check_degrees, extents, place_in_pixels, without_crs
from geoseg.vectorfiles.formats import FORMATS, format_of
from geoseg.vectorfiles.layers import polygons_of, read_layer, repair

if TYPE_CHECKING:
    import pyproj

_SUFFIXES = {suffix for one in FORMATS for suffix in one.suffixes}


@dataclass(frozen=True, eq=False, slots=True)
class Polygons:
    """The polygons of a layer; a feature of several counts as several."""

    name: str
    """What the user called the file, for messages."""
    parts: NDArray[np.object_]
    """Polygon, shape (n,). Valid and with an area, in `crs`."""
    columns: Mapping[str, NDArray[Any]]
    """Each of shape (n,). The attributes that were asked for and are there."""
    available: tuple[str, ...]
    """All attributes of the layer."""
    crs: pyproj.CRS | None
    """Of the coordinates."""
    features: NDArray[np.int64]
    """int64, shape (n,). Which feature of the file each is of, from 0."""
    notes: tuple[str, ...] = ()
    """What a user should know, one line each."""

    def values(self, attribute: str) -> NDArray[Any]:
        """Return the values of an attribute, shape (n,).

        Raises
        ------
        InvalidOption
            If the layer has no such attribute.
        """
        if attribute not in self.columns:
            raise InvalidOption(
                f"{self.name}: has no attribute {attribute!r}; {suggest(attribute, self.available)}"
            )
        return self.columns[attribute]

    def class_ids(
        self,
        table: ClassTable,
        attribute: str | None,
        option: str,
        given: Mapping[str, int] | None = None,
        advice: str = "",
    ) -> Ids:
        """Return the class of each polygon, shape (n,): by an attribute, else the only one there is.

        Parameters
        ----------
        table : ClassTable
            The classes.
        attribute : str or None
            Holds the class.
        option : str
            Names the attribute, for messages.
        given, advice
            See `ClassTable.look_up`.

        Raises
        ------
        InvalidOption
            If there is no such attribute, a value is no class, or none is named among several classes.
        """
        if attribute is not None:
            values = self.values(attribute)
            return table.look_up(values, f"{self.name}: attribute {attribute!r}", given, advice)
        if len(table.ids) > 1:
            raise InvalidOption(
                f"{self.name}: which attribute holds the class ({table.text})? give {option}; "
                f"{suggest('', self.available)}"
            )
        return np.full(len(self.parts), table.ids[0], np.int16)

    def placed(self, grid: GeoBox) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        """Return the polygons on and somewhat around a grid in its pixels, and which each is part of.

        Raises
        ------
        InvalidOption
            If only one of file and grid has a CRS, or one is not defined where the other is needed.
        """
        if (self.crs is None) != (grid.crs is None):
            if self.crs is None:
                raise without_crs(Path(self.name))
            raise InvalidOption(
                f"{self.name}: cannot be placed on a raster without a CRS; "
                "give that one: gdal_translate -a_srs EPSG:CODE RASTER new.tif"
            )
        if self.crs is None:
            return shapely.transform(self.parts, grid.to_pixels), np.arange(len(self.parts))
        west, south, east, north = outline_in(grid, self.crs).bounds
        reach = max(east - west, north - south)
        vicinity = shapely.box(west - reach, south - reach, east + reach, north + reach)
        found = np.flatnonzero(shapely.intersects(self.parts, vicinity))
        placed = place_in_pixels(self.parts[found], self.crs, grid, self.name)
        parts, index = polygons_of(np.asarray(placed, object))
        return parts, found[index]

    def over(
        self, ids: NDArray[np.uint8], geobox: GeoBox, pixel_m: tuple[float, float], gap_m: float
    ) -> Footprints:
        """Return the polygons that lie on a ground, and somewhat beyond, with their classes.

        Parameters
        ----------
        ids : ndarray of uint8, shape (n,)
            Of the polygons.
        geobox : GeoBox
            Native pixels of the ground.
        pixel_m, gap_m
            See `Footprints`.

        Raises
        ------
        InvalidOption
            As `placed`.
        """
        parts, index = self.placed(geobox)
        metres = shapely.transform(parts, lambda points: points * pixel_m)
        return Footprints(np.asarray(metres, object), ids[index], pixel_m, gap_m)

    def check_overlap(self, geobox: GeoBox, ground: str, advice: str = "") -> None:
        """Check that the polygons meet a ground at all.

        Raises
        ------
        InvalidOption
            If they do not; the message has both extents.
        """
        assert self.crs is not None
        check_degrees(self.parts, self.crs, geobox, self.name)
        extent = shapely.box(*extent_in_degrees(self.parts, self.crs, self.name))
        if not extent.intersects(outline_in_degrees(geobox).envelope):
            places = extents(self.parts, self.crs, geobox)
            raise InvalidOption(f"{self.name}: lies elsewhere than {ground}: {places}{advice}")


def read_polygons(
    path: str | Path,
    *,
    layer: str | None = None,
    option: str = "--labels-layer",
    columns: tuple[str, ...] = (),
    without: str | None = None,
) -> Polygons:
    """Read the polygons of a vector file; broken ones are repaired and counted.

    Parameters
    ----------
    path : str or Path
        Of a format that `read_layer` reads.
    layer : str, optional
        Default: the only one that holds polygons.
    option : str
        What a user chooses the layer with, for messages.
    columns : tuple of str
        Attributes to read; those that the layer lacks are left out.
    without : str, optional
        A layer that is not meant unless it is asked for.

    Raises
    ------
    InvalidOption
        If it cannot be read or has no such layer.
    """
    name = str(path)
    found = read_layer(Path(path), name, layer=layer, columns=columns, option=option, without=without)
    whole, areal, broken = repair(found.geometries)
    kept = areal & (shapely.area(whole) > 0)
    parts, owners = polygons_of(whole[kept])
    features = np.flatnonzero(kept)[owners]
    notes = []
    total = len(found.geometries)
    if repaired := int(np.count_nonzero(broken & kept)):
        notes.append(f"{name}: {repaired} of {total} polygons were invalid and are repaired")
    if empty := np.flatnonzero(~kept).tolist():
        notes.append(
            f"{name}: {len(empty)} features without an area are left out (first: feature {empty[0]})"
        )
    several = np.flatnonzero((np.bincount(features, minlength=total) > 1) & ~broken)
    if len(several):
        notes.append(
            f"{name}: {len(several)} features consist of several polygons "
            f"({np.isin(features, several).sum()} in all), each of which counts as an object"
        )
    columns_of = {one: values[features] for one, values in found.columns.items()}
    return Polygons(name, parts, columns_of, found.available, found.crs, features, tuple(notes))


def read_labelled(
    path: Path,
    table: ClassTable,
    attribute: str | None = None,
    layer: str | None = None,
    option: str = "--labels-layer",
    verdicts: Verdicts | None = None,
) -> tuple[Polygons, NDArray[np.uint8]]:
    """Read polygons to train on and the class of each, `IGNORE` where nothing is known.

    With `verdicts`, those alone that were found right, with their class, and wrong, as background.

    Raises
    ------
    InvalidOption
        If the file cannot be read, has no such layer or attribute, no CRS, no polygons, or a class
        that is not in the table; or if the verdicts are on another layer, or all unsure.
    """
    columns = [name for name in (attribute, "id" if verdicts else None) if name is not None]
    polygons = need_polygons(read_polygons(path, layer=layer, option=option, columns=tuple(columns)))
    ids = polygons.class_ids(table, attribute, "class_attribute").astype(np.uint8)  # UNKNOWN becomes IGNORE
    return (polygons, ids) if verdicts is None else _judged(polygons, ids, verdicts)


def _judged(
    polygons: Polygons, ids: NDArray[np.uint8], verdicts: Verdicts
) -> tuple[Polygons, NDArray[np.uint8]]:
    values = polygons.features + 1 if verdicts.column == "feature" else polygons.values("id")
    keys = [text_of(value) for value in values]
    verdicts.check_found(verdicts.found(keys, polygons.parts, polygons.crs))
    said = np.array([verdicts.of.get(key, "") for key in keys])
    kept = np.flatnonzero((said == RIGHT) | (said == WRONG))
    if not len(kept):
        raise InvalidOption(
            f"{verdicts.name}: nothing was found {RIGHT} or {WRONG}; judge some polygons first"
        )
    ids = np.where(said == WRONG, np.uint8(0), ids)[kept]
    columns = {name: values[kept] for name, values in polygons.columns.items()}
    parts, features = polygons.parts[kept], polygons.features[kept]
    return replace(polygons, parts=parts, columns=columns, features=features), ids


def need_polygons(polygons: Polygons) -> Polygons:
    """Return polygons that can be trained on.

    Raises
    ------
    InvalidOption
        If the file holds none, or has no CRS.
    """
    if polygons.crs is None:
        raise without_crs(Path(polygons.name))
    if not len(polygons.parts):
        raise InvalidOption(f"{polygons.name}: holds no polygons with an area")
    return polygons


def is_vector(path: str | Path) -> bool:
    """Tell whether a file is taken for a vector file: by its first bytes, else by its name.

    A URL is a raster, since vector files are read from disk only. What neither tells is taken for a
    raster, whose reader says what is wrong with it.
    """
    if remote_uri(str(path)):
        return False
    named = Path(path).suffix.lower() in _SUFFIXES
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return named
    return format_of(head) is not None or (named and driver_of(head) is None)
