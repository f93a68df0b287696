"""The door to vector files: one layer of polygons whole, or with all attributes batch by batch; repair."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption, silenced
from geoseg.vectorfiles.binary import Verbatim, from_wkb, ogr_layers, parquet_geometry, read_ogr, read_parquet
from geoseg.vectorfiles.crs import crs_of
from geoseg.vectorfiles.formats import (
    CSV,
    GEOJSON,
    GEOPARQUET,
    KML,
    VectorFormat,
    check_vector_file,
    memory_to_read,
    to_geopackage,
)
from geoseg.vectorfiles.text import VectorLayer, read_csv, read_geojson, read_kml, read_placemarks

if TYPE_CHECKING:
    import pyarrow
    import pyproj

__all__ = ["Repaired", "VectorLayer", "polygons_of", "read_layer", "repair"]

Geometries = NDArray[np.object_]

_AREAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


class Repaired(NamedTuple):
    """Geometries with valid polygons; all arrays have the shape (n,)."""

    geometries: Geometries
    areal: NDArray[np.bool_]
    """Which are polygons, or were before they were repaired, and not empty."""
    broken: NDArray[np.bool_]
    """Which of these were not valid. One that had no area is left empty."""


def read_layer(
    path: Path,
    name: str,
    *,
    layer: str | None = None,
    columns: Container[str] = (),
    option: str = "--layer",
    without: str | None = None,
    memory: int | None = None,
) -> VectorLayer:
    """Read a layer of a vector file.

    Parameters
    ----------
    path : Path
        Of one of `geoseg.vectorfiles.formats.FORMATS`.
    name : str
        What the user called it, for messages.
    layer : str, optional
        Default: the only one that holds polygons.
    columns : container of str
        Attributes to read; those that the layer lacks are left out.
    option : str
        What a user chooses the layer with, for messages.
    without : str, optional
        A layer that is not meant unless it is asked for.
    memory : int, optional
        Bytes that reading a file of text may take.

    Raises
    ------
    InvalidOption
        If it cannot be read, has no such layer or several with polygons, is not plain data (see
        `check_vector_file`), or takes too much memory.
    """
    kind = check_vector_file(path, name)
    if memory is not None and (needed := memory_to_read(path, kind)) > memory:
        raise InvalidOption(
            f"{name}: reading so much {kind.name} may take {needed / 1e6:.0f} MB, more than the "
            f"{memory / 1e6:.0f} MB that there are; convert it: {to_geopackage(path)}, or give a larger "
            "--max-memory"
        )
    with _translated(name, kind):
        sources = {
            one: read for one, read in _sources(path, kind).items() if one in {layer} or one != without
        }
        found = _chosen(sources, kind, name, layer, columns, option)
        return found._replace(crs=crs_of(found.crs, path, name))


@contextlib.contextmanager
def _translated(name: str, kind: VectorFormat) -> Iterator[None]:
    """Say in one line what pyogrio, pyarrow, geopandas and shapely raise, each in its own way."""
    try:
        with silenced(Warning):  # GDAL's and pyogrio's own words, of what is said below or harmless
            yield
    except InvalidOption:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InvalidOption(f"{name}: cannot be read as {kind.name} ({reason})") from error


_Sources = Mapping[str, Callable[[Container[str]], VectorLayer]]
"""How each layer is read, given the attributes that are wanted; "" where layers have no names."""


def _sources(path: Path, kind: VectorFormat) -> _Sources:
    if kind is KML:
        return {name: partial(read_placemarks, marks) for name, marks in read_kml(path).items()}
    alone = {GEOJSON: read_geojson, CSV: read_csv, GEOPARQUET: read_parquet}.get(kind)
    if alone is not None:
        return {"": partial(alone, path)}
    return {name: partial(read_ogr, path, kind, name) for name in ogr_layers(path)}


def _chosen(
    sources: _Sources,
    kind: VectorFormat,
    name: str,
    layer: str | None,
    columns: Container[str],
    option: str,
) -> VectorLayer:
    """Read the layer that is asked for, else the only one with polygons."""
    _check_layer(sources, kind, name, layer, option)
    if layer is not None:
        return sources[layer](columns)
    tables = {one: read(columns) for one, read in sources.items()}
    found = [one for one, table in tables.items() if repair(table.geometries).areal.any()]
    if len(found) > 1:
        raise InvalidOption(
            f"{name}: has several layers of polygons ({', '.join(found)}); choose one: {option} NAME"
        )
    return tables[found[0] if found else next(iter(tables))]


def _check_layer(
    names: Collection[str], kind: VectorFormat, path: str, layer: str | None, option: str
) -> None:
    """Check that a file has the layer that is asked for; the only name of one without layers is empty."""
    if not names:
        raise InvalidOption(f"{path}: holds no layer with geometries")
    if layer is not None and "" in names:
        raise InvalidOption(f"{path}: is {kind.name}, which has no layers; leave out {option} {layer}")
    if layer not in {None, *names}:
        raise InvalidOption(f"{path}: has no layer {layer!r} of polygons; there is {', '.join(names)}")


def repair(geometries: Geometries) -> Repaired:
    """Make polygons valid; what holds no polygon stays as it is.

    Rings are read as outlines and holes, so parts of a multipolygon that overlap become one area
    (``method="structure"`` of `shapely.make_valid`). Of a collection its polygons are left.

    Examples
    --------
    >>> bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    >>> mixed = shapely.GeometryCollection([shapely.Point(5, 5), shapely.box(0, 0, 1, 1)])
    >>> found = repair(np.array([bow_tie, mixed, shapely.Point(0, 0)]))
    >>> shapely.area(found.geometries).tolist()
    [2.0, 1.0, 0.0]
    >>> found.areal.tolist(), found.broken.tolist()
    ([True, True, False], [True, False, False])
    """
    whole = geometries.copy()
    for place in np.flatnonzero(shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION):
        parts, _ = _parts(geometries[place : place + 1])
        if len(parts):
            whole[place] = shapely.MultiPolygon(parts.tolist())
    areal = np.isin(shapely.get_type_id(whole), _AREAL) & ~shapely.is_empty(whole)
    broken = areal & ~shapely.is_valid(whole)
    whole[broken] = shapely.make_valid(whole[broken], method="structure", keep_collapsed=False)
    return Repaired(whole, areal, broken)


def polygons_of(geometries: Geometries) -> tuple[Geometries, NDArray[np.int64]]:
    """Take geometries apart into polygons.

    Returns
    -------
    parts : ndarray of Polygon, shape (k,)
        Those with an area.
    owners : ndarray of int64, shape (k,)
        Which geometry each is of, ascending.

    Examples
    --------
    >>> pair = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 0, 3, 1)])
    >>> nested = shapely.GeometryCollection([shapely.GeometryCollection([pair]), shapely.Point(0, 0)])
    >>> parts, owners = polygons_of(np.array([shapely.box(0, 0, 1, 1), nested]))
    >>> len(parts), owners.tolist()
    (3, [0, 1, 1])
    """
    parts, owners = _parts(geometries)
    keep = shapely.area(parts) > 0
    return parts[keep], owners[keep]


def _parts(geometries: Geometries) -> tuple[Geometries, NDArray[np.int64]]:
    parts, owners = geometries, np.arange(len(geometries))
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():
        parts, index = shapely.get_parts(parts, return_index=True)
        owners = owners[index]
    keep = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    return parts[keep], owners[keep]


ROWS = 5000
"""Features of a batch."""


@dataclass(frozen=True, eq=False, slots=True)
class LayerBatches:
    """A layer that is being read."""

    crs: pyproj.CRS | None
    geometry: str
    """Name of the column of WKB."""
    schema: pyarrow.Schema
    """Of all batches."""
    batches: Iterator[pyarrow.RecordBatch]
    features: int | None
    """How many there are, where the file tells."""
    name: str
    """What the user called the file."""

    def shapes(self, batch: pyarrow.RecordBatch) -> Geometries:
        """Read the geometries of a batch, in two dimensions.

        Raises
        ------
        InvalidOption
            If one is a curve, no WKB, or nested too deeply.
        """
        try:
            return from_wkb(np.array(batch.column(self.geometry).to_pylist(), object))
        except ValueError as error:
            raise InvalidOption(f"{self.name}: {error}") from error


@contextlib.contextmanager
def open_layer(path: Path, layer: str | None = None) -> Iterator[LayerBatches]:
    """Open a layer of a vector file.

    GeoPackage, FlatGeobuf, Shapefile, geodatabase and GeoParquet are read as they are asked for; GeoJSON,
    KML and CSV at once.

    Parameters
    ----------
    path : Path
        Of one of `geoseg.vectorfiles.formats.FORMATS`.
    layer : str, optional
        Default: the only one.

    Raises
    ------
    InvalidOption
        If it cannot be read, is not plain data (see `check_vector_file`), or has no such layer.
    """
    name = str(path)
    kind = check_vector_file(path, name)
    with contextlib.ExitStack() as stack:
        if not kind.drivers and kind is not GEOPARQUET:
            found = _open_text(path, layer)
        else:
            with _translated(name, kind):
                found = (_open_ogr if kind.drivers else _open_parquet)(path, kind, layer, stack)
        yield found


def _open_parquet(
    path: Path, kind: VectorFormat, layer: str | None, stack: contextlib.ExitStack
) -> LayerBatches:
    from pyarrow.parquet import ParquetFile

    _check_layer([""], kind, str(path), layer, "--layer")
    file = stack.enter_context(ParquetFile(path))
    column, encoding, crs = parquet_geometry(file)
    if encoding != "wkb":
        raise InvalidOption(f"{path}: keeps geometries as {encoding}; write it again with WKB")
    schema = file.schema_arrow.remove_metadata()
    batches = (batch.replace_schema_metadata(None) for batch in file.iter_batches(ROWS))
    return LayerBatches(
        crs_of(crs, path, str(path)), column, schema, batches, file.metadata.num_rows, str(path)
    )


def _open_ogr(path: Path, kind: VectorFormat, layer: str | None, stack: contextlib.ExitStack) -> LayerBatches:
    import pyogrio

    layers = ogr_layers(path)
    _check_layer(layers, kind, str(path), layer, "--layer")
    if layer is None and len(layers) > 1:
        raise InvalidOption(f"{path}: has several layers ({', '.join(layers)}); choose one: --layer NAME")
    source = Verbatim(path.absolute())
    info = pyogrio.read_info(source, layer=layer or layers[0])
    if info["driver"] not in kind.drivers:
        raise InvalidOption(f"{path}: GDAL takes it for {info['driver']}")
    opened = pyogrio.open_arrow(source, layer=layer or layers[0], batch_size=ROWS, use_pyarrow=True)
    meta, reader = stack.enter_context(opened)
    column = meta["geometry_name"] or "wkb_geometry"
    crs = crs_of(meta["crs"], path, str(path))
    return LayerBatches(crs, column, reader.schema, iter(reader), info["features"], str(path))


class _Every:
    """Holds every name."""

    def __contains__(self, _name: object) -> bool:
        return True


def _open_text(path: Path, layer: str | None) -> LayerBatches:
    import pyarrow

    found = read_layer(path, str(path), layer=layer, columns=_Every())
    columns: dict[str, Any] = {name: _plain(values) for name, values in found.columns.items()}
    free = next(name for name in ("geometry", "wkb_geometry", "the_geometry") if name not in columns)
    columns[free] = pyarrow.array(shapely.to_wkb(found.geometries), pyarrow.binary())
    table = pyarrow.table(columns)
    batches = iter(table.to_batches(ROWS))
    return LayerBatches(
        crs_of(found.crs, path, str(path)), free, table.schema, batches, len(table), str(path)
    )


def _plain(values: Any) -> pyarrow.Array:
    """Return values of an attribute; what has no type in common, or none, is text."""
    import pyarrow

    try:
        found = pyarrow.array(values.tolist(), from_pandas=True)
        return found.cast(pyarrow.string()) if pyarrow.types.is_null(found.type) else found
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        return pyarrow.array([None if value is None else str(value) for value in values.tolist()])
