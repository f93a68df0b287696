"""GeoJSON as RFC 7946 wants it, and GeoJSON text sequences by lines."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely

from geoseg.errors import UnwritableOutput
from geoseg.files import replacing
from geoseg.values import LayerSchema
from geoseg.vector.features import COLUMNS, INSTANCE
from geoseg.vector.place import cut_and_rounded
from geoseg.vector.reproject import WGS84

if TYPE_CHECKING:
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
