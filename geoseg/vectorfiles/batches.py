"""A layer of a vector file with all of its attributes, batch by batch, as Arrow's record batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely

from geoseg.errors import InvalidOption, silenced
from geoseg.vectorfiles.binary import Verbatim, ogr_layers, parquet_geometry
from geoseg.vectorfiles.crs import crs_of
from geoseg.vectorfiles.formats import GEOPARQUET, VectorFormat, check_vector_file
from geoseg.vectorfiles.layers import read_layer

if TYPE_CHECKING:
    import pyarrow
    import pyproj

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
        try:
            if kind.drivers or kind is GEOPARQUET:
                with silenced(Warning):
                    ogr = kind.drivers
                    found = _open_ogr(path, kind, layer, stack) if ogr else _open_parquet(path, stack)
            else:
                found = _open_text(path, layer)
        except InvalidOption:
            raise
        except Exception as error:  # pyogrio, pyarrow and shapely each raise their own
            reason = " ".join(str(error).split())
            raise InvalidOption(f"{name}: cannot be read as {kind.name} ({reason})") from error
        yield found


def _open_parquet(path: Path, stack: contextlib.ExitStack) -> LayerBatches:
    from pyarrow.parquet import ParquetFile

    file = stack.enter_context(ParquetFile(path))
    column, encoding, crs = parquet_geometry(file)
    if encoding != "wkb":
        raise InvalidOption(f"{path}: keeps geometries as {encoding}; write it again with WKB")
    schema = file.schema_arrow.remove_metadata()
    batches = (batch.replace_schema_metadata(None) for batch in file.iter_batches(ROWS))
    return LayerBatches(crs_of(crs, path, str(path)), column, schema, batches, file.metadata.num_rows)


def _open_ogr(path: Path, kind: VectorFormat, layer: str | None, stack: contextlib.ExitStack) -> LayerBatches:
    import pyogrio

    layers = ogr_layers(path)
    if layer is None and len(layers) > 1:
        raise InvalidOption(f"{path}: has several layers ({', '.join(layers)}); choose one: --layer NAME")
    if not layers or layer not in {None, *layers}:
        raise InvalidOption(
            f"{path}: has no layer {layer or 'of geometries'!r}; there is {', '.join(layers)}"
        )
    source = Verbatim(path.absolute())
    info = pyogrio.read_info(source, layer=layer or layers[0])
    if info["driver"] not in kind.drivers:
        raise InvalidOption(f"{path}: GDAL takes it for {info['driver']}")
    opened = pyogrio.open_arrow(source, layer=layer or layers[0], batch_size=ROWS, use_pyarrow=True)
    meta, reader = stack.enter_context(opened)
    column = meta["geometry_name"] or "wkb_geometry"
    crs = crs_of(meta["crs"], path, str(path))
    return LayerBatches(crs, column, reader.schema, iter(reader), info["features"])


def _open_text(path: Path, layer: str | None) -> LayerBatches:
    import pyarrow

    names = read_layer(path, str(path), layer=layer).available
    found = read_layer(path, str(path), layer=layer, columns=names)
    columns: dict[str, Any] = {name: _plain(found.columns[name]) for name in names if name in found.columns}
    free = next(name for name in ("geometry", "wkb_geometry", "the_geometry") if name not in columns)
    columns[free] = pyarrow.array(shapely.to_wkb(found.geometries), pyarrow.binary())
    table = pyarrow.table(columns)
    batches = iter(table.to_batches(ROWS))
    return LayerBatches(crs_of(found.crs, path, str(path)), free, table.schema, batches, len(table))


def _plain(values: Any) -> pyarrow.Array:
    """Return values of an attribute; what has no type in common, or none, is text."""
    import pyarrow

    try:
        found = pyarrow.array(values.tolist(), from_pandas=True)
        return found.cast(pyarrow.string()) if pyarrow.types.is_null(found.type) else found
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        return pyarrow.array([None if value is None else str(value) for value in values.tolist()])
