"""Where an ONNX file keeps its weights, read from its bytes before any runtime opens it.

An ONNX file may name other files to read tensors from, also ``../../etc/passwd``. Pure, and without
the package onnx, which is needed for export only.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class External:
    """A file beside an ONNX file that holds some of its tensors."""

    size: int = 0
    """Bytes that it must have at least: where the last tensor ends, as far as lengths are given."""
    checksums: frozenset[str] = frozenset()
    """The SHA-1 that it must have, in lower case, where one is given."""


def external_files(data: bytes | mmap.mmap) -> dict[str, External]:
    """Return the files that an ONNX file's tensors are said to lie in, relative to its folder, sorted.

    The keys of a tensor that lies elsewhere: https://onnx.ai/onnx/repo-docs/ExternalData.html

    Parameters
    ----------
    data : bytes or mmap
        The whole file; only what leads to tensors is looked at, numbers are skipped.

    Raises
    ------
    ValueError
        If it is no ONNX file.
    """
    found: dict[str, External] = {}
    try:
        for said in _references(data, (0, len(data)), "model", 0):
            offset = max(map(_number, said.get("offset", ())), default=0)
            size = offset + max(map(_number, said.get("length", ())), default=0)
            checksums = frozenset(map(str.lower, filter(None, said.get("checksum", ()))))
            for location in said.get("location", ()):
                known = found.get(location, External())
                found[location] = External(max(known.size, size), known.checksums | checksums)
    except IndexError as error:
        raise ValueError("ends in the middle of a field") from error
    return dict(sorted(found.items()))


def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 19:
        raise ValueError(f"a tensor lies at {value[:20]!r} of another file")
    return int(value)


def _references(
    data: bytes | mmap.mmap, span: tuple[int, int], message: str, depth: int
) -> Iterator[dict[str, list[str]]]:
    """Yield by which values of which keys each tensor inside the message at `span` refers to a file.

    All values of a key: a file may give one twice, and runtimes differ in which they take.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    children = _CHILDREN[message]
    said: dict[str, list[str]] = {}
    for number, start, stop in _fields(data, span):
        child = children.get(number)
        if child == "entry":
            pair = {1: "", 2: ""}
            for key, a, b in _fields(data, (start, stop)):
                pair[key] = data[a:b].decode("utf-8", "backslashreplace")
            said.setdefault(pair[1], []).append(pair[2])
        elif child is not None:
            yield from _references(data, (start, stop), child, depth + 1)
    if said:
        yield said


def _fields(data: bytes | mmap.mmap, span: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
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


def _varint(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 10 bytes")
