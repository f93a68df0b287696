"""Synthetic aerial scenes with exact building footprints.

A world is laid out in metres (streets, parcels, buildings, trees), painted as reflectance, height
and slope at twice the picture's resolution, lit by one sun with the shadows that follow, and
photographed. The same seed gives the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from geoseg.errors import InvalidOption
from scenery.canvas import Canvas
from scenery.districts import DISTRICTS, District
from scenery.layout import Street, bounding_box, crossing, divide, pieces_of, region
from scenery.plants import paint_hedges, paint_plants, paint_rows, paint_vehicles
from scenery.roofs import paint_building, paint_fixture
from scenery.sensor import draw_sensor, expose
from scenery.site import Site, pave
from scenery.style import Style, draw_style, lawn

__all__ = ["DISTRICTS", "World", "render_world"]

_MIXES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.20, ("suburb", "suburb", "suburb", "park", "estate")),
    (0.17, ("village", "village", "farmland", "suburb", "forest")),
    (0.13, ("informal", "informal", "village")),
    (0.14, ("rows", "rows", "estate", "park")),
    (0.12, ("industry", "industry", "estate", "farmland")),
    (0.12, tuple(DISTRICTS)),
    (0.07, ("farmland", "farmland", "shore")),
    (0.05, ("forest", "farmland", "shore")),
)
"""Odds of a world, and the kinds of district that it mixes."""

_RURAL = ("village", "farmland", "forest", "park", "shore")


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A synthetic scene.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (3, rows, cols)
        The picture.
    labels : ndarray of uint8, shape (rows, cols)
        1 where the pixel's centre lies in a footprint, else 0.
    footprints : tuple of shapely.Polygon
        Building outlines in pixel coordinates (col, row), clipped to the picture; (0, 0) is the outer
        corner of the first pixel, y points down. They do not overlap; touching houses share an edge.
    streets : tuple of shapely.Polygon
        What is paved for traffic, in the same coordinates; these do overlap.
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    footprints: tuple[shapely.Polygon, ...]
    streets: tuple[shapely.Polygon, ...] = ()


def render_world(
    seed: int,
    height: int,
    width: int,
    gsd_m: float = 0.3,
    *,
    districts: Sequence[str] = (),
    unbuilt: float = 0.0,
) -> World:
    """Render the world of a seed.

    Parameters
    ----------
    seed : int
        0 or more; everything follows from it.
    height, width : int
        Size in pixels, 1 or more.
    gsd_m : float
        Ground sample distance in metres, sensible from 0.1 to 1.
    districts : sequence of str
        Kinds of district to mix, keys of `DISTRICTS`; empty: drawn from the seed.
    unbuilt : float
        Share of the buildings, spread evenly, that do not stand yet: the same place at an earlier date.

    Returns
    -------
    World
        Picture, labels, footprints and streets.

    Raises
    ------
    InvalidOption
        If a district is unknown.
    """
    for name in districts:
        if name not in DISTRICTS:
            raise InvalidOption(f"{name}: no such kind of district; choose from {', '.join(DISTRICTS)}")
    layout_rng, look_rng, canvas_rng, sensor_rng = np.random.default_rng(seed).spawn(4)
    style = draw_style(look_rng)
    site = _lay_out(layout_rng, style, (height * gsd_m, width * gsd_m), districts)
    later = np.diff(np.floor(np.arange(len(site.buildings) + 1) * unbuilt)) > 0
    site.buildings[:] = itertools.compress(site.buildings, ~later)
    canvas = Canvas.blank(canvas_rng, (height, width), gsd_m, style.sun)
    _paint(canvas, site, style)
    rgb = expose(canvas, style.sun, draw_sensor(sensor_rng), sensor_rng)
    footprints = _outlines([building.footprint for building in site.buildings], height, width, gsd_m)
    streets = _outlines([cover.land for cover in site.covers if cover.layer >= 5], height, width, gsd_m)
    return World(rgb, _labels(footprints, height, width), footprints, streets)


def _paint(canvas: Canvas, site: Site, style: Style) -> None:
    covers = sorted(site.covers, key=lambda cover: cover.layer)
    canvas.cover([cover.land for cover in covers], [cover.material for cover in covers])
    paint_rows(canvas, site.rows, style.sun)
    paint_hedges(canvas, site.hedges, style.sun)
    for number, building in enumerate(site.buildings):
        paint_building(canvas, building, style.sun, style.lean, number)
    for thing in site.clutter:
        paint_fixture(canvas, thing, style.sun)
    paint_vehicles(canvas, site.vehicles, style.sun)
    paint_plants(canvas, site.plants, style.sun, len(site.plants))


def _outlines(
    lands: Sequence[BaseGeometry], height: int, width: int, gsd_m: float
) -> tuple[shapely.Polygon, ...]:
    """Return what the picture shows of polygons, in pixels."""
    picture = shapely.box(0, 0, width, height)
    found = []
    for land in lands:
        outline = shapely.transform(land, lambda points: points / gsd_m)
        if picture.intersects(outline):
            found += pieces_of(outline.intersection(picture), 0.25)
    return tuple(found)


def _labels(footprints: Sequence[shapely.Polygon], height: int, width: int) -> NDArray[np.uint8]:
    if not footprints:
        return np.zeros((height, width), np.uint8)
    return np.asarray(rasterize(footprints, out_shape=(height, width), default_value=1, dtype=np.uint8))


def _lay_out(
    rng: np.random.Generator, style: Style, size_m: tuple[float, float], kinds: Sequence[str]
) -> Site:
    """Lay a world out: districts, their streets, their blocks, and what fills them.

    The site covers `size_m` (height, width) metres and a strip around it.
    """
    kinds = kinds or _MIXES[rng.choice(len(_MIXES), p=np.array([odds for odds, _ in _MIXES]))][1]
    site = Site(shapely.box(-12, -12, size_m[1] + 12, size_m[0] + 12))
    land = region(rng, size_m[1], size_m[0], 40.0)
    site.cover(land.buffer(200), lawn(rng, style), 0)
    zones, lines = divide(rng, land, rng.uniform(12000, 60000), 0.6 * (1 - style.order))
    streets = _main_streets(rng, lines, kinds)
    rivers = [_river(rng, land)] if rng.random() < 0.1 else []
    blocks: list[tuple[str, shapely.Polygon]] = []
    for zone in zones:
        kind = str(rng.choice(np.array(kinds)))
        pieces, inner = _blocks(rng, style, zone, DISTRICTS[kind])
        streets += [street for lane in inner for street in _dry(lane, rivers)]
        blocks += [(kind, piece) for piece in pieces]
    roads = shapely.union_all([street.line.buffer(_half(street)) for street in streets + rivers])
    for kind, block in blocks:
        for piece in pieces_of(
            block.difference(roads).buffer(-3, join_style="mitre").buffer(3, join_style="mitre"), 60
        ):
            if piece.intersects(site.extent):
                DISTRICTS[kind].fill(rng, style, site, piece)
    pave(rng, site, style, [street for street in rivers + streets if street.line.intersects(site.extent)])
    return site


def _main_streets(
    rng: np.random.Generator, lines: Sequence[shapely.LineString], kinds: Sequence[str]
) -> list[Street]:
    """Return the streets between zones: avenues in a town, lanes and tracks in the country."""
    rural = sum(kind in _RURAL for kind in kinds) / len(kinds)
    streets = []
    for line in lines:
        if rng.random() < rural:
            kind = "dirt" if rng.random() < 0.25 else "lane"
            streets.append(Street(line, rng.uniform(3.2, 4) if kind == "dirt" else rng.uniform(4.8, 7), kind))
        else:
            streets.append(Street(line, rng.uniform(6.5, 11), "town"))
    return streets


def _river(rng: np.random.Generator, land: shapely.Polygon) -> Street:
    return Street(crossing(rng, bounding_box(land), 1.0), rng.uniform(5, 26), "river")


def _dry(street: Street, rivers: Sequence[Street]) -> list[Street]:
    """Return the parts of a side street that stay clear of the water; only main streets have bridges."""
    line: BaseGeometry = street.line
    for river in rivers:
        line = line.difference(river.line.buffer(_half(river) + street.width))
    return [street._replace(line=part) for part in shapely.get_parts(line) if part.length > 10]


def _blocks(
    rng: np.random.Generator, style: Style, zone: shapely.Polygon, district: District
) -> tuple[list[shapely.Polygon], list[Street]]:
    area = district.block * rng.uniform(0.6, 1.5)
    pieces, lines = divide(rng, zone, area, district.bend * (1 - 0.8 * style.order))
    width = district.street * rng.uniform(0.85, 1.2)
    return pieces, [Street(line, width, district.kind) for line in lines]


def _half(street: Street) -> float:
    """Return how far from its centre line a street takes the ground."""
    return street.width / 2 + {"town": 2.0, "river": 4.0}.get(street.kind, 0.6)
