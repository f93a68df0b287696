"""What training makes small: cross-entropy and Dice over the pixels whose label is known."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d, pad

from geoseg.training.samples import BUILDING, UNKNOWN

GAP_WEIGHT = 3.0
"""Weight in the cross-entropy of background in a gap between buildings; other pixels weigh 1."""

_GAP_REACH = 4


def segmentation_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return weighted binary cross-entropy plus soft Dice loss, 0 for a perfect answer.

    Parameters
    ----------
    logits : Tensor of float32, shape (batch, 1, rows, cols)
        The network's output.
    mask : Tensor of uint8, shape (batch, rows, cols)
        Labels; pixels of value ``UNKNOWN`` have no influence.

    Notes
    -----
    Dice is taken over the whole batch, so that building-free samples do not make it jump
    (Milletari et al. 2016, V-Net; smoothed by one pixel). Background in narrow gaps weighs more,
    after Ronneberger et al. 2015, U-Net.
    """
    known = (mask != UNKNOWN)[:, None].to(logits.dtype)
    target = (mask == BUILDING)[:, None].to(logits.dtype)
    weight = known * (1 + (GAP_WEIGHT - 1) * gaps(target))
    entropy = binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
    probability = logits.sigmoid() * known
    overlap = (probability * target).sum()
    dice = (2 * overlap + 1) / (probability.sum() + (target * known).sum() + 1)
    return entropy / weight.sum().clamp(min=1) + 1 - dice


def gaps(target: torch.Tensor) -> torch.Tensor:
    """Return 1 on background that a morphological closing would fill, else 0.

    Parameters
    ----------
    target : Tensor of float, shape (batch, 1, rows, cols)
        1 on buildings.
    """
    # Ground beyond the edge counts as open: it must not close the strip along the edge.
    grown = max_pool2d(pad(target, [_GAP_REACH] * 4), 2 * _GAP_REACH + 1, 1, _GAP_REACH)
    closed = 1 - max_pool2d(1 - grown, 2 * _GAP_REACH + 1, 1)
    return closed * (1 - target)
