"""What is written without GDAL: GeoJSON as RFC 7946 wants it, and by lines; GeoParquet 1.1."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from geoseg.errors import UnwritableOutput
from geoseg.files import replacing
from geoseg.values import LayerSchema
from geoseg.vector.features import COLUMNS, INSTANCE
from geoseg.vector.place import cut_and_rounded
from geoseg.vector.reproject import WGS84

if TYPE_CHECKING:
    import pyarrow
    from geopandas import GeoDataFrame


@contextlib.contextmanager
def write_geojson(
    place: Path, schema: LayerSchema, metadata: Mapping[str, str], *, overwrite: bool
) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a feature collection, a feature a line."""
    _check_crs(place, schema)
    with replacing(place, overwrite=overwrite) as path, path.open("w", encoding="utf-8") as file:
        name = json.dumps(schema.name, ensure_ascii=False)
        file.write(f'{{"type": "FeatureCollection", "name": {name}, "features": [')
        separator = "\n"

        def append(features: GeoDataFrame) -> None:
            nonlocal separator
            for line in _lines(features):
                file.write(separator + line)
                separator = ",\n"

        yield append
        facts = json.dumps(dict(metadata), ensure_ascii=False)
        file.write(f'\n], "metadata": {facts}}}\n')


@contextlib.contextmanager
def write_geojson_lines(
    place: Path, schema: LayerSchema, metadata: Mapping[str, str], *, overwrite: bool
) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a feature a line, without a collection round them."""
    _check_crs(place, schema)
    with replacing(place, overwrite=overwrite) as path, path.open("w", encoding="utf-8") as file:

        def append(features: GeoDataFrame) -> None:
            file.writelines(line + "\n" for line in _lines(features))

        yield append


def _check_crs(place: Path, schema: LayerSchema) -> None:
    if schema.crs is None:
        raise UnwritableOutput(
            f"{place}: RFC 7946 wants longitudes and latitudes, and the scene has no CRS; write .gpkg"
        )
    if schema.crs != WGS84:
        raise ValueError(f"{place}: features for GeoJSON come in {WGS84}")


def _lines(features: GeoDataFrame) -> Iterator[str]:
    """Return each feature as one line of JSON."""
    names = [name for name in (*COLUMNS, INSTANCE) if name in features]
    columns = [features[name].tolist() for name in names]
    geometries = shapely.to_geojson(cut_and_rounded(features.geometry.to_numpy(copy=True)))
    for geometry, *values in zip(geometries, *columns, strict=True):
        properties = json.dumps(
            {name: _plain(value) for name, value in zip(names, values, strict=True)}, ensure_ascii=False
        )
        yield f'{{"type": "Feature", "id": {values[0]}, "properties": {properties}, "geometry": {geometry}}}'


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


_TYPES = {"int64": "int64", "int32": "int32", "float64": "double", "bool": "bool", "str": "string"}


@contextlib.contextmanager
def write_geoparquet(
    place: Path, schema: LayerSchema, metadata: Mapping[str, str], *, overwrite: bool
) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a GeoParquet file, a row group per batch."""
    from pyarrow import parquet

    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
    columns = arrow_schema(numbered=schema.numbered)

    def append(features: GeoDataFrame) -> None:
        writer.write_table(_table(features, columns))
        batch = shapely.total_bounds(features.geometry.to_numpy())
        np.minimum(bounds[:2], batch[:2], out=bounds[:2])
        np.maximum(bounds[2:], batch[2:], out=bounds[2:])

    with (
        replacing(place, overwrite=overwrite) as path,
        # Absolute, as pyarrow takes a leading ~ for the home and a colon for the end of a scheme.
        parquet.ParquetWriter(path.absolute(), columns, compression="zstd") as writer,
    ):
        yield append
        geo = geo_metadata(schema.crs, bounds.tolist() if np.isfinite(bounds).all() else None)
        writer.add_key_value_metadata({**metadata, "geo": json.dumps(geo)})


def arrow_schema(*, numbered: bool = False) -> pyarrow.Schema:
    """Return the columns of a layer of features, see `LayerSchema`: its attributes and WKB."""
    import pyarrow

    fields = [(name, pyarrow.type_for_alias(_TYPES[dtype])) for name, dtype in COLUMNS.items()]
    fields += [(INSTANCE, pyarrow.int64())] * numbered
    return pyarrow.schema([*fields, ("geometry", pyarrow.binary())])


def _table(features: GeoDataFrame, schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow

    columns = [
        pyarrow.array(features[field.name].to_numpy(), field.type, from_pandas=True)
        for field in list(schema)[:-1]
    ]
    geometry = pyarrow.array(shapely.to_wkb(features.geometry.to_numpy()), pyarrow.binary())
    return pyarrow.Table.from_arrays([*columns, geometry], schema=schema)


def geo_metadata(crs: str | None, bounds: list[float] | None) -> dict[str, Any]:
    """Return the ``geo`` entry; a missing CRS is ``null``, not the default of longitude and latitude."""
    from pyproj import CRS

    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if crs is None else CRS.from_user_input(crs).to_json_dict(),
        "orientation": "counterclockwise",
        "edges": "planar",
    }
    if bounds is not None:
        column["bbox"] = bounds
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
