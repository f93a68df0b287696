"""Pasting the objects of one sample into another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision.transforms.v2 import functional as transforms

from geoseg.training.data.sample import IGNORE

if TYPE_CHECKING:
    from geoseg.training.data.sample import Sample

_SOFT = 0.7
"""Standard deviation in pixels of the blur of a pasted outline."""


def paste(sample: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """Paste the objects of `donor` that do not touch its edge over `sample`, with soft outlines.

    After Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation, 2021: without any search for a fitting place. The ring of pixels whose picture is a
    mixture is `IGNORE`, and where `sample` itself is unknown it stays so beyond the pasted objects.

    Parameters
    ----------
    sample, donor : Sample
        Pixels (bands, rows, cols) and labels (rows, cols) of one size; neither is changed.
    rng : Generator
        Turns the donor by quarters.

    Returns
    -------
    Sample
        `sample` where the donor has no whole object.
    """
    turns = int(rng.integers(4))
    pixels, labels = torch.rot90(donor[0], turns, (1, 2)), torch.rot90(donor[1], turns)
    whole = torch.from_numpy(_whole_objects(labels.numpy()))
    if labels.shape != sample[1].shape or not bool(whole.any()):
        return sample
    alpha = transforms.gaussian_blur(whole[None].float(), [5, 5], [_SOFT, _SOFT])[0]
    mixed = sample[0].float() + (pixels.float() - sample[0].float()) * alpha
    merged = torch.where(whole, labels, sample[1])
    merged = torch.where((alpha > 0.02) & (alpha < 0.9), torch.full_like(merged, IGNORE), merged)
    return mixed.round().to(torch.uint8), merged


def _whole_objects(
    labels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return where connected objects lie that touch neither the edge nor unknown ground."""
    from rasterio.features import rasterize, shapes

    solid = (labels != 0) & (labels != IGNORE)
    barrier = np.pad(labels == IGNORE, 1, constant_values=True)
    beside = barrier[:-2, 1:-1] | barrier[2:, 1:-1] | barrier[1:-1, :-2] | barrier[1:-1, 2:]
    kept = [
        shape
        for shape, _ in shapes(solid.astype(np.uint8), mask=solid, connectivity=8)
        if not beside[rasterize([shape], labels.shape, dtype=np.uint8) == 1].any()
    ]
    if not kept:
        return np.zeros(labels.shape, bool)
    return np.asarray(rasterize(kept, labels.shape, dtype=np.uint8) == 1)
