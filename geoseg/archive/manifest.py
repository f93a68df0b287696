"""What is known of each scene of an archive: one SQLite file, and a status that anybody may read.

The file is opened by the coordinator alone, in the journal mode that network file systems bear. All
others read ``status.json``, which is replaced as a whole.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from geoseg.archive.entries import Entry
from geoseg.archive.lease import holder_of
from geoseg.archive.places import spelled
from geoseg.errors import InvalidOption, UnwritableOutput
from geoseg.files import replacing, telling_full_disks

State = Literal["pending", "running", "done", "partial", "failed", "quarantined"]
FINISHED = ("done", "partial")
"""States of scenes that have a result."""

VERSION = 1
"""Of the tables below."""

STATUS_SECONDS = 3.0
"""How often the status is replaced; less often where that takes more than a twentieth of the time."""

_JSON = ("properties", "files", "bbox", "bands")
_OF_THE_ENTRY = ("name", "location", "listed_in", "datetime", "properties", "bbox", "item", "bands")
_KINDS = {
    "seconds": "REAL",
    "coverage": "REAL",
    "features": "INTEGER",
    "pixels": "INTEGER",
    "tries": "INTEGER",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One scene and what has become of it."""

    name: str
    """Of the result, without suffix."""
    location: str
    """Path or URL of the scene."""
    state: State = "pending"
    reason: str = ""
    """Why it is not done, or only in part: one line."""
    identity: str = ""
    """Tells the scene's content from any other."""
    digest: str = ""
    """Of the model and the options that made the result."""
    seconds: float | None = None
    """That a worker spent on it."""
    features: int | None = None
    """Polygons."""
    coverage: float | None = None
    """Share of its pixels that have a prediction, 0 … 1."""
    pixels: int | None = None
    """Of the grid that the model worked on."""
    tries: int = 0
    """Workers that died of it."""
    files: tuple[str, ...] = ()
    """Paths of the result, relative to the folder of the archive where they lie in it."""
    datetime: str | None = None
    properties: Mapping[str, object] = field(default_factory=dict)
    bbox: tuple[float, float, float, float] | None = None
    item: str | None = None
    listed_in: str = ""
    bands: tuple[int, ...] | None = None
    """`datetime` to `bands`: see `geoseg.archive.entries.Entry`."""

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Return a scene that nothing has been done for."""
        shared = {name: getattr(entry, name) for name in _OF_THE_ENTRY}
        return cls(**shared, state="failed" if entry.problem else "pending", reason=entry.problem)

    def as_json(self) -> dict[str, object]:
        """Return plain values, without the properties of the source."""
        return {name: getattr(self, name) for name in _COLUMNS if name != "properties"}


_COLUMNS = tuple(one.name for one in fields(Result))


class Manifest(contextlib.AbstractContextManager["Manifest"]):
    """All scenes of an archive, or of one shard of it.

    Parameters
    ----------
    folder : Path
        Of the archive.
    shard : (number, count) or None
        Each shard has a manifest of its own.

    Raises
    ------
    UnwritableOutput
        If the file cannot be made or read.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] | None = None) -> None:
        self._path = folder / f"{stem('manifest', shard)}.sqlite"
        self._status = folder / f"{stem('status', shard)}.json"
        self._next = 0.0
        with self._translated():
            # Whoever else opens it has been told not to; waiting for him would be of no use.
            self._file = sqlite3.connect(self._path, timeout=5, isolation_level=None)
            self._file.row_factory = sqlite3.Row
            self._file.execute("PRAGMA journal_mode=DELETE")
            self._create()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _create(self) -> None:
        columns = ", ".join(f"{name} {_KINDS.get(name, 'TEXT')}" for name in _COLUMNS[1:])
        self._file.execute(f"CREATE TABLE IF NOT EXISTS scenes (name TEXT PRIMARY KEY, {columns})")
        self._file.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT)")
        version = int(self.facts().get("version", VERSION))
        if version != VERSION:
            raise InvalidOption(f"{self._path}: was written by another version of geoseg; give another --out")
        self.set_facts(version=str(VERSION))

    def facts(self) -> dict[str, str]:
        """Return what is known of the archive as a whole, such as the digest of model and options."""
        return dict(self._rows("SELECT name, value FROM facts"))

    def set_facts(self, **facts: str) -> None:
        """Set facts of the archive as a whole."""
        with self._translated():
            self._file.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())

    def results(self, states: Collection[State] = ()) -> Iterator[Result]:
        """Yield the scenes in these states, or all, sorted by name."""
        marks = ", ".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        for row in self._rows(f"SELECT * FROM scenes {where} ORDER BY name", *states):
            yield _result(row)

    def get(self, name: str) -> Result | None:
        """Return a scene, None where it is not known."""
        return next((_result(row) for row in self._rows("SELECT * FROM scenes WHERE name = ?", name)), None)

    def put(self, results: Iterable[Result]) -> None:
        """Set scenes, all of them or none."""
        marks = ", ".join("?" * len(_COLUMNS))
        with self._translated():
            self._file.execute("BEGIN")
            try:
                self._file.executemany(f"INSERT OR REPLACE INTO scenes VALUES ({marks})", map(_row, results))
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    def counts(self) -> Counter[str]:
        """Return how many scenes are in each state."""
        return Counter(dict(self._rows("SELECT state, count(*) FROM scenes GROUP BY state")))

    def write_status(self, facts: Mapping[str, object], *, now: bool = False) -> None:
        """Replace the status, where the last one is old enough.

        Parameters
        ----------
        facts : mapping
            What else the status is to say, such as the speed.
        now : bool
            However new the last one is.
        """
        began = time.monotonic()
        if began < self._next and not now:
            return
        head = {**self.facts(), **facts, "written": time.time(), "states": self.counts()}
        with replacing(self._status) as path, path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head)[:-1] + ', "scenes": [\n')
            for number, result in enumerate(self.results()):
                file.write((",\n" if number else "") + json.dumps(result.as_json(), ensure_ascii=False))
            file.write("\n]}\n")
        taken = time.monotonic() - began
        self._next = time.monotonic() + max(STATUS_SECONDS, 20 * taken)

    def _rows(self, query: str, *values: object) -> Iterator[Any]:
        with self._translated():
            yield from self._file.execute(query, values)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with telling_full_disks(self._path):
                yield
        except sqlite3.Error as error:
            raise UnwritableOutput(f"{self._path}: cannot be read or written ({error})") from error


