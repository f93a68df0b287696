"""Vector files: the one door to them, and repairing and taking apart what they hold."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.vectorfiles.crs import crs_of
from geoseg.vectorfiles.csv import read_csv
from geoseg.vectorfiles.formats import (
    CSV,
    DXF,
    GML,
    OSM,
    PARQUET,
    PBF,
    VectorFormat,
    check_vector_file,
)
from geoseg.vectorfiles.text import without_schema

if TYPE_CHECKING:
    import pyproj

Geometries = NDArray[np.object_]

_OSM_AREAS = "multipolygons"
"""GDAL's name for what OpenStreetMap draws as closed ways or as relations of them."""

_OPTIONS = threading.Lock()

_AREAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True, eq=False, slots=True)
class VectorLayer:
    """A layer as it is in its file.

    Parameters
    ----------
    geometries : ndarray of geometry or None, shape (n,)
        Of any kind, not repaired, two-dimensional where GDAL read them, in `crs`.
    columns : mapping of str to ndarray, each of shape (n,)
        The attributes that were asked for and are there.
    available : tuple of str
        All attributes of the layer.
    layers : tuple of str
        The file's layers with geometries; the first is read unless another is asked for. Empty for
        GeoParquet and CSV, which have no names for them; of OpenStreetMap only its areas.
    crs : pyproj.CRS or None
        From the file, else from the file beside it that has its name and ends in .prj.
    """

    geometries: Geometries
    columns: Mapping[str, NDArray[Any]]
    available: tuple[str, ...]
    layers: tuple[str, ...]
    crs: pyproj.CRS | None


class Repaired(NamedTuple):
    """Geometries with valid polygons; all arrays have the shape (n,)."""

    geometries: Geometries
    areal: NDArray[np.bool_]
    """Which are polygons, or were before they were repaired, and not empty."""
    broken: NDArray[np.bool_]
    """Which of these were not valid. One that had no area is left empty."""


def read_layer(
    path: Path, name: str, *, layer: str | None = None, columns: Sequence[str] = ()
) -> VectorLayer:
    """Read a layer of a vector file.

    Parameters
    ----------
    path : Path
        Of one of the formats of `formats`. Closed lines of DXF, which has hardly any
        polygons, are read as such.
    name : str
        What the user called it, for messages.
    layer : str, optional
        Default: the first that has geometries.
    columns : sequence of str
        Attributes to read; those that the layer lacks are left out.

    Raises
    ------
    InvalidOption
        If it cannot be read, has no such layer, or is not plain data (see `check_vector_file`).
    """
    kind = check_vector_file(path, name)
    try:
        geometries, values, available, layers, crs = _read(path, name, kind, layer, columns)
        system = crs_of(crs, path, name)
    except InvalidOption:
        raise
    except Exception as error:  # pyogrio, pyarrow and geopandas each raise their own
        reason = " ".join(str(error).split())
        raise InvalidOption(f"{name}: cannot be read as a vector file ({reason})") from error
    return VectorLayer(geometries, values, available, layers, system)


def repair(geometries: Geometries) -> Repaired:
    """Make polygons valid; what is no polygon stays as it is.

    Rings are read as outlines and holes, so parts of a multipolygon that overlap become one area
    (``method="structure"`` of `shapely.make_valid`).
    """
    areal = np.isin(shapely.get_type_id(geometries), _AREAL) & ~shapely.is_empty(geometries)
    broken = areal & ~shapely.is_valid(geometries)
    whole = geometries.copy()
    whole[broken] = shapely.make_valid(geometries[broken], method="structure", keep_collapsed=False)
    return Repaired(whole, areal, broken)


def polygons_of(geometries: Geometries) -> tuple[Geometries, NDArray[np.int64]]:
    """Take geometries apart into polygons.

    Returns
    -------
    parts : ndarray of Polygon, shape (k,)
        Those with an area.
    owners : ndarray of int64, shape (k,)
        Which geometry each is of, ascending.
    """
    parts, owners = geometries, np.arange(len(geometries))
    for _ in range(2):  # repairing and cutting can leave a collection that holds a multipolygon
        parts, index = shapely.get_parts(parts, return_index=True)
        owners = owners[index]
    keep = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    return parts[keep], owners[keep]


_Table = tuple[Geometries, dict[str, NDArray[Any]], tuple[str, ...], tuple[str, ...], object]


