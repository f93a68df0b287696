"""Streets, blocks and parcels: land divided again and again across its longer side.

The hierarchy of splits makes main and side streets and T-junctions by itself (the subdivision by
oriented bounding boxes of Parish & Müller 2001 and Vanegas et al. 2012).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.ops import split

Points = NDArray[np.float64]


class Street(NamedTuple):
    """A street's centre line in metres, the width of its carriageway, and what kind it is."""

    line: shapely.LineString
    width: float
    kind: str


class Parcel(NamedTuple):
    """A piece of land and its front: middle of the street side, direction along it, length."""

    land: shapely.Polygon
    front: Points
    along: Points
    length: float


class Box(NamedTuple):
    """A rotated rectangle: centre, unit vector of its longer side, length, breadth."""

    center: Points
    axis: Points
    length: float
    breadth: float


def bounding_box(polygon: shapely.Polygon) -> Box:
    """Return the smallest rotated rectangle around a polygon (one side lies on its convex hull)."""
    hull = shapely.get_coordinates(polygon.convex_hull)
    edges = np.diff(hull, axis=0)
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    axes = edges[lengths > 1e-9] / lengths[lengths > 1e-9, None]
    along = axes @ hull.T
    across = np.column_stack([-axes[:, 1], axes[:, 0]]) @ hull.T
    spans = np.ptp(along, axis=1), np.ptp(across, axis=1)
    best = int(np.argmin(np.round(spans[0] * spans[1], 6)))
    axis, normal = axes[best], np.array([-axes[best, 1], axes[best, 0]])
    center = axis * (along[best].min() + along[best].max()) / 2
    center = center + normal * (across[best].min() + across[best].max()) / 2
    if spans[0][best] < spans[1][best]:
        return Box(center, normal, float(spans[1][best]), float(spans[0][best]))
    return Box(center, axis, float(spans[0][best]), float(spans[1][best]))


def region(rng: np.random.Generator, width: float, height: float, around: float) -> shapely.Polygon:
    """Return a rotated rectangle that covers the picture (metres) and `around` metres beyond."""
    angle = rng.uniform(0, math.pi)
    axis = np.array([math.cos(angle), math.sin(angle)])
    normal = np.array([-axis[1], axis[0]])
    half = np.abs(np.array([axis, normal])) @ np.array([width / 2, height / 2]) + around
    half = half + rng.uniform(0, 40, 2)
    center = np.array([width / 2, height / 2]) + rng.uniform(-20, 20, 2)
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return shapely.Polygon(center + (signs * half) @ np.array([axis, normal]))


def divide(
    rng: np.random.Generator, land: shapely.Polygon, area: float, bend: float
) -> tuple[list[shapely.Polygon], list[shapely.LineString]]:
    """Split `land` until no piece is larger than about `area` m².

    Returns the pieces and the lines between them, `bend` (0 … 1) saying how far the lines swing.
    """
    if land.area <= area * rng.uniform(0.75, 1.5):
        return [land], []
    line = crossing(rng, bounding_box(land), bend)
    pieces = pieces_of(split(land, line))
    if len(pieces) < 2:
        return [land], []
    cut = line.intersection(land)
    lines = [part for part in getattr(cut, "geoms", [cut]) if part.length > 1]
    leaves: list[shapely.Polygon] = []
    for piece in pieces:
        smaller, more = divide(rng, piece, area, bend)
        leaves += smaller
        lines += more
    return leaves, lines


def parcels(rng: np.random.Generator, block: shapely.Polygon, area: float) -> list[Parcel]:
    """Split a block into parcels of about `area` m² and find their fronts on the block's border."""
    pieces, _ = divide(rng, block, area, 0.0)
    border = block.exterior
    shapely.prepare(border)
    return [_parcel(piece, border) for piece in pieces if piece.area > area * 0.15]


