"""The CRS of a vector file: from the file or from beside it, and no reason to open other files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import InvalidOption

if TYPE_CHECKING:
    import pyproj

_CODE = re.compile(r"EPSG:\d+", re.IGNORECASE)

# A CRS may name grids of shifts and other tables. PROJ opens them as soon as it makes an operation of it,
# which GDAL does while it reads a file: a bare name in its own folders, a path anywhere, and, if a user
# lets it, a URL. So a name has to be bare. In WKT they are files of parameters, or within a string of
# PROJ's own, where the plus is optional and spaces surround anything.
_STRING = re.compile(r"(?<![\w?&])(?:proj|init)\s*=", re.IGNORECASE)
_PARAMETER = re.compile(r"(?<![\w?&])(\w*grids|init|file|model|catalog)\s*=\s*", re.IGNORECASE)
_NAME = r"@?\w[\w.-]*"
_BARE = re.compile(rf"{_NAME}(?:\s*,\s*{_NAME})*(?=[\s;\"'\]<]|$)")
_BARE_SECTION = re.compile(r"\w[\w.-]*:[\w.-]+(?=[\s;\"'\]<]|$)")  # init=epsg:4326
_FILE = re.compile(r"PARAMETERFILE\s*[\[(]|PROJ4_GRIDS", re.IGNORECASE)
_BARE_FILE = re.compile(
    rf"""(?:PARAMETERFILE\s*[\[(]\s*"(?:[^"]|"")*" | PROJ4_GRIDS")
    \s*,\s*"{_NAME}(?:,{_NAME})*"(?!")""",
    re.VERBOSE | re.IGNORECASE,
)


def other_file(text: str) -> str | None:
    """Return the file that a CRS in this text names other than by a bare name; None: there is none.

    Parameters
    ----------
    text : str
        WKT, a string of PROJ's, or any text that may hold either.
    """
    for keyword in _FILE.finditer(text):
        if not _BARE_FILE.match(text, keyword.start()):
            return _shown(text, keyword.start())
    if not _STRING.search(text):
        return None
    for parameter in _PARAMETER.finditer(text):
        bare = _BARE_SECTION if parameter[1].lower() == "init" else _BARE
        if not bare.match(text, parameter.end()):
            return _shown(text, parameter.start())
    return None


def crs_of(found: object, path: Path, name: str) -> pyproj.CRS | None:
    """Return the CRS of a vector file.

    Parameters
    ----------
    found : object
        What the file says, in any form that pyproj takes; None: nothing.
    path : Path
        If the file says nothing, the one that has its name and ends in .prj is asked: WKT, or a code such
        as EPSG:32633.
    name : str
        What the user called it, for messages.

    Raises
    ------
    InvalidOption
        If the CRS cannot be read, or names other files by their paths.
    """
    import pyproj

    beside = path.with_suffix(".prj")
    if found is None and not beside.is_file():
        return None
    origin = name if found is not None else str(beside)
    text = str(found) if found is not None else beside.read_text("utf-8-sig", "replace").strip()
    # Before it is made, since a file of definitions is opened at once; and after, in whatever form it was.
    named = other_file(text)
    if not named:
        known = found is not None or _CODE.fullmatch(text)
        try:
            crs = pyproj.CRS.from_user_input(text) if known else pyproj.CRS.from_wkt(text)
        except pyproj.exceptions.CRSError:
            raise InvalidOption(f"{origin}: holds no CRS (WKT, or a code such as EPSG:32633)") from None
        named = other_file(crs.to_wkt())
    if named:
        raise InvalidOption(
            f"{name}: its CRS refers to another file ({named}); write it again in another CRS"
        )
    return crs


def without_crs(path: Path) -> InvalidOption:
    """Return the error for a file that needs a CRS and has none."""
    beside = path.with_suffix(".prj").name
    return InvalidOption(
        f"{path}: has no CRS; put the code of the one that its coordinates are in, such as EPSG:32633, "
        f"into {beside} beside it, or write it again with one"
    )


def _shown(text: str, start: int) -> str:
    return " ".join(text[start : start + 80].split())
