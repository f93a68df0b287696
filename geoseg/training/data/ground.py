"""Ground with labels: pictures in memory, scenes on disk, and what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import OBJECT, Footprints
from geoseg.labels.places import Box
from geoseg.models.inputs import fill_invalid
from geoseg.raster.describe import SceneInfo
from geoseg.raster.pixels import apply_stretch, resample, restore, taps
from geoseg.raster.scene import read_patch
from geoseg.values import GeoBox, Window

if TYPE_CHECKING:
    import torch

    Sample = tuple[torch.Tensor, torch.Tensor]
    """Pixels (bands, rows, cols) and labels (rows, cols), both uint8; int32 where labels number objects."""

MOST_MIRRORED = 1.6
"""A sample may reach over small ground by this factor; what is beyond is mirrored."""

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8] | NDArray[np.int32]]
"""A sample before it becomes tensors: pixels (bands, rows, cols) and labels (rows, cols)."""


class Labels(Protocol):
    """Truth over a ground."""

    @property
    def spots(self) -> NDArray[np.float64]:
        """Points on objects, (n, 2), native pixels (col, row)."""

    def burn(self, box: Box, shape: tuple[int, int]) -> NDArray[np.uint8] | NDArray[np.int32]:
        """Return labels, ``shape``, of pixels that part the box evenly."""


class Ground(ABC):
    """A piece of labelled ground, picklable, nothing open."""

    __slots__ = ()

    source: str
    """Collection; a scene is one of its own."""
    name: str
    """Its name in the source."""
    pixel_m: tuple[float, float]
    """Metres that a native pixel measures along its row and along its column."""
    facts: Mapping[str, str]
    """Place, licence, tier: what is known."""
    weight: float
    """How often the source is drawn, relative to others."""
    region: Window
    """Native pixels that belong to it; the rest of `shape` is context."""
    spots: NDArray[np.float64]
    """Points on objects to lay windows over, (n, 2), native pixels (col, row)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns of native pixels."""

    @property
    @abstractmethod
    def has_objects(self) -> bool:
        """Whether any object lies in `region`."""

    @abstractmethod
    def permits(self, boxes: NDArray[np.object_], scale: float) -> NDArray[np.bool_]:
        """Say which boxes, shape (n,), native pixels, training may see.

        `scale` is the number of native pixels to a pixel of the grid that they are read on.
        """

    @abstractmethod
    def read(self, window: Window, shape: tuple[int, int]) -> Arrays:
        """Read pixels and labels over a window inside the grid of `shape`.

        Raises
        ------
        UnreadableScene
            If a file is missing or broken in there.
        """

    @property
    def gsd_m(self) -> float:
        """Metres that a native pixel measures, the mean of both directions."""
        return sum(self.pixel_m) / 2

    @property
    def area_m2(self) -> float:
        """Square metres of `region`, known or not."""
        return self.region.height * self.pixel_m[1] * self.region.width * self.pixel_m[0]

    def grid(self, resolution_m: float) -> tuple[int, int]:
        """Return rows and columns of the whole ground at a resolution, at least 1 each."""
        (rows, cols), (across, down) = self.shape, self.pixel_m
        return max(1, round(rows * down / resolution_m)), max(1, round(cols * across / resolution_m))


@dataclass(frozen=True, slots=True)
class Located:
    """Ground and where it lies."""

    ground: Ground
    """The ground."""
    path: str
    """Its file."""
    geobox: GeoBox | None
    """Its native pixels on the Earth; None: unknown."""


def to_bytes(pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill invalid pixels from their valid neighbours and round to uint8; 0 if none is valid."""
    if not valid.any():
        return np.zeros(pixels.shape, np.uint8)
    if valid.all() and pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    return np.asarray(restore(fill_invalid(pixels, valid), "uint8"), np.uint8)


def native_box(window: Window, grid: tuple[int, int], native: tuple[int, int]) -> Box:
    """Return a window of a grid in native pixels of the ground that it covers."""
    down, across = native[0] / grid[0], native[1] / grid[1]
    return window.col * across, window.row * down, window.col_stop * across, window.row_stop * down


