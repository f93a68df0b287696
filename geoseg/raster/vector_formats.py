"""Which vector files GDAL may open: plain data, told from their own bytes before GDAL sees them.

GDAL picks the driver of a vector file by looking for marks anywhere in its first bytes, and pyogrio
cannot tell it which drivers it may use. Without a check, JSON that holds a pipeline or the text of a
mosaic reads other files, and a GeoJSON whose CRS is a link is looked up over the network. What a file
says is no consent to that.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from geoseg.errors import InvalidOption

HEAD = 1024
"""How many bytes of a file `format_of` wants to see; as many as GDAL itself looks at."""


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """A format of plain data.

    Parameters
    ----------
    name : str
        For messages.
    suffixes : tuple of str
        How its files are named. Some of GDAL's drivers go by the name alone, whatever the content.
    drivers : frozenset of str
        GDAL's for it; empty where GDAL does not read it here.
    """

    name: str
    suffixes: tuple[str, ...]
    drivers: frozenset[str]


SQLITE = VectorFormat("GeoPackage", (".gpkg", ".sqlite"), frozenset({"GPKG", "SQLite"}))
FLATGEOBUF = VectorFormat("FlatGeobuf", (".fgb",), frozenset({"FlatGeobuf"}))
PARQUET = VectorFormat("GeoParquet", (".parquet", ".geoparquet"), frozenset())
SHAPEFILE = VectorFormat("Shapefile", (".shp",), frozenset({"ESRI Shapefile"}))
JSON = VectorFormat(
    "GeoJSON",
    (".geojson", ".json", ".geojsonl", ".geojsons", ".ndjson", ".topojson"),
    frozenset({"GeoJSON", "GeoJSONSeq", "TopoJSON", "ESRIJSON", "JSONFG"}),
)
KML = VectorFormat("KML", (".kml",), frozenset({"KML", "LIBKML"}))
GEODATABASE = VectorFormat("file geodatabase", (".gdb",), frozenset({"OpenFileGDB"}))

FORMATS = (SQLITE, FLATGEOBUF, PARQUET, SHAPEFILE, JSON, KML, GEODATABASE)

# GDAL's search for text ends at a zero byte, which each of these has in front (it reads no Parquet here).
_SIGNATURES = ((b"SQLite format 3\0", SQLITE), (b"\0\0\x27\x0a", SHAPEFILE), (b"PAR1", PARQUET))

_BOM = b"\xef\xbb\xbf"
_KML_ROOT = re.compile(rb"(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<(?:\w+:)?kml[\s/>]", re.DOTALL)

# By these GDAL takes text for a pipeline, a mosaic, or tables in other files, wherever they stand.
_MARKS = (b"gdal_streamed_alg", b"<OGRVRTDataSource", b"Product_Observational")
_KML_MARKS = (b"<!DOCTYPE", b"<!ENTITY", b"opengis.net/gml")

_CRS_KINDS = frozenset({"name", "epsg", "ogc"})
"""Kinds of CRS in GeoJSON that GDAL knows by itself; ``link`` and ``url`` it would fetch."""

_VIRTUAL_TABLE = re.compile(
    r"""CREATE\ VIRTUAL\ TABLE\ (?:"[^"]*"|'[^']*'|\[[^]]*\]|`[^`]*`|\w+)\s+USING\s+(\w+)\s*(?:\(|$)""",
    re.VERBOSE | re.IGNORECASE,
)

# Indices, whose tables lie in the database; SpatiaLite has others that read any file.
_VIRTUAL_MODULES = frozenset(
    {"rtree", "fts3", "fts4", "fts5", "virtualspatialindex", "virtualelementary", "virtualknn", "virtualknn2"}
)

_GEODATABASE_FILE = re.compile(
    r"a[0-9a-f]{8}\.(\w+\.)*(gdbtable|gdbtablx|gdbindexes|spx|atx|horizon|freelist)|gdb|timestamps|.*\.lock"
)


