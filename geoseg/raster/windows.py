"""A window of an open dataset: its stored values, and which of them are data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import rasterio
import rasterio.windows
from numpy.typing import NDArray

from geoseg.raster.describe import SceneInfo
from geoseg.raster.validity import is_nodata, validity
from geoseg.values import Window


def read_window(
    dataset: rasterio.DatasetReader, scene: SceneInfo, window: Window, bands: Sequence[int]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Return stored values (a palette's colours) and validity over a window of the open dataset."""
    frame = rasterio.windows.Window(window.col, window.row, window.width, window.height)
    if scene.palette is None:
        stored = _stored(dataset, [*bands], frame)
        return stored, _validity(dataset, scene, frame, stored, [*bands])
    band = next(i for i in dataset.indexes if i not in scene.alpha)
    index = _stored(dataset, [band], frame)
    colors = np.array(scene.palette, np.uint8)
    known = _validity(dataset, scene, frame, index, [band])
    known &= colors[:, 3][index[0]] != 0
    return np.stack([colors[:, i - 1][index[0]] for i in bands]), known


def _stored(
    dataset: rasterio.DatasetReader, bands: list[int], frame: rasterio.windows.Window
) -> NDArray[np.generic]:
    dtype = np.result_type(*(dataset.dtypes[i - 1] for i in bands))
    return np.asarray(dataset.read(bands, window=frame, out_dtype=dtype))


def _validity(
    dataset: rasterio.DatasetReader,
    scene: SceneInfo,
    frame: rasterio.windows.Window,
    stored: NDArray[np.generic],
    bands: list[int],
) -> NDArray[np.bool_]:
    if not scene.validity:
        return np.ones(stored.shape[1:], bool)
    mask = alpha = None
    if scene.mask == "dataset":
        mask = dataset.read_masks(1, window=frame)
    elif scene.mask == "bands":
        # A band's own mask is a statement about that band, unlike a nodata value met by chance: any
        # band that is used and masked makes the pixel invalid.
        mask = dataset.read_masks(bands, window=frame)
    if scene.alpha:
        alpha = dataset.read([*scene.alpha], window=frame)
    valid = validity(stored, nodata=(), mask=mask, alpha=alpha)
    return valid & ~_is_nodata(dataset, scene, frame, stored, bands)


def _is_nodata(
    dataset: rasterio.DatasetReader,
    scene: SceneInfo,
    frame: rasterio.windows.Window,
    stored: NDArray[np.generic],
    bands: list[int],
) -> NDArray[np.bool_]:
    values = dataset.nodatavals
    absent = is_nodata(stored, [values[i - 1] for i in bands])
    image = [1] if scene.palette else [band.index for band in scene.bands]
    for other in image:
        # The other bands are read only where the bands in use leave it open.
        if other not in bands and absent.any():
            absent &= is_nodata(_stored(dataset, [other], frame), [values[other - 1]])
    return absent