def within(spots: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Return the points (col, row) that lie in a window."""
    low, high = (window.col, window.row), (window.col_stop, window.row_stop)
    return spots[((spots >= low) & (spots < high)).all(axis=1)]


def mirrored(size: int, start: int, span: int) -> NDArray[np.int64]:
    """Return indices ``start … start + span - 1``, those outside ``0 … size - 1`` mirrored back in.

    The outermost pixel is not repeated (numpy's ``reflect``); an axis of one pixel repeats it.

    Examples
    --------
    >>> mirrored(4, -2, 8).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if size == 1:
        return np.zeros(span, np.int64)
    period = 2 * (size - 1)
    position = np.arange(start, start + span) % period
    return np.minimum(position, period - position)


def source_window(window: Window, shape: tuple[int, int]) -> Window:
    """Return the part of a grid of `shape` that a window is made of, once it is mirrored at the edges."""
    rows = mirrored(shape[0], window.row, window.height)
    cols = mirrored(shape[1], window.col, window.width)
    top, left = int(rows.min()), int(cols.min())
    return Window(top, left, int(rows.max()) + 1 - top, int(cols.max()) + 1 - left)


def read_mirrored(read: Callable[[Window], Arrays], window: Window, shape: tuple[int, int]) -> Arrays:
    """Read a window that may reach over the edge of a grid.

    Parameters
    ----------
    read : callable
        Reads a window inside the grid.
    window : Window
        Any window.
    shape : (rows, cols)
        Of the grid.
    """
    source = source_window(window, shape)
    pixels, labels = read(source)
    if source != window:
        rows = mirrored(shape[0], window.row, window.height) - source.row
        cols = mirrored(shape[1], window.col, window.width) - source.col
        pixels, labels = pixels[:, rows[:, None], cols], labels[rows[:, None], cols]
        if (labels > IGNORE).any():  # an image of an object is an object of its own
            down, across = np.ogrid[window.row : window.row_stop, window.col : window.col_stop]
            image = _image(down, shape[0]) * 3 + _image(across, shape[1])
            labels = labels + (labels > IGNORE) * image * (labels.max() // OBJECT * OBJECT)
    return pixels, labels


def _image(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return 0 for places inside, 1 beyond and 2 before them."""
    return np.where(places < 0, 2, places >= size)


def to_tensors(arrays: Arrays) -> Sample:
    """Return the arrays as tensors of their own memory."""
    import torch

    pixels, labels = arrays
    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(np.ascontiguousarray(labels))


@dataclass(frozen=True, eq=False, slots=True)
class PictureGround(Ground):
    """A small picture, in memory."""

    source: str
    name: str
    pixel_m: tuple[float, float]
    pixels: NDArray[np.uint8]
    """uint8, shape (bands, rows, cols). Filled where invalid."""
    labels: NDArray[np.uint8]
    """uint8, shape (rows, cols). Class ids, 0, `IGNORE`."""
    footprints: Footprints | None = None
    """Used for the labels in place of `labels`, except where those are `IGNORE`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    region: Window = field(init=False)
    spots: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "region", Window(0, 0, *self.shape))
        # A picture is hardly larger than a window: its objects are met anyway.
        object.__setattr__(self, "spots", np.empty((0, 2)))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def has_objects(self) -> bool:
        """Whether any pixel, or any polygon, has a class."""
        drawn = self.footprints is not None and len(self.footprints.spots) > 0
        return drawn or bool(((self.labels != 0) & (self.labels != IGNORE)).any())

    def permits(self, boxes: NDArray[np.object_], scale: float) -> NDArray[np.bool_]:
        """Say which boxes training may see: all, a picture is held out as a whole or not at all."""
        return np.ones(len(boxes), bool)

    def read(self, window: Window, shape: tuple[int, int]) -> Arrays:
        """Read pixels (resampled as in prediction) and labels (burnt anew, or the nearest)."""
        rows = taps(window.row, window.row_stop, shape[0], self.shape[0])
        cols = taps(window.col, window.col_stop, shape[1], self.shape[1])
        part = self.pixels[:, rows.start : rows.stop, cols.start : cols.stop]
        if shape == self.shape:
            pixels = part.copy()
        else:
            values, _ = resample(part, np.ones(part.shape[1:], bool), rows, cols)
            pixels = np.asarray(restore(values, "uint8"), np.uint8)
        labels = self.labels[rows.nearest[:, None], cols.nearest]
        if self.footprints is not None:
            burnt = self.footprints.burn(native_box(window, shape, self.shape), window.shape)
            labels = np.where(labels == IGNORE, burnt.dtype.type(IGNORE), burnt)
        return pixels, labels


SMEAR = 4
"""Pixels of a file or its overviews that resampling and their making may mix into a pixel."""


@dataclass(frozen=True, eq=False, slots=True)
class SceneGround(Ground):
    """A scene on disk, or a block of one; every read opens the file anew."""

    source: str
    name: str
    scene: SceneInfo
    """From `geoseg.raster.scene.open_scene`."""
    bands: tuple[int, ...]
    """Bands to read, in the order of the samples."""
    limits: tuple[tuple[float, float], ...] | None
    """Stretch of each band; None: the scene is 8-bit."""
    pixel_m: tuple[float, float]
    labels: Labels
    spots: NDArray[np.float64]
    """float64, shape (n, 2). Points on objects, native pixels (col, row), within `region`."""
    region: Window
    known: Footprints | None = None
    """Where labels are complete; None: everywhere."""
    forbidden: Footprints | None = None
    """What training must not see."""
    facts: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole scene."""
        return self.scene.geobox.shape

    @property
    def narrowed(self) -> bool:
        """Whether there is ground in `region` that is held out or where labels are not complete."""
        return self.known is not None or self.forbidden is not None

    @property
    def has_objects(self) -> bool:
        """Whether any object lies in `region`."""
        return len(self.spots) > 0

    def permits(self, boxes: NDArray[np.object_], scale: float) -> NDArray[np.bool_]:
        """Say which boxes keep clear of what is forbidden and meet known ground."""
        reach = SMEAR * max(1.0, scale)
        left, top, right, bottom = shapely.bounds(boxes).T
        grown = shapely.box(left - reach, top - reach, right + reach, bottom + reach)
        fit = np.ones(len(boxes), bool) if self.forbidden is None else ~self.forbidden.touched(grown)
        return fit if self.known is None else fit & self.known.touched(boxes)

    def read(self, window: Window, shape: tuple[int, int]) -> Arrays:
        """Read pixels (resampled, stretched, filled as in prediction) and labels."""
        box = self.scene.geobox
        grid = box if shape == box.shape else box.resized(*shape)
        patch = read_patch(self.scene, window, grid, self.bands)
        native = native_box(window, shape, self.shape)
        labels = self.labels.burn(native, window.shape)
        if self.known is not None:
            labels[self.known.burn(native, window.shape) == 0] = IGNORE
        labels[~patch.valid] = IGNORE
        pixels = patch.pixels if self.limits is None else apply_stretch(patch.pixels, self.limits)
        return to_bytes(pixels, patch.valid), labels
