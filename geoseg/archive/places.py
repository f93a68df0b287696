"""What the result of a scene is called, where workers write it, where it is to be, and moving it there.

A name follows from the source alone, and any file system takes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from geoseg.errors import UnwritableOutput
from geoseg.files import telling_full_disks
from geoseg.raster.drivers import remote_uri

LONGEST = 120
"""Bytes of a folder's or file's name, so that suffixes and temporary names fit behind it."""

_UNSAFE = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices of Windows


def safe_name(path: str) -> str:
    """Return a relative path with names that any file system takes.

    Examples
    --------
    >>> safe_name("2020: spring/a?b. "), safe_name("../x/./CON"), safe_name("/.hidden")
    ('2020_ spring/a_b', 'x/_CON', '_.hidden')
    """
    parts = [_safe(part) for part in path.split("/") if part not in {"", ".", ".."}]
    return "/".join(parts) or "_"


def _safe(part: str) -> str:
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", spelled(part))).rstrip(". ") or "_"
    if name.startswith(".") or _RESERVED.fullmatch(name):
        name = f"_{name}"
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    return f"{encoded[: LONGEST - 9].decode('utf-8', 'ignore')}-{hashlib.sha256(encoded).hexdigest()[:8]}"


def spelled(text: str) -> str:
    r"""Return a text that can be written as UTF-8: bytes of a file's name that are none are escaped.

    Examples
    --------
    >>> spelled("näme"), spelled("caf\udce9")
    ('näme', 'caf\\udce9')
    """
    return text.encode("utf-8", "backslashreplace").decode()


def name_of_path(path: str) -> str:
    """Return the name that a path stands for: without the suffix.

    Examples
    --------
    >>> name_of_path("north/a.b.tif")
    'north/a.b'
    """
    return safe_name(str(PurePosixPath(path).with_suffix("")) if PurePosixPath(path).name else path)


def name_of_listed(text: str, listed_in: str) -> str:
    """Return the name of what stands in a list: its path below the list's folder, else its whole path.

    Examples
    --------
    >>> name_of_listed("https://host/tiles/7/a.tif?key=1", "https://host/tiles/index.csv")
    '7/a'
    >>> name_of_listed("/data/tiles/a.tif", "/data/index.gpkg"), name_of_listed("../b.tif", "/data/i.gpkg")
    ('tiles/a', 'b')
    """
    path, folder = (_path(one) for one in (text, listed_in))
    folder = folder.rpartition("/")[0] + "/"
    return name_of_path(path.removeprefix(folder))


def _path(location: str) -> str:
    if "://" not in location:
        return location
    with contextlib.suppress(ValueError):  # a URL that is none
        return urllib.parse.unquote(urllib.parse.urlsplit(location).path)
    return location


def shared_name(name: str) -> str:
    """Return what two names have in common that are one on some file systems.

    Examples
    --------
    >>> shared_name("North/A") == shared_name("north/a")
    True
    """
    return unicodedata.normalize("NFC", name).casefold()


Ending = Literal["done", "partial", "failed", "large", "killed", "stop"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the results of a run are to be, and where workers write them."""

    out: Path
    """Folder of the archive, absolute."""
    raster: Path | None
    """Folder of the rasters, absolute."""
    run: str
    """Name of the folder, in both, that workers write into."""
    suffix: str
    """Of the vector files: names the format."""

    @property
    def token(self) -> Path:
        """The file by which a worker knows that it sees the folder of the run."""
        return self.out / self.run / "run"

    @property
    def area(self) -> Path:
        """The file of the area that scenes are clipped by; no scene's name begins with a dot."""
        return self.out / self.run / ".aoi.parquet"

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that results are in."""
        return (self.out,) if self.raster is None else (self.out, self.raster)

    def targets(self, name: str) -> tuple[Path, ...]:
        """Return the files of a result, where they are to be."""
        vector = self.out / f"{name}{self.suffix}"
        return (vector,) if self.raster is None else (vector, self.raster / f"{name}.tif")

    def files(self, name: str) -> tuple[str, ...]:
        """Return the same as paths from the folder of the archive, as its manifest holds them."""
        return tuple(os.path.relpath(path, self.out) for path in self.targets(name))

    def staged(self, target: Path) -> Path:
        """Return where a worker writes what is to be moved to `target`."""
        root = self.raster if self.raster is not None and target.suffix == ".tif" else self.out
        return root / self.run / target.relative_to(root)

    def report(self, name: str) -> Path:
        """Return the file that says what became of a scene."""
        return self.out / self.run / f"{name}.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scene that a worker has had."""

    name: str
    ending: Ending
    """``large``: it was left, as it takes all workers; ``killed``: workers died of it; ``stop``: the others
    would meet the same, such as a full disk."""
    reason: str = ""
    run: str = ""
    """Name of the folder that the files are in."""
    identity: str = ""
    digest: str = ""
    seconds: float = 0.0
    features: int | None = None
    coverage: float | None = None
    pixels: int | None = None
    blocks: int = 0
    """Blocks that were inferred, or that a scene has that was left."""
    deaths: int = 0
    """Workers that died of it."""


