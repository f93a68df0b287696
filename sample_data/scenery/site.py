"""What a world consists of before it is painted, and the shapes of streets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from scenery.canvas import Color, Material, srgb
from scenery.layout import Points, Street, pieces_of
from scenery.roofs import Building, Fixture
from scenery.style import Style, vary

WHITE = Material(srgb(214, 214, 208), 0.05, 0.10, 0.0)


class Plant(NamedTuple):
    """A tree or bush: where (metres), crown radius and height in metres, kind of crown, colour."""

    x: float
    y: float
    radius: float
    height: float
    kind: str
    color: Color


class Vehicle(NamedTuple):
    """A car, lorry or container: middle and direction of travel, length, breadth, height, colour."""

    middle: Points
    along: Points
    length: float
    breadth: float
    height: float
    color: Color


class Rows(NamedTuple):
    """Rows of plants over a field: where, direction of the rows, spacing, how dense, height, colour."""

    land: shapely.Polygon
    along: Points
    spacing: float
    share: float
    height: float
    color: Color


class Hedge(NamedTuple):
    """A hedge, fence or wall: its ground, height, colour, and how uneven its top is (metres)."""

    land: shapely.Polygon
    height: float
    color: Color
    rough: float


class Cover(NamedTuple):
    """A material on the ground; of two covers the one of the higher layer shows, then the later one."""

    layer: int
    land: shapely.Polygon
    material: Material


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Everything that stands and lies in a world, in metres.

    Parameters
    ----------
    extent : shapely.Polygon
        The picture and a strip around it: what lies outside need not be built.
    """

    extent: shapely.Polygon
    covers: list[Cover] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)
    vehicles: list[Vehicle] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    hedges: list[Hedge] = field(default_factory=list)
    clutter: list[Fixture] = field(default_factory=list)

    def cover(self, land: shapely.Geometry, material: Material, layer: int = 1) -> None:
        """Lay `material` on the polygons of `land`."""
        self.covers.extend(Cover(layer, piece, material) for piece in pieces_of(land, 0.01))


def tree(rng: np.random.Generator, style: Style, x: float, y: float, size: float) -> Plant:
    """Draw a tree whose crown radius is about `size` metres."""
    radius = float(size * np.exp(0.28 * rng.standard_normal()))
    if rng.random() < style.conifers:
        return Plant(
            x, y, radius * 0.75, radius * 4.2, "conifer", vary(rng, style.leaves * np.float32(0.75), 0.18)
        )
    kind = "bare" if rng.random() < style.bare else "leafy"
    color = style.leaves if kind == "leafy" else style.twigs
    return Plant(x, y, radius, radius * rng.uniform(1.6, 2.6), kind, vary(rng, color, 0.22))


def scatter(rng: np.random.Generator, land: BaseGeometry, per_m2: float) -> Points:
    """Return random points (n, 2) in a polygon, `per_m2` of them on average."""
    if land.is_empty or per_m2 <= 0:
        return np.zeros((0, 2))
    left, top, right, bottom = land.bounds
    count = int(rng.poisson(per_m2 * (right - left) * (bottom - top)))
    points = rng.uniform((left, top), (right, bottom), (count, 2))
    shapely.prepare(land)
    return points[shapely.contains_xy(land, points[:, 0], points[:, 1])]


def pave(rng: np.random.Generator, site: Site, style: Style, streets: list[Street]) -> None:
    """Lay streets with sidewalks, kerbs, markings and traffic."""
    tarred = [street for street in streets if street.kind in ("town", "lane")]
    walk = Material(vary(rng, srgb(168, 164, 156), 0.1), 0.06, 0.05, 0.04)
    curb = Material(vary(rng, srgb(190, 188, 182), 0.08), 0.05, 0.03, 0.0)
    path = Material(vary(rng, style.soil * np.float32(1.1), 0.1), 0.08, 0.10, 0.06)
    water = Material(vary(rng, srgb(62, 78, 74), 0.25), 0.03, 0.04, 0.06)
    for street in streets:
        if street.kind == "dirt":
            site.cover(street.line.buffer(street.width / 2), path, 3)
        if street.kind == "river":
            site.cover(street.line.buffer(street.width / 2 + 1.2), path, 2)
            site.cover(street.line.buffer(street.width / 2), water, 2)
    _round_corners(site, tarred, walk, Material(style.asphalt, 0.06, 0.06, 0.05))
    for street in tarred:
        if street.kind == "town":
            site.cover(street.line.buffer(street.width / 2 + 2.0), walk, 4)
            site.cover(street.line.buffer(street.width / 2 + 0.25), curb, 5)
    for street in tarred:
        color = vary(rng, style.asphalt, 0.05)
        tar = Material(color, 0.05, 0.04, 0.04, float(rng.beta(1, 4)), color * np.float32(0.72))
        site.cover(street.line.buffer(street.width / 2), tar, 6)
    for street in tarred:
        _mark(rng, site, street)
        _drive(rng, site, street)
        if rng.random() < style.lush * (0.7 if street.kind == "town" else 0.3):
            _line_with_trees(rng, site, style, street)


