"""What tells the content of a scene from any other, without reading all of it; it survives copying.

Hashed are the size of the file, its beginning, the lengths of all its blocks as a TIFF lists them, and
samples spread over it; and the same of the files beside it that GDAL reads along.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from geoseg.errors import UnreadableScene
from geoseg.files import sha256
from geoseg.raster.drivers import VRT_LIMIT, vrt_sources

SAMPLES, SAMPLE = 16, 4096
"""Places that are looked at, and bytes at each."""

HEADER = 1 << 16
"""Bytes of the beginning."""

BESIDE = (".msk", ".ovr", ".aux.xml")
"""Ends of the names of files that GDAL reads along with another."""

_BYTE_COUNTS = (279, 325)  # StripByteCounts, TileByteCounts
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_MOST_DIRECTORIES = 256


def identity_of(path: Path) -> str:
    """Return what tells a scene's content from any other: 32 hexadecimal digits.

    Parameters
    ----------
    path : Path
        A file; of a VRT, the files that it shows count as well.

    Raises
    ------
    UnreadableScene
        If it cannot be read.
    """
    digest = hashlib.sha256()
    for file in _files(path):
        for part in _parts(file):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def whole_identity(path: Path) -> str:
    """Return the same of all bytes of a scene: 64 hexadecimal digits."""
    files = list(_files(path))
    return hashlib.sha256(" ".join(map(sha256, files)).encode()).hexdigest()


def stamp_of(path: Path) -> str:
    """Return size and time of modification of a scene's files: while they stay, it need not be read again.

    Empty for a VRT, whose own file says nothing of those that it shows.

    Raises
    ------
    UnreadableScene
        If it is not there.
    """
    if path.suffix.lower() == ".vrt":
        return ""
    stats = [file.stat() for file in _files(path)]
    return " ".join(f"{one.st_size}:{one.st_mtime_ns}" for one in stats)


def same_scene(one: str, other: str) -> bool:
    """Whether two identities can be those of one scene: of all its bytes, if both were made by ``--verify``.

    Examples
    --------
    >>> same_scene("12ab", "12ab:77"), same_scene("12ab:66", "12ab:77"), same_scene("", "")
    (True, False, False)
    """
    (quick, _, whole), (quick_too, _, whole_too) = one.partition(":"), other.partition(":")
    return bool(quick) and quick == quick_too and not (whole and whole_too and whole != whole_too)


def _files(path: Path) -> Iterator[Path]:
    """Yield a scene's file, what lies beside it, and what it shows if it is a VRT."""
    try:
        if not path.is_file():
            raise UnreadableScene(f"{path}: {'is no file' if path.exists() else 'no such file'}")
        yield path
        yield from (beside for end in BESIDE if (beside := path.with_name(path.name + end)).is_file())
        if path.suffix.lower() == ".vrt":
            with path.open("rb") as file:
                names = vrt_sources(file.read(VRT_LIMIT + 1))
            yield from (path.parent / name for name in names)
    except ValueError as error:
        raise UnreadableScene(f"{path}: a VRT with {error}, which is not accepted") from error
    except OSError as error:
        if isinstance(error, UnreadableScene):
            raise
        raise UnreadableScene(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _parts(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            yield str(size).encode()
            yield file.read(HEADER)
            yield from _byte_counts(file, size)
            for i in range(SAMPLES):
                file.seek(max(0, size - SAMPLE) * i // (SAMPLES - 1))
                yield file.read(SAMPLE)
    except OSError as error:
        raise UnreadableScene(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _byte_counts(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the lengths of all blocks of a TIFF, as they stand in each of its directories.

    TIFF 6.0, sections 2 and 15; BigTIFF: https://www.awaresystems.be/imaging/tiff/bigtiff.html
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16 or head[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        return
    big = b"+" in head[2:4]
    number, pointer, width = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
    place = struct.unpack_from(pointer, head, 8 if big else 4)[0]
    for _ in range(_MOST_DIRECTORIES):
        if not 0 < place < size:
            return
        file.seek(place)
        (count,) = struct.unpack(number, _exactly(file, struct.calcsize(number)))
        entries = _exactly(file, min(count, 1 << 16) * width)
        rest = file.read(struct.calcsize(pointer))
        for at in range(0, len(entries), width):
            tag, kind = struct.unpack_from(f"{order}HH", entries, at)
            values = struct.unpack_from(pointer, entries, at + 4)[0]
            length = values * _SIZES.get(kind, 1)
            inline = entries[at + width - struct.calcsize(pointer) : at + width]
            if tag not in _BYTE_COUNTS:
                continue
            if length > len(inline):
                file.seek(min(struct.unpack(pointer, inline)[0], size))
                inline = file.read(min(length, size))
            yield inline
        place = struct.unpack(pointer, rest)[0] if len(rest) == struct.calcsize(pointer) else 0


def _exactly(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    return found + bytes(size - len(found))  # of a truncated file, zeros: the directory ends there
