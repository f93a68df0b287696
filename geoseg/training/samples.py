"""Chips with masks, and the random crops that a network is trained on.

Every sample is a function of (seed, step, position in the batch): a resumed run sees what an
uninterrupted one would have seen.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from geoseg.errors import InvalidOption, UnreadableScene
from geoseg.training.recipe import Draws, Place

BUILDING, UNKNOWN = 255, 127
"""Values of a mask; 0 is background, `UNKNOWN` pixels are neither trained on nor counted."""

Sample = tuple[torch.Tensor, torch.Tensor]
"""Pixels (3, rows, cols) and mask (rows, cols), both uint8."""

_MOST_MIRRORED = 1.6
"""A sample may reach over a small chip by this factor; what is beyond is mirrored."""


@dataclass(frozen=True, eq=False, slots=True)
class Chip:
    """A labelled picture.

    Parameters
    ----------
    source, stem : str
        Collection and name.
    gsd_m : float
        Ground size of a pixel in metres.
    pixels : Tensor of uint8, shape (3, rows, cols)
        Red, green, blue.
    mask : Tensor of uint8, shape (rows, cols)
        `BUILDING`, 0 or `UNKNOWN`.
    """

    source: str
    stem: str
    gsd_m: float
    pixels: torch.Tensor
    mask: torch.Tensor

    @property
    def empty(self) -> bool:
        """True if there is no building pixel."""
        return not bool((self.mask == BUILDING).any())


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Chips to train on, and chips to validate on by place."""

    training: tuple[Chip, ...]
    validation: Mapping[str, tuple[Chip, ...]]


def read_split(data: Path, places: Sequence[Place]) -> Split:
    """Read all chips of ``data/index.csv`` and set the validation places apart.

    Raises
    ------
    UnreadableScene
        If the index, an image or a mask is missing or broken.
    InvalidOption
        If a validation place holds no chip: a typing error would train on held-out ground.
    """
    training: list[Chip] = []
    validation: dict[str, list[Chip]] = {place.name: [] for place in places}
    for row in read_index(data / "index.csv"):
        homes = [place.name for place in places if place.holds(row["source"], row["stem"])]
        (validation[homes[0]] if homes else training).append(_read_chip(data, row))
    for name, chips in validation.items():
        if not chips:
            raise InvalidOption(f"validation place {name!r}: no chip of {data / 'index.csv'} matches it")
    if not any(not chip.empty for chip in training):
        raise InvalidOption(f"{data / 'index.csv'}: no chip with buildings is left for training")
    return Split(tuple(training), {name: tuple(chips) for name, chips in validation.items()})


class Sampler:
    """Draws augmentable crops from chips: by kind, then by source, then by chip.

    Parameters
    ----------
    chips : sequence of Chip
        What may be drawn.
    worlds : sequence of Chip
        Synthetic chips; without any, their share goes to the real ones.
    draws : Draws
        Shares, weights, crop size and resolution.
    """

    def __init__(self, chips: Sequence[Chip], worlds: Sequence[Chip], draws: Draws) -> None:
        self._draws = draws
        self._worlds = tuple(worlds)
        self._negatives = _by_source([chip for chip in chips if chip.empty])
        self._positives = _by_source([chip for chip in chips if not chip.empty])
        unknown = sorted(set(draws.weights) - set(self._positives))
        if unknown:
            raise InvalidOption(f"weights: no training chip with buildings comes from {unknown[0]!r}")

    def draw(self, rng: np.random.Generator) -> Sample:
        """Draw one sample: pixels (3, crop, crop) and mask (crop, crop), uint8."""
        chip = self.choose(rng)
        size = self._draws.crop
        angle = float(rng.uniform(-45, 45)) if rng.random() < 0.25 else 0.0
        # A turned square needs a larger one around it.
        side = int(np.ceil(size * 2**0.5)) if angle else size
        pixels, mask = crop_at(chip, self._gsd(chip, rng), side, rng)
        if angle:
            turned = transforms.rotate(pixels, angle, interpolation=InterpolationMode.BILINEAR)
            pixels = transforms.center_crop(turned, [size, size])
            mask = transforms.center_crop(transforms.rotate(mask[None], angle), [size, size])[0]
        return pixels, mask

    def choose(self, rng: np.random.Generator) -> Chip:
        """Choose the chip that the next sample is cut from."""
        dice = rng.random()
        if self._worlds and dice < self._draws.synthetic_share:
            return self._worlds[int(rng.integers(len(self._worlds)))]
        if self._negatives and dice > 1 - self._draws.negative_share:
            # Building-free ground is one kind of thing wherever it comes from: by number of chips.
            groups, weights = self._negatives, [float(len(group)) for group in self._negatives.values()]
        else:
            groups, weights = (
                self._positives,
                [self._draws.weights.get(name, 1.0) for name in self._positives],
            )
        shares = np.array(weights) / sum(weights)
        group = list(groups.values())[int(rng.choice(len(groups), p=shares))]
        return group[int(rng.integers(len(group)))]

    def _gsd(self, chip: Chip, rng: np.random.Generator) -> float:
        draws = self._draws
        gsd = draws.resolution_m * float(np.exp(rng.normal(0.0, draws.spread)))
        covered = min(chip.mask.shape) * chip.gsd_m / draws.crop
        largest = min(draws.largest_m, _MOST_MIRRORED * covered)
        return float(np.clip(gsd, draws.smallest_m, max(draws.smallest_m, largest)))


