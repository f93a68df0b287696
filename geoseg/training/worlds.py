"""Rendered worlds as ground to train on."""

from __future__ import annotations

import numpy as np
import shapely

from geoseg.errors import InvalidOption
from geoseg.training.data.footprints import Footprints
from geoseg.training.data.pictures import PictureGround
from geoseg.training.data.spec import DataSpec, Draws

_SIDE = 768
_BANDS = ("red", "green", "blue")


def render_worlds(seed: int, draws: Draws, data: DataSpec) -> list[PictureGround]:
    """Render ``draws.worlds`` square worlds, each with its own seed, at ``draws.resolution_m``.

    Parameters
    ----------
    seed : int
        Of the first world.
    draws : Draws
        Number and resolution.
    data : DataSpec
        Buildings are labelled as its first class; touching ones are separated as it says.

    Raises
    ------
    InvalidOption
        If samples have other bands than the worlds: red, green, blue.
    """
    if not (draws.worlds and draws.synthetic_share):
        return []
    if data.bands != _BANDS:
        raise InvalidOption(
            f"draws.worlds: rendered worlds have the bands {', '.join(_BANDS)}, the data "
            f"{', '.join(data.bands)}; leave worlds at 0"
        )
    from geoseg.training.synthetic import render_world

    class_id, gsd_m = data.classes[0].id, draws.resolution_m
    grounds = []
    for number in range(draws.worlds):
        world = render_world(seed * 1000 + number, _SIDE, _SIDE, gsd_m)
        metres = shapely.transform(np.array(world.footprints, object), lambda points: points * gsd_m)
        ids = np.full(len(metres), class_id, np.uint8)
        footprints = Footprints(metres, ids, (gsd_m, gsd_m), data.touching_gap_m)
        labels = world.labels * np.uint8(class_id)
        grounds.append(
            PictureGround("synthetic", f"world_{number}", (gsd_m, gsd_m), world.rgb, labels, footprints)
        )
    return grounds
