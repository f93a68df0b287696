"""Kinds of district: how a block of land is built up, planted and paved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from scenery.buildings import Frame, hall, house, party_house, shack, shed, slab
from scenery.canvas import Material
from scenery.country import farmland, forest, park, shore
from scenery.layout import bounding_box, pieces_of, strips
from scenery.lots import (
    NOTHING,
    Rng,
    Wish,
    car_park,
    clutter,
    enclose,
    fit,
    garden,
    homestead,
    lots,
    place,
    pool,
    scaled,
    storage,
)
from scenery.site import Site, scatter, tree
from scenery.style import Style, lawn, paving, vary

_GARAGE = Wish(shed, (3, 6.5), (2.5, 6))
_BARN = Wish(house, (9, 24), (7, 13))


class District(NamedTuple):
    """A kind of district.

    Parameters
    ----------
    block : float
        Area of a block in m².
    bend : float
        How winding its streets are, 0 … 1.
    street : float
        Width of its carriageways in metres.
    kind : str
        ``town`` (sidewalks), ``lane`` (none) or ``dirt``.
    fill : callable
        Fills one block: ``fill(rng, style, site, block)``.
    """

    block: float
    bend: float
    street: float
    kind: str
    fill: Callable[[Rng, Style, Site, shapely.Polygon], None]


def suburb(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Detached houses in gardens."""
    size = rng.uniform(420, 1050)
    hedged = rng.random()
    trees = (0.002 + 0.012 * style.lush) * rng.uniform(0.5, 1.5)
    for parcel in lots(rng, site, block, size):
        site.cover(parcel.land, lawn(rng, style))
        width = np.clip(parcel.length - rng.uniform(2.5, 6), 10, 22)
        depth = np.clip(parcel.land.area / max(parcel.length, 8) * rng.uniform(0.35, 0.6), 9, 17)
        taken = homestead(rng, style, site, parcel, (float(width), float(depth)), _GARAGE)
        free = parcel.land.buffer(-0.8).difference(taken)
        if rng.random() < 0.14 and free.area > 150:
            pool(rng, site, free)
        garden(rng, style, site, parcel.land, taken, trees)
        if rng.random() < hedged:
            enclose(rng, style, site, parcel.land, taken)


