"""Layers of polygons on the map: read by box from an indexed file, as vector tiles and as GeoJSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.serve.mercator import (
    HALF,
    MOST_ZOOM,
    SIDE,
    MapTile,
    Place,
    bounds_in_degrees,
    lattice,
    to_degrees,
)
from geoseg.values import GeoBox
from geoseg.vector.sink.ogr import EXTENT
from geoseg.vector.sink.stream import write_layer
from geoseg.vectorfiles.binary import Verbatim, ogr_layers
from geoseg.vectorfiles.formats import FLATGEOBUF, GEOPACKAGE, check_vector_file
from geoseg.vectorfiles.layers import open_layer

MOST_FEATURES = 5000
"""Features of one answer; of a tile that has more, only the first are shown."""

A_TILE = 1000
"""Features of a tile at the coarsest zoom, if they were spread evenly."""

BUFFER = 64
"""Steps of a tile's extent that are drawn beyond its sides, so that outlines do not run along them."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of polygons that is served."""

    name: str
    """In addresses."""
    source: Path
    """What is downloaded."""
    path: Path
    """What is read: a GeoPackage or FlatGeobuf, which have an index."""
    layer: str
    """In that file."""

    @cached_property
    def _facts(self) -> dict[str, Any]:
        found = pyogrio.read_info(Verbatim(self.path), layer=self.layer, force_total_bounds=True)
        if found["crs"] is None:
            raise InvalidOption(f"{self.source}: has no CRS, and a map needs one: ogr2ogr -a_srs EPSG:CODE …")
        return dict(found)

    @cached_property
    def _place(self) -> Place:
        west, south, east, north = self._facts["total_bounds"]
        width, height = max(east - west, 1e-9) / SIDE, max(north - south, 1e-9) / SIDE
        box = GeoBox(SIDE, SIDE, (width, 0.0, west, 0.0, -height, north), self._facts["crs"])
        return Place(box, str(self.source))

    @property
    def features(self) -> int:
        """How many there are."""
        return int(self._facts["features"])

    @property
    def fields(self) -> list[str]:
        """The attributes."""
        return [str(name) for name in self._facts["fields"]]

    @cached_property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north in Web Mercator; None where nothing has a geometry."""
        box = self._facts["total_bounds"]
        if not self.features or box is None or not np.isfinite(box).all():
            return None
        return self._place.bounds

    @cached_property
    def zoom(self) -> int:
        """The coarsest zoom that is served, so that a tile holds a bounded number of features."""
        if self.bounds is None or self.features <= A_TILE:
            return 0
        west, south, east, north = self.bounds
        side = math.sqrt(max((east - west) * (north - south), 1.0) * A_TILE / self.features)
        return min(MOST_ZOOM, max(0, math.ceil(math.log2(2 * HALF / side))))

    def facts(self, base: str) -> dict[str, Any]:
        """Return what the page shows of it, ready for JSON; addresses begin with `base`."""
        return {
            "name": self.name,
            "features": self.features,
            "bounds": self.bounds and bounds_in_degrees(self.bounds),
            "tiles": f"{base}features/{self.name}.json",
            "download": f"{base}features/{self.name}/download",
        }

    def read(self, bounds: tuple[float, ...]) -> tuple[NDArray[np.object_], dict[str, NDArray[Any]], bool]:
        """Return polygons that meet a box, all in Web Mercator, their attributes, and whether that is all."""
        west, south, east, north = bounds
        places = self._place.unproject(lattice(west, south, east, north)) if self.bounds else np.empty((0, 2))
        places = places[np.isfinite(places).all(axis=1)]
        if not len(places):
            return np.empty(0, object), {}, True
        box = (*places.min(axis=0).tolist(), *places.max(axis=0).tolist())
        beyond = np.array([self._place.metres_beyond(west, east), 0.0])
        meta, _, wkb, columns = pyogrio.raw.read(
            Verbatim(self.path), layer=self.layer, bbox=box, max_features=MOST_FEATURES + 1, force_2d=True
        )
        found = shapely.from_wkb(wkb)
        whole, known = len(found) <= MOST_FEATURES, ~(shapely.is_missing(found) | shapely.is_empty(found))
        found = found[known]
        placed = shapely.transform(found, lambda points: self._place.project(points) - beyond)
        names = [str(name) for name in meta["fields"]]
        return placed, {name: one[known] for name, one in zip(names, columns, strict=True)}, whole

    def tile(self, tile: MapTile) -> bytes:
        """Return a vector tile; features of no size there are left out."""
        import mapbox_vector_tile

        if tile.z < self.zoom:
            return b""
        west, south, east, north = tile.bounds
        step = (east - west) / EXTENT
        border = BUFFER * step
        box = (west - border, south - border, east + border, north + border)
        polygons, columns, _ = self.read(box)
        shown = np.flatnonzero(shapely.area(polygons) >= step**2)[:MOST_FEATURES]
        parts = shapely.clip_by_rect(shapely.simplify(polygons[shown], step), *box)
        parts = shapely.transform(parts, lambda points: (points - (west, south)) / step)
        features = [
            {"geometry": part, "properties": _properties(columns, int(row))}
            for row, part in zip(shown, parts, strict=True)
            if not part.is_empty
        ]
        encoded: bytes = mapbox_vector_tile.encode(
            [{"name": self.name, "features": features}],
            default_options={"extents": EXTENT},
        )
        return encoded

    def geojson(self, bounds: tuple[float, ...]) -> bytes:
        """Return what meets a box of Web Mercator, in longitudes and latitudes (RFC 7946).

        Raises
        ------
        InvalidOption
            If that is more than `MOST_FEATURES`.
        """
        polygons, columns, whole = self.read(bounds)
        if not whole:
            raise InvalidOption(
                f"bbox: holds more than {MOST_FEATURES} features of {self.name}; ask for less"
            )
        degrees = shapely.transform(polygons, to_degrees)
        features = [
            {
                "type": "Feature",
                "geometry": json.loads(geometry),
                "properties": _properties(columns, row),
            }
            for row, geometry in enumerate(shapely.to_geojson(degrees))
        ]
        return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def layers_of(path: Path) -> list[str | None]:
    """Return the layers of a GeoPackage; ``[None]`` for the only one of any other file.

    Raises
    ------
    GeosegError
        If it cannot be read.
    """
    if check_vector_file(path, str(path)) is GEOPACKAGE:
        return [*ogr_layers(path)] or [None]
    return [None]


def open_served(path: Path, name: str, scratch: Path, layer: str | None = None) -> Layer:
    """Open a layer to be served; one without an index is copied into a GeoPackage in the folder `scratch`.

    Raises
    ------
    InvalidOption
        If it cannot be read, has several layers, or no place on a web map.
    """
    kind = check_vector_file(path, str(path))
    with open_layer(path, layer) as opened:  # tells what is wrong with it
        if kind in (GEOPACKAGE, FLATGEOBUF):
            served = Layer(name, path, path.absolute(), layer or ogr_layers(path)[0])
        else:
            copy = scratch / f"{name}.gpkg"
            write_layer(
                copy,
                opened.schema,
                opened.batches,
                geometry=opened.geometry,
                crs=opened.crs,
                kind="Unknown",
                overwrite=True,
            )
            served = Layer(name, path, copy, name)
    _ = served.bounds
    return served


def _properties(columns: dict[str, NDArray[Any]], row: int) -> dict[str, Any]:
    """Return attributes as JSON and vector tiles have them."""
    found = {name: _plain(values[row]) for name, values in columns.items()}
    return {name: value for name, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    return plain if isinstance(plain, bool | int | float | str | None) else str(plain)
