"""Scenes of any size for benchmarks: the sample scene, mirrored side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.windows import Window

SAMPLE = Path(__file__).resolve().parents[1] / "sample_data" / "scene.tif"


def make_scene(path: Path, height: int, width: int) -> Path:
    """Write a tiled JPEG GeoTIFF of `height` × `width` pixels at 0.3 m, strip by strip.

    Every second repetition is mirrored, so that no building is cut at a joint; the nodata corner of
    the sample is filled by its mirror image.
    """
    with rasterio.open(SAMPLE) as dataset:
        sample, profile = dataset.read(), dataset.profile
        valid = dataset.dataset_mask() > 0
    sample = np.where(valid, sample, sample[:, ::-1, ::-1])
    side = sample.shape[1]
    twice = np.concatenate([sample, sample[:, :, ::-1]], axis=2)
    twice = np.concatenate([twice, twice[:, ::-1]], axis=1)
    profile.update(height=height, width=width, bigtiff="IF_SAFER", jpeg_quality=90)
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, height, 512):
            rows = np.arange(row, min(row + 512, height)) % (2 * side)
            cols = np.arange(width) % (2 * side)
            strip = np.take(np.take(twice, rows, axis=1), cols, axis=2)
            target.write(strip, window=Window(0, row, width, len(rows)))
        target.build_overviews([4, 16], Resampling.average)
    return path
