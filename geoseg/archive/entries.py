"""The scenes of an archive: where each lies, and what its result is called.

A result is named after its source alone, never after time or order, so that a later run finds it.
"""

from __future__ import annotations

import glob
import itertools
import os
import sqlite3
import tempfile
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath

from geoseg.archive.area import Degrees
from geoseg.archive.consent import allowed_location, check_url, fetch, host_of, is_url, path_of, why_absent
from geoseg.archive.lists import Row, read_csv, read_footprints, read_text
from geoseg.archive.places import name_of_listed, name_of_path, safe_name, shared_name, spelled
from geoseg.archive.stac import Item, choose_asset, is_stac, load_json, read_items
from geoseg.errors import InvalidOption, UnreadableScene
from geoseg.raster.drivers import VRT_LIMIT, remote_uri, vrt_sources
from geoseg.vectorfiles.formats import opened_database

SUFFIXES = frozenset(
    {".tif", ".tiff", ".jp2", ".j2k", ".vrt", ".png", ".jpg", ".jpeg", ".img", ".ntf", ".nitf", ".webp"}
)
"""What counts as a scene in a folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One scene of an archive."""

    name: str
    """Of its result, without suffix: a relative posix path that follows from the source alone."""
    location: str
    """Absolute path, or URL."""
    listed_in: str = ""
    """The source that names it: a folder, glob, list, index or STAC file; or the scene itself."""
    datetime: str | None = None
    """When it was taken, ISO 8601."""
    properties: Mapping[str, object] = field(default_factory=dict)
    """Columns of the index, or properties of the STAC item."""
    bbox: Degrees | None = None
    """Where it lies, by the list."""
    item: str | None = None
    """Link to the STAC item that it comes from."""
    bands: tuple[int, ...] | None = None
    """Its bands for those of the model, counted from 1, where the item says so."""
    problem: str = ""
    """Why it cannot be opened, where that is known already; else empty."""


def entries_of(
    sources: Sequence[str],
    *,
    hosts: Collection[str] = (),
    bands: Sequence[str] = (),
    asset: str | None = None,
    without: Collection[Path] = (),
) -> list[Entry]:
    """Return the scenes that sources name, sorted by the name of their result.

    Parameters
    ----------
    sources : sequence of str
        Scenes, folders (all rasters below, but for what is hidden and the parts of a VRT), globs, lists in
        text or CSV, indexes of footprints, STAC files; paths or URLs.
    hosts : collection of str
        Where lists may lead besides the host that they come from, see `geoseg.archive.consent`.
    bands : sequence of str
        Bands of the model, by which an asset of a STAC item is chosen.
    asset : str, optional
        The asset of STAC items to take.
    without : collection of Path
        Folders of results, which are no scenes.

    Returns
    -------
    list of Entry
        A scene that is named twice is there once.

    Raises
    ------
    UnreadableScene
        If a source cannot be read or names nothing.
    InvalidOption
        If a list is none, names what it may not, or two scenes would share the name of a result.
    """
    look = _Look(frozenset(hosts), tuple(bands), asset, frozenset(map(os.path.realpath, without)))
    found: dict[str, Entry] = {}
    for source in sources:
        entries = [_spelled(entry) for entry in _entries(source, look)]
        if not entries:
            raise UnreadableScene(f"{source}: names no scene")
        if all(entry.problem for entry in entries):
            raise UnreadableScene(entries[0].problem)
        for entry in entries:
            other = found.setdefault(entry.location, entry)
            if _precedence(entry) < _precedence(other):
                found[entry.location] = entry
    entries = sorted(found.values(), key=lambda entry: (entry.name, entry.location))
    _check_names(entries)
    return entries


@dataclass(frozen=True, slots=True)
class _Look:
    hosts: frozenset[str]
    bands: tuple[str, ...]
    asset: str | None
    without: frozenset[str]


def _spelled(entry: Entry) -> Entry:
    """Return a scene that can be written down: one whose path is no UTF-8 is not to be opened."""
    location, listed_in = spelled(entry.location), spelled(entry.listed_in)
    same = location == entry.location
    problem = entry.problem if same else f"{location}: its path is not UTF-8; rename it"
    return replace(entry, location=location, listed_in=listed_in, problem=spelled(problem))


