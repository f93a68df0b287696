"""PMTiles: vector tiles in one file, for web maps."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import UnwritableOutput
from geoseg.files import replacing
from geoseg.values import LayerSchema
from geoseg.vector.sink.ogr import BATCH, begin_geopackage

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

EQUATOR = 40_075_016.7
"""Metres around the Earth in Web Mercator."""

EXTENT = 4096
"""Steps along a side of a tile."""

LEVELS = 6
"""Zoom levels that are written."""


def zoom_levels(resolution_m: float | None) -> tuple[int, int]:
    """Return the smallest and the largest zoom: there a step of a tile is at most half a pixel.

    >>> zoom_levels(0.3)
    (11, 16)
    """
    step = (resolution_m or 1.0) / 2
    largest = min(22, max(0, math.ceil(math.log2(EQUATOR / EXTENT / step))))
    return max(0, largest - LEVELS + 1), largest


@contextlib.contextmanager
def write_pmtiles(
    place: Path, schema: LayerSchema, metadata: Mapping[str, str], *, overwrite: bool
) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write vector tiles; features wait in a GeoPackage, as tiles of all zooms are made of them."""
    import pyogrio

    if schema.crs is None:
        raise UnwritableOutput(f"{place}: tiles lie on the Earth, and the scene has no CRS; write .gpkg")
    with (
        tempfile.TemporaryDirectory(dir=place.parent, prefix=".geoseg-") as folder,
        replacing(place, overwrite=overwrite) as path,
    ):
        waiting, complete = Path(folder) / "features.gpkg", Path(folder) / "features.pmtiles"
        yield begin_geopackage(waiting, schema)
        smallest, largest = zoom_levels(schema.resolution_m)
        with pyogrio.open_arrow(waiting, layer=schema.name, batch_size=BATCH) as (_, stream):
            pyogrio.write_arrow(
                stream,
                complete,
                driver="PMTiles",
                layer=schema.name,
                geometry_name="geom",
                geometry_type="Polygon",
                crs=schema.crs,
                dataset_options={"MINZOOM": str(smallest), "MAXZOOM": str(largest), "NAME": schema.name},
            )
        complete.rename(path)
