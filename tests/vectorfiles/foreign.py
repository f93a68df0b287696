"""Polygons in formats that other programs write: one polygon, its class in an attribute."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pyproj
import shapely

DEGREE = 10_000_000
"""OpenStreetMap's coordinates are whole multiples of a degree / `DEGREE`."""


def ogr(driver: str, **options: Any) -> Callable[[Path, Any, str], None]:
    def write(path: Path, polygon: Any, crs: str) -> None:
        frame = geopandas.GeoDataFrame({"kind": ["house"]}, geometry=[polygon], crs=crs)
        pyogrio.write_dataframe(frame, path, driver=driver, **options)

    return write


def ring(polygon: Any) -> list[list[float]]:
    return shapely.get_coordinates(shapely.normalize(polygon).exterior).tolist()


def topojson(path: Path, polygon: Any, crs: str) -> None:
    place = {"type": "Polygon", "arcs": [[0]], "properties": {"kind": "house"}}
    objects = {"areas": {"type": "GeometryCollection", "geometries": [place]}}
    named = {"type": "name", "properties": {"name": crs}}
    path.write_text(
        json.dumps({"type": "Topology", "crs": named, "arcs": [ring(polygon)], "objects": objects})
    )


def esrijson(path: Path, polygon: Any, crs: str) -> None:
    place = {"attributes": {"kind": "house"}, "geometry": {"rings": [ring(polygon)]}}
    path.write_text(
        json.dumps(
            {
                "geometryType": "esriGeometryPolygon",
                "spatialReference": {"wkid": pyproj.CRS(crs).to_epsg()},
                "fields": [{"name": "kind", "type": "esriFieldTypeString"}],
                "features": [place],
            }
        )
    )


def ewkt(separator: str = ",") -> Callable[[Path, Any, str], None]:
    def write(path: Path, polygon: Any, crs: str) -> None:
        code = pyproj.CRS(crs).to_epsg()
        path.write_text(f'kind{separator}geom\nhouse{separator}"SRID={code};{polygon.wkt}"\n', "utf-8")

    return write


def csv_with_prj(path: Path, polygon: Any, crs: str) -> None:
    ogr("CSV", layer_options={"GEOMETRY": "AS_WKT"})(path, polygon, crs)
    path.with_suffix(".prj").write_text(pyproj.CRS(crs).to_wkt("WKT1_ESRI"))


def dxf_hatch(path: Path, polygon: Any, crs: str) -> None:
    frame = geopandas.GeoDataFrame({"Layer": ["house"]}, geometry=[polygon], crs=crs)
    pyogrio.write_dataframe(frame, path, driver="DXF")
    path.with_suffix(".prj").write_text(crs)


def dxf_outline(*, closed: bool = True) -> Callable[[Path, Any, str], None]:
    """A polyline with the mark of closed ones, or one whose last vertex is its first."""

    def write(path: Path, polygon: Any, crs: str) -> None:
        points = ring(polygon)[: -1 if closed else None]
        pairs = [(0, "SECTION"), (2, "ENTITIES"), (0, "LWPOLYLINE"), (8, "house")]
        pairs += [(90, len(points)), (70, int(closed))]
        pairs += [pair for x, y in points for pair in ((10, repr(x)), (20, repr(y)))]
        pairs += [(0, "ENDSEC"), (0, "EOF")]
        path.write_text("".join(f"{code:3d}\n{value}\n" for code, value in pairs))
        path.with_suffix(".prj").write_text(crs)

    return write


def places(polygon: Any, crs: str) -> list[tuple[int, int]]:
    """Latitude and longitude of the corners in units of OpenStreetMap, the first not repeated."""
    x, y = np.transpose(ring(polygon)[:-1])
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    return [(round(a * DEGREE), round(b * DEGREE)) for a, b in zip(lat, lon, strict=True)]


def osm_xml(path: Path, polygon: Any, crs: str) -> None:
    corners = list(enumerate(places(polygon, crs), 1))
    nodes = "".join(f'<node id="{i}" lat="{a / DEGREE}" lon="{b / DEGREE}"/>' for i, (a, b) in corners)
    refs = "".join(f'<nd ref="{i}"/>' for i in [*range(1, len(corners) + 1), 1])
    way = f'<way id="9">{refs}<tag k="building" v="house"/></way>'
    path.write_text(f'<?xml version="1.0"?>\n<osm version="0.6">{nodes}{way}</osm>')


def osm_pbf(path: Path, polygon: Any, crs: str) -> None:
    """After the format's description in OpenStreetMap's wiki (PBF Format): a header and one block."""
    corners = places(polygon, crs)
    nodes = [
        field(1, field(1, signed(i)) + field(8, signed(lat)) + field(9, signed(lon)))
        for i, (lat, lon) in enumerate(corners, 1)
    ]
    turns = [1, *[1] * (len(corners) - 1), 1 - len(corners)]  # differences of 1, 2, ..., n, 1
    way = field(1, 9) + field(2, packed([1])) + field(3, packed([2]))
    way += field(8, packed(signed(turn) for turn in turns))
    strings = b"".join(field(1, text) for text in (b"", b"building", b"house"))
    block = field(1, strings) + field(2, b"".join(nodes)) + field(2, field(3, way))
    header = field(4, b"OsmSchema-V0.6")
    path.write_bytes(blob(b"OSMHeader", header) + blob(b"OSMData", block))


def blob(kind: bytes, content: bytes) -> bytes:
    body = field(2, len(content)) + field(3, zlib.compress(content))
    head = field(1, kind) + field(3, len(body))
    return len(head).to_bytes(4, "big") + head + body


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def packed(values: Iterable[int]) -> bytes:
    return b"".join(map(varint, values))


def signed(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


WRITERS: dict[str, tuple[Callable[[Path, Any, str], None], str]] = {
    "table.tab": (ogr("MapInfo File"), "kind"),
    "exchange.mif": (ogr("MapInfo File"), "kind"),
    "three.gml": (ogr("GML"), "kind"),
    "two.gml": (ogr("GML", FORMAT="GML2"), "kind"),
    "features.xml": (ogr("GML"), "kind"),
    "sidecar.csv": (csv_with_prj, "kind"),
    "ewkt.csv": (ewkt(), "kind"),
    "semicolon.csv": (ewkt(";"), "kind"),
    "tabs.tsv": (ewkt("\t"), "kind"),
    "hatch.dxf": (dxf_hatch, "Layer"),
    "closed.dxf": (dxf_outline(), "Layer"),
    "by_hand.dxf": (dxf_outline(closed=False), "Layer"),
    "arcs.topojson": (topojson, "kind"),
    "server.json": (esrijson, "kind"),
    "extract.osm": (osm_xml, "building"),
    "extract.osm.pbf": (osm_pbf, "building"),
}
"""How a file of this name is written, and the attribute with the class."""
