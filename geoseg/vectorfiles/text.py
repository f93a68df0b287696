"""GeoJSON, KML and tables with WKT: read without GDAL, so that nothing in them refers to anything."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_GEOMETRIES = frozenset(
    {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection"}
)
_NOTHING = shapely.GeometryCollection()
"""Stands for points and lines, of which no reader of areas wants to know more."""


class VectorLayer(NamedTuple):
    """A layer as it is in its file."""

    geometries: NDArray[np.object_]
    """Geometry or None, shape (n,). Not repaired, two-dimensional, in `crs`. Of GeoJSON and KML polygons
    alone; what else they hold is an empty collection."""
    columns: dict[str, NDArray[Any]]
    """Each of shape (n,). The attributes that were asked for and are there."""
    available: tuple[str, ...]
    """All attributes."""
    crs: Any
    """Here in any form that pyproj takes; None: the file says nothing."""


def read_geojson(path: Path, columns: Container[str]) -> VectorLayer:
    """Read GeoJSON: a collection, a feature or a geometry, or several of these one after another.

    Coordinates are longitudes and latitudes (RFC 7946) unless a member ``crs``, which GeoJSON had before,
    says otherwise.

    Raises
    ------
    ValueError
        If it is no GeoJSON, or names several CRS.
    """
    text = path.read_text("utf-8-sig")
    systems: set[str | None] = set()
    available: dict[str, None] = {}

    def made(found: dict[str, Any]) -> Any:
        """Make a feature or a geometry of an object as it is parsed: lists of numbers are short-lived."""
        kind = found.get("type")
        if kind == "Feature" and "geometry" in found:
            properties = found.get("properties") or {}
            available.update(dict.fromkeys(properties))
            kept = {name: value for name, value in properties.items() if name in columns}
            result: Any = _Feature(found["geometry"], kept)
        elif kind == "FeatureCollection" and isinstance(found.get("features"), list):
            result = tuple(feature for one in found["features"] for feature in _features(one))
        elif isinstance(kind, str) and kind in _GEOMETRIES and {"coordinates", "geometries"} & set(found):
            result = _geometry(found)
        else:
            return found
        if "crs" in found:
            systems.add(_crs_name(found["crs"]))
        return result

    decoder = json.JSONDecoder(object_hook=made)
    features: list[_Feature] = []
    place = _space(text, 0)
    while place < len(text):
        try:
            root, place = decoder.raw_decode(text, place)
        except RecursionError:
            raise ValueError("it nests deeper than any GeoJSON") from None
        features += _features(root)
        place = _space(text, place)
    if len(systems) > 1:
        raise ValueError(f"it names several CRS ({', '.join(sorted(map(str, systems)))})")
    crs = next(iter(systems), "OGC:CRS84")
    return _table(
        [one.geometry for one in features], [one.values for one in features], columns, available, crs
    )


class _Feature(NamedTuple):
    geometry: Any
    values: dict[str, Any]


def _space(text: str, place: int) -> int:
    # In sequences of texts (RFC 8142) each has a mark before it.
    while text[place : place + 1].isspace() or text[place : place + 1] == "\x1e":
        place += 1
    return place


def _features(root: Any) -> tuple[_Feature, ...]:
    if isinstance(root, tuple) and not isinstance(root, _Feature):
        return root
    if isinstance(root, shapely.Geometry):
        return (_Feature(root, {}),)
    if not isinstance(root, _Feature):
        if isinstance(root, dict) and {"images", "annotations"} <= root.keys():
            raise ValueError("it is a COCO file; make polygons of it with: geoseg labels import")
        kind = root.get("type") if isinstance(root, dict) else None
        raise ValueError(f"it holds {kind!r}, which is no GeoJSON" if kind else "it is no GeoJSON")
    if not isinstance(root.geometry, shapely.Geometry | None):
        raise ValueError("a feature has a geometry of no known kind")
    return (root,)


def _polygon(rings: Any) -> shapely.Polygon:
    """Make a polygon; without a ring of three corners it is empty."""
    found = [np.array([place[:2] for place in ring], float).reshape(-1, 2) for ring in rings]
    if not all(np.isfinite(ring).all() for ring in found):
        raise ValueError("a coordinate is no number")
    outline, *holes = [ring if len(ring) - (ring[:1] == ring[-1:]).all() > 2 else None for ring in found] or [
        None
    ]
    return shapely.Polygon(outline, [hole for hole in holes if hole is not None])


def _geometry(found: dict[str, Any]) -> shapely.Geometry:
    if found["type"] == "Polygon":
        return _polygon(found["coordinates"])
    if found["type"] == "MultiPolygon":
        return shapely.MultiPolygon([_polygon(rings) for rings in found["coordinates"]])
    if found["type"] != "GeometryCollection":
        return _NOTHING
    if not all(isinstance(one, shapely.Geometry | None) for one in found["geometries"]):
        raise ValueError("a collection has a geometry of no known kind")
    return shapely.GeometryCollection([one for one in found["geometries"] if one is not None])


def _crs_name(crs: Any) -> str | None:
    """Return what a member ``crs`` names; it may not be a link, nor anything but a name."""
    if crs is None:
        return None
    kind = str(crs.get("type")).lower() if isinstance(crs, dict) else ""
    properties = crs.get("properties") if kind in {"name", "epsg"} else None
    name = properties.get("name" if kind == "name" else "code") if isinstance(properties, dict) else None
    if name is None:
        raise ValueError(f"its CRS is a {kind or 'text'}, which is no name such as EPSG:32633")
    return str(name) if kind == "name" else f"EPSG:{name}"


def read_kml(path: Path) -> dict[str, list[Element]]:
    """Return the placemarks of KML by folder, each of which is a layer.

    Raises
    ------
    ValueError
        If it is no KML, or declares entities: they may stand for very much.
    """
    from xml.etree import ElementTree

    class Plain(ElementTree.TreeBuilder):
        def doctype(self, *_: object) -> None:
            raise ValueError("it declares a type of document")

    try:
        root = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=Plain()))
    except ElementTree.ParseError as error:
        raise ValueError(f"malformed XML: {error}") from error
    if _tag(root) != "kml":
        raise ValueError(f"its root is {_tag(root)}")
    layers: dict[str, list[Element]] = {}
    for folder in root.iter():
        marks = [one for one in folder if _tag(one) == "Placemark"]
        if marks:
            name = _child_text(folder, "name") or path.stem
            number = sum(other.partition(" #")[0] == name for other in layers)
            layers[f"{name} #{number + 1}" if number else name] = marks
    return layers


def read_placemarks(marks: Sequence[Element], columns: Container[str]) -> VectorLayer:
    """Read the polygons of placemarks; attributes are ``Name``, ``description`` and their data."""
    rows: list[dict[str, Any]] = []
    for mark in marks:
        named = {"Name": _child_text(mark, "name"), "description": _child_text(mark, "description")}
        for one in mark.iter():
            if _tag(one) == "Data":
                named[one.get("name", "")] = _child_text(one, "value")
            elif _tag(one) == "SimpleData":
                named[one.get("name", "")] = one.text
        rows.append(named)
    available = dict.fromkeys(name for row in rows for name in row)
    geometries = [
        shapely.MultiPolygon(polygons) if (polygons := list(_kml_polygons(mark))) else _NOTHING
        for mark in marks
    ]
    return _table(geometries, rows, columns, available, "OGC:CRS84")


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _child_text(element: Element, tag: str) -> str | None:
    return next((one.text for one in element if _tag(one) == tag), None)


def _kml_polygons(mark: Element) -> Iterator[shapely.Polygon]:
    for polygon in mark.iter():
        if _tag(polygon) == "Polygon":
            sides: dict[str, list[Any]] = {"outerBoundaryIs": [], "innerBoundaryIs": []}
            for side in polygon:
                texts = [one.text or "" for one in side.iter() if _tag(one) == "coordinates"]
                rings = [[place.split(",") for place in _JOINED.sub(",", text).split()] for text in texts]
                sides.get(_tag(side), []).extend(rings)
            yield _polygon(sides["outerBoundaryIs"][:1] + sides["innerBoundaryIs"])


_JOINED = re.compile(r"\s*,\s*")

_SEPARATORS = ",;\t|"
DEEPEST = 1000
"""Most collections in one geometry of WKT, each of which may lie in the one before."""

# After its word a geometry goes on, and the name of a place that begins with one does not.
_WKT = re.compile(
    r"""\s*(?:SRID=(\d+);)?
    \s*((MULTIPOLYGON|POLYGON|CURVEPOLYGON|MULTISURFACE|POLYHEDRALSURFACE|TIN|TRIANGLE
    |GEOMETRYCOLLECTION|(?:MULTI)?(?:LINESTRING|POINT))\s*(?:Z|M|ZM)?\s*(?:\(|EMPTY\b).*)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def read_csv(path: Path, columns: Container[str]) -> VectorLayer:
    """Read a table of text in UTF-8 with the names of its columns in the first line.

    The separator is the one of ``, ; | TAB`` that the first line has most of, the geometry the first
    column that holds polygons as WKT, or as EWKT as PostGIS writes it (``SRID=32633;POLYGON (...)``),
    else the first that holds any other geometries.

    Raises
    ------
    ValueError
        If it is no such table, a geometry cannot be read, or they name several CRS.
    """
    head, *rows = _cells(path)
    width = len(head)
    firsts = [_WKT.match(next((row[i] for row in rows if row[i].strip()), "")) for i in range(width)]
    found = [i for i, match in enumerate(firsts) if match]
    polygons = [
        i for i in found if (match := firsts[i]) and not match[3].upper().endswith(("POINT", "LINESTRING"))
    ]
    place = next(iter(polygons or found), None)
    if place is None:
        raise ValueError(
            "it has no column of polygons as WKT; name its geometry in one, "
            "such as POLYGON ((0 0, 9 0, 9 9, 0 0))"
        )
    geometries, crs = _from_wkt([row[place] for row in rows], head[place])
    others = {name: i for i, name in enumerate(head) if i != place}
    values = {
        name: np.array([row[i] or None for row in rows], object)
        for name, i in others.items()
        if name in columns
    }
    return VectorLayer(geometries, values, tuple(others), crs)


def _cells(path: Path) -> list[list[str]]:
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=first.count)
            # Without a header: with one, a line that is longer shifts the columns.
            table = pd.read_csv(file, sep=separator, header=None, dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"it cannot be read as CSV in UTF-8: {error}") from None
    return [[str(cell) for cell in row] for row in table.fillna("").to_numpy()]