def read_report(path: Path) -> Outcome | None:
    """Return what a scene came to; None where there is no report."""
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def move_into_place(places: Places, outcome: Outcome) -> bool:
    """Move the files of a result to where they are to be; False where one is neither here nor there.

    What was moved before, by a run that was killed between here and its manifest, counts. Only then is the
    journal of the scene of no use any more.
    """
    from geoseg.prediction.journal import Journal

    theirs = replace(places, run=outcome.run)
    for target in places.targets(outcome.name):
        staged = theirs.staged(target)
        try:
            with telling_full_disks(target):
                staged.replace(target)
        except FileNotFoundError:
            if not target.exists():
                return False
    Journal.beside(places.targets(outcome.name)[0], outcome.digest).remove()
    return True


def sync_folders(places: Places, names: Iterable[str]) -> None:
    """Bring the names of results to the disk."""
    for folder in {target.parent for name in names for target in places.targets(name)}:
        with contextlib.suppress(OSError):  # some network file systems cannot
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def forget_reports(places: Places, names: Iterable[str]) -> None:
    """Remove reports that the manifest holds by now."""
    for name in names:
        places.report(name).unlink(missing_ok=True)


def left_behind(places: Places) -> Iterator[Outcome]:
    """Yield what each scene came to that an earlier run finished and did not write down."""
    for folder in old_runs(places.out, places.run):
        for path in sorted(folder.rglob("*.json")):
            outcome = read_report(path)
            if outcome is not None:
                yield outcome


def old_runs(folder: Path, run: str) -> list[Path]:
    """Return the folders of earlier runs of the same shard."""
    prefix = run[: run.rindex("-") + 1]
    return [
        path
        for path in folder.glob(f"{prefix}*")
        if path.name != run and "-" not in path.name.removeprefix(prefix) and path.is_dir()
    ]


def remove_runs(places: Places, *, own: bool = False) -> None:
    """Remove the folders of earlier runs; or of this one, unless it holds results that the next may take."""
    if own and next((places.out / places.run).rglob("*.json"), None) is not None:
        return
    for root in places.roots:
        for path in [root / places.run] if own else old_runs(root, places.run):
            shutil.rmtree(path, ignore_errors=True)


def make_folder(path: Path) -> Path:
    """Make a folder of results, and return its absolute path.

    Raises
    ------
    UnwritableOutput
    """
    url = re.sub(r"^(\w+):/+", r"\1://", os.fspath(path))  # as it was before it became a path
    if remote_uri(url) is not None:
        raise UnwritableOutput(f"{url}: results need a folder on a disk that all workers share, not a URL")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{path}: cannot be made ({error.strerror})") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UnwritableOutput(f"{path}: the folder is not writable")
    return path.absolute()
