"""Reading what an ONNX file says about itself, without the `onnx` package.

Shapes and metadata come from ONNX Runtime. Where its weights lie is read from the file itself,
before any runtime opens it: an ONNX file may name other files to read tensors from.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from geoseg.errors import InvalidModel

# The messages of onnx.proto on the way to a tensor, with the numbers of the fields that lead on.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_MAX_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_files(path: Path) -> tuple[str, ...]:
    """Return the names of the files beside `path` that hold some of its weights.

    Raises
    ------
    InvalidModel
        If the file is no ONNX file, or names a file outside its folder, or one that is missing.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            names = sorted(set(_locations(data, (0, len(data)), "model", 0)))
    except (ValueError, IndexError) as error:
        raise InvalidModel(f"{path}: is no ONNX file: {error}") from error
    for name in names:
        if name != Path(name).name or name in ("", "..") or "\\" in name:
            raise InvalidModel(f"{path}: wants to read weights from {name!r}, outside its own folder")
        if not (path.parent / name).is_file():
            raise InvalidModel(f"{path}: its weights are in {name}, which is not beside it")
    return tuple(names)


def _locations(data: mmap.mmap, span: tuple[int, int], message: str, depth: int) -> Iterator[str]:
    """Yield each file that a tensor inside the message at `span` of `data` names."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    children = _CHILDREN[message]
    for number, start, stop in _fields(data, span):
        child = children.get(number)
        if child == "entry":
            pair = {key: data[a:b] for key, a, b in _fields(data, (start, stop))}
            if pair.get(1) == b"location":
                yield pair.get(2, b"").decode("utf-8", "backslashreplace")
        elif child is not None:
            yield from _locations(data, (start, stop), child, depth + 1)


def _fields(data: mmap.mmap, span: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, start, stop) of each length-delimited field; skip the others.

    The wire format: https://protobuf.dev/programming-guides/encoding/
    """
    at, end = span
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length, start = _varint(data, at)
            at = start + length
            if at <= end:
                yield number, start, at
        else:
            raise ValueError(f"wire type {wire}")
        if at > end:
            raise ValueError("a field reaches beyond its message")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 10 bytes")
