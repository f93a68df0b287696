"""The look of a world: climate, season, sun, camera, and what its buildings are covered with."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from scenery.canvas import Color, Material, Sun, srgb
from scenery.roofs import Lean, Skin

_GRASS = [(96, 116, 68), (112, 122, 78), (82, 104, 64), (140, 134, 94), (88, 118, 84), (120, 114, 84)]
_LEAVES = [(62, 84, 48), (54, 76, 50), (76, 90, 54), (66, 88, 62), (84, 84, 56), (50, 68, 44)]
_SOIL = [(150, 128, 100), (132, 108, 84), (168, 146, 116), (146, 112, 84), (122, 110, 96), (172, 130, 98)]
_ASPHALT = [(104, 104, 106), (122, 120, 118), (88, 88, 92), (136, 132, 126), (112, 112, 118)]

_TILES = [(158, 92, 68), (140, 80, 60), (172, 110, 80), (128, 76, 64), (184, 132, 100), (150, 104, 84)]
_SLATE = [(84, 86, 92), (70, 70, 74), (104, 104, 106), (92, 84, 80), (116, 112, 106)]
_SHINGLE = [(126, 118, 110), (102, 94, 88), (150, 144, 138), (112, 104, 92), (138, 124, 106), (92, 96, 100)]
_METAL = [(196, 200, 204), (168, 172, 176), (214, 214, 210), (150, 156, 160)]
_PAINTED = [(70, 110, 150), (84, 128, 104), (150, 72, 62), (60, 96, 132), (110, 140, 150), (170, 150, 120)]
_RUST = [(128, 92, 72), (108, 82, 70), (146, 110, 84)]
_MEMBRANE = [
    (186, 184, 178),
    (212, 210, 206),
    (150, 146, 140),
    (120, 118, 116),
    (96, 96, 96),
    (168, 160, 148),
]


class Style(NamedTuple):
    """What a world looks like as a whole.

    Parameters
    ----------
    sun : Sun
        Where the light comes from.
    grass, leaves, twigs, soil, asphalt : Color
        The colours of its nature and streets.
    covers : tuple of float
        Odds of pitched roofs in tiles, slate, shingle, metal, painted metal.
    lush : float
        0 … 1, how many trees there are and how green the gardens.
    order : float
        0 … 1, from winding lanes and mixed houses to a straight grid and one pattern.
    conifers, bare : float
        Share of conifers among the trees, and of leafless ones among the rest.
    lean : tuple of float
        Slant of the camera, see `roofs.Lean`.
    """

    sun: Sun
    grass: Color
    leaves: Color
    twigs: Color
    soil: Color
    asphalt: Color
    covers: tuple[float, ...]
    lush: float
    order: float
    conifers: float
    bare: float
    lean: Lean


def draw_style(rng: np.random.Generator) -> Style:
    """Draw the look of a world."""
    sun = Sun.at(rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(32, 66)))
    favourite = rng.dirichlet([0.8, 0.5, 0.7, 0.35, 0.3])
    return Style(
        sun=sun,
        grass=vary(rng, pick(rng, _GRASS), 0.12),
        leaves=vary(rng, pick(rng, _LEAVES), 0.12),
        twigs=vary(rng, srgb(116, 104, 92), 0.12),
        soil=vary(rng, pick(rng, _SOIL), 0.10),
        asphalt=vary(rng, pick(rng, _ASPHALT), 0.08),
        covers=tuple(float(share) for share in 0.88 * favourite + 0.024),
        lush=float(rng.beta(2, 2)),
        order=float(rng.random()),
        conifers=float(rng.beta(0.5, 1.5)),
        lean=_draw_lean(rng),
        bare=float(rng.beta(0.5, 3)) if rng.random() < 0.3 else 0.0,
    )


def _draw_lean(rng: np.random.Generator) -> Lean:
    """Draw the camera's slant: none in half of the worlds, as in true orthophotos, else up to 12 degrees."""
    angle, reach = rng.uniform(0, 2 * math.pi), max(0.0, rng.uniform(-0.2, 0.2))
    return reach * math.cos(angle), reach * math.sin(angle)


