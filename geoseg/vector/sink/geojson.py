"""GeoJSON as RFC 7946 wants it, and GeoJSON text sequences by lines."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import UnwritableOutput
from geoseg.files import replacing
from geoseg.vector.reproject import WGS84
from geoseg.vector.shape import COLUMNS, repaired
from geoseg.vector.sink.target import Target

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

DECIMALS = 9
"""A tenth of a millimetre: rounding moves no vertex that one could tell apart."""


@contextlib.contextmanager
def write_geojson(target: Target) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a feature collection, a feature a line."""
    _check_crs(target)
    with replacing(target.path, overwrite=target.overwrite) as path, path.open("w", encoding="utf-8") as file:
        name = json.dumps(target.schema.name, ensure_ascii=False)
        file.write(f'{{"type": "FeatureCollection", "name": {name}, "features": [')
        separator = "\n"

        def append(features: GeoDataFrame) -> None:
            nonlocal separator
            for line in _lines(features):
                file.write(separator + line)
                separator = ",\n"

        yield append
        metadata = json.dumps(dict(target.metadata), ensure_ascii=False)
        file.write(f'\n], "metadata": {metadata}}}\n')


@contextlib.contextmanager
def write_geojson_lines(target: Target) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a feature a line, without a collection round them."""
    _check_crs(target)
    with replacing(target.path, overwrite=target.overwrite) as path, path.open("w", encoding="utf-8") as file:

        def append(features: GeoDataFrame) -> None:
            file.writelines(line + "\n" for line in _lines(features))

        yield append


def _check_crs(target: Target) -> None:
    if target.schema.crs is None:
        raise UnwritableOutput(
            f"{target.path}: RFC 7946 wants longitudes and latitudes, and the scene has no CRS; write .gpkg"
        )
    if target.schema.crs != WGS84:
        raise ValueError(f"{target.path}: features for GeoJSON come in {WGS84}")


def _lines(features: GeoDataFrame) -> Iterator[str]:
    """Return each feature as one line of JSON."""
    columns = [features[name].tolist() for name in COLUMNS]
    geometries = shapely.to_geojson(cut_and_rounded(features.geometry.to_numpy(copy=True)))
    for geometry, *values in zip(geometries, *columns, strict=True):
        properties = json.dumps(
            {name: _plain(value) for name, value in zip(COLUMNS, values, strict=True)}, ensure_ascii=False
        )
        yield f'{{"type": "Feature", "id": {values[0]}, "properties": {properties}, "geometry": {geometry}}}'


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def cut_and_rounded(placed: NDArray[np.object_]) -> NDArray[np.object_]:
    """Cut polygons in longitude and latitude at the antimeridian; round coordinates."""
    bounds = shapely.bounds(placed)
    beyond = np.flatnonzero((bounds[:, 0] < -180) | (bounds[:, 2] > 180))
    placed[beyond] = [_cut(polygon) for polygon in placed[beyond]]
    return repaired(shapely.transform(placed, lambda points: points.round(DECIMALS)))


def _cut(polygon: shapely.Polygon) -> shapely.Geometry:
    """Cut a polygon at the antimeridian and bring both parts into -180 … 180 degrees."""
    parts: list[shapely.Polygon] = []
    for turn in (-360.0, 0.0, 360.0):
        world = shapely.box(turn - 180, -90, turn + 180, 90)
        inside = shapely.get_parts(shapely.intersection(polygon, world))
        areas = inside[shapely.get_type_id(inside) == shapely.GeometryType.POLYGON]
        parts.extend(shapely.transform(areas, partial(np.add, np.array([-turn, 0.0]))))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
