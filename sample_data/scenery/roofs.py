"""Roofs: convex pieces with planes that rise from their eaves, painted from their outlines.

The surface over a convex outline is ``wall + slope · (distance to the nearest eave)``: the planes of
a straight skeleton. Four eaves make a hip roof, two a gable, one a lean-to, none a flat roof. Where
pieces meet, the higher surface wins, which draws valleys, dormers and chimneys without further rules.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from scenery.canvas import Canvas, Color, Cut, Field, Sun, srgb

Points = NDArray[np.float64]

Lean = tuple[float, float]
"""Where the foot of a wall shows beside its roof, metres right and down per metre of height: the
camera's slant. Footprints and labels are those of the roof."""


class Skin(NamedTuple):
    """What a roof is covered with.

    Parameters
    ----------
    color, second : Color
        Reflectance of the elements and what they vary towards.
    cell : tuple of float
        Size of an element in metres, along the eave and down the slope.
    vary : float
        How much elements differ, 0 … 1 of the way to `second`, and half as much in brightness.
    seam : float
        Darkening of the joints between elements along the slope, 0 … 1.
    stain : float
        Strength of weathering, 0 … 1.
    rim : Color or None
        Parapet of a flat roof; None: no parapet.
    """

    color: Color
    second: Color
    cell: tuple[float, float]
    vary: float
    seam: float
    stain: float
    rim: Color | None = None


class Part(NamedTuple):
    """A convex piece of a building.

    Parameters
    ----------
    ring : ndarray, shape (n, 2)
        Corners in metres, the inside on the right-hand side of every edge as seen with y down.
    eaves : tuple of bool
        Whether the roof falls towards edge i, from corner i to corner i + 1.
    wall : float
        Height of the eaves in metres.
    slope : float
        Rise over run.
    cap : float
        How far the roof may rise above the eaves: a deck where the planes would rise further.
    skin : Skin
        Its covering.
    """

    ring: Points
    eaves: tuple[bool, ...]
    wall: float
    slope: float
    cap: float
    skin: Skin


class Fixture(NamedTuple):
    """A small thing that lies on a roof or the ground, such as a skylight or a solar panel.

    Parameters
    ----------
    ring : ndarray, shape (n, 2)
        Convex corners in metres, turned like those of `Part`.
    color : Color
        Its reflectance.
    rise : float
        How far it stands above what is below its middle; 0: it lies flat on the surface.
    grid : float
        Size of the cells that light lines divide it into; 0: none.
    """

    ring: Points
    color: Color
    rise: float = 0.0
    grid: float = 0.0


class Building(NamedTuple):
    """Pieces that form one building, and what stands on its roof: dormers, then flat or boxy things."""

    parts: tuple[Part, ...]
    dormers: tuple[Part, ...] = ()
    fixtures: tuple[Fixture, ...] = ()
    wall: Color = srgb(198, 190, 176)

    @property
    def footprint(self) -> BaseGeometry:
        """The union of the pieces, in metres."""
        if len(self.parts) == 1:
            return shapely.Polygon(self.parts[0].ring)
        return shapely.union_all([shapely.Polygon(part.ring) for part in self.parts], grid_size=1e-3)


def paint_building(canvas: Canvas, building: Building, sun: Sun, lean: Lean, seed: int) -> None:
    """Paint the walls and roofs of a building, then its fixtures, over what is lower."""
    rng = np.random.default_rng(seed)
    if any(lean):
        for part in building.parts:
            _paint_walls(canvas, part, building.wall, sun, lean)
    for part in building.parts + building.dormers:
        _paint_part(canvas, part, sun, rng.random((64, 2), dtype=np.float32))
    for fixture in building.fixtures:
        paint_fixture(canvas, fixture, sun)


def paint_fixture(canvas: Canvas, fixture: Fixture, sun: Sun) -> None:
    """Paint a fixture onto what lies under it."""
    cut = canvas.cut(_bounds(fixture.ring))
    if cut is None:
        return
    distance, _ = _distances(fixture.ring, cut)
    inside = distance.min(axis=0) >= 0
    if not inside.any():
        return
    color = np.repeat(fixture.color[:, None], int(inside.sum()), axis=1)
    if fixture.grid:
        across = np.minimum(distance[0] % fixture.grid, distance[1] % fixture.grid)[inside]
        color += np.where(across < 0.06 + 0.3 / canvas.scale, np.float32(0.12), np.float32(0))
    color *= 1 + np.float32(0.05) * canvas.grain[cut.area][inside]
    canvas.albedo[:, cut.rows, cut.cols][:, inside] = color
    if fixture.rise:
        base = float(np.median(canvas.height[cut.area][inside]))
        canvas.height[cut.area][inside] = base + fixture.rise
        canvas.light[cut.area][inside] = sun.z


