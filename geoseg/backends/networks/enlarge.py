"""Enlarging maps the same way wherever a tile lies."""

from __future__ import annotations

import torch
from torch.nn import functional


def enlarge(maps: torch.Tensor, times: int) -> torch.Tensor:
    """Enlarge (batch, channels, rows, cols) by a whole factor, bilinear, by the areas of the pixels."""
    if times == 1:
        return maps
    return functional.interpolate(maps, scale_factor=float(times), mode="bilinear", align_corners=False)
