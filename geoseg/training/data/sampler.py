"""Drawing training samples, and cutting ground that is held out into tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from geoseg.errors import InvalidOption, suggest
from geoseg.labels.classes import IGNORE
from geoseg.training.data.ground import (
    MOST_MIRRORED,
    Arrays,
    Ground,
    native_box,
    read_mirrored,
    source_window,
    to_tensors,
)
from geoseg.training.data.spec import Draws
from geoseg.values import Window

if TYPE_CHECKING:
    import torch

    from geoseg.training.data.ground import Sample

_TRIES = 24
"""Windows that are tried before the permitted ones are listed."""

_BLIND = 8
"""Windows without any known pixel that are drawn again."""

_LATTICE = 64
"""Steps of that list along an axis of large ground."""

_EDGE = 0.15
"""An object is laid over the inner part of a window, this share of its side away from the edge."""


class Sampler:
    """Draws samples; the same generator state gives the same sample, in any process.

    Parameters
    ----------
    grounds : sequence of Ground
        What may be drawn.
    draws : Draws
        Shares, weights, crop size and resolution.

    Raises
    ------
    InvalidOption
        If no ground has objects, or a weight is given to a source that has none.
    """

    def __init__(self, grounds: Sequence[Ground], draws: Draws) -> None:
        self._draws = draws
        built = [ground.has_objects for ground in grounds]
        self._negatives = [ground for ground, any_ in zip(grounds, built, strict=True) if not any_]
        areas = np.array([ground.area_m2 for ground in self._negatives])
        self._negative_shares = areas / areas.sum()
        self._positives: dict[str, list[Ground]] = {}
        for ground, any_ in zip(grounds, built, strict=True):
            if any_:
                self._positives.setdefault(ground.source, []).append(ground)
        if not self._positives:
            raise InvalidOption("no ground with objects is left for training")
        for word in sorted(set(draws.weights) - set(self._positives)):
            advice = suggest(word, sorted(self._positives))
            raise InvalidOption(f"weights: no training ground with objects comes from {word!r}; {advice}")
        weights = [draws.weights.get(name, group[0].weight) for name, group in self._positives.items()]
        self._shares = np.array(weights) / sum(weights)

    def draw(self, rng: np.random.Generator) -> Sample:
        """Draw one sample: pixels (bands, crop, crop) and labels (crop, crop), uint8.

        Raises
        ------
        UnreadableScene
            If a file has gone or is broken.
        """
        for _ in range(_BLIND):
            sample = self._cut(self.choose(rng), rng)
            if bool((sample[1] != IGNORE).any()):
                break
        if self._draws.paste_share and rng.random() < self._draws.paste_share:
            from geoseg.training.augment import paste

            sample = paste(sample, self._cut(self._positive(rng), rng), rng)
        if self._draws.tone_share and rng.random() < self._draws.tone_share:
            from geoseg.training.augment import match_tones

            sample = match_tones(sample, self._cut(self.choose(rng), rng), rng)
        return sample

    def choose(self, rng: np.random.Generator) -> Ground:
        """Choose the ground that the next sample is cut from."""
        dice = rng.random()
        if self._negatives and dice > 1 - self._draws.negative_share:
            # Ground without objects is one kind of thing wherever it comes from: by area.
            return self._negatives[int(rng.choice(len(self._negatives), p=self._negative_shares))]
        return self._positive(rng)

    def _positive(self, rng: np.random.Generator) -> Ground:
        groups = list(self._positives.values())
        group = groups[int(rng.choice(len(groups), p=self._shares))]
        return group[int(rng.integers(len(group)))]

    def _cut(self, ground: Ground, rng: np.random.Generator) -> Sample:
        size = self._draws.crop
        angle = float(rng.uniform(-45, 45)) if rng.random() < self._draws.turned_share else 0.0
        # A turned square needs a larger one around it.
        side = int(np.ceil(size * 2**0.5)) if angle else size
        shape = ground.grid(self._resolution(ground, rng))
        window = self._place(ground, shape, side, rng)
        if window is None:
            shape, angle = ground.grid(self._draws.smallest_m), 0.0
            free = permitted(ground, shape, size)
            if not free:
                raise InvalidOption(f"{ground.name}: held-out ground leaves no room for a window")
            window = free[int(rng.integers(len(free)))]
        sample = to_tensors(cut(ground, window, shape))
        return _turn(sample, angle, size) if angle else sample

    def _place(
        self, ground: Ground, shape: tuple[int, int], side: int, rng: np.random.Generator
    ) -> Window | None:
        """Return a permitted window, over an object in some share of cases; None if none was found."""
        spots = ground.spots
        for _ in range(_TRIES):
            low = [min(0, size - side) for size in shape]
            high = [max(0, size - side) for size in shape]
            start = [int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True)]
            if len(spots) and rng.random() < self._draws.object_share:
                col, row = spots[int(rng.integers(len(spots)))]
                place = (row * shape[0] / ground.shape[0], col * shape[1] / ground.shape[1])
                inner = rng.uniform(_EDGE, 1 - _EDGE, 2) * side
                start = [round(p - i) for p, i in zip(place, inner.tolist(), strict=True)]
                start = [min(max(s, a), b) for s, a, b in zip(start, low, high, strict=True)]
            window = Window(start[0], start[1], side, side)
            if permits(ground, window, shape):
                return window
        return None

    def _resolution(self, ground: Ground, rng: np.random.Generator) -> float:
        draws = self._draws
        wanted = draws.resolution_m * float(np.exp(rng.normal(0.0, draws.spread)))
        rows, cols = ground.shape
        covered = min(rows * ground.pixel_m[1], cols * ground.pixel_m[0]) / draws.crop
        largest = min(draws.largest_m, MOST_MIRRORED * covered)
        return float(np.clip(wanted, draws.smallest_m, max(draws.smallest_m, largest)))


def cut(ground: Ground, window: Window, shape: tuple[int, int]) -> Arrays:
    """Read a window of the grid of `shape`, mirrored beyond its edges."""
    return read_mirrored(lambda inner: ground.read(inner, shape), window, shape)


def permits(ground: Ground, window: Window, shape: tuple[int, int]) -> bool:
    """Say whether training may see a window, with all that it mirrors."""
    box = shapely.box(*native_box(source_window(window, shape), shape, ground.shape))
    scale = max(ground.shape[0] / shape[0], ground.shape[1] / shape[1])
    return bool(ground.permits(np.array([box]), scale)[0])


def permitted(ground: Ground, shape: tuple[int, int], side: int) -> list[Window]:
    """Return the permitted windows of a lattice, a quarter of a side apart, further on large ground."""
    starts = [
        np.unique(np.append(np.arange(0, room, max(1, side // 4, room // _LATTICE)), room))
        for room in (max(0, size - side) for size in shape)
    ]
    rows, cols = (grid.ravel() for grid in np.meshgrid(*starts, indexing="ij"))
    height, width = min(side, shape[0]), min(side, shape[1])
    down, across = ground.shape[0] / shape[0], ground.shape[1] / shape[1]
    boxes = shapely.box(cols * across, rows * down, (cols + width) * across, (rows + height) * down)
    fit = ground.permits(np.asarray(boxes, object), max(down, across))
    return [
        Window(row, col, side, side) for row, col in zip(rows[fit].tolist(), cols[fit].tolist(), strict=True)
    ]


def _turn(sample: Sample, angle: float, size: int) -> Sample:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    pixels, labels = sample
    turned = transforms.rotate(pixels, angle, interpolation=InterpolationMode.BILINEAR)
    around = transforms.rotate(labels[None], angle, interpolation=InterpolationMode.NEAREST)
    return transforms.center_crop(turned, [size, size]), transforms.center_crop(around, [size, size])[0]


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """A square of held-out ground."""

    pixels: torch.Tensor
    """Tensor of uint8, shape (bands, size, size)."""
    labels: torch.Tensor
    """Tensor of uint8, shape (size, size)."""
    inner: Window
    """The part that counts, in pixels of the tile; the rest is context."""
    place: Window
    """The same part in pixels of the ground's grid."""
    ground: str
    """Name of the ground."""


