"""Which vector files GDAL may open: plain data, told from their own bytes before GDAL sees them.

GDAL picks the driver of a vector file by looking for marks anywhere in its first bytes, and pyogrio
cannot tell it which drivers it may use. Without a check, JSON that holds a pipeline or the text of a
mosaic reads other files, and a GeoJSON whose CRS is a link is looked up over the network. What a file
says is no consent to that. Text is checked in `text`, databases here.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import InvalidOption
from geoseg.vectorfiles.text import (
    check_crs,
    check_gml,
    check_json,
    check_kml,
    check_lines,
    check_osm,
    check_table,
)

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
        GDAL's for it; empty where another library reads it.
    check : function of the whole content, or None
        Raises ValueError where the text is no plain data. None: the format is binary.
    """

    name: str
    suffixes: tuple[str, ...]
    drivers: frozenset[str]
    check: Callable[[bytes], None] | None = None


SQLITE = VectorFormat("GeoPackage", (".gpkg", ".sqlite"), frozenset({"GPKG", "SQLite"}))
FLATGEOBUF = VectorFormat("FlatGeobuf", (".fgb",), frozenset({"FlatGeobuf"}))
PARQUET = VectorFormat("GeoParquet", (".parquet", ".geoparquet"), frozenset())
SHAPEFILE = VectorFormat("Shapefile", (".shp",), frozenset({"ESRI Shapefile"}))
JSON = VectorFormat(
    "GeoJSON",
    (".geojson", ".json", ".geojsonl", ".geojsons", ".ndjson", ".topojson"),
    frozenset({"GeoJSON", "GeoJSONSeq", "TopoJSON", "ESRIJSON", "JSONFG"}),
    check_json,
)
KML = VectorFormat("KML", (".kml",), frozenset({"KML", "LIBKML"}), check_kml)
GML = VectorFormat("GML", (".gml", ".xml"), frozenset({"GML"}), check_gml)
TABLE = VectorFormat("MapInfo table", (".tab",), frozenset({"MapInfo File"}), check_table)
MIF = VectorFormat("MapInfo MIF", (".mif",), frozenset({"MapInfo File"}), check_lines)
DXF = VectorFormat("DXF", (".dxf",), frozenset({"DXF"}), check_lines)
OSM = VectorFormat("OpenStreetMap XML", (".osm",), frozenset({"OSM"}), check_osm)
PBF = VectorFormat("OpenStreetMap PBF", (".pbf",), frozenset({"OSM"}))
CSV = VectorFormat("CSV", (".csv", ".tsv"), frozenset())
GEODATABASE = VectorFormat("file geodatabase", (".gdb",), frozenset({"OpenFileGDB"}))

FORMATS = (
    *(SQLITE, FLATGEOBUF, PARQUET, SHAPEFILE, JSON, KML, GML, TABLE, MIF, DXF, OSM, PBF, CSV),
    GEODATABASE,
)

# GDAL's search for text ends at a zero byte, which each of these has in front (it reads no Parquet here).
_SIGNATURES = (
    (b"SQLite format 3\0", SQLITE),
    (b"\0\0\x27\x0a", SHAPEFILE),
    (b"PAR1", PARQUET),
)

_BOM = b"\xef\xbb\xbf"
# A comment ends at its first mark: were it free to go on, many of them could be parted in too many ways.
# Hence also one line each for what is before a drawing.
_BEFORE_ROOT = rb"(?:<\?xml[^>]*\?>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*"
_TEXTS = (
    (re.compile(rb"\{"), JSON),
    (re.compile(_BEFORE_ROOT + rb"<(?:\w+:)?kml[\s/>]", re.DOTALL), KML),
    (re.compile(_BEFORE_ROOT + rb"<osm[\s/>]", re.DOTALL), OSM),
    (re.compile(_BEFORE_ROOT + rb"<[^!?].*opengis\.net/gml", re.DOTALL), GML),
    (re.compile(rb"!table\s", re.IGNORECASE), TABLE),
    (re.compile(rb"version\s+\d+\s", re.IGNORECASE), MIF),
    (re.compile(rb"(?:999[ \t\r]*\n[^\n]*\n[ \t]*)*0[ \t\r]*\n[ \t]*SECTION\s"), DXF),
)

# The length of the header of the first block, below 64 KiB, and its first field, by which OSM knows it.
_PBF_START = re.compile(rb"\0\0..\x0a\x09OSMHeader", re.DOTALL)

