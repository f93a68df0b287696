"""A scene for people to look at: its red, green and blue, and the limits that map its values to 0 … 255."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from geoseg.raster.scene import SceneInfo, read_patch
from geoseg.values import Patch, Window


def rgb_bands(colors: Sequence[str], bands: Sequence[int]) -> tuple[int, ...]:
    """Return the bands to show as red, green and blue, or the one to show as grey.

    Those that are named so; else the first three; of fewer than three the first alone.

    Parameters
    ----------
    colors : sequence of str
        What each band shows, as `geoseg.raster.describe.Band.color` or a model has it.
    bands : sequence of int
        Their numbers.

    Examples
    --------
    >>> rgb_bands(["blue", "green", "red", "nir"], [1, 2, 3, 4])
    (3, 2, 1)
    >>> rgb_bands(["gray", "undefined", "undefined", "undefined"], [1, 2, 3, 4])
    (1, 2, 3)
    >>> rgb_bands(["gray", "undefined"], [1, 2])
    (1,)
    """
    named = dict(zip(reversed(colors), reversed(bands), strict=True))
    if named.keys() >= {"red", "green", "blue"}:
        return named["red"], named["green"], named["blue"]
    return tuple(bands[:3] if len(bands) > 2 else bands[:1])


def sample(scene: SceneInfo, bands: Sequence[int], *, budget: int = 1 << 22) -> Iterator[Patch]:
    """Yield patches that stand for the whole scene, always the same ones.

    The whole scene if it has at most `budget` pixels, else the finest overview that has, else windows
    of 256 x 256 pixels spread evenly over the coarsest overview (or the scene), `budget` in all. Each lies
    in as few blocks of the file as can be: of a scene behind a URL no others are fetched.
    """
    shapes = [(scene.geobox.height, scene.geobox.width), *scene.overviews]
    small = [shape for shape in shapes if shape[0] * shape[1] <= budget]
    height, width = small[0] if small else shapes[-1]
    grid = scene.geobox.resized(height, width)
    if small:
        yield read_patch(scene, grid.window, grid, bands)
        return
    side = 256
    for row, col in _lattice(height, width, side, budget // side**2):
        top, left = _on_blocks(row, scene.block_shape[0], side), _on_blocks(col, scene.block_shape[1], side)
        window = Window(top, left, side, side).intersection(grid.window)
        yield read_patch(scene, window, grid, bands)


def estimate_stretch(
    scene: SceneInfo, bands: Sequence[int], percentiles: tuple[float, float] = (2, 98)
) -> tuple[tuple[float, float], ...]:
    """Return the limits (low, high) of each band: percentiles of its valid pixels.

    They come from an overview or windows spread over the scene (`sample`), always
    the same ones: estimate once for a scene, use the limits for all of it.

    Raises
    ------
    UnreadableScene
        If the scene cannot be read.
    """
    values = [patch.pixels[:, patch.valid] for patch in sample(scene, bands)]
    known = np.concatenate(values, axis=1)
    if not known.size:
        known = _first_valid(scene, bands)
    if not known.size:
        return ((0.0, 255.0),) * len(bands)  # a scene without data: nothing will be mapped
    limits = np.percentile(known, percentiles, axis=1)
    return tuple((float(low), float(high)) for low, high in limits.T)


def stretch_to_bytes(scene: SceneInfo, bands: Sequence[int]) -> tuple[tuple[float, float], ...] | None:
    """Return the limits of `estimate_stretch`; None where all bands are 8-bit: they stay as they are."""
    narrow = all(band.read_dtype == "uint8" for band in scene.bands if band.index in bands)
    return None if narrow else estimate_stretch(scene, bands)


def apply_stretch(pixels: NDArray[np.generic], limits: Sequence[tuple[float, float]]) -> NDArray[np.float32]:
    """Map low … high of each band linearly to 0 … 255, beyond them to the nearer end.

    Parameters
    ----------
    pixels : ndarray, shape (bands, rows, cols)
        Any real dtype.
    limits : sequence of (low, high)
        One for each band. Where they are equal, values above are 255, others 0.

    Returns
    -------
    ndarray of float32, shape (bands, rows, cols)
    """
    low, high = np.array(limits, np.float32).T[:, :, None, None]
    stretched = pixels.astype(np.float32)
    stretched -= low
    stretched /= np.maximum(high - low, np.float32(1e-20))
    np.clip(stretched, 0, 1, out=stretched)
    stretched *= 255
    return stretched


def _first_valid(scene: SceneInfo, bands: Sequence[int], side: int = 2048) -> NDArray[np.generic]:
    """Return the valid pixels of the first window that has any, for scenes that are nearly all nodata."""
    box = scene.geobox
    for row in range(0, box.height, side):
        for col in range(0, box.width, side):
            window = Window(row, col, side, side).intersection(box.window)
            patch = read_patch(scene, window, box, bands)
            if patch.valid.any():
                return patch.pixels[:, patch.valid]
    return np.empty((len(bands), 0))


def _on_blocks(start: int, block: int, side: int) -> int:
    """Move the start of a window to where it touches the fewest blocks along an axis."""
    if block < side:
        return start // block * block
    first = (start + side // 2) // block * block
    return min(max(start, first), first + block - side)


def _lattice(height: int, width: int, side: int, count: int) -> Iterator[tuple[int, int]]:
    down = min(-(-height // side), max(1, round((count * height / width) ** 0.5), -(-count * side // width)))
    across = min(-(-width // side), max(1, count // down))
    for i in range(down):
        for j in range(across):
            yield (
                max(0, (2 * i + 1) * height // (2 * down) - side // 2),
                max(0, (2 * j + 1) * width // (2 * across) - side // 2),
            )
