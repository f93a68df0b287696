"""Which vector files are read, and which of them GDAL may open: none that makes it open anything else.

GDAL picks a driver by marks anywhere in a file's first bytes, and some drivers follow what a file says to
other files, web services and programs. What a file says is no consent to that. So text (GeoJSON, KML, CSV)
is read without GDAL, and GDAL sees four binary formats only, told by their first bytes, in which no other
driver finds a mark. This takes less code than a child process that has only the right driver, which would
still open what a CRS or a virtual table names; and no setting of the caller's process is changed.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import InvalidOption
from geoseg.files import is_utf8
from geoseg.vectorfiles.crs import other_file


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """A format of plain data."""

    name: str
    """For messages."""
    suffixes: tuple[str, ...]
    """How its files are named."""
    start: re.Pattern[bytes] | None = None
    """What its files begin with; None: a folder, or text that goes by its name."""
    drivers: frozenset[str] = frozenset()
    """GDAL's for it; empty where it is read without GDAL."""


# GDAL's search for marks ends at a zero byte, which each of these has in front (it reads no Parquet here).
# In FlatGeobuf that is the last byte of the header's size, below 16 MiB.
GEOPACKAGE = VectorFormat(
    "GeoPackage",
    (".gpkg", ".sqlite"),
    re.compile(rb"SQLite format 3\0"),
    frozenset({"GPKG", "SQLite"}),
)
FLATGEOBUF = VectorFormat(
    "FlatGeobuf", (".fgb",), re.compile(rb"fgb\x03fgb.{0,4}\0", re.DOTALL), frozenset({"FlatGeobuf"})
)
SHAPEFILE = VectorFormat("Shapefile", (".shp",), re.compile(rb"\0\0\x27\x0a"), frozenset({"ESRI Shapefile"}))
GEOPARQUET = VectorFormat("GeoParquet", (".parquet", ".geoparquet"), re.compile(rb"PAR1"))
GEOJSON = VectorFormat("GeoJSON", (".geojson", ".json", ".geojsonl", ".geojsons", ".ndjson"))
KML = VectorFormat("KML", (".kml",))
CSV = VectorFormat("CSV", (".csv", ".tsv"))
GEODATABASE = VectorFormat("file geodatabase", (".gdb",), drivers=frozenset({"OpenFileGDB"}))

FORMATS = (GEOPACKAGE, FLATGEOBUF, GEOPARQUET, SHAPEFILE, GEOJSON, KML, CSV, GEODATABASE)

MOST_STEPS = 10**8
"""Instructions of SQLite's that a view may take: seconds."""

