"""Open land: fields, orchards, woods, parks and water."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from scenery.buildings import Frame, house, shed
from scenery.canvas import Material, srgb
from scenery.layout import Parcel, blob, bounding_box, pieces_of
from scenery.lots import Rng, Wish, garden, lots, place
from scenery.roofs import Fixture
from scenery.site import WHITE, Plant, Rows, Site, scatter, tree
from scenery.style import Style, lawn, pick, vary


def farmland(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Fields of crops, ploughed soil, meadows, orchards, seldom greenhouses or a lone barn."""
    for parcel in lots(rng, site, block, rng.uniform(4000, 25000)):
        _field(rng, style, site, parcel, parcel.land.buffer(-0.6))
        for x, y in scatter(rng, parcel.land.boundary.buffer(1.5), 0.012 * style.lush * rng.random()):
            site.plants.append(tree(rng, style, x, y, rng.uniform(1.2, 3.6)))


def forest(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Trees crown to crown, thinning out at clearings."""
    ground = style.leaves * np.float32(0.6) + style.soil * np.float32(0.25)
    site.cover(block, Material(vary(rng, ground, 0.15), 0.1, 0.16, 0.12))
    size = rng.uniform(1.8, 3.8)
    woods: BaseGeometry = block.buffer(-1)
    for _ in range(int(rng.integers(0, 4))):
        spot = rng.uniform(block.bounds[:2], block.bounds[2:])
        opening = blob(rng, spot, rng.uniform(6, 30))
        site.cover(opening.intersection(block), lawn(rng, style))
        woods = woods.difference(opening)
    for x, y in scatter(rng, woods.intersection(site.extent), rng.uniform(0.25, 0.62) / size**2):
        site.plants.append(tree(rng, style, x, y, size))


def park(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Lawns, groups of trees, paths, sometimes a pond or a sports field."""
    site.cover(block, lawn(rng, style))
    for point in scatter(rng, block.buffer(-8), 0.0008):
        for x, y in point + rng.normal(0, 7, (int(rng.integers(2, 12)), 2)):
            site.plants.append(tree(rng, style, x, y, 3.2))
    box = bounding_box(block)
    choice = rng.random()
    if choice < 0.4:
        _water(rng, style, site, blob(rng, box.center, rng.uniform(6, 0.35 * box.breadth + 6)), block)
    elif choice < 0.75 and box.breadth > 45:
        pitch = shapely.Polygon(Frame(box.center, box.axis).ring((-26, -16, 26, 16))).intersection(block)
        turf = pick(rng, [(96, 140, 84), (150, 92, 70), (84, 120, 90)])
        site.cover(pitch, Material(vary(rng, turf, 0.1)), 2)
        site.cover(pitch.boundary.buffer(0.08), WHITE, 2)
    trail = Material(vary(rng, style.soil * np.float32(1.15), 0.1), 0.07, 0.08, 0.04)
    for _ in range(int(rng.integers(0, 3))):
        middle, ends = box.center + rng.normal(0, 8, 2), rng.normal(0, 1, 2) * 60
        path = shapely.LineString([middle - ends, middle + rng.normal(0, 6, 2), middle + ends])
        site.cover(path.buffer(1.1).intersection(block), trail, 1)


def shore(rng: Rng, style: Style, site: Site, block: shapely.Polygon) -> None:
    """Open water with reeds and trees along its banks."""
    site.cover(block, lawn(rng, style))
    lake = block.buffer(-rng.uniform(4, 14)).buffer(-4).buffer(4)
    _water(rng, style, site, lake, block)
    for x, y in scatter(rng, block.difference(lake.buffer(1)), 0.02 * style.lush):
        site.plants.append(tree(rng, style, x, y, rng.uniform(1.2, 3.4)))


def _water(rng: Rng, style: Style, site: Site, lake: BaseGeometry, block: shapely.Polygon) -> None:
    water = shapely.intersection(lake, block.buffer(-3))
    tint = pick(rng, [(58, 74, 72), (44, 58, 66), (86, 92, 74), (70, 96, 104)])
    site.cover(shapely.buffer(water, 1.5), Material(vary(rng, style.soil, 0.1), 0.08, 0.15), 2)
    site.cover(water, Material(vary(rng, tint, 0.25), 0.03, 0.03, 0.06), 2)


def _field(rng: Rng, style: Style, site: Site, parcel: Parcel, land: BaseGeometry) -> None:
    kinds = ["crop", "soil", "meadow", "orchard", "vines", "stubble", "tunnels", "farm"]
    kind = rng.choice(kinds, p=[0.26, 0.15, 0.24, 0.09, 0.09, 0.08, 0.04, 0.05])
    soil, green = vary(rng, style.soil, 0.12), vary(rng, style.grass, 0.18)
    if kind in ("meadow", "farm"):
        site.cover(land, Material(green, 0.07, 0.08, 0.10))
        if kind == "farm":
            _farm(rng, style, site, parcel)
        return
    if kind in ("soil", "stubble"):
        color = soil if kind == "soil" else vary(rng, srgb(186, 168, 124), 0.12)
        site.cover(land, Material(color, 0.07, 0.08, 0.12))
        shade = np.asarray(color * np.float32(0.85), np.float32)
        _rows(site, Rows(NOWHERE, parcel.along, rng.uniform(0.9, 3.0), 0.5, 0.02, shade), land)
        return
    site.cover(land, Material(soil if rng.random() < 0.5 else green, 0.07, 0.10, 0.10))
    leaf = vary(rng, style.leaves * np.float32(1.15), 0.2)
    if kind == "crop":
        _rows(
            site, Rows(NOWHERE, parcel.along, rng.uniform(0.6, 1.6), rng.uniform(0.4, 0.8), 0.25, leaf), land
        )
    elif kind == "vines":
        rows = Rows(NOWHERE, parcel.along, rng.uniform(2.0, 3.2), rng.uniform(0.3, 0.55), 1.8, leaf)
        _rows(site, rows, shapely.buffer(land, -2))
    elif kind == "tunnels":
        _tunnels(rng, site, parcel)
    else:
        _orchard(rng, style, site, parcel)


NOWHERE = shapely.Polygon()


def _rows(site: Site, rows: Rows, land: BaseGeometry) -> None:
    site.rows.extend(rows._replace(land=piece) for piece in pieces_of(land))


def _farm(rng: Rng, style: Style, site: Site, parcel: Parcel) -> None:
    """Build a farmstead on its own: a house, barns, a yard under trees."""
    yard = blob(rng, bounding_box(parcel.land).center, 28.0).intersection(parcel.land.buffer(-3))
    site.cover(yard, Material(vary(rng, style.soil * np.float32(1.1), 0.15), 0.08, 0.12), 1)
    taken: BaseGeometry = NOWHERE
    for wish in (
        Wish(house, (12, 18), (9, 13)),
        Wish(house, (18, 34), (10, 15)),
        Wish(shed, (10, 20), (7, 10)),
    ):
        room = yard.difference(shapely.buffer(taken, 4))
        taken = shapely.union(taken, place(rng, style, site, room, parcel.along, wish))
    garden(rng, style, site, yard.buffer(6), shapely.buffer(taken, 0.5), 0.01)


def _tunnels(rng: Rng, site: Site, parcel: Parcel) -> None:
    """Lay long sheets of plastic over a field: pale and straight like roofs, but none."""
    box = bounding_box(parcel.land)
    away = np.array([-box.axis[1], box.axis[0]])
    plastic = vary(rng, srgb(206, 210, 208), 0.1)
    step = rng.uniform(2.2, 9)
    room = parcel.land.buffer(-3)
    for across in np.arange(-box.breadth / 2, box.breadth / 2, step):
        middle = box.center + away * across
        line = shapely.LineString([middle - box.axis * box.length, middle + box.axis * box.length])
        for run in shapely.get_parts(line.intersection(room)):
            if run.length > 8:
                center = shapely.get_coordinates(run.centroid)[0]
                half = run.length / 2
                ring = Frame(center, box.axis).ring((-half, -step * 0.36, half, step * 0.36))
                site.clutter.append(Fixture(ring, vary(rng, plastic, 0.05), 0.3 + 0.15 * step))


def _orchard(rng: Rng, style: Style, site: Site, parcel: Parcel) -> None:
    step = rng.uniform(3.5, 7)
    box = bounding_box(parcel.land)
    a = np.arange(-box.length / 2, box.length / 2, step)
    b = np.arange(-box.breadth / 2, box.breadth / 2, step * 1.2)
    grid = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2)
    points = box.center + grid @ np.stack([box.axis, [-box.axis[1], box.axis[0]]])
    points = points + rng.normal(0, 0.15, points.shape)
    radius = step * rng.uniform(0.28, 0.46)
    land = parcel.land.buffer(-2.5)
    for x, y in points[shapely.contains_xy(land, points[:, 0], points[:, 1])]:
        size = radius * float(np.exp(0.12 * rng.standard_normal()))
        site.plants.append(Plant(x, y, size, size * 1.7, "leafy", vary(rng, style.leaves, 0.1)))
