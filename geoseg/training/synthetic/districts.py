"""Kinds of district: how a block of land is built up, planted and paved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import shapely

from geoseg.training.synthetic.buildings import (
    Frame,
    hall,
    house,
    party_house,
    shack,
    shed,
    slab,
)
from geoseg.training.synthetic.canvas import Material, srgb
from geoseg.training.synthetic.layout import Parcel, Points, bounding_box, parcels, pieces_of, strips
from geoseg.training.synthetic.roofs import Building
from geoseg.training.synthetic.site import (
    WHITE,
    Hedge,
    Plant,
    Rows,
    Site,
    Vehicle,
    car,
    scatter,
    tree,
)
from geoseg.training.synthetic.style import Style, lawn, paving, pick, vary

Rng = np.random.Generator


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
    size = rng.uniform(420, 900)
    hedged = rng.random()
    for parcel in parcels(rng, block, size):
        site.cover(parcel.land, lawn(rng, style))
        taken = _homestead(rng, style, site, parcel, rng.uniform(9, 15), rng.uniform(8, 13))
        _garden(rng, style, site, parcel.land, taken, 0.004 + 0.012 * style.lush)
        if rng.random() < hedged:
            _enclose(rng, style, site, parcel.land, taken)


def village(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Farms and old houses, close to the lane, with barns, yards and kitchen gardens."""
    for parcel in parcels(rng, block, rng.uniform(500, 1600)):
        site.cover(parcel.land, lawn(rng, style))
        if rng.random() < 0.12:
            _garden(rng, style, site, parcel.land, shapely.Polygon(), 0.01)
            continue
        taken = _homestead(rng, style, site, parcel, rng.uniform(10, 18), rng.uniform(8, 12))
        if rng.random() < 0.5:
            inside = parcel.land.buffer(-1.5).difference(taken.buffer(3))
            taken = taken.union(_place(rng, site, inside, parcel.along, (9, 24), (7, 13), "barn", style))
        _garden(rng, style, site, parcel.land, taken, 0.004 + 0.014 * style.lush)


