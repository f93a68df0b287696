"""GeoParquet by pyarrow, and what GDAL reads: GeoPackage, FlatGeobuf, Shapefile, file geodatabase."""

from __future__ import annotations

import contextlib
import glob
import json
import re
import struct
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vectorfiles.formats import SHAPEFILE, VectorFormat
from geoseg.vectorfiles.text import DEEPEST, SURFACES, VectorLayer, without_curves

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

_LINES = re.compile("Point|Line")


class Verbatim(str):
    """A path that pyogrio hands to GDAL as it is: it cuts others at ``;`` and ``!``, and drops line ends."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def startswith(self, *arguments: Any) -> bool:
        """Pass for one of GDAL's own paths, which pyogrio leaves alone."""
        return arguments == ("/vsi",) or super().startswith(*arguments)


def ogr_layers(path: Path) -> tuple[str, ...]:
    """Return the layers that may hold polygons, or all with geometries if none may."""
    import pyogrio

    kinds = {
        str(name): str(kind)
        for name, kind in pyogrio.list_layers(Verbatim(path.absolute()))
        if kind is not None
    }
    return tuple(name for name, kind in kinds.items() if not _LINES.search(kind)) or tuple(kinds)


def read_ogr(path: Path, kind: VectorFormat, layer: str, columns: Container[str]) -> VectorLayer:
    """Read a layer through GDAL, which follows curves by short lines.

    Raises
    ------
    ValueError
        If GDAL takes the file for another format.
    """
    import pyogrio

    source, encoding = Verbatim(path.absolute()), _encoding(path) if kind is SHAPEFILE else None
    info = pyogrio.read_info(source, layer=layer, encoding=encoding)
    if info["driver"] not in kind.drivers:
        raise ValueError(f"GDAL takes it for {info['driver']}")
    available = tuple(str(column) for column in info["fields"])
    wanted = [column for column in available if column in columns]
    meta, _, binary, fields = pyogrio.raw.read(
        source, layer=layer, columns=wanted, force_2d=True, encoding=encoding
    )
    values = dict(zip((str(column) for column in meta["fields"]), fields, strict=True))
    return VectorLayer(from_wkb(binary), values, available, meta["crs"])


def _encoding(path: Path) -> str | None:
    """Return what the attributes of a Shapefile are in, where GDAL would take them for Latin-1."""
    beside = {one.suffix.lower(): one for one in path.absolute().parent.glob(f"{glob.escape(path.stem)}.*")}
    if ".cpg" in beside or ".dbf" not in beside:
        return None
    try:
        beside[".dbf"].read_bytes()[_DBF_HEADER:].decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "UTF-8"


_DBF_HEADER = 32
"""Bytes of numbers before the names of the columns."""


def read_parquet(path: Path, columns: Container[str]) -> VectorLayer:
    """Read GeoParquet, whatever wrote it.

    Raises
    ------
    ValueError
        If it says nothing of geometries.
    """
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path.absolute()) as file:  # as it takes ~ for the home, and a: for a scheme
        place, encoding, crs = parquet_geometry(file)
        available = tuple(str(name) for name in file.schema_arrow.names if name != place)
        wanted = [name for name in available if name in columns]
        table = file.read(columns=[*wanted, place])
    values = {name: table[name].to_pandas().to_numpy() for name in wanted}
    return VectorLayer(_decoded(table.select([place]), encoding), values, available, crs)


def parquet_geometry(file: ParquetFile) -> tuple[str, str, str | None]:
    """Return name, encoding and CRS of the geometry, by the footer or by Parquet's own type for it."""
    metadata = file.metadata.metadata or {}
    if b"geo" in metadata:
        geo = json.loads(metadata[b"geo"])
        facts = geo["columns"][geo["primary_column"]]
        crs = facts.get("crs", "OGC:CRS84")
        text = json.dumps(crs) if isinstance(crs, dict) else crs
        return geo["primary_column"], str(facts["encoding"]).lower(), text
    for column in map(file.schema.column, range(len(file.schema))):
        if column.logical_type.type == "GEOMETRY":
            crs = json.loads(column.logical_type.to_json()).get("crs") or "OGC:CRS84"
            return column.name, "wkb", re.sub("^srid:", "EPSG:", crs)
    raise ValueError(
        "Parquet that does not say where its geometries are, in the key geo or by their type; "
        "write it with geopandas, GDAL or DuckDB"
    )


def _decoded(table: pyarrow.Table, encoding: str) -> NDArray[np.object_]:
    if encoding == "wkb":
        return from_wkb(np.array(table.column(0).to_pylist(), object))
    # GeoArrow: the lists of coordinates say by their name what they are.
    import geopandas
    import pyarrow

    field = table.schema.field(0).with_metadata({"ARROW:extension:name": f"geoarrow.{encoding}"})
    frame = geopandas.GeoDataFrame.from_arrow(table.cast(pyarrow.schema([field])))
    return np.asarray(shapely.force_2d(np.array(frame.geometry.array, object)), object)


def from_wkb(binary: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return geometries in two dimensions."""
    for row, wkb in enumerate(binary):
        if wkb is not None and len(wkb) > DEEPEST * _HEADER and depth_of_wkb(wkb) > DEEPEST:
            raise ValueError(f"the geometry of row {row + 1} nests collections deeper than {DEEPEST}")
    try:
        return without_curves(shapely.from_wkb, binary)
    except shapely.errors.ShapelyError as error:
        raise ValueError(f"{SURFACES} new.gpkg FILE" if _SURFACE.search(str(error)) else str(error)) from None


_SURFACE = re.compile("WKB type 1[567]")  # PolyhedralSurface, TIN, Triangle

_HEADER = 9
"""Bytes that a collection has before what is in it: order of bytes, type, count."""


def depth_of_wkb(wkb: bytes) -> int:
    """Return how deep collections are nested in WKB, read as GEOS reads it, which runs out of stack.

    Where the bytes end early or make no sense, so does the answer: GEOS says what is wrong.

    Examples
    --------
    >>> within = shapely.GeometryCollection([shapely.Point(1, 2), shapely.MultiPoint([(3, 4)])])
    >>> depth_of_wkb(within.wkb), depth_of_wkb(shapely.box(0, 0, 1, 1).wkb)
    (2, 0)
    """
    place, order, left, deepest = 0, "<", [1], 0
    with contextlib.suppress(struct.error, IndexError):
        while left:
            if not left[-1]:
                left.pop()
                continue
            left[-1] -= 1
            order = {1: "<", 0: ">"}.get(wkb[place], order)
            kind, count = struct.unpack_from(f"{order}II", wkb, place + 1)
            place += _HEADER
            if kind & 0x20000000:  # an SRID stands before the count
                (count,) = struct.unpack_from(f"{order}I", wkb, place)
                place += 4
            iso, kind, flags = (kind & 0xFFFF) // 1000, (kind & 0xFFFF) % 1000, kind
            point = 8 * (2 + (iso in {1, 3} or flags >> 31 & 1) + (iso in {2, 3} or flags >> 30 & 1))
            if kind == 1:  # a point has no count
                place += point - 4
            elif kind == 2:
                place += count * point
            elif kind == 3:
                for _ in range(count):
                    place += 4 + point * struct.unpack_from(f"{order}I", wkb, place)[0]
            else:
                left.append(count)
                deepest = max(deepest, len(left) - 1)
    return deepest