def pick(rng: np.random.Generator, colors: list[tuple[int, int, int]]) -> Color:
    """Draw one of several 8-bit colours as reflectance."""
    return srgb(*colors[rng.integers(len(colors))])


def vary(rng: np.random.Generator, color: Color, amount: float) -> Color:
    """Change a colour's brightness by about `amount`, its hue by a third of that."""
    factor = np.exp(amount * rng.standard_normal() + amount / 3 * rng.standard_normal(3))
    return np.asarray(np.clip(color * factor, 0.002, 0.95), np.float32)


def lawn(rng: np.random.Generator, style: Style) -> Material:
    """Draw a lawn, now and then a dry or a bare one."""
    dry = rng.beta(1.2, 3.5) * (1.2 - style.lush)
    color = style.grass * np.float32(1 - dry) + style.soil * np.float32(dry)
    worn = rng.beta(1.2, 3.2) * (1.15 - 0.6 * style.lush)
    under = vary(rng, style.soil * np.float32(0.85), 0.15) if rng.random() < 0.7 else color * np.float32(0.6)
    return Material(vary(rng, color, 0.12), 0.09, 0.10, 0.10, float(worn), under)


def paving(rng: np.random.Generator, style: Style) -> Material:
    """Draw a paved surface: concrete, slabs, asphalt or gravel."""
    base = (pick(rng, [(168, 164, 156), (184, 178, 168), (150, 142, 134), (160, 136, 118)]), style.asphalt)
    color = base[int(rng.random() < 0.35)]
    color = vary(rng, color, 0.12)
    return Material(color, 0.05, 0.06, 0.04, float(rng.beta(1, 5)), color * np.float32(0.7))


def plaster(rng: np.random.Generator) -> Color:
    """Draw the colour of a building's walls."""
    paints = [
        (214, 206, 192),
        (226, 222, 214),
        (190, 172, 146),
        (160, 120, 100),
        (150, 148, 146),
        (206, 190, 150),
    ]
    return vary(rng, pick(rng, paints), 0.12)


def pitched_skin(rng: np.random.Generator, style: Style) -> Skin:
    """Draw the covering of a pitched roof."""
    kind = int(rng.choice(5, p=np.array(style.covers) / sum(style.covers)))
    if kind == 0:
        color, second = pick(rng, _TILES), pick(rng, _TILES)
        return Skin(vary(rng, color, 0.10), second, (0.45, 0.5), rng.uniform(0.2, 0.6), 0.0, rng.random())
    if kind == 1:
        color = pick(rng, _SLATE)
        return Skin(vary(rng, color, 0.12), color * 1.4, (0.4, 0.4), rng.uniform(0.1, 0.4), 0.0, rng.random())
    if kind == 2:
        color = vary(rng, pick(rng, _SHINGLE), 0.12)
        return Skin(color, color * 0.75, (1.0, 0.3), rng.uniform(0.2, 0.5), 0.0, 0.6 * rng.random())
    return metal_skin(rng, painted=kind == 4)


def metal_skin(rng: np.random.Generator, *, painted: bool, rusty: float = 0.1) -> Skin:
    """Draw sheet metal, corrugated or with standing seams; `rusty` is the chance of rust."""
    color = vary(rng, pick(rng, _PAINTED if painted else _METAL), 0.10)
    if rng.random() < rusty:
        return Skin(color, pick(rng, _RUST), (0.9, 2.6), rng.uniform(0.5, 1.0), 0.12, 1.0)
    return Skin(color, color * 0.8, (rng.uniform(0.6, 1.2), 50.0), rng.uniform(0, 0.2), 0.16, rng.random())


def flat_skin(rng: np.random.Generator) -> Skin:
    """Draw a flat roof: membrane, gravel or concrete, mostly with a parapet."""
    color = vary(rng, pick(rng, _MEMBRANE), 0.10)
    rim = vary(rng, color * 1.1, 0.2) if rng.random() < 0.75 else None
    return Skin(color, color * 0.9, (rng.uniform(1.5, 6), 200.0), 0.15, 0.05, rng.uniform(0.1, 0.7), rim)