def informal(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Small dwellings wall to wall between alleys."""
    dirt = Material(vary(rng, style.soil, 0.15), 0.09, 0.14, 0.10)
    site.cover(block, dirt)
    for parcel in parcels(rng, block, rng.uniform(45, 110)):
        box = bounding_box(parcel.land)
        if rng.random() < 0.12 or box.breadth < 4:
            site.cover(parcel.land, lawn(rng, style))
            if rng.random() < 0.6:
                site.plants.append(tree(rng, style, *box.center, 2.2))
            continue
        turn = rng.normal(0, 0.06)
        along = box.axis * math.cos(turn) + np.array([-box.axis[1], box.axis[0]]) * math.sin(turn)
        inset = rng.uniform(0.25, 1.1)
        frame = Frame(box.center, along)
        width, depth = box.length * rng.uniform(0.7, 1) - inset, box.breadth * rng.uniform(0.75, 1) - inset
        _fit(
            site, parcel.land.buffer(-0.15), lambda k, w=width, d=depth, f=frame: shack(rng, f, w * k, d * k)
        )


def rows(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Rows of touching houses along the streets, gardens or yards behind."""
    site.cover(block, lawn(rng, style) if rng.random() < 0.6 else paving(rng, style))
    depth, setback = rng.uniform(8.5, 14), float(rng.choice([0.3, 3.0, 5.0]))
    inner = pieces_of(block.buffer(-setback, join_style="mitre"), 150)
    wall = float(rng.choice([5.6, 6.2, 8.6, 11.5]))
    uniform = rng.random() < style.order
    like = (
        style._replace(covers=tuple(np.eye(5)[rng.choice(5, p=np.array(style.covers))])) if uniform else style
    )
    slope = math.tan(math.radians(rng.uniform(22, 46)))
    for land in inner:
        taken = []
        seed = int(rng.integers(1 << 30))
        for ring in strips(land, rng.uniform(5.5, 12, 7), depth):
            quad = shapely.Polygon(ring)
            if not land.buffer(0.2).contains(quad) or any(
                quad.intersection(other).area > 0.05 for other in taken
            ):
                continue
            taken.append(quad)
            if rng.random() < 0.07:
                continue
            draw = np.random.default_rng(seed) if uniform else rng
            height = wall if uniform else wall + float(rng.choice([-2.8, 0, 0, 2.8]))
            site.buildings.append(party_house(draw, like, ring, max(3, height), slope))
        rest = land.buffer(-depth - 1)
        _garden(rng, style, site, rest, shapely.Polygon(), 0.006 + 0.01 * style.lush)
        if rng.random() < 0.5:
            _place(rng, site, rest, bounding_box(land).axis, (5, 14), (5, 9), "shed", style)


def industry(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Halls on asphalt, with car parks, lorries and strips of green."""
    for parcel in parcels(rng, block, rng.uniform(2500, 9000)):
        site.cover(parcel.land, lawn(rng, style))
        yard = parcel.land.buffer(-rng.uniform(1, 4))
        site.cover(yard, paving(rng, style))
        box = bounding_box(parcel.land)
        inside = parcel.land.buffer(-4)
        taken = _place(
            rng,
            site,
            inside,
            parcel.along,
            (box.length * 0.4, box.length * 0.8),
            (box.breadth * 0.35, box.breadth * 0.75),
            "hall",
            style,
        )
        free = yard.difference(taken.buffer(4))
        if rng.random() < 0.3:
            more = _place(rng, site, free.buffer(-2), parcel.along, (10, 30), (8, 18), "hall", style)
            free = free.difference(more.buffer(3))
        for piece in pieces_of(free.buffer(-1.5).buffer(1), 120):
            _car_park(rng, site, piece, rng.uniform(0.1, 0.85))
        for x, y in scatter(rng, parcel.land.difference(yard.buffer(-0.5)), 0.015 * style.lush):
            site.plants.append(tree(rng, style, x, y, 2.2))


def estate(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Blocks of flats in lawns with paths and car parks."""
    site.cover(block, lawn(rng, style))
    box = bounding_box(block)
    taken = shapely.Polygon()
    for parcel in parcels(rng, block, rng.uniform(1500, 3200)):
        axis = box.axis if rng.random() < 0.8 else np.array([-box.axis[1], box.axis[0]])
        inside = parcel.land.buffer(-4)
        taken = taken.union(_place(rng, site, inside, axis, (18, 60), (11, 16), "slab", style))
        free = parcel.land.buffer(-1).difference(taken.buffer(5))
        for piece in pieces_of(free.buffer(-5).buffer(5), 250)[:1]:
            if rng.random() < 0.5:
                site.cover(piece, paving(rng, style), 2)
                _car_park(rng, site, piece, rng.uniform(0.3, 0.95))
                taken = taken.union(piece)
    _garden(rng, style, site, block, taken, 0.004 + 0.01 * style.lush, pools=False)


def farmland(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Fields of crops, ploughed soil, meadows, orchards, seldom a greenhouse or a lone barn."""
    for parcel in parcels(rng, block, rng.uniform(5000, 25000)):
        land = parcel.land.buffer(-0.6)
        _field(rng, style, site, parcel, land)
        for x, y in scatter(rng, parcel.land.boundary.buffer(1.5), 0.006 * style.lush):
            site.plants.append(tree(rng, style, x, y, rng.uniform(1.2, 3.6)))


def forest(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Trees crown to crown, thinning out at clearings."""
    floor = Material(
        vary(rng, style.leaves * np.float32(0.6) + style.soil * np.float32(0.25), 0.15), 0.1, 0.16, 0.12
    )
    site.cover(block, floor)
    size = rng.uniform(1.8, 3.6)
    clearing = shapely.Point(*bounding_box(block).center).buffer(rng.uniform(0, 30))
    woods = block.buffer(-1).difference(clearing) if rng.random() < 0.5 else block.buffer(-1)
    for x, y in scatter(rng, woods, rng.uniform(0.25, 0.62) / size**2):
        site.plants.append(tree(rng, style, x, y, size))


def park(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Lawns, groups of trees, paths, sometimes a pond or a sports field."""
    site.cover(block, lawn(rng, style))
    for point in scatter(rng, block.buffer(-12), 0.0006):
        for x, y in point + rng.normal(0, 7, (int(rng.integers(2, 12)), 2)):
            site.plants.append(tree(rng, style, x, y, 3.0))
    box = bounding_box(block)
    if rng.random() < 0.4:
        pond = _blob(rng, box.center, rng.uniform(6, 0.35 * box.breadth + 6)).intersection(block.buffer(-5))
        site.cover(pond.buffer(1.5), Material(vary(rng, style.soil, 0.1)), 2)
        site.cover(pond, Material(vary(rng, srgb(58, 74, 72), 0.3), 0.03, 0.05, 0.1), 2)
    elif rng.random() < 0.5 and box.breadth > 45:
        frame = Frame(box.center, box.axis)
        pitch = shapely.Polygon(frame.ring((-26, -16, 26, 16))).intersection(block)
        site.cover(
            pitch, Material(vary(rng, pick(rng, [(96, 140, 84), (150, 92, 70), (84, 120, 90)]), 0.1)), 2
        )
        site.cover(pitch.boundary.buffer(0.08), WHITE, 2)


DISTRICTS = {
    "suburb": District(9000, 0.7, 6.5, "town", suburb),
    "village": District(12000, 1.0, 5.2, "lane", village),
    "informal": District(3500, 0.9, 3.6, "dirt", informal),
    "rows": District(6500, 0.25, 7.5, "town", rows),
    "industry": District(22000, 0.1, 9.0, "lane", industry),
    "estate": District(14000, 0.2, 7.0, "town", estate),
    "farmland": District(45000, 0.5, 3.4, "dirt", farmland),
    "forest": District(60000, 1.0, 3.4, "dirt", forest),
    "park": District(20000, 0.8, 3.0, "dirt", park),
}
"""Every kind of district by name."""


def _homestead(
    rng: Rng, style: Style, site: Site, parcel: Parcel, width: float, depth: float
) -> shapely.Geometry:
    """Build a house near the street with its drive and perhaps a garage; return the ground they take."""
    turned = parcel.along if rng.random() < 0.8 else np.array([-parcel.along[1], parcel.along[0]])
    away = np.array([-parcel.along[1], parcel.along[0]])
    setback = rng.uniform(2.5, 8)
    room = parcel.land.buffer(-1.2)
    for attempt in range(4):
        shift = parcel.along * rng.normal(0, 1 + attempt)
        frame = Frame(parcel.front + away * (setback + depth / 2) + shift, turned)
        draw = int(rng.integers(1 << 30))
        home = _fit(
            site,
            room,
            lambda k, f=frame, s=draw: house(np.random.default_rng(s), style, f, width * k, depth * k),
        )
        if home is None:
            continue
        ground = home.buffer(rng.uniform(0.3, 1.5), join_style="mitre")
        side = rng.uniform(-0.4, 0.4) * width
        drive = shapely.LineString([parcel.front + parcel.along * side, frame.origin + parcel.along * side])
        lane = drive.buffer(rng.uniform(1.3, 3.0), cap_style="flat")
        surface = paving(rng, style)
        site.cover(ground.intersection(parcel.land), surface, 2)
        site.cover(lane.intersection(parcel.land.buffer(2)), surface, 2)
        free = lane.difference(home.buffer(1))
        if rng.random() < 0.5 and free.length > 12:
            site.vehicles.append(car(rng, parcel.front + parcel.along * side + away * 3.2, away))
        taken = ground.union(lane)
        if rng.random() < 0.5:
            inside = room.difference(taken.buffer(0.5))
            taken = taken.union(_place(rng, site, inside, parcel.along, (3, 6.5), (2.5, 6), "shed", style))
        return taken
    return shapely.Polygon()


def _fit(site: Site, room: shapely.Geometry, draw: Callable[[float], Building]) -> shapely.Geometry | None:
    """Build what `draw(scale)` gives at the largest of four scales that fits into `room`."""
    for scale in (1.0, 0.86, 0.72, 0.58):
        building = draw(scale)
        if room.contains(building.footprint):
            site.buildings.append(building)
            return building.footprint
    return None


def _place(
    rng: Rng,
    site: Site,
    room: shapely.Geometry,
    along: Points,
    widths: tuple[float, float],
    depths: tuple[float, float],
    kind: str,
    style: Style,
) -> shapely.Geometry:
    """Try to build one building of `kind` somewhere in `room`; return its footprint, perhaps empty."""
    if room.is_empty:
        return shapely.Polygon()
    for _ in range(5):
        points = scatter(rng, room, 3 / max(room.area, 1))
        spot = points[0] if len(points) else shapely.get_coordinates(room.representative_point())[0]
        width, depth = rng.uniform(*widths), rng.uniform(*depths)
        frame, seed = Frame(spot, along), int(rng.integers(1 << 30))

        def draw(k: float, f: Frame = frame, w: float = width, d: float = depth, s: int = seed) -> Building:
            own = np.random.default_rng(s)
            if kind == "hall":
                return hall(own, f, w * k, d * k)
            if kind == "slab":
                return slab(own, style, f, w * k, d * k)
            return shed(own, style, f, w * k, d * k) if kind == "shed" else house(own, style, f, w * k, d * k)

        placed = _fit(site, room, draw)
        if placed is not None:
            return placed
    return shapely.Polygon()


def _garden(
    rng: Rng,
    style: Style,
    site: Site,
    land: shapely.Geometry,
    taken: shapely.Geometry,
    density: float,
    pools: bool = True,
) -> None:
    """Plant trees and bushes on `land` outside `taken`; lay beds, now and then a pool."""
    free = land.buffer(-0.8).difference(taken)
    for x, y in scatter(rng, free, density):
        site.plants.append(tree(rng, style, x, y, rng.uniform(1.2, 3.4)))
    for x, y in scatter(rng, free, density * 1.5):
        color = vary(rng, style.leaves, 0.3)
        site.plants.append(Plant(x, y, rng.uniform(0.5, 1.2), rng.uniform(0.6, 1.6), "leafy", color))
    for x, y in scatter(rng, free, 0.0012):
        bed = _blob(rng, np.array([x, y]), rng.uniform(1, 3.5)).intersection(free)
        site.cover(bed, Material(vary(rng, style.soil, 0.25), 0.15, 0.2, 0.0), 1)
    if pools and rng.random() < 0.16 and free.area > 150:
        spot = scatter(rng, free.buffer(-4), 4 / max(free.area, 1))[:1]
        for x, y in spot:
            frame = Frame(np.array([x, y]), bounding_box(free.convex_hull).axis)
            half = rng.uniform(1.5, 2.4)
            pool = shapely.Polygon(frame.ring((-2 * half, -half, 2 * half, half)))
            pool = pool.buffer(0.9 - half).buffer(half - 0.9) if rng.random() < 0.5 else pool
            site.cover(pool.buffer(1), Material(srgb(196, 190, 178)), 2)
            site.cover(pool, Material(vary(rng, srgb(92, 176, 200), 0.12), 0.03, 0.04, 0.0), 2)


def _enclose(rng: Rng, style: Style, site: Site, land: shapely.Polygon, taken: shapely.Geometry) -> None:
    """Put a hedge or fence round a parcel, open where the drive leaves it."""
    if rng.random() < 0.5:
        line = land.boundary.buffer(rng.uniform(0.3, 0.7)).difference(taken.buffer(0.5))
        color = vary(rng, style.leaves * np.float32(0.9), 0.15)
        site.hedges.extend(Hedge(piece, rng.uniform(1.0, 2.0), color, 0.25) for piece in pieces_of(line))
        return
    line = land.boundary.buffer(0.12).difference(taken.buffer(0.5))
    color = vary(rng, pick(rng, [(150, 130, 108), (186, 182, 174), (110, 100, 92)]), 0.15)
    site.hedges.extend(Hedge(piece, rng.uniform(0.9, 1.9), color, 0.0) for piece in pieces_of(line, 0.2))


def _car_park(rng: Rng, site: Site, land: shapely.Polygon, share: float) -> None:
    """Mark bays along the longer side of `land` and park cars in a share of them."""
    box = bounding_box(land)
    away = np.array([-box.axis[1], box.axis[0]])
    shapely.prepare(land)
    for across in np.arange(-box.breadth / 2 + 2.8, box.breadth / 2 - 2.5, 8.2):
        for along in np.arange(-box.length / 2 + 1.5, box.length / 2 - 1.5, 2.6):
            middle = box.center + box.axis * along + away * across
            bay = Frame(middle, box.axis)
            if not land.contains(shapely.Polygon(bay.ring((-1.3, -2.4, 1.3, 2.4)))):
                continue
            site.cover(shapely.Polygon(bay.ring((-1.36, -2.4, -1.24, 2.4))), WHITE, 3)
            if rng.random() < share:
                turn = away if rng.random() < 0.5 else -away
                site.vehicles.append(car(rng, middle + rng.normal(0, 0.12, 2), turn))
    if rng.random() < 0.3:
        for x, y in scatter(rng, land.buffer(-4), 0.001):
            color = pick(rng, [(200, 200, 200), (70, 100, 140), (150, 70, 56), (90, 120, 96)])
            site.vehicles.append(Vehicle(np.array([x, y]), away, 12.0, 2.45, 2.7, color))


def _field(rng: Rng, style: Style, site: Site, parcel: Parcel, land: shapely.Polygon) -> None:
    kind = rng.choice(
        ["crop", "soil", "meadow", "orchard", "vines", "stubble"], p=[0.3, 0.17, 0.25, 0.1, 0.1, 0.08]
    )
    soil = vary(rng, style.soil, 0.12)
    green = vary(rng, style.grass, 0.18)
    if kind == "meadow":
        site.cover(land, Material(green, 0.07, 0.08, 0.10))
        return
    if kind in ("soil", "stubble"):
        color = soil if kind == "soil" else vary(rng, srgb(196, 178, 130), 0.12)
        site.cover(land, Material(color, 0.07, 0.08, 0.12))
        shade = np.asarray(color * np.float32(0.82), np.float32)
        site.rows.append(Rows(land, parcel.along, rng.uniform(0.9, 3.0), 0.5, 0.02, shade))
        return
    ground = soil if rng.random() < 0.5 else green
    site.cover(land, Material(ground, 0.07, 0.10, 0.10))
    leaf = vary(rng, style.leaves * np.float32(1.15), 0.2)
    if kind == "crop":
        site.rows.append(Rows(land, parcel.along, rng.uniform(0.6, 1.6), rng.uniform(0.4, 0.8), 0.25, leaf))
    elif kind == "vines":
        site.rows.append(
            Rows(land.buffer(-2), parcel.along, rng.uniform(2.0, 3.2), rng.uniform(0.3, 0.55), 1.8, leaf)
        )
    else:
        _orchard(rng, style, site, parcel, land.buffer(-2))


def _orchard(rng: Rng, style: Style, site: Site, parcel: Parcel, land: shapely.Polygon) -> None:
    step = rng.uniform(3.5, 7)
    box = bounding_box(parcel.land)
    a, b = np.meshgrid(
        np.arange(-box.length / 2, box.length / 2, step),
        np.arange(-box.breadth / 2, box.breadth / 2, step * 1.2),
    )
    points = box.center + np.column_stack([a.ravel(), b.ravel()]) @ np.stack(
        [box.axis, [-box.axis[1], box.axis[0]]]
    )
    points = points + rng.normal(0, 0.15, points.shape)
    radius = step * rng.uniform(0.28, 0.46)
    for x, y in points[shapely.contains_xy(land, points[:, 0], points[:, 1])]:
        size = radius * float(np.exp(0.12 * rng.standard_normal()))
        site.plants.append(Plant(x, y, size, size * 1.7, "leafy", vary(rng, style.leaves, 0.1)))


def _blob(rng: Rng, center: Points, radius: float) -> shapely.Polygon:
    turn = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    away = radius * (
        1 + 0.25 * np.sin(2 * turn + rng.uniform(0, 6)) + 0.15 * np.sin(3 * turn + rng.uniform(0, 6))
    )
    return shapely.Polygon(center + np.column_stack([away * np.cos(turn), away * np.sin(turn)]))
