"""Labelled polygons from vector files: any CRS, classes by attribute, invalid ones repaired."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.raster.aoi import place_in_pixels
from geoseg.training.data.classes import ClassTable, hint, text_of
from geoseg.training.data.extent import check_overlap, extent_in_degrees, outline_in
from geoseg.training.data.footprints import Footprints
from geoseg.values import GeoBox

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
    repaired : int
        How many were invalid.
    notes : tuple of str
        What a user should know, one line each.
    """

    name: str
    parts: NDArray[np.object_]
    ids: NDArray[np.uint8]
    crs: pyproj.CRS
    repaired: int = 0
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
        parts, index = _polygons_of(np.asarray(placed, object))
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
        A file, or a folder of a file geodatabase, of a format that GDAL reads and that refers to
        nothing outside itself; or GeoParquet.
    table : ClassTable or None
        Classes by name and id; None: the polygons are areas, all with id 1.
    attribute : str or None
        Holds the class; None: there is only one.
    layer : str or None
        None: the first.

    Raises
    ------
    InvalidOption
        If the file cannot be read, has no such layer or attribute, no CRS, no polygons, one that
        cannot be repaired, or a class that is not in the table.
    """
    geometries, values, crs, notes = _read(path, attribute, layer)
    parts, owners, repaired = _areal(geometries, path)
    if values is None or table is None:
        only = table.only(f"{path}: give class_attribute") if table else 1
        ids = np.full(len(geometries), only, np.uint8)
    else:
        used = np.unique(owners)
        ids = np.zeros(len(geometries), np.uint8)
        ids[used] = table.look_up(values[used], f"{path}: attribute {attribute!r}")
    if repaired:
        notes.append(f"{path}: {repaired} of {len(geometries)} polygons were invalid and are repaired")
    return Polygons(str(path), parts, ids[owners], crs, repaired, tuple(notes))


def attribute_values(path: Path, attribute: str) -> list[str]:
    """Return the distinct values of an attribute of the first layer as text, sorted, without empty ones.

    Raises
    ------
    InvalidOption
        If the file cannot be read, or has no such attribute or no CRS.
    """
    values = _read(path, attribute, None)[1]
    return sorted({text_of(value) for value in (() if values is None else values)} - {""})


def _areal(geometries: NDArray[np.object_], path: Path) -> tuple[NDArray[np.object_], NDArray[np.int64], int]:
    """Return polygons, which feature each is part of, and how many features were repaired."""
    kinds = shapely.get_type_id(geometries)
    areal = np.isin(kinds, (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    areal &= ~shapely.is_empty(geometries)
    if not areal.any():
        raise InvalidOption(f"{path}: holds no polygons ({len(geometries)} features)")
    broken = areal & ~shapely.is_valid(geometries)
    whole = geometries.copy()
    whole[broken] = shapely.make_valid(geometries[broken])
    hopeless = np.flatnonzero(broken & ~(shapely.area(whole) > 0))
    if len(hopeless):
        reason = shapely.is_valid_reason(geometries[hopeless[0]])
        raise InvalidOption(
            f"{path}: {len(hopeless)} invalid polygons cannot be repaired; the first is "
            f"feature {hopeless[0]} ({reason})"
        )
    owners = np.flatnonzero(areal)
    parts, index = _polygons_of(whole[owners])
    return parts, owners[index], int(np.count_nonzero(broken))


def _polygons_of(geometries: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Take geometries apart; return their polygons with an area and which geometry each is of."""
    parts, owners = geometries, np.arange(len(geometries))
    for _ in range(2):  # a repaired polygon can be a collection that holds a multipolygon
        parts, index = shapely.get_parts(parts, return_index=True)
        owners = owners[index]
    keep = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    return parts[keep], owners[keep]


def _read(
    path: Path, attribute: str | None, layer: str | None
) -> tuple[NDArray[np.object_], NDArray[Any] | None, pyproj.CRS, list[str]]:
    import pyproj

    notes: list[str] = []
    parquet = _is_parquet(path)
    try:
        read = _read_parquet(path, attribute) if parquet else _read_ogr(path, attribute, layer, notes)
    except InvalidOption:
        raise
    except Exception as error:  # pyogrio, pyarrow and geopandas each raise their own
        reason = " ".join(str(error).split())
        raise InvalidOption(f"{path}: cannot be read as a vector file ({reason})") from error
    geometries, values, crs = read
    if crs is None:
        raise InvalidOption(f"{path}: has no CRS; write it again with the one that its coordinates are in")
    return geometries, values, pyproj.CRS.from_user_input(crs), notes


def _is_parquet(path: Path) -> bool:
    """Say whether a file is GeoParquet.

    Raises
    ------
    InvalidOption
        If it is missing, or of a format that can refer to other files, URLs or code (XML other than
        KML, GDAL's own JSON): what a file says is not what the user asked for.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) and path.suffix.lower() == ".gdb":
            return False
        if not stat.S_ISREG(mode):
            raise InvalidOption(f"{path}: is not a regular file")
        with path.open("rb") as file:
            head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise InvalidOption(f"{path}: {reason}") from None
    if (head.startswith(b"<") and b"<kml" not in head) or b"gdal_streamed_alg" in head:
        raise InvalidOption(f"{path}: is of a format that can refer to other files; write it as GeoPackage")
    return head.startswith(b"PAR1")


def _read_parquet(
    path: Path, attribute: str | None
) -> tuple[NDArray[np.object_], NDArray[Any] | None, object]:
    import geopandas
    import pyarrow.parquet

    _check_attribute(path, attribute, pyarrow.parquet.read_schema(path).names)
    frame = geopandas.read_parquet(path, columns=["geometry", *([attribute] if attribute else [])])
    values = None if attribute is None else frame[attribute].to_numpy(object)
    return np.asarray(frame.geometry.array), values, frame.crs


def _read_ogr(
    path: Path, attribute: str | None, layer: str | None, notes: list[str]
) -> tuple[NDArray[np.object_], NDArray[Any] | None, object]:
    import pyogrio

    layers = [str(name) for name, kind in pyogrio.list_layers(path.absolute()) if kind is not None]
    if not layers:
        raise InvalidOption(f"{path}: holds no layer with geometries")
    if layer is not None and layer not in layers:
        raise InvalidOption(f"{path}: has no layer {layer!r}{hint(layer, layers)}")
    if layer is None and len(layers) > 1:
        notes.append(f"{path}: has {len(layers)} layers; {layers[0]!r} is used")
    chosen = layer or layers[0]
    fields = pyogrio.read_info(path.absolute(), layer=chosen)["fields"].tolist()
    _check_attribute(path, attribute, fields)
    meta, _, geometries, columns = pyogrio.raw.read(
        path.absolute(), layer=chosen, columns=[attribute] if attribute else [], force_2d=True
    )
    values = np.asarray(columns[0], object) if attribute else None
    return shapely.from_wkb(geometries), values, meta["crs"]


def _check_attribute(path: Path, attribute: str | None, fields: Sequence[str]) -> None:
    if attribute is not None and attribute not in fields:
        raise InvalidOption(f"{path}: has no attribute {attribute!r}{hint(attribute, fields)}")
