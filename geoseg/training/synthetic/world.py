"""Lay a world out: districts, their streets, their blocks, and what fills them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from geoseg.training.synthetic.districts import DISTRICTS
from geoseg.training.synthetic.layout import Street, divide, pieces_of, region
from geoseg.training.synthetic.site import Site, pave
from geoseg.training.synthetic.style import Style, lawn

_MIXES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.20, ("suburb", "suburb", "suburb", "park", "estate")),
    (0.17, ("village", "village", "farmland", "suburb", "forest")),
    (0.13, ("informal", "informal", "village")),
    (0.14, ("rows", "rows", "estate", "park")),
    (0.12, ("industry", "industry", "estate", "farmland")),
    (0.12, tuple(DISTRICTS)),
    (0.07, ("farmland",)),
    (0.05, ("forest", "farmland")),
)


def build(rng: np.random.Generator, style: Style, size_m: tuple[float, float], kinds: Sequence[str]) -> Site:
    """Return the site that covers `size_m` (height, width) metres and a strip around it."""
    kinds = kinds or _MIXES[rng.choice(len(_MIXES), p=np.array([odds for odds, _ in _MIXES]))][1]
    site = Site()
    land = region(rng, size_m[1], size_m[0], 40.0)
    site.cover(land.buffer(200), lawn(rng, style), 0)
    zones, lines = divide(rng, land, rng.uniform(14000, 60000), 0.6 * (1 - style.order))
    streets = [Street(line, rng.uniform(6.5, 11), "town") for line in lines]
    blocks: list[tuple[str, shapely.Polygon]] = []
    for zone in zones:
        kind = str(rng.choice(np.array(kinds)))
        district = DISTRICTS[kind]
        area = district.block * rng.uniform(0.7, 1.4)
        pieces, lines = divide(rng, zone, area, district.bend * (1 - 0.8 * style.order))
        width = district.street * rng.uniform(0.85, 1.2)
        streets += [Street(line, width, district.kind) for line in lines]
        blocks += [(kind, piece) for piece in pieces]
    roads = shapely.union_all([street.line.buffer(_half(street)) for street in streets])
    picture = shapely.box(-12, -12, size_m[1] + 12, size_m[0] + 12)
    for kind, block in blocks:
        for piece in pieces_of(block.difference(roads).buffer(-3).buffer(3), 60):
            if piece.intersects(picture):
                DISTRICTS[kind].fill(rng, style, site, piece)
    pave(rng, site, style, [street for street in streets if street.line.intersects(picture)])
    return site


def _half(street: Street) -> float:
    return street.width / 2 + (2.0 if street.kind == "town" else 0.6)
