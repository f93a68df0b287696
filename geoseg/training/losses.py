"""What training makes small: terms of a loss by name, summed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, LovaszLoss
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, max_pool2d, pad

from geoseg.errors import InvalidOption
from geoseg.labels.classes import IGNORE

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (batch, channels, rows, cols) float32, labels (batch, rows, cols) of whole numbers) to a scalar."""

_GAP_REACH = 4
_RING_REACH = 1


def make_loss(name: str, *, gap_weight: float = 1.0, outline_weight: float = 1.0) -> Loss:
    """Return the sum of the named terms.

    Parameters
    ----------
    name : str
        Terms joined by ``+``, in any case: ``ce`` (cross-entropy; ``bce`` is the same), ``dice``, ``focal``,
        ``lovasz``. One output channel is taken as the probability of the only class, several as a
        choice between classes.
    gap_weight : float
        Weight in the cross-entropy of background in a narrow gap between objects, after
        Ronneberger et al. 2015 (U-Net).
    outline_weight : float
        Weight in the cross-entropy of the pixels on either side of an outline: less than 1 where
        labels are drawn roughly.

    Notes
    -----
    Dice (Milletari et al. 2016, V-Net) is taken over the whole batch, smoothed by one pixel; focal
    loss is that of Lin et al. 2017, Lovász that of Berman et al. 2018, all through
    segmentation-models-pytorch.

    Raises
    ------
    InvalidOption
        If a term has no such name.
    """
    terms: list[Loss] = []
    for part in name.lower().split("+"):
        if part in ("ce", "bce"):
            terms.append(_entropy(gap_weight, outline_weight))
        elif part in _MAKERS:
            terms.append(_from_library(_MAKERS[part]))
        else:
            raise InvalidOption(
                f"loss {part!r}: there are ce (or bce), {', '.join(_MAKERS)}; join terms with +"
            )

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.stack([term(logits, labels) for term in terms]).sum()

    return loss


def gaps(objects: torch.Tensor) -> torch.Tensor:
    """Return 1 on ground that a morphological closing of `objects` would fill, else 0.

    Parameters
    ----------
    objects : Tensor of float, shape (batch, 1, rows, cols)
        1 on objects.
    """
    # Ground beyond the edge counts as open: it must not close the strip along the edge.
    grown = max_pool2d(pad(objects, [_GAP_REACH] * 4), 2 * _GAP_REACH + 1, 1, _GAP_REACH)
    closed = 1 - max_pool2d(1 - grown, 2 * _GAP_REACH + 1, 1)
    return closed * (1 - objects)


def outlines(objects: torch.Tensor) -> torch.Tensor:
    """Return 1 on the pixels on either side of an outline, else 0; shapes as for `gaps`."""
    size = 2 * _RING_REACH + 1
    grown = max_pool2d(objects, size, 1, _RING_REACH)
    shrunk = 1 - max_pool2d(1 - objects, size, 1, _RING_REACH)
    return grown - shrunk


def _entropy(gap_weight: float, outline_weight: float) -> Loss:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        known = labels != IGNORE
        objects = ((labels > 0) & known)[:, None].to(logits.dtype)
        weight = known[:, None].to(logits.dtype)
        if gap_weight != 1:
            weight = weight * (1 + (gap_weight - 1) * gaps(objects))
        if outline_weight != 1:
            weight = weight * (1 + (outline_weight - 1) * outlines(objects))
        if logits.shape[1] == 1:
            total = binary_cross_entropy_with_logits(logits, objects, weight=weight, reduction="sum")
        else:
            each = cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")
            total = (each * weight[:, 0]).sum()
        return total / weight.sum().clamp(min=1)

    return loss


_MAKERS: Mapping[str, Callable[[str], torch.nn.Module]] = {
    "dice": lambda mode: DiceLoss(mode, ignore_index=IGNORE, smooth=1.0),
    "focal": lambda mode: FocalLoss(mode, ignore_index=IGNORE),
    "lovasz": lambda mode: LovaszLoss(mode, ignore_index=IGNORE),
}


def _from_library(make: Callable[[str], torch.nn.Module]) -> Loss:
    modules = {mode: make(mode) for mode in ("binary", "multiclass")}

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if not bool((labels != IGNORE).any()):  # a mean over nothing is not a number
            return logits.sum() * 0
        return torch.as_tensor(
            modules["binary" if logits.shape[1] == 1 else "multiclass"](logits, labels.long())
        )

    return loss
