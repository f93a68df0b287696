"""What a sample is, and the mirror that continues ground beyond its edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.values import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    Sample = tuple[torch.Tensor, torch.Tensor]
    """Pixels (bands, rows, cols) and labels (rows, cols), both uint8."""

IGNORE = 255
"""Label of a pixel that is neither trained on nor counted."""

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""A sample before it becomes tensors: pixels (bands, rows, cols) and labels (rows, cols)."""


def mirrored(size: int, start: int, span: int) -> NDArray[np.int64]:
    """Return indices ``start … start + span - 1``, those outside ``0 … size - 1`` mirrored back in.

    The outermost pixel is not repeated (numpy's ``reflect``); an axis of one pixel repeats it.
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