def _read(path: Path, name: str, kind: VectorFormat, layer: str | None, columns: Sequence[str]) -> _Table:
    if kind in {PARQUET, CSV} and layer is not None:
        raise InvalidOption(f"{name}: is {kind.name}, which has no layer {layer!r}")
    if kind is PARQUET:
        return _read_parquet(path, name, columns)
    if kind is CSV:
        geometries, values, available, crs = read_csv(path, name, columns)
        return geometries, values, available, (), crs
    with _plain(path, kind) as source:
        found = _read_ogr(source, name, kind, layer, columns)
    return (_closed_lines_as_areas(found[0]), *found[1:]) if kind is DXF else found


def _read_parquet(path: Path, name: str, columns: Sequence[str]) -> _Table:
    import json

    import geopandas
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(path)
    if b"geo" not in (schema.metadata or {}):
        raise InvalidOption(f"{name}: is Parquet without geometries; write it as GeoParquet")
    geometry = str(json.loads(schema.metadata[b"geo"])["primary_column"])
    available = tuple(str(column) for column in schema.names if column != geometry)
    wanted = [column for column in columns if column in available]
    frame = geopandas.read_parquet(path, columns=[*wanted, geometry])
    values = {column: frame[column].to_numpy() for column in wanted}
    return np.array(frame.geometry.array, dtype=object), values, available, (), frame.crs


@contextlib.contextmanager
def _plain(path: Path, kind: VectorFormat) -> Iterator[Path]:
    """Give the path that GDAL opens: for GML a copy that names no schema, with no other beside it."""
    if kind is not GML:
        yield path.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        copy = Path(folder) / path.with_suffix(".gml").name
        copy.write_bytes(without_schema(path.read_bytes()))
        registry = Path(folder) / "gml_registry.xml"
        registry.write_text("<gml_registry/>")
        # A user who has links followed elsewhere has not asked for those of this file; and GDAL's own
        # registry knows for some kinds of GML where their schemas are.
        with _gdal_options({"GML_SKIP_RESOLVE_ELEMS": "ALL", "GML_REGISTRY": str(registry)}):
            yield copy


@contextlib.contextmanager
def _gdal_options(options: Mapping[str, str]) -> Iterator[None]:
    """Set options of GDAL's for a while. They are the process's, so one thread at a time."""
    import pyogrio

    with _OPTIONS:
        before = {option: pyogrio.get_gdal_config_option(option) for option in options}
        pyogrio.set_gdal_config_options(options)
        try:
            yield
        finally:
            pyogrio.set_gdal_config_options(before)


def _read_ogr(
    source: Path, name: str, kind: VectorFormat, layer: str | None, columns: Sequence[str]
) -> _Table:
    import pyogrio

    layers = tuple(str(one) for one, geometry in pyogrio.list_layers(source) if geometry is not None)
    if kind in {OSM, PBF}:
        layers = tuple(one for one in layers if one == _OSM_AREAS)
    if not layers:
        raise InvalidOption(f"{name}: holds no layer with geometries")
    if layer is not None and layer not in layers:
        raise InvalidOption(f"{name}: has no layer {layer!r}; it has {', '.join(layers)}")
    chosen = layer or layers[0]
    info = pyogrio.read_info(source, layer=chosen)
    if info["driver"] not in kind.drivers:
        raise InvalidOption(f"{name}: is {kind.name} that GDAL takes for {info['driver']}")
    available = tuple(str(column) for column in info["fields"])
    wanted = [column for column in columns if column in available]
    meta, _, geometries, fields = pyogrio.raw.read(source, layer=chosen, columns=wanted, force_2d=True)
    values = dict(zip((str(column) for column in meta["fields"]), fields, strict=True))
    return np.array(shapely.from_wkb(geometries), dtype=object), values, available, layers, meta["crs"]


def _closed_lines_as_areas(geometries: Geometries) -> Geometries:
    lines = (shapely.get_type_id(geometries) == shapely.GeometryType.LINESTRING) & (
        shapely.get_num_coordinates(geometries) > 3
    )
    closed = np.flatnonzero(lines)[shapely.is_closed(geometries[lines])]
    areas = geometries.copy()
    areas[closed] = [shapely.Polygon(shapely.get_coordinates(line)) for line in geometries[closed]]
    return areas
