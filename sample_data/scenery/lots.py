"""Single lots: a house with its drive and garden, fences, car parks, and finding room to build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from scenery.buildings import Frame, house
from scenery.canvas import Material, srgb
from scenery.layout import Parcel, Points, blob, bounding_box, parcels, pieces_of
from scenery.roofs import Building, Fixture
from scenery.site import WHITE, Hedge, Plant, Site, Vehicle, car, scatter, tree
from scenery.style import Style, paving, pick, vary

Rng = np.random.Generator
Draw = Callable[[Rng, Style, Frame, float, float], Building]
"""A kind of building: ``draw(rng, style, frame, width, depth)``."""

NOTHING = shapely.Polygon()


class Wish(NamedTuple):
    """A building one would like to have: what kind, and ranges of its width and depth in metres."""

    draw: Draw
    widths: tuple[float, float]
    depths: tuple[float, float]


def lots(rng: Rng, site: Site, block: shapely.Polygon, area: float) -> Iterator[Parcel]:
    """Split a block into parcels of about `area` m² and give those that the picture shows."""
    for parcel in parcels(rng, block, area):
        if parcel.land.intersects(site.extent):
            yield parcel


def fit(site: Site, room: BaseGeometry, draw: Callable[[float], Building]) -> BaseGeometry | None:
    """Build what `draw(scale)` gives at the largest of three scales that fits; return its footprint."""
    shapely.prepare(room)
    for scale in (1.0, 0.8, 0.62):
        building = draw(scale)
        if room.contains(building.footprint):
            site.buildings.append(building)
            return building.footprint
    return None


def place(
    rng: Rng, style: Style, site: Site, room: BaseGeometry, along: Points, wish: Wish, tries: int = 5
) -> BaseGeometry:
    """Try to build somewhere in `room`, parallel to `along`; return the footprint, empty if in vain."""
    for _ in range(0 if room.is_empty else tries):
        points = scatter(rng, room, 3 / max(room.area, 1))
        spot = points[0] if len(points) else shapely.get_coordinates(room.representative_point())[0]
        frame, size = Frame(spot, along), (rng.uniform(*wish.widths), rng.uniform(*wish.depths))
        placed = fit(site, room, scaled(wish.draw, rng, style, frame, size))
        if placed is not None:
            return placed
    return NOTHING


def homestead(
    rng: Rng, style: Style, site: Site, parcel: Parcel, size: tuple[float, float], outhouse: Wish
) -> BaseGeometry:
    """Build a house near the street with its drive and perhaps an outhouse; return the ground they take."""
    away = np.array([-parcel.along[1], parcel.along[0]])
    turned = parcel.along if rng.random() < 0.8 else away
    setback = rng.uniform(2.0, 7.5)
    room = parcel.land.buffer(-1.2)
    for attempt in range(4):
        near = parcel.front + away * (setback + size[1] / 2)
        middle = near if attempt < 2 else shapely.get_coordinates(parcel.land.centroid)[0]
        frame = Frame(middle + parcel.along * rng.normal(0, 1), turned)
        home = fit(site, room, scaled(house, rng, style, frame, size))
        if home is None:
            continue
        taken = _drive(rng, style, site, parcel, home)
        if rng.random() < 0.55:
            inside = room.difference(taken.buffer(0.5))
            taken = taken.union(place(rng, style, site, inside, parcel.along, outhouse))
        return taken
    return NOTHING


def garden(
    rng: Rng, style: Style, site: Site, land: BaseGeometry, taken: BaseGeometry, density: float
) -> None:
    """Plant `density` trees per m² and as many bushes on `land` outside `taken`; lay beds, leave things."""
    free = land.buffer(-0.8).difference(taken)
    for x, y in scatter(rng, free, density):
        site.plants.append(
            tree(rng, style, x, y, float(rng.choice([1.5, 2.4, 3.4, 4.6], p=[0.3, 0.35, 0.25, 0.1])))
        )
    for x, y in scatter(rng, free, density * 1.5):
        color = vary(rng, style.leaves, 0.3)
        site.plants.append(Plant(x, y, rng.uniform(0.5, 1.2), rng.uniform(0.6, 1.6), "leafy", color))
    for point in scatter(rng, free, 0.002):
        bed = blob(rng, point, rng.uniform(0.8, 3.5)).intersection(free)
        mixed = style.soil * np.float32(0.7) + style.grass * np.float32(0.3)
        site.cover(bed, Material(vary(rng, mixed, 0.3), 0.15, 0.25, 0.0), 1)
    clutter(rng, site, free, 0.004)


def clutter(rng: Rng, site: Site, land: BaseGeometry, per_m2: float) -> None:
    """Leave garden furniture, bins, piles and the like on `land`."""
    for point in scatter(rng, land, per_m2):
        turn = rng.uniform(0, np.pi)
        frame = Frame(point, np.array([np.cos(turn), np.sin(turn)]))
        width, depth = rng.uniform(0.25, 1.0, 2)
        paints = [
            (214, 212, 206),
            (120, 110, 100),
            (90, 94, 100),
            (150, 120, 90),
            (70, 104, 150),
            (140, 60, 50),
        ]
        color = vary(rng, pick(rng, paints), 0.25)
        site.clutter.append(Fixture(frame.ring((-width, -depth, width, depth)), color, rng.uniform(0.2, 1.0)))


def pool(rng: Rng, site: Site, land: BaseGeometry) -> None:
    """Lay a swimming pool where `land` has room for one."""
    for point in scatter(rng, land.buffer(-4), 4 / max(land.area, 1))[:1]:
        turn = rng.uniform(0, np.pi)
        frame = Frame(point, np.array([np.cos(turn), np.sin(turn)]))
        half = rng.uniform(1.5, 2.4)
        basin: BaseGeometry = shapely.Polygon(frame.ring((-2 * half, -half, 2 * half, half)))
        if rng.random() < 0.5:
            basin = basin.buffer(0.9 - half).buffer(half - 0.9)
        site.cover(basin.buffer(1), Material(vary(rng, srgb(196, 190, 178), 0.1)), 2)
        site.cover(basin, Material(vary(rng, srgb(92, 176, 200), 0.15), 0.03, 0.04, 0.0), 2)


def enclose(rng: Rng, style: Style, site: Site, land: shapely.Polygon, taken: BaseGeometry) -> None:
    """Put a hedge or fence round a parcel, open where the drive leaves it."""
    if rng.random() < 0.5:
        line = land.boundary.buffer(rng.uniform(0.3, 0.7)).difference(taken.buffer(0.5))
        color = vary(rng, style.leaves * np.float32(0.9), 0.15)
        site.hedges.extend(Hedge(piece, rng.uniform(1.0, 2.0), color, 0.25) for piece in pieces_of(line))
        return
    line = land.boundary.buffer(0.12).difference(taken.buffer(0.5))
    color = vary(rng, pick(rng, [(150, 130, 108), (186, 182, 174), (110, 100, 92)]), 0.15)
    site.hedges.extend(Hedge(piece, rng.uniform(0.9, 1.9), color, 0.0) for piece in pieces_of(line, 0.2))


def car_park(rng: Rng, site: Site, land: shapely.Polygon, share: float) -> None:
    """Mark bays along the longer side of `land` and park cars in a share of them."""
    box = bounding_box(land)
    away = np.array([-box.axis[1], box.axis[0]])
    a = np.arange(-box.length / 2 + 1.5, box.length / 2 - 1.5, 2.6)
    b = np.arange(-box.breadth / 2 + 2.8, box.breadth / 2 - 2.5, 8.2)
    grid = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2)
    middles = box.center + grid @ np.stack([box.axis, away])
    room = land.buffer(-2.5)
    shapely.prepare(room)
    for middle in middles[shapely.contains_xy(room, middles[:, 0], middles[:, 1])]:
        bay = Frame(middle, box.axis)
        site.cover(shapely.Polygon(bay.ring((-1.36, -2.4, -1.24, 2.4))), WHITE, 3)
        if rng.random() < share:
            turn = away if rng.random() < 0.5 else -away
            site.vehicles.append(car(rng, middle + rng.normal(0, 0.12, 2), turn))


def storage(rng: Rng, site: Site, land: shapely.Polygon) -> None:
    """Leave lorry trailers, containers and piles on a yard."""
    box = bounding_box(land)
    away = np.array([-box.axis[1], box.axis[0]])
    for point in scatter(rng, land.buffer(-7), 0.003):
        color = vary(rng, pick(rng, [(214, 214, 212), (80, 110, 150), (150, 70, 56), (90, 120, 96)]), 0.15)
        along = box.axis if rng.random() < 0.7 else away
        for row in range(int(rng.integers(1, 5))):
            middle = point + row * 2.7 * np.array([-along[1], along[0]])
            site.vehicles.append(Vehicle(middle, along, float(rng.choice([6.1, 12.2])), 2.45, 2.7, color))
    clutter(rng, site, land, 0.006)


def _drive(rng: Rng, style: Style, site: Site, parcel: Parcel, home: BaseGeometry) -> BaseGeometry:
    """Pave the surroundings of a house and a way to the street; return the ground they take."""
    away = np.array([-parcel.along[1], parcel.along[0]])
    middle = shapely.get_coordinates(home.centroid)[0]
    side = (middle - parcel.front) @ parcel.along + rng.uniform(-5, 5)
    start = parcel.front + parcel.along * np.clip(side, -parcel.length / 2 + 1, parcel.length / 2 - 1)
    way = shapely.LineString([start - away * 2, start + away * ((middle - parcel.front) @ away + 1)])
    surface = paving(rng, style)
    ground = home.buffer(rng.uniform(0.2, 1.8), join_style="mitre")
    if rng.random() < 0.4:
        corner = shapely.Point(*shapely.get_coordinates(home)[int(rng.integers(0, 3))])
        terrace = corner.buffer(rng.uniform(2.5, 5), cap_style="square")
        site.cover(terrace.intersection(parcel.land), paving(rng, style), 2)
        clutter(rng, site, terrace.intersection(parcel.land).difference(home.buffer(0.8)), 0.08)
    lane = way.buffer(rng.uniform(1.2, 3.0), cap_style="flat")
    site.cover(ground.intersection(parcel.land), surface, 2)
    site.cover(lane.intersection(parcel.land.buffer(2)), surface, 2)
    free = lane.difference(home.buffer(1.2))
    if rng.random() < 0.6 and free.area > 14:
        site.vehicles.append(car(rng, start + away * rng.uniform(2.6, 3.6), away))
    return ground.union(lane)


def scaled(
    draw: Draw, rng: Rng, style: Style, frame: Frame, size: tuple[float, float]
) -> Callable[[float], Building]:
    """Return the building that `draw` makes as a function of scale: otherwise the same at every scale."""
    seed = int(rng.integers(1 << 30))
    return lambda scale: draw(np.random.default_rng(seed), style, frame, size[0] * scale, size[1] * scale)
