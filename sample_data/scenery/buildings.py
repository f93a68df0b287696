"""Buildings: houses, halls, slabs, shacks and sheds, each from convex pieces in a frame of its own."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from scenery.canvas import srgb
from scenery.roofs import Building, Fixture, Part, Points, Skin
from scenery.style import Style, flat_skin, metal_skin, pick, pitched_skin, plaster

_FLAT = (False, False, False, False)
_HIP = (True, True, True, True)
_ALONG = (True, False, True, False)
_ACROSS = (False, True, False, True)
_NOWHERE = np.zeros((4, 2))

Rect = tuple[float, float, float, float]
"""Left, near, right, far: metres along and away from the street."""


class Frame(NamedTuple):
    """A place to build: `origin`, the unit vector along the street, and the one away from it."""

    origin: Points
    along: Points

    @property
    def away(self) -> Points:
        """The unit vector away from the street: `along`, turned right (y points down)."""
        return np.array([-self.along[1], self.along[0]])

    def ring(self, rect: Rect) -> Points:
        """Return the corners (4, 2) in metres; edge 0 faces the street, then turning right."""
        left, near, right, far = rect
        corners = np.array([[left, near], [right, near], [right, far], [left, far]])
        return np.asarray(self.origin + corners @ np.stack([self.along, self.away]), np.float64)


def house(rng: np.random.Generator, style: Style, frame: Frame, width: float, depth: float) -> Building:
    """Draw a detached house that fills `width` × `depth` metres, centred on the frame's origin."""
    flat = rng.random() < 0.08 + 0.12 * style.covers[3]
    skin = flat_skin(rng) if flat else pitched_skin(rng, style)
    slope = math.tan(math.radians(rng.uniform(16, 45)))
    wall = float(rng.choice([2.8, 3.2, 5.6, 6.2], p=[0.3, 0.25, 0.3, 0.15]))
    hip = rng.random() < 0.4
    rects = _plan(rng, width, depth)
    parts = [_piece(frame, rect, wall, slope, skin, flat=flat, hip=hip) for rect in rects]
    if rng.random() < 0.35:
        parts.append(_annex(rng, frame, rects[0], wall, skin))
    if flat:
        return Building(tuple(parts), (), _boxes(rng, frame, rects[0], int(rng.integers(0, 3))), plaster(rng))
    dormers = _dormers(rng, frame, rects[0], parts[0]) if slope > 0.55 and rng.random() < 0.35 else ()
    return Building(tuple(parts), dormers, _roof_things(rng, frame, rects[0], parts[0]), plaster(rng))


def hall(rng: np.random.Generator, style: Style, frame: Frame, width: float, depth: float) -> Building:
    """Draw an industrial hall: flat, shallow gable, sawtooth or several naves, with roof lights."""
    wall = rng.uniform(5, 11)
    box = (-width / 2, -depth / 2, width / 2, depth / 2)
    form = rng.choice(["flat", "gable", "naves", "sawtooth"], p=[0.45, 0.25, 0.2, 0.1])
    if form == "flat":
        skin = flat_skin(rng) if rng.random() < 0.7 else metal_skin(rng, painted=rng.random() < 0.3)
        parts = [Part(frame.ring(box), _FLAT, wall, 0, 0, skin)]
        if rng.random() < 0.4:
            side = width * rng.uniform(0.2, 0.4)
            office = (box[0] - rng.uniform(2, 8), box[1] - rng.uniform(0, 5), box[0] + side, box[1] + side)
            parts.append(Part(frame.ring(office), _FLAT, wall * rng.uniform(0.5, 1.4), 0, 0, flat_skin(rng)))
    else:
        skin = metal_skin(rng, painted=rng.random() < 0.35, rusty=0.2)
        count = 1 if form == "gable" else max(1, round(width / rng.uniform(9, 22)))
        edges = np.linspace(box[0], box[2], count + 1)
        eaves = (False, True, False, False) if form == "sawtooth" else _ACROSS
        slope = 0.5 if form == "sawtooth" else rng.uniform(0.08, 0.25)
        naves = [(edges[i], box[1], edges[i + 1], box[3]) for i in range(count)]
        parts = [Part(frame.ring(nave), eaves, wall, slope, 9, skin) for nave in naves]
    lights = _roof_lights(rng, frame, box) if rng.random() < 0.55 else ()
    boxes = _boxes(rng, frame, box, int(rng.integers(0, 14)) if form == "flat" else 0)
    panels = _panel_field(rng, frame, box) if not lights and rng.random() < 0.25 else ()
    return Building(tuple(parts), (), lights + panels + (() if panels else boxes), plaster(rng))


