"""The scenes of an archive: where each lies, and what its result is called.

A result is named after its source alone, never after time or order, so that a later run finds it.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from geoseg.errors import InvalidOption, UnreadableScene
from geoseg.raster.drivers import remote_uri

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".png", ".jpg", ".jpeg", ".img", ".ntf", ".webp")
"""What counts as a scene in a folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One scene of an archive.

    Parameters
    ----------
    name : str
        Of its result, without suffix: a relative posix path that follows from the source alone.
    location : str
        Absolute path, or URL.
    listed_in : str
        The source that names it: a folder, glob, list, index or STAC file; or the scene itself.
    datetime : str or None
        When it was taken, ISO 8601.
    properties : mapping
        Columns of the index, or properties of the STAC item.
    bbox : (west, south, east, north) or None
        In degrees of longitude and latitude.
    item : str or None
        Link to the STAC item that it comes from.
    """

    name: str
    location: str
    listed_in: str = ""
    datetime: str | None = None
    properties: Mapping[str, object] = field(default_factory=dict)
    bbox: tuple[float, float, float, float] | None = None
    item: str | None = None


def entries_of(sources: Sequence[str]) -> list[Entry]:
    """Return the scenes that folders, globs and single files name, sorted by the name of their result.

    A folder gives all rasters below it, but for what is hidden. A scene named twice counts once.

    Raises
    ------
    UnreadableScene
        If a source names nothing.
    InvalidOption
        If two scenes would share the name of a result.
    """
    found: dict[str, Entry] = {}
    for source in sources:
        entries = list(_entries(source))
        for entry in entries:
            other = found.setdefault(entry.name, entry)
            if other.location != entry.location:
                raise InvalidOption(
                    f"{entry.location} and {other.location} would share the result {entry.name}; rename one, "
                    "or name a folder above both"
                )
        if not entries:
            raise UnreadableScene(f"{source}: names no scene")
    return sorted(found.values(), key=lambda entry: entry.name)


def _entries(source: str) -> Iterator[Entry]:
    if remote_uri(source) is not None:
        yield Entry(_stem(source.partition("?")[0].rstrip("/").rpartition("/")[2]), source, source)
        return
    path = Path(source)
    if path.is_dir():
        yield from _below(path, _walk(path), source)
    elif glob.has_magic(source) and not path.exists():
        fixed = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
        root = Path(*fixed)
        yield from _below(root, map(Path, glob.iglob(source, recursive=True)), source)
    else:
        yield Entry(_stem(path.name), str(path.absolute()), source)


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (
            Path(here, name)
            for name in files
            if not name.startswith(".") and PurePath(name).suffix.lower() in SUFFIXES
        )


def _below(root: Path, paths: Iterable[Path], source: str) -> Iterator[Entry]:
    for path in paths:
        if path.is_file():
            name = path.relative_to(root).as_posix()
            yield Entry(_stem(name), str(path.absolute()), source)


def _stem(name: str) -> str:
    return PurePath(name).with_suffix("").as_posix()
