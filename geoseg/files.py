"""Atomic writing: a name never stands for a half-written file; digests that tell files apart.

Everything that geoseg writes goes through `replacing`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from geoseg.errors import GeosegError, InvalidOption, NoSpaceLeft, UnwritableOutput

LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""

_SIDECARS = ("-journal", "-wal", "-shm", ".aux.xml", ".msk", ".ovr")
"""What SQLite and GDAL keep beside a file; beside another file of the name, it would corrupt it."""


_FULL = {
    errno.ENOSPC: "no space left in {folder}",
    errno.EDQUOT: "the quota of disk space is used up in {folder}",
    errno.EFBIG: "files may not grow any further in {folder} (a limit of the file system, or ulimit -f)",
}
_WORDS = (
    (re.compile(r"no space left|disk is full", re.IGNORECASE), errno.ENOSPC),
    (re.compile(r"quota exceeded", re.IGNORECASE), errno.EDQUOT),
    (re.compile(r"file too large", re.IGNORECASE), errno.EFBIG),
)
"""How libraries that have no error numbers say so: SQLite, GDAL, Arrow."""

_TRIAL = 1 << 18
"""Bytes that are tried to be written where a library does not say why it could not."""


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` on success.

    The temporary name keeps the suffix (drivers look at it), is hidden and short, so that names of
    255 bytes still work; folders that are missing are made. On any exception, Ctrl-C included, the
    temporary file or folder and the sidecars that GDAL or SQLite left beside it are removed and `path`
    stays as it was. What a process that was killed left behind is removed by the next one that writes
    `path`.

    Parameters
    ----------
    path : Path
        A file, or a folder where the caller makes the temporary path a folder.
    overwrite : bool
        False: an existing `path` is never replaced, even one that appeared meanwhile.

    Raises
    ------
    UnwritableOutput
        If the folder is not writable, or `path` exists and `overwrite` is False.
    NoSpaceLeft
        If writing failed because the disk is full, or a quota or limit is reached.
    """
    check_writable(path, overwrite=overwrite)
    temporary = _temporary(path)
    try:
        with telling_full_disks(path):
            yield temporary
            for file in temporary.iterdir() if temporary.is_dir() else ():
                _sync(file)
            _sync(temporary)
            if overwrite or not path.exists():
                for sidecar in _SIDECARS:
                    _remove(path.with_name(path.name + sidecar))
            _publish(temporary, path, overwrite)
            _sync(path.parent)
    finally:
        _remove(temporary)
        for sidecar in _SIDECARS:
            _remove(temporary.with_name(temporary.name + sidecar))


def check_not_read(out: Path, *inputs: Path) -> None:
    """Check, before any work is done, that an output is none of the files that are read.

    Raises
    ------
    InvalidOption
        If it is, by whatever name.
    """
    for path in inputs:
        if out.exists() and path.exists() and out.samefile(path):
            raise InvalidOption(f"{out}: is the file that is read; write to another")


@contextlib.contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `path` for files on the way to it; removed at the end.

    Nobody else can read it.
    What a process that was killed left behind is removed by the next one that writes `path`.
    """
    folder = _temporary(path)
    folder.mkdir(0o700)
    try:
        yield folder
    finally:
        _remove(folder)


@contextlib.contextmanager
def telling_full_disks(path: Path) -> Iterator[None]:
    """Turn whatever is raised while `path` is written into `NoSpaceLeft` if that is the reason.

    Where an error does not say so, it is tried whether a file in the folder can grow: so this has to be
    inside of what removes the files that filled the disk.

    Raises
    ------
    NoSpaceLeft
    """
    try:
        yield
    except Exception as error:
        foreign = not isinstance(error, GeosegError)
        if isinstance(error, NoSpaceLeft) or not (foreign or isinstance(error, UnwritableOutput)):
            raise
        number = _said_full(error) or _found_full(path)
        if number is None:
            raise
        reason = _FULL[number].format(folder=path.absolute().parent)
        raise NoSpaceLeft(f"{path}: {reason}; make room there, or write to another folder") from error


def _said_full(error: BaseException | None) -> int | None:
    """Return the number that an error, or one that caused it, has for a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error.errno
        for words, number in _WORDS:
            if words.search(str(error)):
                return number
        error = error.__cause__ or error.__context__
    return None


