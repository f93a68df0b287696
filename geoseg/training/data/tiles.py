"""Held-out ground in tiles: every pixel of it once, with real context around."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoseg.errors import InvalidOption
from geoseg.training.data.ground import Ground
from geoseg.training.data.sample import to_tensors
from geoseg.training.data.sampler import cut
from geoseg.values import Window

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """A square of held-out ground.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (bands, size, size)
    labels : Tensor of uint8, shape (size, size)
    inner : Window
        The part that counts, in pixels of the tile; the rest is context.
    place : Window
        The same part in pixels of the ground's grid.
    ground : str
        Name of the ground.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    inner: Window
    place: Window
    ground: str


def region_on(ground: Ground, shape: tuple[int, int]) -> Window:
    """Return the region of a ground on its grid of `shape`; adjacent regions stay adjacent."""
    region = ground.region
    down, across = shape[0] / ground.shape[0], shape[1] / ground.shape[1]
    top, bottom = round(region.row * down), round(region.row_stop * down)
    left, right = round(region.col * across), round(region.col_stop * across)
    return Window(top, left, bottom - top, right - left)


def validation_tiles(ground: Ground, resolution_m: float, size: int, context: int) -> Iterator[Tile]:
    """Yield a ground in tiles, row by row; their inner windows partition its region.

    Around the region lies the ground that is there in truth, trained on or not; beyond the edge of
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