def check_vector_file(path: Path, name: str) -> VectorFormat:
    """Return the format of a vector file after checking that it is plain data.

    Parameters
    ----------
    path : Path
        A file, or the folder of a file geodatabase.
    name : str
        What the user called it, for messages.

    Raises
    ------
    InvalidOption
        If it is missing, of no known format, named like another format, or refers to other files,
        programs or URLs.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) and path.suffix.lower() in GEODATABASE.suffixes:
            _check_geodatabase(path, name)
            return GEODATABASE
        if not stat.S_ISREG(mode):
            raise InvalidOption(f"{name}: is not a regular file")
        with path.open("rb") as file:
            found = format_of(file.read(HEAD))
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise InvalidOption(f"{name}: {reason}") from None
    if found is None:
        known = ", ".join(one.name for one in FORMATS)
        raise InvalidOption(f"{name}: is not a vector file of a format that geoseg reads ({known})")
    _check_content(path, name, found)
    if path.suffix.lower() not in found.suffixes:
        endings = " or ".join(found.suffixes)
        raise InvalidOption(f"{name}: holds {found.name}; rename it so that it ends in {endings}")
    return found


def _check_content(path: Path, name: str, found: VectorFormat) -> None:
    try:
        if found is SQLITE:
            _check_database(path)
        elif found in {JSON, KML}:
            check_text(path.read_bytes(), found)
    except (sqlite3.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise InvalidOption(f"{name}: cannot be read as a vector file ({reason})") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        message = f"{name}: is not plain {found.name} ({reason}); write its polygons to a new GeoPackage"
        raise InvalidOption(message) from None


def format_of(head: bytes) -> VectorFormat | None:
    """Return the format that a file with these first `HEAD` bytes has; None: no known one."""
    for signature, found in _SIGNATURES:
        if head.startswith(signature):
            return found
    if head.startswith(b"fgb\x03fgb") and b"\0" in head[7:12]:  # the size of the header, below 16 MiB
        return FLATGEOBUF
    text = head.removeprefix(_BOM).lstrip()
    if text.startswith(b"{"):
        return JSON
    return KML if _KML_ROOT.match(text) else None


def check_text(content: bytes, found: VectorFormat) -> None:
    """Check that text refers to nothing outside itself that GDAL would follow.

    Parameters
    ----------
    content : bytes
        The whole file.
    found : VectorFormat
        `JSON` or `KML`.

    Raises
    ------
    ValueError
        If it does, or is malformed: what is read here must be what GDAL's lenient parsers read.
    """
    for mark in _MARKS if found is JSON else _MARKS + _KML_MARKS:
        if mark in content:
            raise ValueError(f"it has {mark.decode()}, which refers to other files")
    if found is JSON:
        _check_json(content.decode("utf-8-sig", "surrogateescape"))
        return
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"malformed XML: {error}") from error
    if root.tag.rpartition("}")[2] != "kml":
        raise ValueError(f"its root is {root.tag}")


def _check_json(text: str) -> None:
    """Look at every object of one JSON document or of several, one after another."""
    decoder = json.JSONDecoder(object_pairs_hook=_kinds_of)
    place = _after_space(text, 0)
    while place < len(text):
        _, place = decoder.raw_decode(text, place)
        place = _after_space(text, place)


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _kinds_of(pairs: list[tuple[str, Any]]) -> frozenset[str]:
    """Check an object's CRS and return what the object says its type is: all that is kept of it."""
    for key, value in pairs:
        if key.lower() == "crs" and isinstance(value, frozenset) and not value <= _CRS_KINDS:
            raise ValueError(
                f"its CRS is a {', '.join(sorted(value))}, which refers to another file or a URL"
            )
    # GDAL does not tell upper case from lower.
    return frozenset(
        value.lower() for key, value in pairs if key.lower() == "type" and isinstance(value, str)
    )


def _check_database(path: Path) -> None:
    """Check that all tables of a database lie in it.

    Calls of GDAL's or SQLite's functions from views and triggers are refused by these two.

    Raises
    ------
    ValueError, sqlite3.Error
    """
    try:
        virtual = _virtual_tables(path, "mode=ro")
    except (
        sqlite3.OperationalError
    ):  # a write-ahead log in a folder that cannot be written; GDAL skips it too
        virtual = _virtual_tables(path, "mode=ro&immutable=1")
    for name, text in virtual:
        module = _VIRTUAL_TABLE.match(text or "")
        if module is None or module[1].lower() not in _VIRTUAL_MODULES:
            raise ValueError(f"its table {name} is virtual, which refers to other files")


def _virtual_tables(path: Path, mode: str) -> list[tuple[str, str | None]]:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as database:
        return database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND coalesce(rootpage, 0) = 0"
        ).fetchall()


def _check_geodatabase(path: Path, name: str) -> None:
    names = [entry.name for entry in path.iterdir()]
    if "a00000001.gdbtable" not in names:
        raise InvalidOption(f"{name}: is not a file geodatabase")
    strange = sorted(entry for entry in names if not _GEODATABASE_FILE.fullmatch(entry))
    if strange:
        raise InvalidOption(f"{name}: holds {strange[0]}, which is no part of a file geodatabase")
