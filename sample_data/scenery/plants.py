"""Trees, hedges, crops and vehicles, painted onto a canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scenery.canvas import Canvas, Field, Sun, blur, smooth_noise, srgb
from scenery.roofs import (
    Building,
    Fixture,
    Part,
    Points,
    Skin,
    paint_building,
    paint_fixture,
)
from scenery.site import Hedge, Plant, Rows, Vehicle

_VARIANTS = 6


class Crown(NamedTuple):
    """A crown seen from above: relative height (0 outside) … 1, light, and brightness of the leaves."""

    height: Field
    light: Field
    tone: Field


def paint_plants(canvas: Canvas, plants: Sequence[Plant], sun: Sun, seed: int) -> None:
    """Stamp crowns onto the canvas wherever they stand above what is there."""
    rng = np.random.default_rng(seed)
    crowns: dict[tuple[str, int, int], Crown] = {}
    for plant in plants:
        size = _size(plant.radius * canvas.scale)
        key = plant.kind, size, int(rng.integers(_VARIANTS))
        if key not in crowns:
            crowns[key] = _crown(rng, plant, size, sun)
        _stamp(canvas, plant, crowns[key], size)


def _size(radius: float) -> int:
    """Return the half-width of a stamp in samples: steps of about 12 %, so that few are drawn anew."""
    return max(1, round(1.12 ** round(math.log(max(radius, 1.0)) / math.log(1.12))))


def _crown(rng: np.random.Generator, plant: Plant, size: int, sun: Sun) -> Crown:
    axis = np.arange(-size, size + 1, dtype=np.float32) / np.float32(size)
    turned, stretch = rng.uniform(0, math.pi), rng.uniform(1, 1.35)
    x = (math.cos(turned) * axis[None, :] + math.sin(turned) * axis[:, None]) * np.float32(stretch)
    y = math.cos(turned) * axis[:, None] - math.sin(turned) * axis[None, :]
    rough = blur(rng.standard_normal(x.shape, dtype=np.float32), 0.6)
    coarse = smooth_noise(rng, x.shape, max(2.0, size / 4))
    height = _needles(rng, x, y) if plant.kind == "conifer" else _lobes(rng, x, y)
    inside = height + 0.10 * coarse > 0.10
    if plant.kind == "bare":
        inside &= rough + 0.3 * coarse > 0.1 + 0.3 * np.hypot(x, y)
    height = np.where(inside, np.clip(height + 0.10 * rough + 0.06 * coarse, 0.06, 1), 0).astype(np.float32)
    metres = height * np.float32(plant.height / plant.radius * size * 0.6)
    down, right = np.gradient(blur(metres, 0.5))
    light = (sun.z - sun.x * right - sun.y * down) / np.sqrt(1 + right**2 + down**2)
    light = 0.3 * sun.z + 0.7 * np.maximum(light, 0)
    tone = (0.55 + 0.55 * height) * (1 + 0.30 * rough + 0.10 * coarse)
    return Crown(height, light.astype(np.float32), np.clip(tone, 0.2, 1.8).astype(np.float32))


def _needles(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return a cone with arms, 1 at its top."""
    turn = np.arctan2(y, x)
    arms = np.cos(turn * rng.integers(6, 11) + rng.uniform(0, 6)) + 0.6 * np.cos(
        turn * 17 + rng.uniform(0, 6)
    )
    return np.asarray(np.clip(1.05 - np.hypot(x, y) * (1 + 0.12 * arms), 0, 1), np.float32)


