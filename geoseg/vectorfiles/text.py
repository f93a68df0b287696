"""Which text GDAL may read as vectors: none that makes it open another file, a URL or a program.

GDAL asks its drivers one after another. Where the right one declines, a later one may take marks
anywhere in the first bytes for its own, so marks of drivers that follow references are refused in any
text, wherever they stand.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any
from xml.etree import ElementTree

from geoseg.vectorfiles.crs import other_file

# A pipeline, a mosaic, labels of planetary data (tables in other files), web services, and what the
# driver of GPSBabel hands to that program.
_MARKS = (
    b"gdal_streamed_alg",
    b"<OGRVRTDataSource",
    b"Product_Observational",
    b"PDS_VERSION_ID",
    b"<OGRWFSDataSource",
    b"WFS_Capabilities",
    b"<TrainingCenterDatabase",
    b"$GPGSA",
    b"$GPGGA",
    b"$PMGNWPL",
    b"$PMGNRTE",
)
_XML_MARKS = (b"<!DOCTYPE", b"<!ENTITY")
_GML_MARK = b"opengis.net/gml"
_GARMIN_MARKS = (b"Grid", b"Datum", b"Header")
_GARMIN_WITHIN = 1024

_CRS_KINDS = frozenset({"name", "epsg", "ogc"})
"""Kinds of CRS in GeoJSON that GDAL knows by itself; ``link`` and ``url`` it would fetch."""

_CRS_KEYS = frozenset({"crs", "coordrefsys"})

# A CRS in PROJ's own JSON, as GML may name it.
_JSON_CRS = re.compile(r"srsName\s*=\s*[\"']\s*\{")

# A table of MapInfo that is made of others: a view, or a mosaic of tables.
_OTHER_TABLES = re.compile(
    rb"\b(create\s+view|open\s+table)\b|\\isseamless\"?(?!\"?\s*=\s*\"?false)", re.IGNORECASE
)
_SCHEMA = re.compile(rb"schemaLocation", re.IGNORECASE)


def check_json(content: bytes) -> None:
    """Check JSON of any kind that GDAL reads.

    Parameters
    ----------
    content : bytes
        The whole file; so in all functions here.

    Raises
    ------
    ValueError
        If it refers to what lies outside, or is malformed: what is read here must be what GDAL's
        lenient parsers read. So in all functions here.
    """
    _refuse(content, _MARKS)
    decoder = json.JSONDecoder(object_pairs_hook=_kinds_of)
    text = content.decode("utf-8-sig", "surrogateescape")
    place = _after_space(text, 0)
    while place < len(text):  # one document, or several, one after another
        _, place = decoder.raw_decode(text, place)
        place = _after_space(text, place)


def check_kml(content: bytes) -> None:
    """Check KML."""
    _refuse(content, (*_MARKS, *_XML_MARKS, _GML_MARK))
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"malformed XML: {error}") from error
    for element in root.iter():
        for value in element.attrib.values():
            check_crs(value)
    if root.tag.rpartition("}")[2] != "kml":
        raise ValueError(f"its root is {root.tag}")


def check_osm(content: bytes) -> None:
    """Check OpenStreetMap's XML."""
    _refuse(content, (*_MARKS, *_XML_MARKS, _GML_MARK))


def check_gml(content: bytes) -> None:
    """Check GML, apart from its schema and its links: see `without_schema`."""
    _refuse(content, (*_MARKS, *_XML_MARKS))
    # Latin-1 leaves ASCII as it is in all encodings that a file with these marks can be in.
    text = html.unescape(content.decode("latin-1"))
    check_crs(text)
    if _JSON_CRS.search(text):
        raise ValueError("its CRS is JSON, which may refer to other files")


def check_crs(text: str) -> None:
    """Check text that holds a CRS.

    Raises
    ------
    ValueError
        If the CRS names another file, which GDAL would open.
    """
    named = other_file(text)
    if named is not None:
        raise ValueError(f"its CRS refers to another file: {named}")


def without_schema(content: bytes) -> bytes:
    """Return GML in which GDAL finds no place of a schema: it would open the file or URL.

    It searches the text, comments too, hence so does this.
    """
    return _SCHEMA.sub(b"schemaUnfollowed", content)


def check_table(content: bytes) -> None:
    """Check the text part (.tab) of a table of MapInfo."""
    check_lines(content)
    if _OTHER_TABLES.search(content):
        raise ValueError("it is made of other tables")


def check_lines(content: bytes) -> None:
    """Check text of a format that has no means to name other files: DXF, MapInfo's MIF."""
    _refuse(content, _MARKS)


def _refuse(content: bytes, marks: tuple[bytes, ...]) -> None:
    lower = content.lower()  # some of GDAL's drivers do not tell upper case from lower
    for mark in marks:
        if mark.lower() in lower:
            raise ValueError(f"it has {mark.decode()}, which refers to other files")
    head = content[:_GARMIN_WITHIN]
    if all(mark in head for mark in _GARMIN_MARKS):
        raise ValueError("it has the words of a file for another program")


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _kinds_of(pairs: list[tuple[str, Any]]) -> frozenset[str]:
    """Check an object's CRS and return what the object says its type is: all that is kept of it."""
    for key, value in pairs:
        name = key.lower()  # GDAL does not tell upper case from lower
        if name == "crs" and isinstance(value, frozenset) and not value <= _CRS_KINDS:
            raise ValueError(
                f"its CRS is a {', '.join(sorted(value))}, which refers to another file or a URL"
            )
        if isinstance(value, str) or name in _CRS_KEYS:
            _check_strings(value)
    return frozenset(
        value.lower() for key, value in pairs if key.lower() == "type" and isinstance(value, str)
    )


def _check_strings(value: Any) -> None:
    """Check a string, or those of a list: many keys can lead to the name of a CRS."""
    if isinstance(value, list):
        for one in value:
            _check_strings(one)
    elif isinstance(value, str):
        check_crs(value)
        if value.lstrip().startswith("{"):
            try:
                json.loads(value, object_pairs_hook=_no_operation)
            except json.JSONDecodeError:
                return  # a string that is no CRS


def _no_operation(pairs: list[tuple[str, Any]]) -> None:
    """Refuse the JSON of an operation, as PROJ writes it: its parameters can be files."""
    if {"method", "parameters"} <= {key for key, _ in pairs}:
        raise ValueError("it has an operation between CRS in a string, which may refer to other files")
