"""What scenes are, read from many at once and remembered in the folder of the archive."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from geoseg.archive.area import OUTLINE, Degrees, outlines_in_degrees
from geoseg.archive.consent import fetch, host_of, is_url
from geoseg.archive.entries import Entry
from geoseg.archive.identity import identity_of, stamp_of, whole_identity
from geoseg.errors import GeosegError, UnreadableScene
from geoseg.values import GeoBox, Transform

FILE = ".facts.sqlite"
"""In the folder of the archive: it may be removed at any time."""

BATCH = 500
"""Scenes after which what has been read is kept."""


@dataclass(frozen=True, slots=True)
class SceneFacts:
    """A scene as its file says it is."""

    height: int
    width: int
    """`height`, `width`: In pixels."""
    bands: tuple[tuple[str, str], ...]
    """Colour and dtype of each image band."""
    transform: Transform
    crs: str | None
    """WKT2."""
    resolution: tuple[float, float] | None
    """Metres on the ground along columns and rows."""
    bbox: Degrees | None
    datetime: str | None
    """Its TIFFTAG_DATETIME."""
    size: int | None
    """Bytes of its file; None for a URL that does not say."""

    @property
    def grid(self) -> GeoBox:
        """Its pixels on the ground."""
        return GeoBox(self.height, self.width, self.transform, self.crs)

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Return facts as they were written."""
        values: dict[str, Any] = {name: _tuples(value) for name, value in json.loads(text).items()}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a scene has shown."""

    identity: str = ""
    """See `geoseg.archive.identity`; empty where it cannot be read."""
    facts: SceneFacts | None = None
    """None where it was not opened."""
    problem: str = ""
    """Why it cannot be read; empty where it can."""


@dataclass(frozen=True, slots=True)
class Looked:
    """So many of the scenes have been looked at."""

    done: int
    total: int


def look_at(
    entries: Sequence[Entry],
    folder: Path,
    *,
    hosts: frozenset[str] = frozenset(),
    opening: bool = True,
    verify: bool = False,
    on_look: Callable[[Looked], None] = lambda _: None,
) -> dict[str, Look]:
    """Look at scenes, many at once; what has not changed since the last time is remembered.

    Parameters
    ----------
    entries : sequence of Entry
    folder : Path
        Of the archive; it exists.
    hosts : frozenset of str
        Where the servers of scenes may lead besides themselves.
    opening : bool
        Also open them, for their `SceneFacts`.
    verify : bool
        Trust nothing that is remembered, and hash all bytes.
    on_look : callable
        Called after each scene.

    Returns
    -------
    dict of str to Look
        By name of the entry.
    """
    found: dict[str, Look] = {}
    memory = _Memory(folder / FILE)
    look = partial(_look, known=memory.read(), hosts=hosts, opening=opening, verify=verify)
    with contextlib.closing(memory), ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as readers:
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            news: dict[str, tuple[str, Look]] = {}
            for entry, (stamp, one) in zip(batch, readers.map(look, batch), strict=True):
                found[entry.name] = one
                news[entry.location] = stamp, one
                on_look(Looked(len(found), len(entries)))
            memory.write(news)
    return found


def _look(
    entry: Entry,
    known: Mapping[str, tuple[str, Look]],
    hosts: frozenset[str],
    opening: bool,
    verify: bool,
) -> tuple[str, Look]:
    """Return the stamp of a scene, and what a look at it shows."""
    if entry.problem:
        return "", Look(problem=entry.problem)
    remembered, before = known.get(entry.location, ("", Look()))
    try:
        stamp = stamp_at(entry.location, hosts)
        same = bool(stamp) and stamp == remembered and not verify
        identity = before.identity if same else _identity(entry.location, stamp, verify)
        facts = before.facts if same else None
        if facts is None and (opening or not identity):
            identity, facts = _opened(entry.location, identity)
    except (GeosegError, OSError) as error:
        return "", Look(problem=str(error))
    return stamp, Look(identity, facts)


def stamp_at(location: str, hosts: frozenset[str]) -> str:
    """Return what changes with a scene, as far as that is known without reading it; of a URL size and ETag.

    Raises
    ------
    UnreadableScene
        If it is not there.
    """
    if not is_url(location):
        return stamp_of(Path(location))
    if "://" in (host_of(location) or ""):
        return ""
    try:
        _, headers = fetch(location, hosts, look=True)
    except UnreadableScene as error:
        if "access denied" in str(error):  # GDAL may have been given a key
            return ""
        raise
    size = headers.get("content-range", "").rpartition("/")[2]
    mark = headers.get("etag") or headers.get("last-modified")
    return f"{size} {mark}" if mark else ""


def _identity(location: str, stamp: str, verify: bool) -> str:
    """Return what tells a scene from any other; empty where that takes opening it."""
    if is_url(location):
        return stamp
    path = Path(location)
    return f"{identity_of(path)}:{whole_identity(path)}" if verify else identity_of(path)


def _opened(location: str, identity: str) -> tuple[str, SceneFacts]:
    from geoseg.raster.opening import opened, reading
    from geoseg.raster.scene import close_scene, open_scene

    scene = open_scene(location)

    def taken() -> str | None:
        with opened(scene.uri, (scene.driver,)) as dataset:
            value = dataset.tags().get("TIFFTAG_DATETIME")
        return None if value is None else str(value)

    try:
        moment = reading(scene.uri, taken)
    finally:
        close_scene(scene)
    grid = scene.geobox
    facts = SceneFacts(
        grid.height,
        grid.width,
        tuple((band.color, band.dtype) for band in scene.bands),
        grid.transform,
        grid.crs,
        scene.resolution,
        _bbox(grid),
        moment,
        None if is_url(location) else Path(location).stat().st_size,
    )
    return identity or scene.fingerprint, facts


def _bbox(grid: GeoBox) -> Degrees | None:
    if grid.crs is None:
        return None
    import pyproj

    outline = grid.to_crs(OUTLINE * np.array([grid.width, grid.height], float))
    return outlines_in_degrees(outline[None], pyproj.CRS.from_user_input(grid.crs))[0]


class _Memory:
    """What was seen of scenes, in a file that may be lost at any time: whatever fails is seen again."""

    def __init__(self, path: Path) -> None:
        self._file: sqlite3.Connection | None = None
        with contextlib.suppress(sqlite3.Error):
            self._file = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS facts "
                "(location BLOB PRIMARY KEY, stamp TEXT, identity TEXT, facts TEXT)"
            )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def read(self) -> dict[str, tuple[str, Look]]:
        """Return stamp and look of every location."""
        return dict(self._rows())

    def _rows(self) -> Iterator[tuple[str, tuple[str, Look]]]:
        with contextlib.suppress(sqlite3.Error, ValueError, TypeError):
            rows = self._file.execute("SELECT * FROM facts") if self._file else ()
            for location, stamp, identity, facts in rows:
                yield (
                    os.fsdecode(location),
                    (stamp, Look(identity, SceneFacts.of_json(facts) if facts else None)),
                )

    def write(self, looks: Mapping[str, tuple[str, Look]]) -> None:
        """Remember some, all of them or none."""
        rows = [
            (
                os.fsencode(location),
                stamp,
                look.identity,
                json.dumps(asdict(look.facts)) if look.facts else "",
            )
            for location, (stamp, look) in looks.items()
            if stamp
        ]
        if self._file is None or not rows:
            return
        with contextlib.suppress(sqlite3.Error):
            try:
                self._file.execute("BEGIN IMMEDIATE")
                self._file.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", rows)
                self._file.execute("COMMIT")
            finally:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
