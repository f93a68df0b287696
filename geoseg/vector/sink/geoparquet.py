"""GeoParquet 1.1: WKB in Parquet, the CRS as PROJJSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from geoseg.files import replacing
from geoseg.values import LayerSchema
from geoseg.vector.features import COLUMNS, INSTANCE

if TYPE_CHECKING:
    import pyarrow
    from geopandas import GeoDataFrame

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
