"""The picture in the making: reflectance, height and sunlight per sample, and how light falls on it.

Lengths are metres, x to the right and y down from the picture's upper left corner. Samples are finer
than pixels (`SUPERSAMPLING` an axis) and reach `margin` metres beyond the picture, so that what
stands just outside still throws its shadow in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

SUPERSAMPLING = 2
"""Samples per pixel along each axis; their mean gives anti-aliased edges."""

Field = NDArray[np.float32]

Color = NDArray[np.float32]
"""Linear reflectance of red, green, blue, shape (3,)."""


def srgb(red: float, green: float, blue: float) -> Color:
    """Return the linear reflectance that shows as the 8-bit colour given (gamma 2.2)."""
    return np.asarray((np.array([red, green, blue]) / 255) ** 2.2, np.float32)


class Sun(NamedTuple):
    """Unit vector from the ground to the sun: x right, y down, z up."""

    x: float
    y: float
    z: float

    @classmethod
    def at(cls, azimuth: float, elevation: float) -> Sun:
        """Return the sun at `azimuth` (clockwise from the top of the picture) and `elevation`, radians."""
        flat = math.cos(elevation)
        return cls(math.sin(azimuth) * flat, -math.cos(azimuth) * flat, math.sin(elevation))


class Material(NamedTuple):
    """A surface.

    Parameters
    ----------
    color : Color
        Its reflectance.
    grain, mottle, patch : float
        How strongly it varies from sample to sample, at 1 m and at 10 m.
    worn : float
        Share of the surface, 0 … 1, where `under` shows through in patches.
    under : Color
        What is under it.
    """

    color: Color
    grain: float = 0.06
    mottle: float = 0.05
    patch: float = 0.05
    worn: float = 0.0
    under: Color = np.zeros(3, np.float32)


class Cut(NamedTuple):
    """A window of the canvas: its slices and the sample centres, x (1, w) and y (h, 1), in metres."""

    rows: slice
    cols: slice
    x: Field
    y: Field

    @property
    def area(self) -> tuple[slice, slice]:
        """What selects the window in an array (rows, cols)."""
        return self.rows, self.cols


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """Samples of the scene.

    Parameters
    ----------
    scale : float
        Samples per metre.
    margin : int
        Samples beyond the picture on every side.
    albedo : ndarray of float32, shape (3, rows, cols)
        Linear reflectance.
    height : ndarray of float32, shape (rows, cols)
        Metres above the ground.
    light : ndarray of float32, shape (rows, cols)
        Cosine between the surface's normal and the sun.
    grain, mottle, patch : ndarray of float32, shape (rows, cols)
        Noise of deviation 1 at one sample, about 1 m, about 10 m: the texture of all surfaces.
    """

    scale: float
    margin: int
    albedo: NDArray[np.float32]
    height: Field
    light: Field
    grain: Field
    mottle: Field
    patch: Field

    @classmethod
    def blank(cls, rng: np.random.Generator, size: tuple[int, int], gsd_m: float, sun: Sun) -> Canvas:
        """Return flat black ground for a picture of `size` (rows, cols) pixels of `gsd_m` metres."""
        scale = SUPERSAMPLING / gsd_m
        margin = SUPERSAMPLING * math.ceil(8 / gsd_m)
        shape = (size[0] * SUPERSAMPLING + 2 * margin, size[1] * SUPERSAMPLING + 2 * margin)
        grain = rng.standard_normal(shape, dtype=np.float32)
        grain += smooth_noise(rng, shape, 2.0)
        return cls(
            scale=scale,
            margin=margin,
            albedo=np.zeros((3, *shape), np.float32),
            height=np.zeros(shape, np.float32),
            light=np.full(shape, sun.z, np.float32),
            grain=grain * np.float32(0.7),
            mottle=fractal_noise(rng, shape, 3 * scale, 3),
            patch=fractal_noise(rng, shape, 25 * scale, 3),
        )

    def cut(self, bounds: Sequence[float], pad: float = 0.0) -> Cut | None:
        """Return the window over `bounds` (left, top, right, bottom) in metres; None outside the canvas."""
        rows, cols = self.height.shape
        left = max(0, math.floor((bounds[0] - pad) * self.scale) + self.margin)
        top = max(0, math.floor((bounds[1] - pad) * self.scale) + self.margin)
        right = min(cols, math.ceil((bounds[2] + pad) * self.scale) + self.margin)
        bottom = min(rows, math.ceil((bounds[3] + pad) * self.scale) + self.margin)
        if left >= right or top >= bottom:
            return None
        x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - self.margin)) / np.float32(
            self.scale
        )
        y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - self.margin)) / np.float32(
            self.scale
        )
        return Cut(slice(top, bottom), slice(left, right), x[None, :], y[:, None])

    def burn(self, polygons: Sequence[shapely.Polygon], values: Sequence[int]) -> NDArray[np.int32]:
        """Rasterize `polygons` (metres) in order; samples in none are 0."""
        shapes = shapely.transform(
            np.array(polygons, dtype=object), lambda points: points * self.scale + self.margin
        )
        pairs = [(shape, value) for shape, value in zip(shapes, values, strict=True) if not shape.is_empty]
        if not pairs:
            return np.zeros(self.height.shape, np.int32)
        return np.asarray(rasterize(pairs, out_shape=self.height.shape, dtype=np.int32))

    def cover(self, polygons: Sequence[shapely.Polygon], materials: Sequence[Material]) -> None:
        """Lay materials on the ground; a later polygon covers an earlier one."""
        index = self.burn(polygons, range(len(materials)))
        strength = np.array([material[1:4] for material in materials], np.float32)
        factor = 1 + strength[index, 0] * self.grain
        factor += strength[index, 1] * self.mottle
        factor += strength[index, 2] * self.patch
        np.maximum(factor, np.float32(0.25), out=factor)
        colors = np.array([material.color for material in materials], np.float32)
        step = np.array([material.under for material in materials], np.float32) - colors
        bare = self._bare(np.array([material.worn for material in materials], np.float32)[index])
        for band in range(3):
            blend = colors[index, band] + bare * step[index, band]
            np.multiply(blend, factor, out=self.albedo[band])

    def _bare(self, worn: Field) -> Field:
        """Return how much of the ground underneath shows, 0 … 1: patches with ragged edges."""
        pattern = (
            np.float32(0.55) * self.patch + np.float32(0.7) * self.mottle + np.float32(0.25) * self.grain
        )
        pattern -= np.float32(1.9) - np.float32(3.8) * worn
        return np.where(worn > 0, np.clip(np.float32(0.6) * pattern + np.float32(0.3), 0, 1), np.float32(0))


def shadow(height: Field, sun: Sun, scale: float) -> Field:
    """Return how much of the sun's disc is hidden at each sample, 0 … 1.

    A sample is dark where ground further on towards the sun rises above its ray. The highest such
    ground within 2ⁿ steps is the higher of two views of 2ⁿ⁻¹ steps, so a few shifts reach any length.
    """
    flat = math.hypot(sun.x, sun.y)
    drop = sun.z / flat / scale
    ceiling = float(height.max())
    horizon = height.copy()
    reach = 1
    while reach * drop < ceiling and reach < max(height.shape):
        down, right = round(sun.y / flat * reach), round(sun.x / flat * reach)
        here, there = _shifted(height.shape, down, right)
        fall = np.float32(math.hypot(down, right) * drop)
        np.maximum(horizon[here], horizon[there] - fall, out=horizon[here])
        reach *= 2
    horizon -= height
    horizon -= np.float32(0.12)
    return np.asarray(np.clip(horizon * np.float32(2.5), 0, 1), np.float32)


def openness(height: Field, scale: float) -> Field:
    """Return how much of the sky a sample sees, 0.35 … 1, from the mean height around it."""
    step = max(1, round(0.6 * scale))
    coarse = height[::step, ::step]
    around = blur(coarse, 3.0)
    seen = np.repeat(np.repeat(around, step, axis=0), step, axis=1)[: height.shape[0], : height.shape[1]]
    open_sky = 1 - np.maximum(seen - height, 0) * np.float32(0.11)
    return np.asarray(np.clip(open_sky, 0.35, 1), np.float32)


def _shifted(
    shape: tuple[int, ...], down: int, right: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    spans = []
    for size, step in zip(shape, (down, right), strict=True):
        near, far = slice(0, max(0, size - abs(step))), slice(min(size, abs(step)), size)
        spans.append((near, far) if step >= 0 else (far, near))
    return (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Field:
    """Return noise of mean 0 and deviation about 1 without detail finer than `cell` pixels.

    Random values on a coarse lattice, interpolated by the uniform cubic B-spline; the lattice has a
    random phase, so that its nodes do not sit on the picture's corner.
    """
    rows, cols = (int(np.ceil(size / cell)) + 4 for size in shape)
    lattice = rng.standard_normal((rows, cols), dtype=np.float32)
    phases = rng.random(2)
    down = _spline_matrix(shape[0], rows, cell, phases[0])
    across = _spline_matrix(shape[1], cols, cell, phases[1])
    # Interpolation averages: 151/315 of the lattice's deviation is left, over both axes.
    return np.asarray((down @ lattice @ across.T) / np.float32(151 / 315), np.float32)


def fractal_noise(rng: np.random.Generator, shape: tuple[int, int], coarsest: float, octaves: int) -> Field:
    """Return a sum of `octaves` smooth fields, each half as coarse and 0.6 times as strong as the last."""
    total = np.zeros(shape, np.float32)
    strength, cell, power = 1.0, coarsest, 0.0
    for _ in range(octaves):
        total += np.float32(strength) * smooth_noise(rng, shape, max(cell, 1.0))
        power += strength**2
        strength, cell = strength * 0.6, cell / 2
    return total / np.float32(np.sqrt(power))


def blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur the last two axes with a Gaussian of `sigma` pixels; edges are repeated."""
    if sigma <= 0:
        return image
    radius = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (-2, -1):
        image = _convolve(image, kernel, axis)
    return image


def _convolve(image: NDArray[np.float32], kernel: Field, axis: int) -> NDArray[np.float32]:
    radius, size = len(kernel) // 2, image.shape[axis]
    width = [(0, 0)] * image.ndim
    width[axis] = (radius, radius)
    padded = np.moveaxis(np.pad(image, width, mode="edge"), axis, 0)
    total = kernel[0] * padded[:size]
    for offset in range(1, len(kernel)):
        total += kernel[offset] * padded[offset : offset + size]
    return np.moveaxis(total, 0, axis)


def _spline_matrix(size: int, nodes: int, cell: float, phase: float) -> Field:
    position = (np.arange(size) + 0.5) / cell + phase
    first = np.floor(position).astype(int)
    t = position - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    matrix = np.zeros((size, nodes), np.float32)
    index = np.minimum(first[:, None] + np.arange(4), nodes - 1)
    np.put_along_axis(matrix, index, (weights / 6).astype(np.float32), axis=1)
    return matrix
