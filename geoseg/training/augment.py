"""Variations of a sample that leave its labels true: other views, light, cameras, files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

if TYPE_CHECKING:
    from geoseg.training.data.ground import Sample

_RGB = 3


def augment(pixels: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator) -> Sample:
    """Turn, mirror and recolour a square sample.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (bands, size, size)
        Any bands; hue, saturation and JPEG files are changed only of three (red, green, blue).
    labels : Tensor of uint8, shape (size, size)
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
