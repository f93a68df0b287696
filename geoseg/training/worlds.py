"""Rendered worlds as ground to train on."""

from __future__ import annotations

from geoseg.training.data.pictures import PictureGround
from geoseg.training.data.spec import Draws

_SIDE = 768


def render_worlds(seed: int, draws: Draws, class_id: int) -> list[PictureGround]:
    """Render ``draws.worlds`` square worlds, each with its own seed, at ``draws.resolution_m``.

    Parameters
    ----------
    seed : int
        Of the first world.
    draws : Draws
        Number and resolution.
    class_id : int
        What their buildings are labelled as.
    """
    if not (draws.worlds and draws.synthetic_share):
        return []
    from geoseg.training.synthetic import render_world

    size = (draws.resolution_m, draws.resolution_m)
    worlds = (
        render_world(seed * 1000 + number, _SIDE, _SIDE, draws.resolution_m) for number in range(draws.worlds)
    )
    return [
        PictureGround("synthetic", f"world_{number}", size, world.rgb, world.labels * class_id)
        for number, world in enumerate(worlds)
    ]