def _precedence(entry: Entry) -> tuple[bool, bool, str]:
    """Return what decides between sources that name the same scene: who knows more of it, then the name."""
    return entry.item is None, not entry.properties, entry.name


def _check_names(entries: Sequence[Entry]) -> None:
    named: dict[str, Entry] = {}
    for entry in entries:
        other = named.setdefault(shared_name(entry.name), entry)
        if other is not entry:
            raise InvalidOption(
                f"{other.location} and {entry.location} would share the result {entry.name}; rename one, "
                "name a folder above both, or run them into two folders"
            )


def _entries(source: str, look: _Look) -> Iterator[Entry]:
    check_url(source)
    source = path_of(source)
    path = Path(source)
    if is_url(source):
        yield from _remote(source, look)
    elif path.is_dir() and path.suffix.lower() != ".gdb":
        yield from _below(path, _walk(path, look), source)
    elif glob.has_magic(source) and not path.exists():
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        paths = [Path(one) for one in sorted(glob.iglob(source, recursive=True)) if os.path.isfile(one)]
        lists = [one for one in paths if _reader(str(one)) is not None]
        for one in lists:
            yield from _entries(str(one), look)
        yield from _below(root, (one for one in paths if one not in lists), source)
    else:
        location = os.path.abspath(source)
        if not path.exists():
            raise UnreadableScene(f"{source}: {why_absent(source)}")
        reader = _reader(location)
        if reader is None:
            yield Entry(name_of_path(path.name), location, source)
        else:
            yield from reader(location, look)


def _remote(url: str, look: _Look) -> Iterator[Entry]:
    if remote_uri(url) is None:
        raise UnreadableScene(f"{url}: geoseg reads URLs of http, https, s3, gs and az only")
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rstrip("/")
    host = host_of(url) or ""
    look = replace(look, hosts=look.hosts | {host})
    web = "://" not in host
    reader = _reader(url)
    if reader is None and web and not PurePosixPath(path).suffix:  # such as a STAC API's
        _, headers = fetch(url, look.hosts, look=True)
        reader = _read_json if "json" in headers.get("content-type", "") else None
    if reader is None:
        yield Entry(name_of_path(path.rpartition("/")[2]), url, url)
    elif web:
        yield from reader(url, look)
    else:
        raise UnreadableScene(f"{url}: lists are read from files, http and https; copy it here first")


def _walk(folder: Path, look: _Look) -> list[Path]:
    """Return the rasters below a folder, through links to folders as well, but for the parts of a VRT."""
    found: list[Path] = []
    walked: set[str] = set()

    def fail(error: OSError) -> None:
        raise UnreadableScene(f"{error.filename}: {(error.strerror or str(error)).lower()}") from error

    for here, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(here)
        if real in walked or real in look.without:
            folders.clear()
            continue
        walked.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in files if not name.startswith("."))
        found += [Path(here, name) for name in names if PurePath(name).suffix.lower() in SUFFIXES]
    parts = {part for path in found if path.suffix.lower() == ".vrt" for part in _parts(path)}
    return [path for path in found if os.path.abspath(path) not in parts]


def _parts(mosaic: Path) -> list[str]:
    """Return the files that a VRT shows; of one that geoseg does not accept, none."""
    try:
        with mosaic.open("rb") as file:
            names = vrt_sources(file.read(VRT_LIMIT + 1))
    except (OSError, ValueError):
        return []
    return [os.path.abspath(mosaic.parent / name) for name in names]


def _below(root: Path, paths: Iterable[Path], source: str) -> Iterator[Entry]:
    for path in paths:
        yield Entry(name_of_path(path.relative_to(root).as_posix()), os.path.abspath(path), source)


_Reader = Callable[[str, _Look], Iterator[Entry]]


def _reader(location: str) -> _Reader | None:
    """Return what reads a list; None for a scene."""
    path = urllib.parse.urlsplit(location).path if is_url(location) else location
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".gpkg" and not is_url(location) and _holds_raster(Path(location)):
        return None
    return _READERS.get(suffix)


