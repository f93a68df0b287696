"""Synthetic aerial scenes with exact building footprints.

A world is laid out in metres (streets, parcels, buildings, trees), painted as reflectance, height
and slope at twice the picture's resolution, lit by one sun with the shadows that follow, and
photographed. The same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from geoseg.errors import InvalidOption
from geoseg.training.synthetic.canvas import Canvas
from geoseg.training.synthetic.districts import DISTRICTS
from geoseg.training.synthetic.layout import pieces_of
from geoseg.training.synthetic.plants import paint_hedges, paint_plants, paint_rows, paint_vehicles
from geoseg.training.synthetic.roofs import paint_building, paint_fixture
from geoseg.training.synthetic.sensor import draw_sensor, expose
from geoseg.training.synthetic.site import Site
from geoseg.training.synthetic.style import Style, draw_style
from geoseg.training.synthetic.world import build

__all__ = ["DISTRICTS", "World", "render_world"]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A synthetic scene.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (3, rows, cols)
        The picture.
    labels : ndarray of uint8, shape (rows, cols)
        1 where the pixel's centre lies in a footprint, else 0.
    footprints : tuple of shapely.Polygon
        Building outlines in pixel coordinates (col, row), clipped to the picture; (0, 0) is the outer
        corner of the first pixel, y points down. They do not overlap; touching houses share an edge.
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    footprints: tuple[shapely.Polygon, ...]


def render_world(
    seed: int, height: int, width: int, gsd_m: float = 0.3, *, districts: Sequence[str] = ()
) -> World:
    """Render the world of a seed.

    Parameters
    ----------
    seed : int
        0 or more; everything follows from it.
    height, width : int
        Size in pixels, 1 or more.
    gsd_m : float
        Ground sample distance in metres, sensible from 0.1 to 1.
    districts : sequence of str
        Kinds of district to mix, keys of `DISTRICTS`; empty: drawn from the seed.

    Returns
    -------
    World
        Picture, labels and footprints.

    Raises
    ------
    InvalidOption
        If a district is unknown.
    """
    for name in districts:
        if name not in DISTRICTS:
            raise InvalidOption(f"{name}: no such kind of district; choose from {', '.join(DISTRICTS)}")
    layout_rng, look_rng, canvas_rng, sensor_rng = np.random.default_rng(seed).spawn(4)
    style = draw_style(look_rng)
    site = build(layout_rng, style, (height * gsd_m, width * gsd_m), districts)
    canvas = Canvas.blank(canvas_rng, (height, width), gsd_m, style.sun)
    _paint(canvas, site, style)
    rgb = expose(canvas, style.sun, draw_sensor(sensor_rng), sensor_rng)
    footprints = _footprints(site, height, width, gsd_m)
    return World(rgb, _labels(footprints, height, width), footprints)


def _paint(canvas: Canvas, site: Site, style: Style) -> None:
    covers = sorted(site.covers, key=lambda cover: cover.layer)
    canvas.cover([cover.land for cover in covers], [cover.material for cover in covers])
    paint_rows(canvas, site.rows, style.sun)
    paint_hedges(canvas, site.hedges, style.sun)
    for number, building in enumerate(site.buildings):
        paint_building(canvas, building, style.sun, style.lean, number)
    for thing in site.clutter:
        paint_fixture(canvas, thing, style.sun)
    paint_vehicles(canvas, site.vehicles, style.sun)
    paint_plants(canvas, site.plants, style.sun, len(site.plants))


def _footprints(site: Site, height: int, width: int, gsd_m: float) -> tuple[shapely.Polygon, ...]:
    picture = shapely.box(0, 0, width, height)
    found = []
    for building in site.buildings:
        outline = shapely.transform(building.footprint, lambda points: points / gsd_m)
        if picture.intersects(outline):
            found += pieces_of(outline.intersection(picture), 0.25)
    return tuple(found)


def _labels(footprints: Sequence[shapely.Polygon], height: int, width: int) -> NDArray[np.uint8]:
    if not footprints:
        return np.zeros((height, width), np.uint8)
    return np.asarray(rasterize(footprints, out_shape=(height, width), default_value=1, dtype=np.uint8))
