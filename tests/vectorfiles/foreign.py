"""Polygons in formats that other programs write: one polygon, its class in an attribute."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import pyarrow
import pyarrow.parquet
import pyogrio
import pyproj
import shapely


def ogr(driver: str, **options: Any) -> Callable[[Path, Any, str], None]:
    def write(path: Path, polygon: Any, crs: str) -> None:
        frame = geopandas.GeoDataFrame({"kind": ["house"]}, geometry=[polygon], crs=crs)
        pyogrio.write_dataframe(frame, path, driver=driver, **options)

    return write


def ewkt(separator: str = ",") -> Callable[[Path, Any, str], None]:
    def write(path: Path, polygon: Any, crs: str) -> None:
        code = pyproj.CRS(crs).to_epsg()
        path.write_text(f'kind{separator}geom\nhouse{separator}"SRID={code};{polygon.wkt}"\n', "utf-8")

    return write


def csv_with_prj(path: Path, polygon: Any, crs: str) -> None:
    ogr("CSV", layer_options={"GEOMETRY": "AS_WKT"})(path, polygon, crs)
    path.with_suffix(".prj").write_text(pyproj.CRS(crs).to_wkt("WKT1_ESRI"))


def kml(path: Path, polygon: Any, crs: str) -> None:
    """As Google Earth writes it: no schema, data by name."""
    place = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform
    degrees = shapely.transform(polygon, place, interleaved=False)
    corners = " ".join(f"{x!r},{y!r},0" for x, y in shapely.get_coordinates(degrees).tolist())
    ring = f"<LinearRing><coordinates>{corners}</coordinates></LinearRing>"
    path.write_text(
        '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark>'
        '<name>a</name><ExtendedData><Data name="kind"><value>house</value></Data></ExtendedData>'
        f"<Polygon><outerBoundaryIs>{ring}</outerBoundaryIs></Polygon></Placemark></Document></kml>"
    )


def parquet(path: Path, polygon: Any, crs: str, **options: Any) -> None:
    frame = geopandas.GeoDataFrame({"kind": ["house"]}, geometry=[polygon], crs=crs)
    frame.to_parquet(path, **options)


def parquet_footer(path: Path, polygon: Any, crs: str) -> None:
    """As DuckDB writes it: the key ``geo`` in the footer alone, no schema of Arrow's, a box beside."""
    geo = {"encoding": "WKB", "geometry_types": [], "crs": pyproj.CRS(crs).to_json_dict()}
    geo["covering"] = {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}}
    west, south, east, north = polygon.bounds
    box = {"xmin": west, "ymin": south, "xmax": east, "ymax": north}
    columns = {"kind": ["house"], "place": [polygon.wkb], "bbox": [box]}
    table = pyarrow.table(columns)
    whole = {"version": "1.1.0", "primary_column": "place", "columns": {"place": geo}}
    with pyarrow.parquet.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"geo": json.dumps(whole)})


WRITERS: dict[str, Callable[[Path, Any, str], None]] = {
    "package.gpkg": ogr("GPKG"),
    "spatial.sqlite": ogr("SQLite", SPATIALITE="YES"),
    "plain.sqlite": ogr("SQLite"),
    "flat.fgb": ogr("FlatGeobuf"),
    "shape.shp": ogr("ESRI Shapefile"),
    "base.gdb": ogr("OpenFileGDB"),
    "old.geojson": ogr("GeoJSON"),
    "new.json": ogr("GeoJSON", RFC7946="YES"),
    "lines.geojsonl": ogr("GeoJSONSeq"),
    "marks.geojsons": ogr("GeoJSONSeq", RS="YES"),
    "gdal.kml": ogr("LIBKML"),
    "earth.kml": kml,
    "geopandas.parquet": parquet,
    "arrow.geoparquet": partial(parquet, geometry_encoding="geoarrow"),
    "box.parquet": partial(parquet, write_covering_bbox=True, schema_version="1.1.0"),
    "duck.parquet": parquet_footer,
    "sidecar.csv": csv_with_prj,
    "ewkt.csv": ewkt(),
    "semicolon.csv": ewkt(";"),
    "tabs.tsv": ewkt("\t"),
}
"""How a file of this name is written: one polygon, whose column ``kind`` says ``house``."""
