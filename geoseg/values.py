"""Small frozen values that the rooms hand to each other.

Nothing here opens a file or knows a library heavier than numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Transform = tuple[float, float, float, float, float, float]
"""Affine coefficients (a, b, c, d, e, f): x = a·col + b·row + c, y = d·col + e·row + f.

The order is that of ``rasterio`` and ``affine``; (0, 0) is the outer corner of the first pixel.
"""

CERTAIN = 65535
"""Probability 1 in the integer scale of all probability arrays (uint16)."""

HALF = 128
"""Value from which on a pixel is part of an object, in masks of objects (uint8, 255 is certain)."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels, half-open: rows ``row … row + height - 1``."""

    row: int
    col: int
    """`row`, `col`: First row and column; negative outside the raster."""
    height: int
    width: int
    """`height`, `width`: Size in pixels, 0 or more."""

    @property
    def row_stop(self) -> int:
        """First row after the window."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """First column after the window."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices (rows, cols) of this window in an array that begins at (0, 0)."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    @classmethod
    def around(cls, *windows: Window) -> Window:
        """Return the smallest window that holds all of some.

        >>> Window.around(Window(0, 0, 2, 2), Window(1, 5, 2, 2))
        Window(row=0, col=0, height=3, width=7)
        """
        row, col = min([one.row for one in windows]), min([one.col for one in windows])
        bottom, right = max([one.row_stop for one in windows]), max([one.col_stop for one in windows])
        return cls(row, col, bottom - row, right - col)

    def intersection(self, other: Window) -> Window:
        """Return the pixels in both windows; height or width is 0 where there are none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = max(0, min(self.row_stop, other.row_stop) - row)
        width = max(0, min(self.col_stop, other.col_stop) - col)
        return Window(row, col, height, width)

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Return the slices (rows, cols) of this window in an array that covers `outer`.

        Raises
        ------
        ValueError
            If the window reaches outside `outer` (slices would wrap round silently).
        """
        if not (
            outer.row <= self.row
            and outer.col <= self.col
            and self.row_stop <= outer.row_stop
            and self.col_stop <= outer.col_stop
        ):
            raise ValueError(f"{self} is not inside {outer}")
        top, left = self.row - outer.row, self.col - outer.col
        return slice(top, top + self.height), slice(left, left + self.width)


@dataclass(frozen=True, slots=True)
class GeoBox:
    """A pixel grid on the ground: size, affine transform, CRS."""

    height: int
    width: int
    """`height`, `width`: Size in pixels."""
    transform: Transform
    """Pixel corner coordinates (col, row) to CRS coordinates (x, y); any affine map."""
    crs: str | None
    """WKT2 (or anything that ``pyproj.CRS.from_user_input`` takes); None: pixel coordinates only."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def window(self) -> Window:
        """The whole grid as a window."""
        return Window(0, 0, self.height, self.width)

    def to_crs(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map pixel coordinates ``(n, 2)`` as (col, row) to CRS coordinates ``(n, 2)`` as (x, y)."""
        a, b, c, d, e, f = self.transform
        col, row = pixels[:, 0], pixels[:, 1]
        return np.column_stack([a * col + b * row + c, d * col + e * row + f])

    def to_pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map CRS coordinates ``(n, 2)`` to pixel coordinates ``(n, 2)``, the inverse of `to_crs`."""
        a, b, c, d, e, f = self.transform
        x, y = points[:, 0] - c, points[:, 1] - f
        determinant = a * e - b * d
        return np.column_stack([(e * x - b * y) / determinant, (a * y - d * x) / determinant])

    def resized(self, height: int, width: int) -> GeoBox:
        """Return a grid over exactly the same ground with another number of pixels."""
        a, b, c, d, e, f = self.transform
        across, down = self.width / width, self.height / height
        transform = (a * across, b * down, c, d * across, e * down, f)
        return GeoBox(height, width, transform, self.crs)


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """One class of a model."""

    id: int
    """1 … 255, the value in class maps and the attribute ``class``; 0 is the background."""
    name: str
    """Name for people, e.g. ``building``."""
    color: tuple[int, int, int]
    """Red, green, blue, 0 … 255."""


@dataclass(frozen=True, slots=True)
class ClassRule:
    """How probabilities become class ids."""

    channels: tuple[int, ...]
    """The class id that each channel stands for; 0 marks a background channel."""
    threshold: float
    """In (0, 1). One channel: the class is where the probability reaches it. Several channels: the largest
    wins (the first of equals) if it reaches the threshold, else background."""

    @property
    def level(self) -> float:
        """The threshold on the integer scale, half-way between two integers: no sample equals it."""
        return float(np.ceil(np.round(self.threshold * CERTAIN, 6))) - 0.5


@dataclass(frozen=True, eq=False, slots=True)
class Patch:
    """Pixels read from a scene, with their validity."""

    pixels: NDArray[np.generic]
    """Shape (bands, rows, cols). In the dtype of the file (declared scale and offset applied as
    float32)."""
    valid: NDArray[np.bool_]
    """bool, shape (rows, cols). False where a pixel is nodata, masked, transparent, not finite, or outside
    the scene."""


@dataclass(frozen=True, eq=False, slots=True)
class ProbabilityBlock:
    """Blended probabilities over a window of the working grid."""

    window: Window
    """Where the arrays lie in the grid."""
    values: NDArray[np.uint16]
    """uint16, shape (channels, rows, cols). 0 … `CERTAIN`."""
    valid: NDArray[np.bool_]
    """bool, shape (rows, cols). False pixels have no probability; their values are 0 and mean nothing."""


@dataclass(frozen=True, slots=True)
class LayerSchema:
    """What a vector or raster sink needs to know about the layer it writes."""

    name: str
    """Layer name, e.g. ``buildings``."""
    crs: str | None
    """CRS of the coordinates handed to the sink; None: pixel coordinates."""
    classes: tuple[ClassInfo, ...]
    """Classes that may occur, with colours."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Model, digest, options, coverage …: written as layer metadata where the format has it."""
    resolution_m: float | None = None
    """Side of the pixels that outlines come from in metres; None: not known."""
    numbered: bool = False
    """Whether features have a column ``instance``, their number from 1 on, by which a raster calls them."""
    objects: bool = False
    """Whether features are objects, whatever their class."""

    @property
    def coverage(self) -> bool:
        """Whether features share their borders: each place is of one of several classes."""
        return len(self.classes) > 1 and not self.objects
