"""Lists of scenes as rows: text, CSV, and footprints in a GeoPackage, GeoParquet or other vector file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geoseg.archive.area import Degrees, bounds_in_degrees
from geoseg.errors import InvalidOption

LOCATION_COLUMNS = (
    "location",
    "path",
    "filepath",
    "file",
    "filename",
    "href",
    "url",
    "uri",
    "scene",
    "image",
)
"""Columns that name rasters, the first that is there; ``location`` is what gdaltindex writes."""

_SEPARATORS = ",;\t|"
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?|[-+]?\.\d+")


@dataclass(frozen=True, slots=True)
class Row:
    """A scene in a list."""

    location: str
    """As it stands there."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """What else the list says of it."""
    bbox: Degrees | None = None
    """Where it lies; None: the list does not say."""


def read_text(content: bytes, name: str) -> list[Row]:
    r"""Return the rows of a text list: a path or URL a line; empty lines and those with # first are none.

    Parameters
    ----------
    content : bytes
        UTF-8, with or without a byte order mark; any line ends.
    name : str
        What the user called it, for messages.

    Raises
    ------
    InvalidOption
        If it is no text in UTF-8.

    Examples
    --------
    >>> [row.location for row in read_text(b"# mine\r\na.tif\r\n\r\nb c;d!.tif\r\n", "list.txt")]
    ['a.tif', 'b c;d!.tif']
    """
    lines = (line.strip() for line in io.StringIO(_decoded(content, name), newline=None))
    return [Row(line) for line in lines if line and not line.startswith("#")]


def read_csv(content: bytes, name: str) -> list[Row]:
    r"""Return the rows of a CSV list, whose first line names the columns.

    The separator is the one of ``, ; | TAB`` that the first line has most of. A column whose cells are all
    numbers holds numbers; an empty cell is None.

    Raises
    ------
    InvalidOption
        If it is no such table, or has no column of `LOCATION_COLUMNS`.

    Examples
    --------
    >>> read_csv(b"location,cloud\na.tif,7.5\nb.tif,\n", "list.csv")[0].properties
    {'cloud': 7.5}
    """
    text = _decoded(content, name)
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    separator = max(_SEPARATORS, key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        found = [
            (reader.line_num, [cell.strip() for cell in row])
            for row in reader
            if any(map(str.strip, row)) and not row[0].startswith("#")
        ]
    except csv.Error as error:
        raise InvalidOption(f"{name}: cannot be read as CSV ({error})") from None
    if not found:
        raise InvalidOption(f"{name}: lists no scenes")
    (_, head), *rows = found
    column = location_column(head, name)
    for number, row in rows:
        if len(row) > len(head):
            raise InvalidOption(
                f"{name}: line {number} has {len(row)} cells, the first line {len(head)}; "
                "put cells that hold the separator into quotes"
            )
    table = {title: [row[i] if i < len(row) else "" for _, row in rows] for i, title in enumerate(head)}
    locations = table.pop(column)
    where = [f"{name}: line {number}" for number, _ in rows]
    return _rows(locations, where, {title: _typed(cells) for title, cells in table.items()})


def read_footprints(path: Path, name: str) -> list[Row]:
    """Return the rows of an index of footprints: a vector file with a column of paths.

    Raises
    ------
    InvalidOption
        If it cannot be read (see `geoseg.vectorfiles.layers.read_layer`), or has no column of
        `LOCATION_COLUMNS`.
    """
    import shapely

    from geoseg.vectorfiles.layers import read_layer

    again = f"ogr2ogr one.gpkg {name}"  # ends in a layer's name where there are several
    available = read_layer(path, name, option=again).available
    column = location_column(available, name)
    layer = read_layer(path, name, columns=available, option=again)
    locations = [None if value is None else str(value) for value in layer.columns[column]]
    properties = {
        title: [_plain(value) for value in values]
        for title, values in layer.columns.items()
        if title != column
    }
    extents = None if layer.crs is None else bounds_in_degrees(shapely.bounds(layer.geometries), layer.crs)
    where = [f"{name}: feature {number}" for number in range(1, len(locations) + 1)]
    return _rows(locations, where, properties, extents)


def location_column(columns: Iterable[str], name: str) -> str:
    """Return the column that names rasters.

    Raises
    ------
    InvalidOption
        If there is none; the message names the columns.
    """
    known = {title.casefold(): title for title in columns}
    column = next((known[title] for title in LOCATION_COLUMNS if title in known), None)
    if column is None:
        *some, last = LOCATION_COLUMNS
        raise InvalidOption(
            f"{name}: has no column of paths ({', '.join(some)} or {last}); "
            f"its columns are {', '.join(known.values()) or 'none'}"
        )
    return column


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidOption(
            f"{name}: is no text in UTF-8 (byte {error.start}); convert it: iconv -f LATIN1 -t UTF-8"
        ) from None
    if "\0" in text:
        raise InvalidOption(f"{name}: is no text; a list of scenes is text, CSV, or footprints")
    return text


def _rows(
    locations: Sequence[str | None],
    where: Sequence[str],
    properties: Mapping[str, Sequence[Any]],
    extents: Sequence[Degrees | None] | None = None,
) -> list[Row]:
    for location, place in zip(locations, where, strict=True):
        if not location or not location.strip():
            raise InvalidOption(f"{place}: names no raster, its path is empty; fill it in, or remove it")
    titles = tuple(properties)
    values = zip(*properties.values(), strict=True) if titles else iter([()] * len(locations))
    rows = zip(locations, values, extents or [None] * len(locations), strict=True)
    return [
        Row(str(location).strip(), dict(zip(titles, row, strict=True)), bbox) for location, row, bbox in rows
    ]


def _typed(cells: list[str]) -> list[Any]:
    """Return a column's numbers, if all of its cells are such, else its text; None where a cell is empty."""
    if all(_NUMBER.fullmatch(cell) for cell in cells if cell):
        return [float(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]


def _plain(value: Any) -> Any:
    """Return a value of a vector file's column as JSON has it."""
    if isinstance(value, np.generic):
        value = str(value) if isinstance(value, np.datetime64) else value.item()
    if value is None or str(value) in {"nan", "NaT"}:  # what stands for nothing
        return None
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return value if isinstance(value, str | int | float | bool) else str(value)