def village(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Farms and old houses, close to the lane, with barns, yards and kitchen gardens."""
    for parcel in lots(rng, site, block, rng.uniform(600, 1600)):
        site.cover(parcel.land, lawn(rng, style))
        taken: BaseGeometry = NOTHING
        if rng.random() > 0.12:
            size = rng.uniform(11, 20), rng.uniform(9, 13)
            taken = homestead(rng, style, site, parcel, size, _GARAGE)
            for _ in range(int(rng.integers(0, 3))):
                inside = parcel.land.buffer(-1.5).difference(taken.buffer(3))
                taken = taken.union(place(rng, style, site, inside, parcel.along, _BARN))
        garden(rng, style, site, parcel.land, taken, 0.004 + 0.014 * style.lush)
        if rng.random() < 0.3:
            enclose(rng, style, site, parcel.land, taken)


def informal(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Small dwellings wall to wall between alleys."""
    site.cover(block.buffer(0.8), Material(vary(rng, style.soil, 0.15), 0.09, 0.14, 0.10))
    size = rng.uniform(40, 120)
    for parcel in lots(rng, site, block, size):
        box = bounding_box(parcel.land)
        if rng.random() < 0.1 or box.breadth < 4:
            if rng.random() < 0.5:
                site.cover(parcel.land, lawn(rng, style))
            if rng.random() < 0.3 + 0.6 * style.lush:
                site.plants.append(tree(rng, style, box.center[0], box.center[1], 2.4))
            continue
        _shanty(rng, style, site, parcel.land)
    clutter(rng, site, block.intersection(site.extent), 0.01)


def rows(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Rows of touching houses along the streets, gardens or yards behind."""
    site.cover(block, lawn(rng, style) if rng.random() < 0.6 else paving(rng, style))
    depth, setback = rng.uniform(8.5, 14), float(rng.choice([0.3, 3.0, 5.0], p=[0.5, 0.3, 0.2]))
    for land in pieces_of(block.buffer(-setback, join_style="mitre"), 150):
        _terrace(rng, style, site, land, depth)
        rest = land.buffer(-depth - 1)
        for piece in pieces_of(rest, 60):
            taken: BaseGeometry = NOTHING
            for _ in range(int(rng.integers(0, 4))):
                inside = piece.difference(taken.buffer(1))
                wish = Wish(shed, (4, 16), (3, 9))
                taken = taken.union(place(rng, style, site, inside, bounding_box(land).axis, wish))
            garden(rng, style, site, piece, taken, 0.006 + 0.012 * style.lush)


def industry(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Halls on asphalt, with car parks, lorries and strips of green."""
    for parcel in lots(rng, site, block, rng.uniform(2000, 9000)):
        site.cover(parcel.land, lawn(rng, style))
        yard = parcel.land.buffer(-rng.uniform(1, 4))
        site.cover(yard, paving(rng, style))
        box = bounding_box(parcel.land)
        widths, depths = (box.length * 0.45, box.length * 0.9), (box.breadth * 0.4, box.breadth * 0.85)
        axis = box.axis if rng.random() < 0.7 else parcel.along
        taken = place(rng, style, site, parcel.land.buffer(-3), axis, Wish(hall, widths, depths), tries=8)
        free = yard.difference(taken.buffer(3))
        for _ in range(int(rng.integers(0, 3))):
            more = place(rng, style, site, free.buffer(-1.5), axis, Wish(hall, (8, 30), (7, 18)))
            free = free.difference(more.buffer(3))
        for piece in pieces_of(free.buffer(-1.5).buffer(1), 120):
            if rng.random() < 0.6:
                car_park(rng, site, piece, rng.uniform(0.1, 0.85))
            else:
                storage(rng, site, piece)
        for x, y in scatter(rng, parcel.land.difference(yard.buffer(-0.5)), 0.015 * style.lush):
            site.plants.append(tree(rng, style, x, y, 2.2))


def estate(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Blocks of flats in lawns with paths and car parks."""
    site.cover(block, lawn(rng, style))
    box = bounding_box(block)
    for parcel in lots(rng, site, block, rng.uniform(1100, 2600)):
        axis = box.axis if rng.random() < 0.8 else np.array([-box.axis[1], box.axis[0]])
        wish = Wish(slab, (18, 60), (11, 17))
        taken = place(rng, style, site, parcel.land.buffer(-2.5), axis, wish, tries=8)
        site.cover(taken.buffer(1.5, join_style="mitre"), paving(rng, style), 1)
        free = parcel.land.buffer(-1).difference(taken.buffer(4))
        for piece in pieces_of(free.buffer(-4).buffer(4), 250)[:1]:
            if rng.random() < 0.5:
                site.cover(piece, paving(rng, style), 2)
                car_park(rng, site, piece, rng.uniform(0.3, 0.95))
                taken = taken.union(piece)
        garden(rng, style, site, parcel.land, taken.buffer(1), 0.004 + 0.01 * style.lush)


DISTRICTS = {
    "suburb": District(8000, 0.7, 6.5, "town", suburb),
    "village": District(11000, 1.0, 5.0, "lane", village),
    "informal": District(3500, 0.9, 3.6, "dirt", informal),
    "rows": District(5500, 0.25, 7.5, "town", rows),
    "industry": District(22000, 0.1, 9.0, "lane", industry),
    "estate": District(14000, 0.2, 7.0, "town", estate),
    "farmland": District(45000, 0.5, 3.4, "dirt", farmland),
    "forest": District(60000, 1.0, 3.4, "dirt", forest),
    "park": District(20000, 0.8, 3.0, "dirt", park),
    "shore": District(40000, 1.0, 3.4, "dirt", shore),
}
"""Every kind of district by name."""


def _shanty(rng: Rng, style: Style, site: Site, land: shapely.Polygon) -> None:
    """Fill a small parcel with one dwelling, hardly aligned."""
    box = bounding_box(land)
    turn = rng.normal(0, 0.05)
    along = box.axis * math.cos(turn) + np.array([-box.axis[1], box.axis[0]]) * math.sin(turn)
    inset = rng.uniform(0.1, 0.9)
    width, depth = box.length * rng.uniform(0.75, 1) - inset, box.breadth * rng.uniform(0.8, 1) - inset
    fit(site, land.buffer(-0.1), scaled(shack, rng, style, Frame(box.center, along), (width, depth)))


def _terrace(rng: Rng, style: Style, site: Site, land: shapely.Polygon, depth: float) -> None:
    """Line the border of `land` with touching houses, alike or not."""
    wall = float(rng.choice([5.6, 6.2, 8.6, 11.5]))
    alike = rng.random() < style.order
    kind = int(rng.choice(5, p=np.array(style.covers) / sum(style.covers)))
    like = style._replace(covers=tuple(float(number == kind) for number in range(5))) if alike else style
    slope = math.tan(math.radians(rng.uniform(22, 46)))
    seed = int(rng.integers(1 << 30))
    taken: list[shapely.Polygon] = []
    fence = land.buffer(0.6)  # straight fronts along a bent street step out a little
    for ring in strips(land, rng.uniform(5.5, 12, 7), depth):
        quad = shapely.Polygon(ring)
        if not fence.contains(quad) or any(quad.intersection(other).area > 1e-6 for other in taken):
            continue
        taken.append(quad)
        if rng.random() < 0.06 or not quad.intersects(site.extent):
            continue
        own = np.random.default_rng(seed) if alike else rng
        height = wall if alike else wall + float(rng.choice([-2.8, 0, 0, 2.8]))
        site.buildings.append(party_house(own, like, ring, max(3.0, height), slope))