def _round_corners(site: Site, streets: list[Street], walk: Material, tar: Material) -> None:
    """Fill the corners of junctions: closing with a disc rounds what is concave."""
    paved = shapely.union_all([street.line.buffer(street.width / 2) for street in streets])
    round_ = paved.buffer(4.5).buffer(-4.5)
    if any(street.kind == "town" for street in streets):
        site.cover(round_.difference(paved).buffer(1.5), walk, 4)
    site.cover(round_.difference(paved).buffer(0.1), tar, 6)


def ribbon(
    line: shapely.LineString, starts: Points, length: float, aside: float, breadth: float
) -> list[shapely.Polygon]:
    """Return rectangles along a line from each of `starts` (metres along it), `aside` metres off it."""
    if len(starts) == 0:
        return []
    near = shapely.get_coordinates(shapely.line_interpolate_point(line, starts))
    far = shapely.get_coordinates(
        shapely.line_interpolate_point(line, np.minimum(starts + length, line.length))
    )
    along = far - near
    lengths = np.hypot(along[:, 0], along[:, 1])
    keep = lengths > 1e-3
    near, far, along = near[keep], far[keep], along[keep] / lengths[keep, None]
    normal = np.column_stack([-along[:, 1], along[:, 0]])
    inner, outer = normal * (aside - breadth / 2), normal * (aside + breadth / 2)
    corners = np.stack([near + inner, far + inner, far + outer, near + outer], axis=1)
    return [shapely.Polygon(ring) for ring in corners]


def _mark(rng: np.random.Generator, site: Site, street: Street) -> None:
    if street.width < 6 or rng.random() < 0.25:
        return
    length = street.line.length
    worn = Material(WHITE.color * np.float32(rng.uniform(0.55, 1)), 0.05, 0.2, 0.0)
    if rng.random() < 0.7:
        marks = ribbon(street.line, np.arange(4, length - 6, 9.0), 3.0, 0.0, 0.16)
    else:
        marks = ribbon(street.line, np.arange(4, length - 6, 2.0), 2.0, 0.0, 0.16)
    if street.width > 8:
        for side in (-1, 1):
            marks += ribbon(
                street.line, np.arange(0, length, 2.0), 2.0, side * (street.width / 2 - 0.5), 0.14
            )
    for mark in marks:
        site.cover(mark, worn, 7)
    if street.kind == "town" and length > 40 and rng.random() < 0.4:
        start = rng.uniform(8, length - 12)
        stripes = np.arange(-street.width / 2 + 0.6, street.width / 2 - 0.6, 1.0)
        for aside in stripes:
            for stripe in ribbon(street.line, np.array([start]), 3.0, float(aside), 0.5):
                site.cover(stripe, worn, 7)


def _drive(rng: np.random.Generator, site: Site, street: Street) -> None:
    """Put moving and parked cars on a street."""
    length = street.line.length
    if length < 12 or street.width < 5:
        return
    count = int(rng.poisson(length / 70)) + int(rng.poisson(length / 40 if street.kind == "town" else 0.2))
    for _ in range(count):
        parked = street.kind == "town" and rng.random() < 0.6
        side = 1 if rng.random() < 0.5 else -1
        at = rng.uniform(4, length - 8)
        here, there = shapely.get_coordinates(shapely.line_interpolate_point(street.line, [at, at + 4]))
        along = (there - here) / max(math.dist(here, there), 1e-6)
        aside = side * (street.width / 2 - 1.1 if parked else street.width / 4)
        site.vehicles.append(car(rng, here + aside * np.array([-along[1], along[0]]), along * side))


def _line_with_trees(rng: np.random.Generator, site: Site, style: Style, street: Street) -> None:
    size = rng.uniform(1.8, 3.2)
    stops = np.arange(rng.uniform(2, 8), street.line.length - 2, rng.uniform(7, 16))
    for side in (-1, 1):
        for spot in ribbon(street.line, stops, 1.0, side * (street.width / 2 + 1.3), 1.0):
            if rng.random() < 0.8:
                site.plants.append(tree(rng, style, spot.centroid.x, spot.centroid.y, size))


def car(rng: np.random.Generator, middle: Points, along: Points) -> Vehicle:
    """Draw a car, van or now and then a lorry."""
    paints = [
        (225, 225, 225),
        (240, 240, 240),
        (60, 60, 64),
        (34, 34, 38),
        (130, 134, 138),
        (170, 174, 178),
        (130, 36, 34),
        (40, 60, 110),
        (90, 70, 56),
        (60, 84, 70),
    ]
    odds = np.array([5, 3, 4, 4, 4, 4, 1.6, 1.8, 0.7, 0.6])
    color = srgb(*paints[rng.choice(len(paints), p=odds / odds.sum())])
    if rng.random() < 0.05:
        return Vehicle(middle, along, rng.uniform(6, 9), 2.4, 3.0, color)
    return Vehicle(middle, along, rng.uniform(3.9, 4.9), rng.uniform(1.7, 1.9), 1.45, color)
