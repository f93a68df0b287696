"""Lay a world out: districts, their streets, their blocks, and what fills them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from geoseg.training.synthetic.districts import DISTRICTS, District
from geoseg.training.synthetic.layout import Street, bounding_box, crossing, divide, pieces_of, region
from geoseg.training.synthetic.site import Site, pave
from geoseg.training.synthetic.style import Style, lawn

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


def build(rng: np.random.Generator, style: Style, size_m: tuple[float, float], kinds: Sequence[str]) -> Site:
    """Return the site that covers `size_m` (height, width) metres and a strip around it."""
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
