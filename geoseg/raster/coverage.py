"""Where a scene certainly holds nothing, known without reading a pixel.

A tiled TIFF need not hold all of its tiles ("sparse"): one that is absent has neither place nor length
in the file's directory, and GDAL reads it as the nodata value, or as 0 where there is none. Whether
that is nodata by the rules of `geoseg.raster.pixels` is found out by reading one absent tile.

Absent tiles: GDAL's GeoTIFF driver, https://gdal.org/en/stable/drivers/raster/gtiff.html#sparse-files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg.raster.describe import SceneInfo, choose_overview
from geoseg.raster.drivers import is_remote
from geoseg.raster.opening import opened, translating
from geoseg.raster.pixels import reach
from geoseg.raster.scene import read_window
from geoseg.values import GeoBox, Window

LARGEST = 1 << 22
"""Blocks of one level that are looked up; that takes 4 microseconds each. Above it nothing is known."""


@dataclass(frozen=True, eq=False, slots=True)
class Level:
    """The file's blocks at full resolution, or those of an overview."""

    block: tuple[int, int]
    """Rows and columns of a block in pixels."""
    present: NDArray[np.bool_]
    """bool, shape (block rows, block columns). False where a block is absent, and so holds no valid pixel."""

    def empty(self, window: Window) -> bool:
        """Whether a window of this level touches absent blocks only."""
        height, width = self.block
        rows = slice(window.row // height, -(-window.row_stop // height))
        cols = slice(window.col // width, -(-window.col_stop // width))
        return not self.present[rows, cols].any()


@dataclass(frozen=True, eq=False, slots=True)
class Coverage:
    """What is known of a scene's empty ground."""

    scene: SceneInfo
    levels: tuple[Level | None, ...]
    """The scene and its overviews, in order; None: nothing is known."""

    def empty(self, window: Window, grid: GeoBox) -> bool:
        """Whether it is certain that no valid pixel lies in a window of the working grid.

        Parameters
        ----------
        window : Window
            Pixels of `grid`, wholly inside it.
        grid : GeoBox
            As for `geoseg.raster.scene.read_patch`.
        """
        if not window.height or not window.width:
            return True
        overview, (height, width) = choose_overview(self.scene, grid)
        level = self.levels[0 if overview is None else overview + 1]
        if level is None:
            return False
        top, bottom = reach(window.row, window.row_stop, grid.height, height)
        left, right = reach(window.col, window.col_stop, grid.width, width)
        return level.empty(Window(top, left, bottom - top, right - left))


def read_coverage(scene: SceneInfo) -> Coverage | None:
    """Look up which blocks of a scene's file are absent.

    Returns
    -------
    Coverage or None
        None where nothing is known: every block is there, an absent block would be data, the file is no
        tiled TIFF, or it is behind a URL (the directory of a large one is itself much to fetch).

    Raises
    ------
    UnreadableScene
        If the file cannot be opened.
    """
    if scene.driver != "GTiff" or scene.warped or is_remote(scene.uri) or not scene.validity:
        return None
    with translating(scene.uri), opened(scene.uri, (scene.driver,)) as dataset:
        whole = _level(dataset, scene, None)
        overviews = [_level(dataset, scene, number) for number in range(len(scene.overviews))]
    levels = (whole, *overviews)
    return Coverage(scene, levels) if any(levels) else None


def _level(dataset: rasterio.DatasetReader, scene: SceneInfo, overview: int | None) -> Level | None:
    with opened(scene.uri, (scene.driver,), overview=overview) as level:
        height, width = level.block_shapes[0]
        if width >= level.width:  # strips, and what GDAL shows as rows though it is a single strip
            return None
        present = _present(dataset, overview, (-(-level.height // height), -(-level.width // width)))
        # GDAL gives no offsets at all for overviews that it makes up (from inside a JPEG).
        if present is None or present.all() or (overview is not None and not present.any()):
            return None
        row, col = np.argwhere(~present)[0].tolist()
        absent = Window(row * height, col * width, height, width)
        if not _is_nodata(level, scene, absent.intersection(Window(0, 0, *level.shape))):
            return None
    return Level((height, width), present)


def _present(
    dataset: rasterio.DatasetReader, overview: int | None, shape: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """Return the blocks that are there in any band; None if there are too many to ask."""
    interleaved = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    bands = [1] if interleaved else dataset.indexes
    if shape[0] * shape[1] * len(bands) > LARGEST:
        return None
    present = np.zeros(shape, bool)
    for row, col in np.ndindex(*shape):
        item = f"BLOCK_OFFSET_{col}_{row}"
        found = [dataset.get_tag_item(item, "TIFF", bidx=band, ovr=overview) for band in bands]
        present[row, col] = found.count(None) < len(found)
    return present


def _is_nodata(level: rasterio.DatasetReader, scene: SceneInfo, absent: Window) -> bool:
    # A mask beside the image may hold anything there: it must be nodata on its own account. What is
    # invalid for each band by itself is so for any choice of bands.
    unmasked = replace(scene, mask="none")
    return not any(read_window(level, unmasked, absent, [band.index])[1].any() for band in scene.bands)