def _lobes(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return a dome of many bulges, up to 1."""
    height = np.zeros(x.shape, np.float32)
    for _ in range(int(rng.integers(12, 26))):
        away, angle = 0.68 * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        bulge = rng.uniform(0.16, 0.44)
        above = 1 - ((x - away * math.cos(angle)) ** 2 + (y - away * math.sin(angle)) ** 2) / bulge**2
        top = 1 - 0.6 * away**2 - rng.uniform(0, 0.3)
        dome = top - 0.42 * (1 - np.sqrt(np.maximum(above, 0)))
        height = np.maximum(height, np.where(above > 0, dome, 0)).astype(np.float32)
    return height


def _stamp(canvas: Canvas, plant: Plant, crown: Crown, size: int) -> None:
    col = math.floor(plant.x * canvas.scale) + canvas.margin - size
    row = math.floor(plant.y * canvas.scale) + canvas.margin - size
    rows, cols = canvas.height.shape
    top, left = max(0, row), max(0, col)
    bottom, right = min(rows, row + 2 * size + 1), min(cols, col + 2 * size + 1)
    if top >= bottom or left >= right:
        return
    there = slice(top, bottom), slice(left, right)
    here = slice(top - row, bottom - row), slice(left - col, right - col)
    height = crown.height[here]
    metres = height * np.float32(plant.height)
    shown = (height > 0) & (metres > canvas.height[there])
    tone = crown.tone[here]
    for band in range(3):
        np.copyto(canvas.albedo[band][there], tone * plant.color[band], where=shown)
    np.copyto(canvas.height[there], metres, where=shown)
    np.copyto(canvas.light[there], crown.light[here], where=shown)


def paint_hedges(canvas: Canvas, hedges: Sequence[Hedge], sun: Sun) -> None:
    """Paint hedges, fences and walls."""
    index = canvas.burn([hedge.land for hedge in hedges], range(1, len(hedges) + 1))
    rows, cols = np.nonzero(index)
    which = index[rows, cols] - 1
    heights = np.array([hedge.height for hedge in hedges], np.float32)
    rough = np.array([hedge.rough for hedge in hedges], np.float32)
    colors = np.array([hedge.color for hedge in hedges], np.float32).reshape(-1, 3)
    tops = np.maximum(heights[which] + rough[which] * canvas.grain[rows, cols], np.float32(0.2))
    above = tops > canvas.height[rows, cols]
    rows, cols, which = rows[above], cols[above], which[above]
    grain = canvas.grain[rows, cols]
    canvas.height[rows, cols] = tops[above]
    canvas.light[rows, cols] = sun.z
    canvas.albedo[:, rows, cols] = (colors[which] * (1 + (0.1 + 0.4 * rough[which]) * grain)[:, None]).T


def paint_rows(canvas: Canvas, fields: Sequence[Rows], sun: Sun) -> None:
    """Paint rows of crops, vines or fruit trees over fields."""
    index = canvas.burn([field.land for field in fields], range(1, len(fields) + 1))
    for number, field in enumerate(fields, start=1):
        cut = canvas.cut(field.land.bounds)
        if cut is None:
            continue
        away = cut.x * np.float32(-field.along[1]) + cut.y * np.float32(field.along[0])
        along = cut.x * np.float32(field.along[0]) + cut.y * np.float32(field.along[1])
        wobble = np.float32(0.04 * field.spacing) * canvas.mottle[cut.area]
        phase = ((away + wobble) / np.float32(field.spacing)) % 1
        row = np.floor(away / np.float32(field.spacing))
        gap = 0.12 * np.sin(along * np.float32(2.1) + row * 7) + 0.14 * canvas.mottle[cut.area]
        half = np.float32(field.share / 2) * (1 + gap + np.float32(0.16) * canvas.grain[cut.area])
        side = np.abs(phase - 0.5)
        shown = (side < half) & (index[cut.area] == number) & (canvas.height[cut.area] < 0.3)
        hump = np.sqrt(np.maximum(1 - (side / np.maximum(half, 1e-3)) ** 2, 0))
        tone = (0.75 + 0.3 * hump) * (1 + 0.14 * canvas.grain[cut.area] + 0.06 * canvas.patch[cut.area])
        canvas.albedo[:, cut.rows, cut.cols][:, shown] = field.color[:, None] * tone[shown]
        canvas.height[cut.area][shown] = np.float32(field.height) * hump[shown]


def paint_vehicles(canvas: Canvas, vehicles: Sequence[Vehicle], sun: Sun) -> None:
    """Paint cars with their windows, lorries and containers."""
    glass = srgb(36, 42, 48)
    for number, vehicle in enumerate(vehicles):
        half, side = vehicle.length / 2, vehicle.breadth / 2
        skin = Skin(vehicle.color, vehicle.color, (50.0, 50.0), 0.0, 0.0, 0.1)
        body = Part(_ring(vehicle, -half, half, side), (False,) * 4, vehicle.height * 0.6, 0, 0, skin)
        paint_building(canvas, Building((body,)), sun, (0.0, 0.0), number)
        if vehicle.length > 5.5:
            load = _ring(vehicle, -half, half - 2.0, side)
            paint_fixture(canvas, Fixture(load, vehicle.color, vehicle.height * 0.4), sun)
            continue
        cabin = _ring(vehicle, -half * 0.85, half * 0.42, side * 0.86)
        paint_fixture(canvas, Fixture(cabin, glass, vehicle.height * 0.4), sun)
        paint_fixture(
            canvas, Fixture(_ring(vehicle, -half * 0.6, half * 0.12, side * 0.8), vehicle.color), sun
        )


def _ring(vehicle: Vehicle, back: float, front: float, side: float) -> Points:
    axes = np.stack([vehicle.along, [-vehicle.along[1], vehicle.along[0]]])
    corners = np.array([[back, -side], [front, -side], [front, side], [back, side]])
    return np.asarray(vehicle.middle + corners @ axes, np.float64)
