"""GeoPackage: spatial index, layer metadata, and a style that QGIS applies by itself."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from geoseg.files import replacing
from geoseg.values import LayerSchema
from geoseg.vector.shape import no_features
from geoseg.vector.sink.ogr import append, create
from geoseg.vector.sink.target import Target
from geoseg.vector.style import layer_style

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

DRIVER = "GPKG"
UNDEFINED_CARTESIAN = -1
"""The spec's ``srs_id`` of coordinates in no known CRS."""

# The table that QGIS itself makes to keep styles in a GeoPackage.
_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
    f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)"""
_CONTENTS = "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, 'attributes', ?)"
_STYLE = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column,
    styleName, styleQML, styleSLD, useAsDefault, description)
VALUES ('', '', ?, 'geom', 'default', ?, '', 1, ?)"""
_METADATA = "UPDATE gpkg_metadata SET metadata = ?"


@contextlib.contextmanager
def write_geopackage(target: Target) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a GeoPackage with one layer of polygons."""
    with replacing(target.path, overwrite=target.overwrite) as path:
        yield begin_geopackage(path, target.schema)
        _complete(path, target.schema, target.metadata)


def begin_geopackage(path: Path, schema: LayerSchema) -> Callable[[GeoDataFrame], None]:
    """Create an empty layer and return what appends to it."""
    classes = ", ".join(info.name for info in schema.classes)
    create(
        path,
        DRIVER,
        no_features(schema),
        schema.name,
        dataset_options={"VERSION": "1.3"},  # older QGIS warns about anything later
        layer_options={"DESCRIPTION": classes},
        layer_metadata={"software": "geoseg"},  # makes GDAL create the tables that `_complete` fills
    )
    if schema.crs is None:
        _set_reference(path, UNDEFINED_CARTESIAN)
    return partial(_append, path, schema.name)


def _append(path: Path, layer: str, features: GeoDataFrame) -> None:
    append(path, DRIVER, features, layer)


def _set_reference(path: Path, srs_id: int) -> None:
    """Give the layer a spatial reference of the spec's own instead of the one that GDAL makes up."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for table in ("gpkg_contents", "gpkg_geometry_columns"):
            database.execute(f"UPDATE {table} SET srs_id = ?", (srs_id,))


def _complete(path: Path, schema: LayerSchema, metadata: Mapping[str, str]) -> None:
    """Add the style and the metadata."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(_STYLES)
        database.execute(_CONTENTS, ("layer_styles", "layer_styles"))
        database.execute(_STYLE, (schema.name, layer_style(schema.classes), "written by geoseg"))
        database.execute(_METADATA, (_metadata_document(metadata),))


def _metadata_document(metadata: Mapping[str, str]) -> str:
    """Return metadata in the form that GDAL reads (``ogrinfo`` prints it)."""
    items = {"software": "geoseg", **metadata}
    lines = [f"    <MDI key={quoteattr(key)}>{escape(str(value))}</MDI>" for key, value in items.items()]
    body = "\n".join(lines)
    return f"<GDALMultiDomainMetadata>\n  <Metadata>\n{body}\n  </Metadata>\n</GDALMultiDomainMetadata>\n"
