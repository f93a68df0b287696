"""Tables of text with a column of WKT, read without GDAL: nothing in them can refer to anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption

_SEPARATORS = ",;\t|"
# After its word a geometry goes on, and the name of a place that begins with one does not.
_WKT = re.compile(
    r"""\s*(?:SRID=(\d+);)?
    \s*((?:(?:MULTI)?(POLYGON|LINESTRING|POINT)|GEOMETRYCOLLECTION)\s*(?:Z|M|ZM)?\s*(?:\(|EMPTY\b).*)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def read_csv(
    path: Path, name: str, columns: Sequence[str]
) -> tuple[NDArray[np.object_], dict[str, NDArray[Any]], tuple[str, ...], str | None]:
    """Read geometries and attributes.

    The separator is the one of ``, ; | TAB`` that the first line has most of, the geometry the first
    column that holds polygons as WKT, or as EWKT as PostGIS writes it (``SRID=32633;POLYGON (...)``),
    else the first that holds any other geometries.

    Parameters
    ----------
    path : Path
        UTF-8, with the names of the columns in its first line.
    name : str
        What the user called it, for messages.
    columns : sequence of str
        Attributes to read; those that it lacks are left out.

    Returns
    -------
    geometries : ndarray of geometry or None, shape (n,)
    values : dict of str to ndarray of (str or None), each of shape (n,)
    available : tuple of str
        All columns but that of the geometry.
    crs : str or None
        If the geometries name one.

    Raises
    ------
    InvalidOption
        If it is no such table, a geometry cannot be read, or they name several CRS.
    """
    head, *rows = _cells(path, name)
    width = len(head)
    firsts = [_WKT.match(_first([row[i] for row in rows])) for i in range(width)]
    found = [i for i, match in enumerate(firsts) if match]
    polygons = [i for i in found if (match := firsts[i]) and (match[3] or "").upper() == "POLYGON"]
    geometry = next(iter(polygons or found), None)
    if geometry is None:
        raise InvalidOption(
            f"{name}: has no column of polygons as WKT; name its geometry in one, "
            "such as POLYGON ((0 0, 9 0, 9 9, 0 0))"
        )
    geometries, crs = _geometries([row[geometry] for row in rows], name)
    values = {
        head[i]: np.array([row[i] or None for row in rows], object)
        for i in range(width)
        if head[i] in columns and i != geometry
    }
    available = tuple(head[i] for i in range(width) if i != geometry)
    return geometries, values, available, crs


def _cells(path: Path, name: str) -> list[list[str]]:
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=first.count)
            # Without a header: with one, a line that is longer shifts the columns.
            table = pd.read_csv(file, sep=separator, header=None, dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split())
        raise InvalidOption(f"{name}: cannot be read as CSV in UTF-8 ({reason})") from None
    return [[str(cell) for cell in row] for row in table.fillna("").to_numpy()]


def _first(cells: Sequence[str]) -> str:
    return next((cell for cell in cells if cell.strip()), "")


def _geometries(cells: Sequence[str], name: str) -> tuple[NDArray[np.object_], str | None]:
    found = [_WKT.match(cell) for cell in cells]
    texts = [match[2] if match else (cell or None) for match, cell in zip(found, cells, strict=True)]
    geometries = shapely.from_wkt(np.array(texts, object), on_invalid="ignore")
    bad = [i for i, text in enumerate(texts) if text is not None and geometries[i] is None]
    if bad:
        raise InvalidOption(f"{name}: the geometry of row {bad[0] + 1} cannot be read as WKT")
    codes = {match[1] for match in found if match}
    if len(codes) > 1:
        named = ", ".join(sorted(f"SRID {code}" if code else "none" for code in codes))
        raise InvalidOption(f"{name}: its geometries name several CRS ({named}); write it again with one")
    code = next(iter(codes), None)
    crs = f"EPSG:{code}" if code and int(code) else None
    return np.asarray(shapely.force_2d(geometries), object), crs