SURFACES = "it has TIN or other surfaces; make polygons of them: ogr2ogr -nlt MULTIPOLYGON"
_SURFACE = re.compile("POLYHEDRALSURFACE|TIN|TRIANGLE", re.IGNORECASE)


def _from_wkt(cells: Sequence[str], column: str) -> tuple[NDArray[np.object_], str | None]:
    reading = f"-oo GEOM_POSSIBLE_NAMES={shlex.quote(column)} -oo KEEP_GEOM_COLUMNS=NO "
    found = [_WKT.match(cell) for cell in cells]
    texts = [match[2] if match else (cell or None) for match, cell in zip(found, cells, strict=True)]
    for row, text in enumerate(texts):
        if text is not None and text.upper().count("COLLECTION") > DEEPEST:  # GEOS would run out of stack
            raise ValueError(f"the geometry of row {row + 1} holds more than {DEEPEST} collections")
    read = partial(shapely.from_wkt, on_invalid="ignore")
    geometries = without_curves(read, np.array(texts, object), reading)
    for row, text in enumerate(texts):
        if text is not None and geometries[row] is None:
            if _SURFACE.search(text):
                raise ValueError(f"{SURFACES} {reading}new.gpkg FILE")
            raise ValueError(
                f"the geometry of row {row + 1} cannot be read as WKT of polygons: {text[:30]!r}"
            )
    codes = {match[1] for match in found if match}
    if len(codes) > 1:
        named = ", ".join(sorted(f"SRID {code}" if code else "none" for code in codes))
        raise ValueError(f"its geometries name several CRS ({named}); write it again with one")
    code = next(iter(codes), None)
    return geometries, f"EPSG:{code}" if code and int(code) else None


def without_curves(
    read: Callable[[Any], Any], content: NDArray[np.object_], reading: str = ""
) -> NDArray[np.object_]:
    """Return what shapely reads of WKT or WKB, in two dimensions; `reading`: what ogr2ogr needs to read it.

    Raises
    ------
    ValueError
        If it has curves, of which shapely makes an error, or nothing where a collection holds them.
    """
    with contextlib.suppress(NotImplementedError):
        found = read(content)
        flat = np.asarray(shapely.force_2d(found), object)
        if (shapely.is_missing(flat) == shapely.is_missing(found)).all():
            return flat
    raise ValueError(
        f"it has curves; make lines of them: ogr2ogr -nlt CONVERT_TO_LINEAR {reading}new.gpkg FILE"
    )


def _table(
    geometries: Sequence[Any],
    rows: Sequence[Mapping[str, Any]],
    columns: Container[str],
    available: Mapping[str, None],
    crs: object,
) -> VectorLayer:
    found = np.empty(len(geometries), object)
    found[:] = geometries
    values = {
        name: np.fromiter((row.get(name) for row in rows), object, len(rows))
        for name in available
        if name in columns
    }
    return VectorLayer(found, values, tuple(available), crs)
