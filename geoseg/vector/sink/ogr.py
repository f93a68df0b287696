"""What GDAL writes: GeoPackage, FlatGeobuf, Shapefile and PMTiles, in batches.

A GeoPackage has a spatial index, layer metadata, and a style that QGIS applies by itself. The index of
a FlatGeobuf file, and tiles of all zooms, want all features at once, so they wait in a GeoPackage. A
Shapefile is five files that appear together; names have ten characters.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

from geoseg.errors import UnwritableOutput, silenced
from geoseg.files import check_writable, replacing, scratch_beside, telling_full_disks
from geoseg.values import ClassInfo, LayerSchema
from geoseg.vector.features import no_features

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


UNDEFINED_CARTESIAN = -1
"""The GeoPackage spec's ``srs_id`` of coordinates in no known CRS."""
NAMES = {
    "perimeter_m": "perim_m",
    "regularized": "regular",
    "deviation_m": "deviat_m",
    "touches_edge": "at_edge",
    "touches_nodata": "at_nodata",
}
"""Columns whose names are longer than the ten characters of a Shapefile's dBase."""
STALE = (".prj", ".qix", ".sbn", ".sbx", ".qmd")
"""Files beside an older Shapefile that would not fit the new one."""
BESIDE = (".shx", ".dbf", ".cpg", *STALE)
"""Files beside a Shapefile that are replaced or removed with it."""
BATCH = 10_000
"""Features that are copied from a waiting GeoPackage at a time."""

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
_TIMES = {
    "gpkg_contents": "last_change",
    "gpkg_metadata_reference": "timestamp",
    "layer_styles": "update_time",
}
"""Tables of a GeoPackage with a column that says when it was written."""
_NO_TIME = "1970-01-01T00:00:00.000Z"


@contextlib.contextmanager
def write_geopackage(
    place: Path, schema: LayerSchema, metadata: Mapping[str, str], *, overwrite: bool
) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a GeoPackage with one layer of polygons."""
    with replacing(place, overwrite=overwrite) as path:
        yield begin_geopackage(path, schema)
        with closing(sqlite3.connect(path)) as database, database:
            add_style(database, schema.name, layer_style(schema.classes))
            database.execute(_METADATA, (_metadata_document(metadata),))
            remove_times(database)


@contextlib.contextmanager
def write_flatgeobuf(
    place: Path, schema: LayerSchema, metadata: Mapping[str, str], *, overwrite: bool
) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a FlatGeobuf file with a spatial index."""
    import pyogrio

    with scratch_beside(place) as folder, replacing(place, overwrite=overwrite) as path:
        # GDAL puts a scratch file beside what it writes: keep that in the folder too.
        waiting, complete = folder / "features.gpkg", folder / "features.fgb"
        yield begin_geopackage(waiting, schema)
        with (
            silenced(UserWarning, "'crs' was not provided"),
            pyogrio.open_arrow(waiting.absolute(), layer=schema.name, batch_size=BATCH) as (_, stream),
        ):
            pyogrio.write_arrow(
                stream,
                complete.absolute(),
                driver="FlatGeobuf",
                layer=schema.name,
                geometry_name="geom",
                geometry_type="Polygon",
                crs=schema.crs,
                layer_options={"DESCRIPTION": json.dumps(dict(metadata), ensure_ascii=False)},
            )
        complete.rename(path)


@contextlib.contextmanager
def write_shapefile(
    place: Path, schema: LayerSchema, metadata: Mapping[str, str], *, overwrite: bool
) -> Iterator[Callable[[GeoDataFrame], None]]:
    """Write a Shapefile with UTF-8 attributes; it has no place for metadata."""
    suffixes = [".shx", ".dbf", ".cpg", *([] if schema.crs is None else [".prj"])]
    places = {".shp": place, **{suffix: place.with_suffix(suffix) for suffix in suffixes}}
    stale = [place.with_suffix(suffix) for suffix in STALE if suffix not in places]
    for file in stale:
        check_writable(file, overwrite=overwrite)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_beside(place))
        # Left in reverse: the .shp appears last, when the files that it needs are there.
        hidden = {
            suffix: stack.enter_context(replacing(file, overwrite=overwrite))
            for suffix, file in places.items()
        }
        stack.enter_context(telling_full_disks(place))  # of the file that was asked for
        path = folder / "features.shp"

        def append(features: GeoDataFrame, **options: Any) -> None:
            _write(features.rename(columns=NAMES), path, "ESRI Shapefile", "features", **options)

        append(no_features(schema), encoding="UTF-8")
        yield lambda features: append(features, append=True)
        for suffix, file in hidden.items():
            path.with_suffix(suffix).rename(file)
        for file in stale:
            file.unlink(missing_ok=True)


