"""Ground with labels: what pictures in memory and scenes on disk have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.labels.places import Box
from geoseg.models.inputs import fill_invalid
from geoseg.raster.resample import restore
from geoseg.values import GeoBox, Window

if TYPE_CHECKING:
    import torch

    Sample = tuple[torch.Tensor, torch.Tensor]
    """Pixels (bands, rows, cols) and labels (rows, cols), both uint8."""

MOST_MIRRORED = 1.6
"""A sample may reach over small ground by this factor; what is beyond is mirrored."""

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""A sample before it becomes tensors: pixels (bands, rows, cols) and labels (rows, cols)."""


class Labels(Protocol):
    """Truth over a ground."""

    @property
    def spots(self) -> NDArray[np.float64]:
        """Points on objects, (n, 2), native pixels (col, row)."""

    def burn(self, box: Box, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return labels, ``shape``, of pixels that part the box evenly."""


class Ground(Protocol):
    """A piece of labelled ground, picklable, nothing open."""

    @property
    def source(self) -> str:
        """Collection; a scene is one of its own."""

    @property
    def name(self) -> str:
        """Its name in the source."""

    @property
    def weight(self) -> float:
        """How often the source is drawn, relative to others."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Place, licence, tier: what is known."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of native pixels."""

    @property
    def pixel_m(self) -> tuple[float, float]:
        """Metres that a native pixel measures along its row and along its column."""

    @property
    def region(self) -> Window:
        """Native pixels that belong to it; the rest of `shape` is context."""

    @property
    def spots(self) -> NDArray[np.float64]:
        """Points on objects to lay windows over, (n, 2), native pixels (col, row)."""

    @property
    def gsd_m(self) -> float:
        """Metres that a native pixel measures, the mean of both directions."""

    @property
    def area_m2(self) -> float:
        """Square metres of `region`, known or not."""

    @property
    def has_objects(self) -> bool:
        """Whether any object lies in `region`."""

    def grid(self, resolution_m: float) -> tuple[int, int]:
        """Return rows and columns of the whole ground at a resolution."""

    def permits(self, boxes: NDArray[np.object_], scale: float) -> NDArray[np.bool_]:
        """Say which boxes, shape (n,), native pixels, training may see.

        `scale` is the number of native pixels to a pixel of the grid that they are read on.
        """

    def read(self, window: Window, shape: tuple[int, int]) -> Arrays:
        """Read pixels and labels over a window inside the grid of `shape`.

        Raises
        ------
        UnreadableScene
            If a file is missing or broken in there.
        """


@dataclass(frozen=True, slots=True)
class Located:
    """Ground and where it lies.

    Parameters
    ----------
    ground : Ground
        The ground.
    path : str
        Its file.
    geobox : GeoBox or None
        Its native pixels on the Earth; None: unknown.
    """

    ground: Ground
    path: str
    geobox: GeoBox | None


def to_bytes(pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill invalid pixels from their valid neighbours and round to uint8; 0 if none is valid."""
    if not valid.any():
        return np.zeros(pixels.shape, np.uint8)
    if valid.all() and pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    return np.asarray(restore(fill_invalid(pixels, valid), "uint8"), np.uint8)


def grid_of(shape: tuple[int, int], pixel_m: tuple[float, float], resolution_m: float) -> tuple[int, int]:
    """Return rows and columns of ground of `shape` native pixels at a resolution, at least 1 each."""
    across, down = pixel_m
    return max(1, round(shape[0] * down / resolution_m)), max(1, round(shape[1] * across / resolution_m))


def native_box(window: Window, grid: tuple[int, int], native: tuple[int, int]) -> Box:
    """Return a window of a grid in native pixels of the ground that it covers."""
    down, across = native[0] / grid[0], native[1] / grid[1]
    return window.col * across, window.row * down, window.col_stop * across, window.row_stop * down


def area_of(window: Window, pixel_m: tuple[float, float]) -> float:
    """Return the square metres of a window of native pixels."""
    return window.height * pixel_m[1] * window.width * pixel_m[0]


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
    return pixels, labels


def to_tensors(arrays: Arrays) -> Sample:
    """Return the arrays as tensors of their own memory."""
    import torch

    pixels, labels = arrays
    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(np.ascontiguousarray(labels))
