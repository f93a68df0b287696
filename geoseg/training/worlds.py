"""Rendered worlds as training chips."""

from __future__ import annotations

import torch

from geoseg.training.recipe import Draws
from geoseg.training.samples import BUILDING, Chip

_SIDE = 768


def render_worlds(seed: int, draws: Draws) -> list[Chip]:
    """Render ``draws.worlds`` square worlds, each with its own seed, at ``draws.resolution_m``."""
    if not draws.worlds:
        return []
    from geoseg.training.synthetic import render_world

    chips = []
    for number in range(draws.worlds):
        world = render_world(seed * 1000 + number, _SIDE, _SIDE, draws.resolution_m)
        mask = torch.from_numpy(world.labels) * BUILDING
        chips.append(
            Chip("synthetic", f"world_{number}", draws.resolution_m, torch.from_numpy(world.rgb), mask)
        )
    return chips
