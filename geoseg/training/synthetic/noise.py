"""Smooth random fields and blurs, in numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


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
