"""Batches of features through GDAL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import silenced

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


def create(path: Path, driver: str, empty: GeoDataFrame, layer: str, **options: Any) -> None:
    """Create a layer of polygons without features."""
    _write(empty, path, driver=driver, layer=layer, **options)


def append(path: Path, driver: str, features: GeoDataFrame, layer: str) -> None:
    """Add features to a layer."""
    _write(features, path, driver=driver, layer=layer, append=True)


def _write(features: GeoDataFrame, path: Path, **options: Any) -> None:
    import pyogrio

    # The whole file is synced once, before it gets its name; until then it is nobody's.
    pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": "OFF"})
    # A layer in pixel coordinates has no CRS, which is said elsewhere.
    with silenced(UserWarning, "'crs' was not provided"):
        pyogrio.write_dataframe(features, path, geometry_type="Polygon", use_arrow=True, **options)