def slab(rng: np.random.Generator, style: Style, frame: Frame, width: float, depth: float) -> Building:
    """Draw a block of flats, flat-roofed or hipped, with stair heads and lifts on the roof."""
    wall = float(rng.integers(3, 9)) * 2.9
    box = (-width / 2, -depth / 2, width / 2, depth / 2)
    flat = rng.random() < 0.7
    skin = flat_skin(rng) if flat else pitched_skin(rng, style)
    parts = [_piece(frame, box, wall, 0.45, skin, flat=flat, hip=rng.random() < 0.6)]
    if rng.random() < 0.35 and width > 24:
        wing = (box[0], box[3] - 2, box[0] + depth, box[3] + rng.uniform(8, 18))
        parts.append(_piece(frame, wing, wall, 0.45, skin, flat=flat, hip=True))
    if not flat:
        return Building(tuple(parts), (), _roof_things(rng, frame, box, parts[0]))
    return Building(tuple(parts), (), _boxes(rng, frame, box, int(width / 8)), plaster(rng))


def shack(rng: np.random.Generator, style: Style, frame: Frame, width: float, depth: float) -> Building:
    """Draw a small dwelling of sheet metal or concrete, lean-to or gable."""
    box = (-width / 2, -depth / 2, width / 2, depth / 2)
    if rng.random() < 0.25:
        wall = float(rng.choice([3, 6, 9]))
        stairs = _boxes(rng, frame, box, int(rng.integers(0, 3)))
        return Building((Part(frame.ring(box), _FLAT, wall, 0, 0, flat_skin(rng)),), (), stairs)
    skin = metal_skin(rng, painted=rng.random() < 0.4, rusty=0.6)
    eaves = _ALONG if width > depth else _ACROSS
    if rng.random() < 0.6:
        eaves = (rng.random() < 0.5, False, False, False)
        eaves = eaves if any(eaves) else (False, False, True, False)
    parts = [Part(frame.ring(box), eaves, rng.uniform(2.2, 3.2), rng.uniform(0.08, 0.3), 9, skin)]
    if rng.random() < 0.3:
        side = (box[2] - 0.2, box[1], box[2] + rng.uniform(1.5, 3), box[1] + depth * rng.uniform(0.4, 1))
        lower = metal_skin(rng, painted=rng.random() < 0.4, rusty=0.6)
        parts.append(Part(frame.ring(side), (False, True, False, False), 2.0, 0.12, 9, lower))
    return Building(tuple(parts))


def shed(rng: np.random.Generator, style: Style, frame: Frame, width: float, depth: float) -> Building:
    """Draw a garage or a garden shed."""
    box = (-width / 2, -depth / 2, width / 2, depth / 2)
    flat = rng.random() < 0.4
    skin = flat_skin(rng)._replace(rim=None) if flat else pitched_skin(rng, style)
    return Building(
        (_piece(frame, box, rng.uniform(2, 2.8), rng.uniform(0.2, 0.6), skin, flat=flat, hip=False),)
    )