def add_style(database: sqlite3.Connection, layer: str, style: str) -> None:
    """Add a style to a GeoPackage, which QGIS applies by itself."""
    database.execute(_STYLES)
    database.execute(_CONTENTS, ("layer_styles", "layer_styles"))
    database.execute(_STYLE, (layer, style, "written by geoseg"))


def remove_times(database: sqlite3.Connection) -> None:
    """Let a GeoPackage not say when it was written: the same features give the same bytes."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in _TIMES.keys() & tables:
        database.execute(f"UPDATE {table} SET {_TIMES[table]} = ?", (_NO_TIME,))


def begin_geopackage(path: Path, schema: LayerSchema) -> Callable[[GeoDataFrame], None]:
    """Create an empty layer and return what appends to it."""
    _write(
        no_features(schema),
        path,
        "GPKG",
        schema.name,
        dataset_options={"VERSION": "1.3"},  # older QGIS warns about anything later
        layer_options={"DESCRIPTION": ", ".join([info.name for info in schema.classes])},
        layer_metadata={"software": "geoseg"},  # makes GDAL create the tables that are filled at the end
    )
    if schema.crs is None:  # GDAL has made one up
        with closing(sqlite3.connect(path)) as database, database:
            for table in ("gpkg_contents", "gpkg_geometry_columns"):
                database.execute(f"UPDATE {table} SET srs_id = ?", (UNDEFINED_CARTESIAN,))
    return partial(_write, path=path, driver="GPKG", layer=schema.name, append=True)


def _write(features: GeoDataFrame, path: Path, driver: str, layer: str, **options: Any) -> None:
    import pyogrio

    # Paths are absolute, as pyogrio takes one that begins with http: for a URL.
    # The whole file is synced once, before it gets its name; until then it is nobody's.
    pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": "OFF"})
    # A layer in pixel coordinates has no CRS, which is said elsewhere.
    with silenced(UserWarning, "'crs' was not provided"):
        pyogrio.write_dataframe(
            features,
            path.absolute(),
            driver=driver,
            layer=layer,
            geometry_type="Polygon",
            use_arrow=True,
            **options,
        )


def _metadata_document(metadata: Mapping[str, str]) -> str:
    """Return metadata in the form that GDAL reads (``ogrinfo`` prints it)."""
    items = {"software": "geoseg", **metadata}
    lines = [f"    <MDI key={quoteattr(key)}>{escape(str(value))}</MDI>" for key, value in items.items()]
    body = "\n".join(lines)
    return f"<GDALMultiDomainMetadata>\n  <Metadata>\n{body}\n  </Metadata>\n</GDALMultiDomainMetadata>\n"


FILL_OPACITY = 90
"""Of 255: the imagery stays visible under the polygons."""


def layer_style(classes: Sequence[ClassInfo], attribute: str = "class_name") -> str:
    """Return a QML document: a single symbol for one class, else categories by an attribute.

    Parameters
    ----------
    classes : sequence of ClassInfo
    attribute : str
        Holds the names of the classes.
    """
    document = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
    if len(classes) == 1:
        renderer = ET.SubElement(document, "renderer-v2", type="singleSymbol", enableorderby="0")
    else:
        renderer = ET.SubElement(
            document, "renderer-v2", type="categorizedSymbol", attr=attribute, enableorderby="0"
        )
        categories = ET.SubElement(renderer, "categories")
        for number, info in enumerate(classes):
            ET.SubElement(
                categories,
                "category",
                type="string",
                value=info.name,
                label=info.name,
                symbol=str(number),
                render="true",
            )
    symbols = ET.SubElement(renderer, "symbols")
    for number, info in enumerate(classes):
        _add_symbol(symbols, str(number), info.color)
    ET.SubElement(document, "layerGeometryType").text = "2"
    ET.indent(document)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(
        document, encoding="unicode"
    )


def _add_symbol(symbols: ET.Element, name: str, color: tuple[int, int, int]) -> None:
    symbol = ET.SubElement(symbols, "symbol", name=name, type="fill", alpha="1", clip_to_extent="1")
    layer = ET.SubElement(
        symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"}
    )
    options = ET.SubElement(layer, "Option", type="Map")
    red, green, blue = color
    values = {
        "color": f"{red},{green},{blue},{FILL_OPACITY}",
        "style": "solid",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": "0.4",
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
    for key, value in values.items():
        ET.SubElement(options, "Option", name=key, value=value, type="QString")


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
