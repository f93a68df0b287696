"""Shapefile: five files that appear together, the ``.shp`` last; names have ten characters."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.files import replacing
from geoseg.vector.shape import no_features
from geoseg.vector.sink.ogr import append, create
from geoseg.vector.sink.target import Target

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

DRIVER = "ESRI Shapefile"
NAMES = {"perimeter_m": "perim_m", "touches_edge": "at_edge", "touches_nodata": "at_nodata"}
"""Columns whose names are longer than the ten characters of dBase."""
STALE = (".prj", ".qix", ".sbn", ".sbx", ".qmd")
"""Files beside an older Shapefile that would not fit the new one."""


@contextlib.contextmanager
def write_shapefile(target: Target) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a Shapefile with UTF-8 attributes."""
    suffixes = [".shp", ".shx", ".dbf", ".cpg", *([] if target.schema.crs is None else [".prj"])]
    with ExitStack() as stack:
        # Left in reverse: the .shp appears last, when the files that it needs are there.
        places = {
            suffix: stack.enter_context(replacing(_beside(target, suffix), overwrite=target.overwrite))
            for suffix in suffixes
        }
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=target.path.parent, prefix=".geoseg-"))
        path = Path(folder) / "features.shp"
        create(path, DRIVER, no_features(target.schema).rename(columns=NAMES), "features", encoding="UTF-8")
        yield lambda features: append(path, DRIVER, features.rename(columns=NAMES), "features")
        for suffix, place in places.items():
            path.with_suffix(suffix).rename(place)
        for suffix in STALE:
            if suffix not in suffixes:
                _beside(target, suffix).unlink(missing_ok=True)


def _beside(target: Target, suffix: str) -> Path:
    return target.path if suffix == ".shp" else target.path.with_suffix(suffix)
