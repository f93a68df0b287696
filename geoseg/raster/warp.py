"""Blended probabilities carried over to another grid and CRS."""

from __future__ import annotations

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from geoseg.raster.environment import environment
from geoseg.values import GeoBox, ProbabilityBlock


def warp_block(block: ProbabilityBlock, grid: GeoBox, target: GeoBox, shrink: float) -> ProbabilityBlock:
    """Return probabilities on another grid: bilinear among valid pixels, averaged where coarser.

    Parameters
    ----------
    block : ProbabilityBlock
        Over a window of `grid`.
    grid, target : GeoBox
        Both have a CRS.
    shrink : float
        How many pixels of the grid a pixel of the target is wide: beyond 1 so many are averaged. GDAL's own
        guess depends on the window, and would show where two windows meet.

    Returns
    -------
    ProbabilityBlock
        Over all of `target`.
    """
    source = block.values.astype(np.float32)
    source[:, ~block.valid] = np.nan
    found = np.full((len(source), *target.shape), np.nan, np.float32)
    a, b, _, d, e, _ = grid.transform
    (x, y) = grid.to_crs(np.array([[block.window.col, block.window.row]], np.float64))[0]
    scale = min(1.0, 1 / shrink)
    with environment(""):
        reproject(
            source,
            found,
            src_transform=Affine(a, b, x, d, e, y),
            src_crs=CRS.from_user_input(grid.crs),
            src_nodata=np.nan,
            dst_transform=Affine(*target.transform),
            dst_crs=CRS.from_user_input(target.crs),
            dst_nodata=np.nan,
            resampling=Resampling.bilinear,
            XSCALE=scale,
            YSCALE=scale,
        )
    valid = np.isfinite(found[0])
    return ProbabilityBlock(target.window, np.rint(np.where(valid, found, 0)).astype(np.uint16), valid)