def stem(name: str, shard: tuple[int, int] | None) -> str:
    """Return how a file of the archive, or of a shard of it, is called.

    >>> stem("status", None), stem("status", (2, 8))
    ('status', 'status-2-of-8')
    """
    return name if shard is None else f"{name}-{shard[0]}-of-{shard[1]}"


def read_status(folder: Path) -> list[dict[str, Any]]:
    """Return the last status of an archive: one, or one for each of its shards.

    Raises
    ------
    InvalidOption
        If there is none, or it cannot be read.
    """
    paths = [*folder.glob("status.json"), *sorted(folder.glob("status-*-of-*.json"))]
    if not paths:
        raise InvalidOption(f"{folder}: no archive of geoseg batch: it has no status.json")
    try:
        return [_status(path) for path in paths]
    except (OSError, ValueError) as error:
        raise InvalidOption(f"{folder}: its status cannot be read: {error}") from error


def made_of(statuses: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts that fixed the results; a run that has just begun does not say them yet.

    Examples
    --------
    >>> made_of([{"running": True}, {"made": '{"tile": 512}'}]), made_of([])
    ({'tile': 512}, {})
    """
    return dict(json.loads(next((one["made"] for one in statuses if "made" in one), "{}")))


def _status(path: Path) -> dict[str, Any]:
    """Return what a status says; one whose run was killed says that it runs, but nobody holds the lease."""
    status = json.loads(path.read_text(encoding="utf-8"))
    holder = holder_of(path.with_name(path.name.replace("status", "lease", 1)))
    held = holder is not None and not holder.is_gone
    return {**status, "running": held and status.get("running", False)}


def _row(result: Result) -> tuple[object, ...]:
    packed = {name: json.dumps(getattr(result, name)) for name in _JSON}
    values = (packed.get(name, getattr(result, name)) for name in _COLUMNS)
    return tuple(spelled(value) if isinstance(value, str) else value for value in values)


def _result(row: sqlite3.Row) -> Result:
    lists = {name: json.loads(row[name]) for name in _JSON}
    return Result(**dict(row) | {name: tuple(v) if isinstance(v, list) else v for name, v in lists.items()})