def _holds_raster(path: Path) -> bool:
    try:
        with opened_database(path) as database:
            kinds = database.execute("SELECT data_type FROM gpkg_contents").fetchall()
    except (sqlite3.Error, OSError):
        return False  # which reading it as an index tells
    return bool(kinds) and all(kind != "features" for (kind,) in kinds)


def _content(location: str, look: _Look) -> bytes:
    if is_url(location):
        return fetch(location, look.hosts)[0]
    try:
        return Path(location).read_bytes()
    except OSError as error:
        raise UnreadableScene(f"{location}: {(error.strerror or str(error)).lower()}") from error


def _read_text(location: str, look: _Look) -> Iterator[Entry]:
    return _listed(read_text(_content(location, look), location), location, look)


def _read_table(location: str, look: _Look) -> Iterator[Entry]:
    return _listed(read_csv(_content(location, look), location), location, look)


def _read_index(location: str, look: _Look) -> Iterator[Entry]:
    if not is_url(location):
        return _listed(read_footprints(Path(location), location), location, look)
    suffix = PurePosixPath(urllib.parse.urlsplit(location).path).suffix
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"index{suffix}")
        copy.write_bytes(_content(location, look))
        return _listed(read_footprints(copy, location), location, look)


def _read_json(location: str, look: _Look) -> Iterator[Entry]:
    document = load_json(location, look.hosts)
    if not is_stac(document):
        yield from _read_index(location, look)
        return
    for found in read_items(location, document, look.hosts):
        yield _entry_of(found, location, look)


_READERS: Mapping[str, _Reader] = {
    **dict.fromkeys((".txt", ".lst"), _read_text),
    **dict.fromkeys((".csv", ".tsv"), _read_table),
    **dict.fromkeys((".json", ".geojson"), _read_json),
    **dict.fromkeys((".gpkg", ".parquet", ".geoparquet", ".shp", ".fgb", ".gdb", ".sqlite"), _read_index),
    **dict.fromkeys((".geojsonl", ".geojsons", ".ndjson", ".kml"), _read_index),
}
"""How lists are read, by how they end."""


def _listed(rows: Sequence[Row], listed_in: str, look: _Look) -> Iterator[Entry]:
    for row in rows:
        problem = ""
        try:
            location = allowed_location(row.location, listed_in, look.hosts)
        except InvalidOption as error:  # that scene alone fails
            location, problem = row.location, str(error)
        relative = not is_url(location) and not row.location.lower().startswith(("/", "~/", "file://"))
        name = name_of_listed(row.location if relative else location, listed_in)
        taken = row.properties.get("datetime")
        moment = taken if isinstance(taken, str) else None
        yield Entry(name, location, listed_in, moment, row.properties, row.bbox, problem=problem)


def _entry_of(found: Item, listed_in: str, look: _Look) -> Entry:
    """Return the scene of a STAC item."""
    item = found.item
    if item is None:
        name = (
            safe_name(found.name.replace("/", "_"))
            if found.name
            else name_of_path(found.href.partition("?")[0].rpartition("/")[2])
        )
        return Entry(name, f"{found.href}#{found.name}".rstrip("#"), listed_in, problem=found.problem)
    moment = item.datetime or item.common_metadata.start_datetime
    entry = Entry(
        safe_name(item.id.replace("/", "_")),
        f"{found.href}#{item.id}",
        listed_in,
        moment.isoformat() if moment else None,
        {**item.properties, "id": item.id, "collection": item.collection_id},
        _flat(item.bbox),
        item.get_self_href() or found.href,
    )
    try:
        asset = choose_asset(item, look.bands, look.asset)
        location = allowed_location(asset.href, found.href, look.hosts)
    except InvalidOption as error:
        return replace(entry, problem=str(error))
    return replace(entry, location=location, bands=asset.bands)


def _flat(bbox: Sequence[float] | None) -> Degrees | None:
    """Return a STAC bbox without its heights."""
    if bbox is None or len(bbox) not in {4, 6}:
        return None
    half = len(bbox) // 2
    return float(bbox[0]), float(bbox[1]), float(bbox[half]), float(bbox[half + 1])
