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
    line = _crossing(rng, bounding_box(land), bend)
    pieces = [piece for piece in split(land, line).geoms if piece.area > 1]
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


def strips(block: shapely.Polygon, widths: Points, depth: float) -> list[NDArray[np.float64]]:
    """Return quadrilaterals `depth` deep side by side along the straight runs of a block's border.

    Corners (4, 2): edge 0 on the street, edges 1 and 3 shared with the neighbours.
    """
    corners = shapely.get_coordinates(ccw(block.simplify(1.0)).exterior)
    quads = []
    taken = 0
    for start, stop in zip(corners[:-1], corners[1:], strict=True):
        run = float(np.hypot(*(stop - start)))
        along = (stop - start) / max(run, 1e-9)
        away = np.array([-along[1], along[0]])
        left = depth + 1.0
        while left + 4 < run - depth - 1:
            right = min(left + widths[taken % len(widths)], run - depth - 1)
            taken += 1
            near = np.array([start + along * left, start + along * right])
            quads.append(np.vstack([near, near[::-1] + away * depth]))
            left = right
    return quads


def ccw(polygon: shapely.Polygon) -> shapely.Polygon:
    """Return `polygon` with its exterior turned so that the inside is on the right where y points down."""
    if shapely.is_ccw(polygon.exterior):
        return polygon
    return shapely.Polygon(polygon.exterior.coords[::-1], [ring.coords for ring in polygon.interiors])


def pieces_of(geometry: shapely.Geometry, area: float = 1.0) -> list[shapely.Polygon]:
    """Return the polygons in a geometry that are larger than `area`."""
    return [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon" and part.area > area]


def _crossing(rng: np.random.Generator, box: Box, bend: float) -> shapely.LineString:
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