_HEAD = 16
"""As many bytes of a file as the longest start has."""

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
    """Return the format of a vector file after checking that GDAL may open it.

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
    if not is_utf8(path):
        raise InvalidOption(f"{name}: its name, or a folder's, is not valid UTF-8; rename it")
    try:
        mode = path.stat().st_mode
        named = next((one for one in FORMATS if path.suffix.lower() in one.suffixes), None)
        if stat.S_ISDIR(mode) and named is GEODATABASE:
            _check_geodatabase(path, name)
            return GEODATABASE
        if not stat.S_ISREG(mode):
            raise InvalidOption(f"{name}: is not a regular file")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise InvalidOption(f"{name}: {reason}") from None
    found = format_of(head)
    if found is not None and found is not named:
        endings = " or ".join(found.suffixes)
        raise InvalidOption(f"{name}: holds {found.name}; rename it so that it ends in {endings}")
    if head.startswith(b"PMTiles"):
        raise InvalidOption(
            f"{name}: is PMTiles, a map of polygons cut by tiles; give the layer that it was made of"
        )
    if named is None:
        known = ", ".join(one.name for one in FORMATS)
        raise InvalidOption(
            f"{name}: is not a vector file of a format that geoseg reads ({known}); "
            f"convert it: {to_geopackage(path)}"
        )
    if named is GEODATABASE or (named.start and not found):
        raise InvalidOption(f"{name}: ends in {path.suffix}, but is no {named.name}")
    _check_content(path, name, named)
    return named


def format_of(head: bytes) -> VectorFormat | None:
    r"""Return the format that the first bytes of a file tell; None: none, or text.

    Examples
    --------
    >>> format_of(b"fgb\x03fgb\x01\x18\x02\0\0").name
    'FlatGeobuf'
    """
    return next((one for one in FORMATS if one.start and one.start.match(head)), None)


def to_geopackage(path: Path) -> str:
    """Return the command that makes a GeoPackage of a file.

    >>> to_geopackage(Path("data/my roofs.gml"))
    "ogr2ogr 'my roofs.gpkg' 'my roofs.gml'"
    """
    return f"ogr2ogr {shlex.quote(path.stem + '.gpkg')} {shlex.quote(path.name)}"


def memory_to_read(path: Path, kind: VectorFormat) -> int:
    """Return the bytes that a file of text takes at most while it is read, as measured; of others, 0.

    Lists, objects and elements take most where they are empty: 25 times their text.
    """
    if kind not in (GEOJSON, KML, CSV):
        return 0
    size = path.stat().st_size * (12 if kind is CSV else 3)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            size += 100 * sum(map(part.count, (b"[", b"{", b"<"))) + 32 * part.count(b",")
    return size


def _check_content(path: Path, name: str, found: VectorFormat) -> None:
    try:
        if found is GEOPACKAGE:
            check_database(path)
        elif found is SHAPEFILE:  # its CRS lies beside it
            for beside in path.absolute().parent.iterdir():
                same = beside.stem.lower() == path.stem.lower() and beside.suffix.lower() == ".prj"
                if same and beside.is_file():
                    _check_crs(beside.read_text("latin-1"))
        elif found is FLATGEOBUF:  # its CRS is in the header
            with path.open("rb") as file:
                size = int.from_bytes(file.read(12)[8:], "little")
                _check_crs(file.read(size).decode("latin-1"))
    except (sqlite3.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise InvalidOption(f"{name}: cannot be read as a vector file ({reason})") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        message = f"{name}: is not plain {found.name} ({reason}); write its polygons to a new GeoPackage"
        raise InvalidOption(message) from None


def check_database(path: Path) -> None:
    """Check that all that GDAL would read of an SQLite database lies in it, and can be read here.

    Calls of GDAL's or SQLite's functions from views and triggers are refused by these two.

    Raises
    ------
    ValueError
        If a table or a CRS refers to other files, or a view that is a layer has no end.
    sqlite3.Error
        If it cannot be read; also where changes wait in a write-ahead log that needs a folder that can be
        written to: GDAL would read it without them.
    """
    with opened_database(path) as database:
        found = database.execute("SELECT name, CAST(sql AS TEXT) FROM sqlite_master WHERE sql IS NOT NULL")
        # SQLite goes by the text alone, which may be a blob; the page, 0 for a virtual one, can be any.
        for name, text in found.fetchall():
            module = _VIRTUAL_TABLE.match(text)
            known = module is not None and module[1].lower() in _VIRTUAL_MODULES
            if not known and not _PLAIN_TABLE.match(text):
                raise ValueError(f"its table {name} is virtual, which refers to other files")
        _check_views(database)
        systems = database.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE '%spatial_ref_sys' AND type <> 'index'"
        )
        for (name,) in systems.fetchall():
            for row in database.execute(f"SELECT * FROM {_quoted(name)}"):
                for cell in row:
                    _check_crs(cell.decode("latin-1") if isinstance(cell, bytes) else str(cell))


def _check_views(database: sqlite3.Connection) -> None:
    """Walk all views within a bound, as GDAL would walk one that has no end for ever.

    A view that calls functions of GDAL's is left to GDAL, which refuses it.
    """
    database.set_progress_handler(lambda: 1, MOST_STEPS)  # 1 interrupts
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
        view = _quoted(name)
        try:
            columns = database.execute(f"SELECT * FROM {view} LIMIT 0").description
            every = ", ".join(f"count({_quoted(column[0])})" for column in columns)
            database.execute(f"SELECT {every} FROM {view}").fetchone()
        except sqlite3.OperationalError as error:
            if str(error) == "interrupted":
                raise ValueError(f"its view {name} has no end, or takes too long") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextlib.contextmanager
def opened_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading; one in a folder that cannot be written to, as its file stands.

    Raises
    ------
    sqlite3.Error
        Also where changes wait in a write-ahead log that cannot be read there.
    """
    place = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(place, uri=True)) as database:
            database.execute("SELECT name FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        log = path.with_name(f"{path.name}-wal")
        if log.is_file() and log.stat().st_size:
            raise sqlite3.OperationalError(
                f"its latest changes are in {log.name}, which can only be read in a folder that you may "
                "write to: copy both files into one"
            ) from None
        place += "&immutable=1"  # it has been closed, so nothing is missing; GDAL does the same
    with contextlib.closing(sqlite3.connect(place, uri=True)) as database:
        yield database


def _check_crs(text: str) -> None:
    named = other_file(text)
    if named is not None:
        raise ValueError(f"its CRS refers to another file: {named}")


def _check_geodatabase(path: Path, name: str) -> None:
    names = [entry.name for entry in path.iterdir()]
    if "a00000001.gdbtable" not in names:
        raise InvalidOption(f"{name}: is not a file geodatabase")
    strange = sorted(entry for entry in names if not _GEODATABASE_FILE.fullmatch(entry))
    if strange:
        raise InvalidOption(f"{name}: holds {strange[0]}, which is no part of a file geodatabase")