def _paint_walls(canvas: Canvas, part: Part, color: Color, sun: Sun, lean: Lean) -> None:
    """Paint the walls that a camera not quite overhead sees beside the roof."""
    foot = np.array(lean) * part.wall
    for start, stop in zip(part.ring, np.roll(part.ring, -1, axis=0), strict=True):
        along = (stop - start) / np.hypot(*(stop - start))
        outward = np.array([along[1], -along[0]])
        depth = float(outward @ foot)
        ring = np.array([stop, start, start + foot, stop + foot])
        cut = canvas.cut(_bounds(ring)) if depth > 0.3 / canvas.scale else None
        if cut is None:
            continue
        distance, _ = _distances(ring, cut)
        height = np.float32(part.wall) * (1 - distance[0] / np.float32(depth))
        shown = (distance.min(axis=0) >= 0) & (height > canvas.height[cut.area])
        reach = (cut.x * np.float32(along[0]) + cut.y * np.float32(along[1]))[shown]
        story = height[shown] % np.float32(2.9)
        window = (reach % np.float32(2.7) > 1.5) & (story > 1.0) & (story < 2.2)
        shade = 1 + np.float32(0.06) * canvas.grain[cut.area][shown]
        shade[window] *= np.float32(0.25)
        canvas.albedo[:, cut.rows, cut.cols][:, shown] = color[:, None] * shade
        canvas.height[cut.area][shown] = height[shown]
        canvas.light[cut.area][shown] = max(0.0, float(outward @ np.array([sun.x, sun.y])))


def _paint_part(canvas: Canvas, part: Part, sun: Sun, table: Field) -> None:
    cut = canvas.cut(_bounds(part.ring))
    if cut is None:
        return
    distance, normals = _distances(part.ring, cut)
    edge = distance.min(axis=0)
    rise, facet = _rise(part, distance)
    height = np.float32(part.wall) + np.minimum(rise * np.float32(part.slope), np.float32(part.cap))
    rim = (edge < 0.4) if part.skin.rim is not None else np.zeros_like(edge, bool)
    height += np.where(rim, np.float32(0.5), np.float32(0))
    shown = (edge >= 0) & (height > canvas.height[cut.area])
    if not shown.any():
        return
    light = _facet_light(part, normals, sun)[facet]
    light[(rise * part.slope > part.cap) | rim] = sun.z
    along = _along(part.ring, cut, facet)
    color = _texture(part.skin, along[shown], rise[shown], table, canvas, cut, shown)
    if part.skin.rim is not None:
        color[:, rim[shown]] = part.skin.rim[:, None]
    canvas.albedo[:, cut.rows, cut.cols][:, shown] = color
    canvas.height[cut.area][shown] = height[shown]
    canvas.light[cut.area][shown] = light[shown]


def _bounds(ring: Points) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = ring.min(axis=0), ring.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _distances(ring: Points, cut: Cut) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the signed distances to the edges (n, h, w), positive inside, and the inward normals (n, 2)."""
    edges = np.roll(ring, -1, axis=0) - ring
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    normals = np.column_stack([-edges[:, 1], edges[:, 0]]) / lengths[:, None]
    offset = (normals * ring).sum(axis=1)
    short = normals.astype(np.float32)
    away = offset.astype(np.float32)[:, None, None]
    return short[:, 0, None, None] * cut.x + short[:, 1, None, None] * cut.y - away, short


def _rise(part: Part, distance: NDArray[np.float32]) -> tuple[Field, NDArray[np.intp]]:
    """Return the distance to the nearest eave and which edge that is; to edge 0 on a roof without."""
    chosen = np.flatnonzero(part.eaves) if any(part.eaves) else np.array([0])
    nearest = distance[chosen].argmin(axis=0)
    return np.take_along_axis(distance[chosen], nearest[None], axis=0)[0], chosen[nearest]


def _facet_light(part: Part, normals: NDArray[np.float32], sun: Sun) -> Field:
    steep = part.slope if any(part.eaves) else 0.0
    toward = sun.z - steep * (normals[:, 0] * sun.x + normals[:, 1] * sun.y)
    return np.maximum(toward / math.hypot(1, steep), 0).astype(np.float32)


def _along(ring: Points, cut: Cut, facet: NDArray[np.intp]) -> Field:
    """Return the coordinate along the facet's own eave, in metres."""
    edges = np.roll(ring, -1, axis=0) - ring
    tangents = (edges / np.hypot(edges[:, 0], edges[:, 1])[:, None]).astype(np.float32)
    start = (tangents * ring).sum(axis=1).astype(np.float32)
    return np.asarray(tangents[facet, 0] * cut.x + tangents[facet, 1] * cut.y - start[facet], np.float32)


def _texture(
    skin: Skin, along: Field, down: Field, table: Field, canvas: Canvas, cut: Cut, shown: NDArray[np.bool_]
) -> NDArray[np.float32]:
    column = np.floor(along / np.float32(skin.cell[0]))
    row = np.floor(down / np.float32(skin.cell[1]))
    element = (column * 29 + row * 17).astype(np.int64) & 63
    mix = table[element, 0] * np.float32(skin.vary)
    color = skin.color[:, None] * (1 - mix) + skin.second[:, None] * mix
    shade = 1 + (table[element, 1] - np.float32(0.5)) * np.float32(0.5 * skin.vary)
    if skin.seam:
        joint = (
            np.abs(along / np.float32(skin.cell[0]) - column - np.float32(0.5)) > 0.5 - 0.05 / skin.cell[0]
        )
        shade -= np.where(joint, np.float32(skin.seam), np.float32(0))
    weather = canvas.mottle[cut.area][shown] + np.float32(0.6) * canvas.patch[cut.area][shown]
    shade *= 1 + np.float32(0.22 * skin.stain) * weather
    shade *= 1 + np.float32(0.05) * canvas.grain[cut.area][shown]
    return np.asarray(color * np.maximum(shade, np.float32(0.2)), np.float32)