_VIRTUAL_TABLE = re.compile(
    r"""CREATE\ VIRTUAL\ TABLE\ (?:"[^"]*"|'[^']*'|\[[^]]*\]|`[^`]*`|\w+)\s+USING\s+(\w+)\s*(?:\(|$)""",
    re.VERBOSE | re.IGNORECASE,
)

# What lies in the database itself. SQLite writes it so, whatever the spaces and comments were.
_PLAIN_TABLE = re.compile(r"CREATE\s+(?:TABLE|VIEW|(?:UNIQUE\s+)?INDEX|TRIGGER)\s", re.ASCII | re.IGNORECASE)

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
    if found is None and path.suffix.lower() in CSV.suffixes:
        found = CSV  # has no marks, and GDAL never sees it
    if found is None:
        known = ", ".join(one.name for one in FORMATS)
        raise InvalidOption(
            f"{name}: is not a vector file of a format that geoseg reads ({known}); "
            f"convert it: ogr2ogr {shlex.quote(path.stem + '.gpkg')} {shlex.quote(path.name)}"
        )
    _check_content(path, name, found)
    if path.suffix.lower() not in found.suffixes:
        endings = " or ".join(found.suffixes)
        raise InvalidOption(f"{name}: holds {found.name}; rename it so that it ends in {endings}")
    return found


def _check_content(path: Path, name: str, found: VectorFormat) -> None:
    try:
        if found is SQLITE:
            _check_database(path)
        elif found is SHAPEFILE:
            _check_beside(path)
        elif found is FLATGEOBUF:
            _check_header(path)
        elif found.check is not None:
            found.check(path.read_bytes())
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
    if _PBF_START.match(head):
        return PBF
    text = head.removeprefix(_BOM).lstrip()
    return next((found for start, found in _TEXTS if start.match(text)), None)


def _check_database(path: Path) -> None:
    """Check that all tables of a database lie in it.

    Calls of GDAL's or SQLite's functions from views and triggers are refused by these two.

    Raises
    ------
    ValueError, sqlite3.Error
    """
    mode = "mode=ro"
    try:
        virtual = _virtual_tables(path, mode)
    except sqlite3.OperationalError:
        # A write-ahead log in a folder that cannot be written; GDAL skips it too.
        mode += "&immutable=1"
        virtual = _virtual_tables(path, mode)
    for name, text in virtual:
        module = _VIRTUAL_TABLE.match(text)
        if module is None or module[1].lower() not in _VIRTUAL_MODULES:
            raise ValueError(f"its table {name} is virtual, which refers to other files")
    _check_references(path, mode)


def _check_references(path: Path, mode: str) -> None:
    """Check what the tables of CRS say of them.

    Raises
    ------
    ValueError, sqlite3.Error
    """
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE name LIKE '%spatial_ref_sys'")
        for (name,) in names.fetchall():
            quoted = str(name).replace('"', '""')
            for row in database.execute(f'SELECT * FROM "{quoted}"'):
                for cell in row:
                    check_crs(cell.decode("latin-1") if isinstance(cell, bytes) else str(cell))


def _check_beside(path: Path) -> None:
    """Check the CRS of a Shapefile, which GDAL reads from beside it."""
    for beside in path.absolute().parent.iterdir():
        same = beside.stem.lower() == path.stem.lower() and beside.suffix.lower() == ".prj"
        if same and beside.is_file():
            check_crs(beside.read_text("latin-1"))


def _check_header(path: Path) -> None:
    """Check the header of FlatGeobuf, which holds its CRS."""
    with path.open("rb") as file:
        start = file.read(12)
        check_crs(file.read(int.from_bytes(start[8:12], "little")).decode("latin-1"))


def _virtual_tables(path: Path, mode: str) -> list[tuple[str, str]]:
    """Return the name and the text of what is no plain table.

    SQLite goes by the text alone, which may be a blob; the page, 0 for a virtual one, can be any.
    """
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as database:
        found = database.execute("SELECT name, CAST(sql AS TEXT) FROM sqlite_master WHERE sql IS NOT NULL")
        return [(name, text) for name, text in found if not _PLAIN_TABLE.match(text)]


def _check_geodatabase(path: Path, name: str) -> None:
    names = [entry.name for entry in path.iterdir()]
    if "a00000001.gdbtable" not in names:
        raise InvalidOption(f"{name}: is not a file geodatabase")
    strange = sorted(entry for entry in names if not _GEODATABASE_FILE.fullmatch(entry))
    if strange:
        raise InvalidOption(f"{name}: holds {strange[0]}, which is no part of a file geodatabase")
