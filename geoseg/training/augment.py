"""Variations of a sample that leave its labels true, and samples made of two."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import OBJECT

if TYPE_CHECKING:
    from geoseg.training.data.ground import Sample

_RGB = 3


def augment(pixels: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator) -> Sample:
    """Turn, mirror and recolour a square sample.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (bands, size, size)
        Any bands; hue, saturation and JPEG files are changed only of three (red, green, blue).
    labels : Tensor of uint8 or int32, shape (size, size)
        Moved with the pixels and never changed.
    rng : Generator
        All chance comes from here.
    """
    turns, mirror = int(rng.integers(4)), rng.random() < 0.5
    pixels, labels = torch.rot90(pixels, turns, (1, 2)), torch.rot90(labels, turns)
    if mirror:
        pixels, labels = pixels.flip(2), labels.flip(1)
    return photograph(pixels, rng), labels.contiguous()


def photograph(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Show the same ground in another light, through another lens, from another file."""
    image = transforms.to_dtype(pixels.contiguous(), torch.float32, scale=True)
    if rng.random() < 0.25:
        image = _coarsen(image, float(rng.uniform(1.2, 2.4)))
    elif rng.random() < 0.1:
        image = transforms.gaussian_blur(image, [5, 5], [float(rng.uniform(0.4, 1.2))])
    if rng.random() < 0.8:
        image = _relight(image, rng)
    if rng.random() < 0.3:
        image = _cast(image, rng)
    if rng.random() < 0.1:
        image = _veil(image, rng)
    image = image.clamp(0, 1)
    if rng.random() < 0.2:
        noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
        image = (image + noise * float(rng.uniform(0.005, 0.04))).clamp(0, 1)
    result: torch.Tensor = transforms.to_dtype(image, torch.uint8, scale=True)
    if len(result) == _RGB and rng.random() < 0.25:
        result = _through_jpeg(result, int(rng.integers(35, 95)))
    return result


def _relight(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    image = (image * float(rng.uniform(0.7, 1.3))).clamp(0, 1)
    mean = image.mean()
    image = (mean + (image - mean) * float(rng.uniform(0.7, 1.35))).clamp(0, 1)
    image = image ** float(np.exp(rng.uniform(-0.35, 0.35)))
    if len(image) == _RGB:
        saturation = float(rng.uniform(0.5, 1.5)) if rng.random() < 0.95 else 0.0
        image = transforms.adjust_saturation(image, saturation)
        if rng.random() < 0.2:
            image = transforms.adjust_hue(image, float(rng.uniform(-0.05, 0.05)))
    return image


def _cast(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    shape = (len(image), 1, 1)
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, shape).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.06, 0.06, shape).astype(np.float32))
    return image * gain + offset


def _veil(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Haze: everything nears one pale tone, that of a thin white cloud."""
    share = float(rng.uniform(0.15, 0.45))
    return image * (1 - share) + share * float(rng.uniform(0.6, 0.9))


def _coarsen(image: torch.Tensor, factor: float) -> torch.Tensor:
    rows, cols = image.shape[1:]
    smaller = [max(1, round(rows / factor)), max(1, round(cols / factor))]
    coarse = transforms.resize(image, smaller, InterpolationMode.BILINEAR)
    back: torch.Tensor = transforms.resize(coarse, [rows, cols], InterpolationMode.BILINEAR, antialias=False)
    return back


def _through_jpeg(pixels: torch.Tensor, quality: int) -> torch.Tensor:
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).contiguous()


_SOFT = 0.7
"""Standard deviation in pixels of the blur of a pasted outline."""

_FEWEST = 256
"""Known pixels that a sample needs for its colours to mean anything."""

_FLOOR = 9.0
"""Least variance of a colour, in squared grey values: what is nearly flat is not blown up to noise."""

_LEAST = 0.3
"""Smallest share of the way to the other sample's colours."""


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
    taken = int(sample[1].max()) // OBJECT
    if taken:
        labels = torch.where(labels > IGNORE, labels + taken * OBJECT, labels)
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


def match_tones(sample: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """Move the colours of `sample` towards those of `donor`; labels stay.

    The linear map that carries one Gaussian distribution of colours to the other with least effort
    (Pitié and Kokaram, The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour
    Transfer, 2007), applied in part: between 0.3 and 1 of the way. So a town is seen in the light, haze
    and film of another survey.

    Parameters
    ----------
    sample, donor : Sample
        Pixels (bands, rows, cols) uint8 and labels (rows, cols); any number of bands, the same in both.
        Unknown pixels do not count as colours, but are moved with the others.
    rng : Generator
        Chooses how far.

    Returns
    -------
    Sample
        `sample` itself where either has hardly any known pixel.
    """
    share = float(rng.uniform(_LEAST, 1.0))
    own, other = _known(sample), _known(donor)
    if min(own.shape[1], other.shape[1]) < _FEWEST:
        return sample
    moved = _map(_covariance(own), _covariance(other)) @ (sample[0].flatten(1).float() - own.mean(1, True))
    moved = (moved + other.mean(1, True)).reshape(sample[0].shape)
    mixed = torch.lerp(sample[0].float(), moved, share)
    return mixed.round().clamp(0, 255).to(torch.uint8), sample[1]


def _known(sample: Sample) -> torch.Tensor:
    """Return the known pixels as float32, shape (bands, n)."""
    pixels, labels = sample
    return pixels.flatten(1)[:, labels.flatten() != IGNORE].float()


def _covariance(values: torch.Tensor) -> torch.Tensor:
    return torch.cov(values).reshape(len(values), len(values))  # that of one band is a number


def _map(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the symmetric matrix that turns covariance `own` into `other`."""
    floor = _FLOOR * torch.eye(len(own))
    own, other = own + floor, other + floor
    root = _root(own)
    back = torch.linalg.inv(root)
    result: torch.Tensor = back @ _root(root @ other @ root) @ back
    return result


def _root(matrix: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: torch.Tensor = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    return root