def _found_full(path: Path) -> int | None:
    """Try to write beside `path`, as far into a file as the largest unfinished one reaches."""
    folder = path.absolute().parent
    trial = folder / f"{_stem(path)}{os.getpid()}-{secrets.token_hex(3)}.tmp"
    try:
        begun = [*folder.glob(f"{_stem(path)}*"), *folder.glob(f"{_stem(path)}*/*")]
        reached = max((one.stat().st_size for one in begun if one.is_file()), default=0)
        with trial.open("wb") as file:
            file.seek(reached)
            file.write(bytes(_TRIAL))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno if error.errno in _FULL else None
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()
    return None


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Check, before any work is done, that `path` can be written; folders that are missing will be made.

    Raises
    ------
    UnwritableOutput
        If the folder is not writable, or `path` exists and `overwrite` is False.
    """
    if not is_utf8(path):
        raise UnwritableOutput(f"{path}: cannot be written: its name, or a folder's, is not valid UTF-8")
    there = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not there.is_dir():
        raise UnwritableOutput(f"{path}: {there} is not a folder")
    try:
        exists = path.exists()
    except OSError as error:  # such as a name that is too long
        raise UnwritableOutput(f"{path}: cannot be written: {error.strerror}") from error
    if exists and not overwrite:
        raise UnwritableOutput(f"{path}: exists already; give --overwrite to replace it")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UnwritableOutput(f"{path}: the folder {there} is not writable")


def is_utf8(path: Path) -> bool:
    r"""Tell whether a path is valid UTF-8, as libraries need it.

    >>> is_utf8(Path("café")), is_utf8(Path("caf\udce9"))
    (True, False)
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def fingerprint(path: Path, *, sample: int = 1 << 20) -> str:
    """Return a short digest that changes when a file's content is replaced.

    Of a file of up to twice `sample` bytes all are hashed, and a copy of it has the same digest. Of a larger
    one size, modification time and the first and last `sample` bytes are: a scene of 100 GB is told from its
    next version without being read.
    """
    status = path.stat()
    facts = str(status.st_size) if status.st_size <= 2 * sample else f"{status.st_size} {status.st_mtime_ns}"
    digest = hashlib.sha256(facts.encode())
    with path.open("rb") as file:
        digest.update(file.read(sample))
        if status.st_size > sample:
            file.seek(max(sample, status.st_size - sample))
            digest.update(file.read(sample))
    return digest.hexdigest()[:32]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a whole file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha1(path: Path) -> str:
    """Return the SHA-1 of a whole file as 40 hexadecimal digits: what ONNX names other files by.

    It tells files apart that were mixed up; against an attacker `sha256` is the one to use.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.sha1, usedforsecurity=False)).hexdigest()


def _stem(path: Path) -> str:
    """Return how the temporary names of `path` begin on this machine."""
    return f".{hashlib.sha256(f'{platform.node()} {path.name}'.encode()).hexdigest()[:10]}-"


def _temporary(path: Path) -> Path:
    """Return a new name beside `path`, after removing what processes that are gone left under such names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = _stem(path)
    for name in os.listdir(path.parent):
        owner = name.removeprefix(stem).partition("-")[0]
        if name.startswith(stem) and owner.isdigit() and not _is_running(int(owner)):
            _remove(path.parent / name)
    return path.parent / f"{stem}{os.getpid()}-{secrets.token_hex(3)}.tmp{path.suffix}"


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere, asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs and belongs to somebody else
        return True
    return True


def _publish(temporary: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        # A hard link fails if the name exists: nobody's file is lost to a race.
        with contextlib.suppress(OSError):  # a folder, or a file system without hard links
            os.link(temporary, path)
            return
        if os.path.lexists(path):
            raise UnwritableOutput(f"{path}: exists already; give --overwrite to replace it")
        temporary.rename(path)
        return
    if path.is_dir() and not path.is_symlink():
        retired = path.parent / f".{secrets.token_hex(6)}.old"
        path.rename(retired)
        temporary.rename(path)
        _remove(retired)
        return
    temporary.replace(path)


def _sync(path: Path) -> None:
    """Bring a file to the disk, or a folder's list of names: not what the files in it hold."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot sync a folder, others are full only here
        if error.errno in _FULL or error.errno == errno.EIO:
            raise
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        return  # a sidecar that no file system could hold
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def cache_folder(name: str) -> Path:
    """Return a folder of geoseg's in the user's cache (XDG base directories); it may not exist.

    Raises
    ------
    RuntimeError
        If the user has no home.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "geoseg" / name
