"""FlatGeobuf: its spatial index wants all features at once, so they wait in a GeoPackage."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import silenced
from geoseg.files import replacing
from geoseg.vector.sink.geopackage import begin_geopackage
from geoseg.vector.sink.target import Target

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

BATCH = 10_000


@contextlib.contextmanager
def write_flatgeobuf(target: Target) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a FlatGeobuf file with a spatial index."""
    with (
        replacing(target.path, overwrite=target.overwrite) as path,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".geoseg-") as folder,
    ):
        waiting = Path(folder) / "features.gpkg"
        yield begin_geopackage(waiting, target.schema)
        # GDAL puts a scratch file beside what it writes: keep that in the folder too.
        complete = Path(folder) / "features.fgb"
        _convert(waiting, complete, target)
        complete.rename(path)


def _convert(source: Path, path: Path, target: Target) -> None:
    import pyogrio

    with (
        silenced(UserWarning, "'crs' was not provided"),
        pyogrio.open_arrow(source, layer=target.schema.name, batch_size=BATCH) as (_, stream),
    ):
        pyogrio.write_arrow(
            stream,
            path,
            driver="FlatGeobuf",
            layer=target.schema.name,
            geometry_name="geom",
            geometry_type="Polygon",
            crs=target.schema.crs,
            layer_options={"DESCRIPTION": json.dumps(dict(target.metadata), ensure_ascii=False)},
        )