def strips(block: shapely.Polygon, widths: Points, depth: float) -> list[Points]:
    """Return quadrilaterals `depth` deep side by side along a block's border, bends included.

    Corners (4, 2): edge 0 on the street, edges 1 and 3 shared with the neighbours. The border is cut
    into runs at its corners; each run begins behind the last house of the one before.
    """
    corners = shapely.get_coordinates(shapely.simplify(ccw(block).exterior, 0.4))[:-1]
    steps = np.roll(corners, -1, axis=0) - corners
    headings = np.arctan2(steps[:, 1], steps[:, 0])
    turns = (headings - np.roll(headings, 1) + math.pi) % (2 * math.pi) - math.pi
    breaks = np.flatnonzero(np.abs(turns) > math.radians(28))
    quads = []
    for first, last in zip(breaks, np.roll(breaks, -1), strict=True):
        stop = last if last > first else last + len(corners)
        run = shapely.LineString(corners[np.arange(first, stop + 1) % len(corners)])
        quads += _row(run, widths, depth)
    return quads


def _row(run: shapely.LineString, widths: Points, depth: float) -> list[Points]:
    """Return quadrilaterals along one run; neighbours share their corners exactly."""
    room = run.length - depth - 0.5
    if room < 5:
        return []
    sizes = np.resize(widths, math.ceil(room / widths.min()))
    ends = np.cumsum(sizes)
    count = max(1, int(np.argmin(np.abs(ends - room))) + 1)
    stops = run.length - room + np.concatenate([[0.0], ends[:count] * (room / ends[count - 1])])
    near = shapely.get_coordinates(shapely.line_interpolate_point(run, stops))
    ahead = shapely.get_coordinates(shapely.line_interpolate_point(run, np.minimum(stops + 1.5, run.length)))
    behind = shapely.get_coordinates(shapely.line_interpolate_point(run, stops - 1.5))
    tangents = (ahead - behind) / np.hypot(*(ahead - behind).T)[:, None]
    far = near + depth * np.column_stack([-tangents[:, 1], tangents[:, 0]])
    return [np.array([near[i], near[i + 1], far[i + 1], far[i]]) for i in range(count)]


def ccw(polygon: shapely.Polygon) -> shapely.Polygon:
    """Return `polygon` with its exterior turned so that the inside is on the right where y points down."""
    if shapely.is_ccw(polygon.exterior):
        return polygon
    return shapely.Polygon(polygon.exterior.coords[::-1], [ring.coords for ring in polygon.interiors])


def pieces_of(geometry: shapely.Geometry, area: float = 1.0) -> list[shapely.Polygon]:
    """Return the polygons in a geometry that are larger than `area`."""
    return [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon" and part.area > area]


def blob(rng: np.random.Generator, center: Points, radius: float) -> shapely.Polygon:
    """Return a rounded shape of about `radius` metres, such as a pond's."""
    turn = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    phases = rng.uniform(0, 6, 2)
    away = radius * (1 + 0.25 * np.sin(2 * turn + phases[0]) + 0.15 * np.sin(3 * turn + phases[1]))
    return shapely.Polygon(center + np.column_stack([away * np.cos(turn), away * np.sin(turn)]))


def crossing(rng: np.random.Generator, box: Box, bend: float) -> shapely.LineString:
    """Return a line across the longer side of a box, near its middle, swinging up to `bend` of 12 %."""
    normal = np.array([-box.axis[1], box.axis[0]])
    tilt = bend * rng.uniform(-0.35, 0.35)
    middle = box.center + box.axis * box.length * rng.uniform(-0.12, 0.12)
    t = np.linspace(-1, 1, 13 if bend > 0 else 2)
    phase, turns = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.3)
    swing = bend * 0.12 * box.breadth * (np.sin(math.pi * turns * t + phase) - math.sin(phase))
    reach = 0.5 * box.breadth + 5
    aside = swing + tilt * t * reach * 0.5
    return shapely.LineString(middle + np.outer(t * reach, normal) + np.outer(aside, box.axis))


def _parcel(land: shapely.Polygon, border: shapely.LinearRing) -> Parcel:
    corners = shapely.get_coordinates(ccw(land).exterior)
    edges = np.diff(corners, axis=0)
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    middles = shapely.points((corners[:-1] + corners[1:]) / 2)
    on_street = shapely.dwithin(border, middles, 0.3)
    best = int(np.argmax(np.where(on_street, lengths, lengths * 1e-3)))
    along = edges[best] / max(lengths[best], 1e-9)
    return Parcel(land, (corners[best] + corners[best + 1]) / 2, along, float(lengths[best]))