def party_house(rng: np.random.Generator, style: Style, ring: Points, wall: float, slope: float) -> Building:
    """Draw a house of a row on the quadrilateral `ring`, whose edges 1 and 3 are shared with neighbours."""
    flat = rng.random() < 0.25
    skin = flat_skin(rng) if flat else pitched_skin(rng, style)
    part = Part(ring, _FLAT if flat else _ALONG, wall, slope, 6, skin)
    along = ring[1] - ring[0]
    frame = Frame(ring.mean(axis=0), along / np.hypot(*along))
    width, depth = float(np.hypot(*along)), float(np.hypot(*(ring[3] - ring[0])))
    box = (-width / 2.6, -depth / 2.6, width / 2.6, depth / 2.6)
    things = _boxes(rng, frame, box, int(rng.integers(0, 4))) if flat else _roof_things(rng, frame, box, part)
    return Building((part,), (), things, plaster(rng))


def _plan(rng: np.random.Generator, width: float, depth: float) -> list[Rect]:
    """Return the rectangles of a floor plan, the main one first: a rectangle, L, T, U or cross."""
    w, d = width / 2, depth / 2
    form = rng.choice(["I", "L", "T", "U", "X"], p=[0.42, 0.28, 0.14, 0.08, 0.08])
    if form == "I":
        return [(-w, -d, w, d)]
    main = rng.uniform(0.5, 0.68) * depth
    side = rng.uniform(0.32, 0.5) * width
    back = bool(rng.random() < 0.5)
    body: Rect = (-w, -d, w, -d + main) if back else (-w, d - main, w, d)
    middle = (body[1] + body[3]) / 2

    def wing(left: float) -> Rect:
        return (left, middle, left + side, d) if back else (left, -d, left + side, middle)

    if form == "L":
        return [body, wing(-w if rng.random() < 0.5 else w - side)]
    if form == "T":
        return [body, wing(rng.uniform(-w * 0.6, w * 0.6 - side))]
    if form == "U":
        side = 0.3 * width
        return [body, wing(-w), wing(w - side)]
    return [(-w, -main / 2, w, main / 2), (-side / 2, -d, side / 2, d)]


def _piece(frame: Frame, rect: Rect, wall: float, slope: float, skin: Skin, *, flat: bool, hip: bool) -> Part:
    if flat:
        return Part(frame.ring(rect), _FLAT, wall, 0, 0, skin)
    if hip:
        return Part(frame.ring(rect), _HIP, wall, slope, 9, skin)
    wide = rect[2] - rect[0] >= rect[3] - rect[1]
    return Part(frame.ring(rect), _ALONG if wide else _ACROSS, wall, slope, 9, skin)


def _annex(rng: np.random.Generator, frame: Frame, box: Rect, wall: float, skin: Skin) -> Part:
    width, depth = rng.uniform(2.5, 5), (box[3] - box[1]) * rng.uniform(0.4, 0.8)
    left = box[2] - 0.1 if rng.random() < 0.5 else box[0] - width + 0.1
    near = rng.uniform(box[1], box[3] - depth)
    rect = (left, near, left + width, near + depth)
    if rng.random() < 0.5:
        return Part(frame.ring(rect), _FLAT, 2.6, 0, 0, flat_skin(rng))
    return Part(frame.ring(rect), _ALONG, min(wall, 2.6), 0.4, 9, skin)


def _dormers(rng: np.random.Generator, frame: Frame, box: Rect, roof: Part) -> tuple[Part, ...]:
    if not roof.eaves[0]:
        return ()
    count = int(rng.integers(1, 4))
    reach = (box[3] - box[1]) / 2
    wall = roof.wall + roof.slope * 0.9 + 1.1
    dormers = []
    for center in np.linspace(box[0], box[2], count + 2)[1:-1]:
        for near, far in ((box[1] + 0.9, box[1] + reach), (box[3] - reach, box[3] - 0.9)):
            ring = frame.ring((center - 0.9, near, center + 0.9, far))
            dormers.append(Part(ring, _ACROSS, wall, 0.5, 2, roof.skin))
    return tuple(dormers)


