"""The CRS of a vector file, which opens no other file, and the way from it to the pixels of a grid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPoint
from shapely.geometry.base import BaseGeometry

from geoseg.errors import InvalidOption
from geoseg.values import GeoBox

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


def way(origin: pyproj.CRS | str, target: pyproj.CRS | str) -> pyproj.Transformer:
    """Return what carries x, y (east, north) of one CRS to another.

    Raises
    ------
    InvalidOption
        If PROJ knows no way, as from a site's own axes, or another planet.
    """
    import pyproj
    from pyproj.exceptions import ProjError

    one, two = pyproj.CRS.from_user_input(origin), pyproj.CRS.from_user_input(target)
    try:
        return pyproj.Transformer.from_crs(one, two, always_xy=True)
    except ProjError as error:
        raise InvalidOption(f"PROJ knows no way from the CRS {one.name} to {two.name}") from error


def _shown(text: str, start: int) -> str:
    return " ".join(text[start : start + 80].split())


_STEPS = 512
"""Edges get a vertex at least every scene diagonal / `_STEPS` before they are reprojected."""


def place_in_pixels(areas: Any, crs: pyproj.CRS, geobox: GeoBox, name: str) -> Any:
    """Carry polygons over into pixel coordinates of a grid, following edges that become curves.

    Parameters
    ----------
    areas : geometry or ndarray of geometries
        Valid, in `crs`. Where that is not the grid's, what lies further from the grid than an
        eighth of its extent is cut off.
    geobox : GeoBox
        Has a CRS.
    name : str
        For messages.

    Raises
    ------
    InvalidOption
        If one CRS is not defined where the other is needed.
    """
    import pyproj

    check_degrees(areas, crs, geobox, name)
    target = pyproj.CRS.from_user_input(geobox.crs)
    if crs.equals(target, ignore_axis_order=True):
        return shapely.transform(areas, geobox.to_pixels)
    forward, ground = way(crs, target), _ground_in(geobox, way(target, crs))
    if not np.isfinite(ground.bounds).all():
        raise InvalidOption(f"{name}: the scene has no place in its CRS ({crs.name})")
    # Only the neighbourhood of the scene is carried over: elsewhere the projection may be undefined.
    west, south, east, north = ground.bounds
    reach = max(east - west, north - south)
    near = shapely.intersection(areas, ground.envelope.buffer(reach / 8, join_style="mitre"))
    dense = shapely.segmentize(near, reach / _STEPS)

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return geobox.to_pixels(np.column_stack(forward.transform(points[:, 0], points[:, 1])))

    placed = shapely.transform(dense, place)
    if not np.isfinite(shapely.get_coordinates(placed)).all():
        raise InvalidOption(f"{name}: reaches where the scene's CRS ({target.name}) is not defined")
    return shapely.make_valid(placed)


def _ground_in(geobox: GeoBox, backward: pyproj.Transformer) -> BaseGeometry:
    outline = shapely.segmentize(shapely.box(0, 0, geobox.width, geobox.height), geobox.width / 64)
    corners = geobox.to_crs(shapely.get_coordinates(outline))
    x, y = backward.transform(corners[:, 0], corners[:, 1])
    return MultiPoint(np.column_stack([x, y]))


def in_degrees(bounds: Sequence[float]) -> bool:
    """Tell whether west, south, east, north can be longitudes and latitudes, or nothing at all (NaN).

    Examples
    --------
    >>> in_degrees((13.1, 52.3, 13.8, 52.7)), in_degrees((500_000, 5_000_000, 500_100, 5_000_100))
    (True, False)
    """
    west, south, east, north = bounds
    return not (west < -361 or east > 361 or south < -90.1 or north > 90.1)


def check_degrees(areas: Any, crs: pyproj.CRS, geobox: GeoBox | None, name: str) -> None:
    """Check that coordinates in a CRS of longitudes and latitudes can be such.

    Raises
    ------
    InvalidOption
        If not: GeoJSON without ``crs`` is taken for longitudes and latitudes, whatever it holds.
    """
    if np.size(areas) and crs.is_geographic and not in_degrees(shapely.total_bounds(areas).tolist()):
        raise InvalidOption(
            f"{name}: its coordinates cannot be degrees, as its CRS says (and GeoJSON that names none): "
            f"{extents(areas, crs, geobox)}; name the right CRS: ogr2ogr -a_srs EPSG:CODE new.gpkg FILE"
        )


def extents(areas: Any, crs: pyproj.CRS | None, geobox: GeoBox | None, ground: str = "the scene") -> str:
    """Say where areas and a scene, or other ground, lie, each in its CRS."""
    covered = f"it covers {_extent(shapely.total_bounds(areas).tolist(), crs)}"
    return covered if geobox is None else f"{covered}, {ground} {extent_of(geobox)}"


def extent_of(geobox: GeoBox) -> str:
    """Say where a grid lies, in its CRS.

    Examples
    --------
    >>> extent_of(GeoBox(20, 30, (0.5, 0, 500_000, 0, -0.5, 5_000_000), "EPSG:32633"))
    'x 500000 to 500015, y 4999990 to 5000000 in WGS 84 / UTM zone 33N (EPSG:32633)'
    """
    import pyproj

    corners = shapely.transform(shapely.box(0, 0, geobox.width, geobox.height), geobox.to_crs)
    crs = None if geobox.crs is None else pyproj.CRS.from_user_input(geobox.crs)
    return _extent(corners.bounds, crs)


def _extent(bounds: Sequence[float], crs: pyproj.CRS | None) -> str:
    digits = 4 if in_degrees(bounds) else 0
    west, south, east, north = (f"{value:.{digits}f}" for value in bounds)
    code = crs and crs.to_authority()
    named = "no CRS" if crs is None else f"{crs.name} ({':'.join(code)})" if code else crs.name
    return f"x {west} to {east}, y {south} to {north} in {named}"
