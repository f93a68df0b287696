"""Vector files: the one door to them, and repairing and taking apart what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.raster.vector_formats import PARQUET, VectorFormat, check_vector_file

if TYPE_CHECKING:
    import pyproj

Geometries = NDArray[np.object_]

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
        GeoParquet, which has no names for them.
    crs : pyproj.CRS or None
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
        GeoPackage, FlatGeobuf, GeoParquet, GeoJSON, Shapefile, KML, or a file geodatabase.
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
    import pyproj

    kind = check_vector_file(path, name)
    try:
        if kind is PARQUET:
            found = _read_parquet(path, name, layer, columns)
        else:
            found = _read_ogr(path, name, kind, layer, columns)
        geometries, values, available, layers, crs = found
        system = None if crs is None else pyproj.CRS.from_user_input(crs)
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


def _read_parquet(path: Path, name: str, layer: str | None, columns: Sequence[str]) -> _Table:
    import json

    import geopandas
    import pyarrow.parquet

    if layer is not None:
        raise InvalidOption(f"{name}: is GeoParquet, which has no layer {layer!r}")
    schema = pyarrow.parquet.read_schema(path)
    if b"geo" not in (schema.metadata or {}):
        raise InvalidOption(f"{name}: is Parquet without geometries; write it as GeoParquet")
    geometry = str(json.loads(schema.metadata[b"geo"])["primary_column"])
    available = tuple(str(column) for column in schema.names if column != geometry)
    wanted = [column for column in columns if column in available]
    frame = geopandas.read_parquet(path, columns=[*wanted, geometry])
    values = {column: frame[column].to_numpy() for column in wanted}
    return np.array(frame.geometry.array, dtype=object), values, available, (), frame.crs


def _read_ogr(path: Path, name: str, kind: VectorFormat, layer: str | None, columns: Sequence[str]) -> _Table:
    import pyogrio

    source = path.absolute()
    layers = tuple(str(one) for one, geometry in pyogrio.list_layers(source) if geometry is not None)
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