def _roof_things(rng: np.random.Generator, frame: Frame, box: Rect, roof: Part) -> tuple[Fixture, ...]:
    """Return chimneys, roof windows and solar panels."""
    things = []
    for _ in range(int(rng.integers(0, 3))):
        brick = pick(rng, [(120, 84, 70), (150, 146, 140), (96, 92, 90)])
        things += _put(rng, frame, box, (0.6, 0.7, 1.0), Fixture(_NOWHERE, brick, 0.9))
    for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.4 else 0):
        glass = pick(rng, [(70, 84, 100), (150, 170, 190), (50, 54, 60)])
        things += _put(rng, frame, box, (0.9, 1.3, 1.0), Fixture(_NOWHERE, glass))
    if roof.eaves[0] and rng.random() < 0.18:
        middle = (box[1] + box[3]) / 2
        south = (box[0], middle, box[2], box[3]) if frame.away[1] > 0 else (box[0], box[1], box[2], middle)
        size = (rng.uniform(2.5, 0.9 * (box[2] - box[0]) + 2.5), rng.uniform(1.7, 3.6), 0.5)
        things += _put(rng, frame, south, size, Fixture(_NOWHERE, srgb(38, 44, 66), 0.0, 1.0))
    return tuple(things)


def _boxes(rng: np.random.Generator, frame: Frame, box: Rect, count: int) -> tuple[Fixture, ...]:
    """Return stair heads, ventilation and cooling boxes on a flat roof."""
    things = []
    for _ in range(count):
        width, depth = rng.uniform(0.8, 3.2, 2)
        grey = pick(rng, [(170, 170, 168), (205, 205, 200), (120, 120, 120), (80, 82, 86), (150, 140, 130)])
        rise = float(rng.choice([0.4, 1.0, 1.8, 2.6], p=[0.3, 0.35, 0.2, 0.15]))
        things += _put(rng, frame, box, (width, depth, 0.8), Fixture(_NOWHERE, grey, rise))
    return tuple(things)


def _put(
    rng: np.random.Generator, frame: Frame, box: Rect, size: tuple[float, float, float], model: Fixture
) -> list[Fixture]:
    """Put a copy of `model`, `size` (width, depth, distance from the edge), somewhere in `box` if it fits."""
    width, depth, edge = size
    room = box[2] - box[0] - width - 2 * edge, box[3] - box[1] - depth - 2 * edge
    if min(room) < 0:
        return []
    left, near = box[0] + edge + room[0] * rng.random(), box[1] + edge + room[1] * rng.random()
    return [model._replace(ring=frame.ring((left, near, left + width, near + depth)))]


def _roof_lights(rng: np.random.Generator, frame: Frame, box: Rect) -> tuple[Fixture, ...]:
    """Return rows of translucent strips or domes."""
    glass = pick(rng, [(208, 218, 220), (150, 172, 180), (120, 130, 134), (226, 226, 214)])
    width, depth = (1.4, rng.uniform(3, 7)) if rng.random() < 0.6 else (1.6, 1.6)
    lefts = np.arange(box[0] + 3, box[2] - 3 - width, rng.uniform(5, 9))
    nears = np.arange(box[1] + 2.5, box[3] - 2 - depth, depth + rng.uniform(2.5, 6))
    return tuple(
        Fixture(frame.ring((left, near, left + width, near + depth)), glass)
        for left in lefts
        for near in nears
    )


def _panel_field(rng: np.random.Generator, frame: Frame, box: Rect) -> tuple[Fixture, ...]:
    """Return rows of solar panels over a large roof."""
    step = rng.uniform(2.2, 3.4)
    nears = np.arange(box[1] + 2, box[3] - 3, step)
    left, right = box[0] + 2.0, box[0] + (box[2] - box[0]) * rng.uniform(0.5, 0.95) - 2
    if right - left < 3:
        return ()
    color = srgb(40, 46, 70)
    return tuple(Fixture(frame.ring((left, near, right, near + 1.7)), color, 0.25, 1.0) for near in nears)