def region_on(ground: Ground, shape: tuple[int, int]) -> Window:
    """Return the region of a ground on its grid of `shape`; adjacent regions stay adjacent."""
    region = ground.region
    down, across = shape[0] / ground.shape[0], shape[1] / ground.shape[1]
    top, bottom = round(region.row * down), round(region.row_stop * down)
    left, right = round(region.col * across), round(region.col_stop * across)
    return Window(top, left, bottom - top, right - left)


def validation_tiles(ground: Ground, resolution_m: float, size: int, context: int) -> Iterator[Tile]:
    """Yield a ground in tiles, row by row; their inner windows partition its region.

    Around the region lies the ground that is there, trained on or not; beyond the edge of
    the picture or scene, its mirror image.

    Parameters
    ----------
    ground : Ground
        Held out.
    resolution_m : float
        Metres a pixel.
    size : int
        Side of a tile in pixels.
    context : int
        Pixels at each side of a tile that do not count.

    Raises
    ------
    InvalidOption
        If nothing of a tile would count.
    UnreadableScene
        If a file has gone or is broken.
    """
    step = size - 2 * context
    if step < 1:
        raise InvalidOption(f"tiles of {size} pixels have no inside with {context} pixels of context")
    shape = ground.grid(resolution_m)
    region = region_on(ground, shape)
    for row in range(region.row, region.row_stop, step):
        for col in range(region.col, region.col_stop, step):
            place = Window(row, col, step, step).intersection(region)
            inner = Window(context, context, place.height, place.width)
            around = Window(row - context, col - context, size, size)
            pixels, labels = to_tensors(cut(ground, around, shape))
            yield Tile(pixels, labels, inner, place, ground.name)