def crop_at(chip: Chip, gsd_m: float, side: int, rng: np.random.Generator) -> Sample:
    """Cut a random square out of `chip` and resample it to `side` pixels of `gsd_m` metres.

    Where the chip is too small, its mirror image continues it.
    """
    span = max(1, round(side * gsd_m / chip.gsd_m))
    pixels, mask = chip.pixels, chip.mask
    for axis, size in enumerate(mask.shape):
        start = _start(size, span, rng)
        if size >= span:
            pixels, mask = pixels.narrow(axis + 1, start, span), mask.narrow(axis, start, span)
        else:
            index = mirrored(size, start, span)
            pixels, mask = pixels.index_select(axis + 1, index), mask.index_select(axis, index)
    return resize(pixels, mask, side, side)


def resize(pixels: torch.Tensor, mask: torch.Tensor, rows: int, cols: int) -> Sample:
    """Resample pixels (antialiased, bilinear) and mask (nearest) to (rows, cols)."""
    if mask.shape == (rows, cols):
        return pixels, mask
    resized = transforms.resize(pixels, [rows, cols], InterpolationMode.BILINEAR, antialias=True)
    labels = transforms.resize(mask[None], [rows, cols], InterpolationMode.NEAREST_EXACT)[0]
    return resized, labels


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Scale uint8 pixels to what the network sees: (x / 255 - 0.5) / 0.5, float32."""
    return pixels.float() / 127.5 - 1.0


def mirrored(size: int, start: int, span: int) -> torch.Tensor:
    """Return indices ``start … start + span - 1``, those outside ``0 … size - 1`` mirrored back in."""
    period = max(1, 2 * (size - 1))
    position = torch.arange(start, start + span) % period
    return torch.minimum(position, period - position) if size > 1 else torch.zeros_like(position)


def _start(size: int, span: int, rng: np.random.Generator) -> int:
    return int(rng.integers(min(0, size - span), max(0, size - span) + 1))


def _by_source(chips: Sequence[Chip]) -> dict[str, list[Chip]]:
    groups: dict[str, list[Chip]] = {}
    for chip in chips:
        groups.setdefault(chip.source, []).append(chip)
    return groups


def read_index(path: Path) -> list[dict[str, str]]:
    """Read the rows of an ``index.csv``; image and mask are relative to its folder.

    Raises
    ------
    UnreadableScene
        If it is missing, empty, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UnreadableScene(f"{path}: cannot be read: {error.strerror}") from error
    missing = {"source", "stem", "image", "mask", "gsd_m"} - set(rows[0] if rows else ())
    if missing:
        raise UnreadableScene(f"{path}: no rows, or the columns {', '.join(sorted(missing))} are missing")
    return rows


def _read_chip(data: Path, row: Mapping[str, str]) -> Chip:
    pixels, mask = _read(data / row["image"]), _read(data / row["mask"])
    if pixels.shape[0] < 3 or pixels.shape[1:] != mask.shape[1:] or pixels.dtype != mask.dtype:
        raise UnreadableScene(f"{data / row['image']}: not an 8-bit RGB picture of its mask's size")
    return Chip(
        row["source"],
        row["stem"],
        float(row["gsd_m"]),
        torch.from_numpy(pixels[:3]),
        torch.from_numpy(mask[0]),
    )


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as dataset:
                return np.asarray(dataset.read(), dtype=np.uint8)
    except RasterioError as error:
        raise UnreadableScene(f"{path}: not a picture that GDAL can read") from error
