"""Scenes: open one, read windows of it with their validity, sample its range of values."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import rasterio.windows
from numpy.typing import NDArray

from geoseg import files
from geoseg.raster.describe import Band, SceneInfo, check_readable, choose_overview, describe, pixel_bytes
from geoseg.raster.drivers import is_remote
from geoseg.raster.opening import Source, close_kept, opened, reading
from geoseg.raster.pixels import is_nodata, reach, resample, restore, stored_nodata, taps, validity
from geoseg.raster.source import resolve
from geoseg.values import GeoBox, Patch, Window

_STRIP = 1 << 24
"""Source pixels of each band that are held at a time while a window is shrunk."""


def open_scene(source: str | os.PathLike[str]) -> SceneInfo:
    """Look at a scene and describe it.

    Parameters
    ----------
    source : str or path
        A file that GDAL reads (GeoTIFF, JPEG 2000, PNG, JPEG, Erdas Imagine, NITF, WebP, BMP, ENVI, a
        GeoPackage with one raster, or a VRT that is a plain mosaic of files in its own folder), or a
        URL (http, https, s3, gs, az). Of a URL, files beside it (``.msk``, ``.ovr``, ``.aux.xml``) are
        not looked for.

    Raises
    ------
    UnreadableScene
        If it cannot be read, or geoseg cannot work on it; one line that says what to do.
    """
    origin = resolve(source)
    return reading(origin, partial(_described, origin))


def _described(origin: Source) -> SceneInfo:
    with opened(origin.uri, origin.drivers) as dataset:
        check_readable(dataset, origin.name)
        if is_remote(origin.uri):
            facts = repr((origin.uri, dataset.profile, dataset.tags()))
        else:
            # GDAL names the masks, overviews, metadata and mosaic parts that it reads along with the file.
            names = sorted({origin.uri, *filter(os.path.isfile, dataset.files)})
            facts = " ".join([files.fingerprint(Path(name), sample=1 << 16) for name in names])
        fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:32]
        points, crs = dataset.gcps
        if not (points and crs and dataset.crs is None):
            return describe(dataset, origin, fingerprint, warped=False)
    with opened(origin.uri, origin.drivers, warped=True) as view:
        return describe(view, origin, fingerprint, warped=True)


def read_patch(scene: SceneInfo, window: Window, grid: GeoBox, bands: Sequence[int]) -> Patch:
    """Read pixels and validity over a window of the working grid.

    A grid pixel has the same bits through whatever window it is read. Safe from any thread and
    process; what was opened stays open, see `geoseg.raster.opening` and `close_scene`.

    Parameters
    ----------
    scene : SceneInfo
        From `open_scene`.
    window : Window
        Pixels of `grid`, wholly inside it.
    grid : GeoBox
        ``scene.geobox``, or ``scene.geobox.resized(height, width)``: then the scene is averaged over
        each pixel (interpolated bilinearly where the grid is finer), from the coarsest overview that
        is no coarser than the grid. Invalid pixels never contribute; a grid pixel is valid where at
        least half of its weight is.
    bands : sequence of int
        Numbers of image bands, from 1.

    Returns
    -------
    Patch
        Pixels in the dtype of the file, in the order of `bands`; float32 where a scale is declared.
        Invalid pixels are 0.

    Raises
    ------
    UnreadableScene
        If the data is missing or damaged.
    ValueError
        If the window or a band is not in the grid, or the grid is not over the scene's ground.
    """
    chosen = _check_request(scene, window, grid, bands)
    dtype = np.result_type(*[band.read_dtype for band in chosen])
    if not window.height or not window.width:
        return Patch(np.zeros((len(bands), *window.shape), dtype), np.zeros(window.shape, bool))
    return reading(scene.uri, partial(_read, scene, window, grid, chosen, dtype))


def _read(
    scene: SceneInfo, window: Window, grid: GeoBox, bands: Sequence[Band], dtype: np.dtype[np.generic]
) -> Patch:
    level, (height, width) = choose_overview(scene, grid)
    top, bottom = reach(window.row, window.row_stop, grid.height, height)
    left, right = reach(window.col, window.col_stop, grid.width, width)
    source_pixels_a_row = window.width * (width / grid.width) * (height / grid.height)
    step = max(1, int(_STRIP / max(1.0, source_pixels_a_row)))
    with opened_scene(scene, (bottom - top, right - left), level) as dataset:
        if window.height <= step:
            return _read_strip(dataset, scene, window, grid, bands, dtype)
        pixels = np.zeros((len(bands), *window.shape), dtype)
        valid = np.zeros(window.shape, bool)
        for row in range(window.row, window.row_stop, step):
            strip = Window(row, window.col, min(step, window.row_stop - row), window.width)
            part, place = _read_strip(dataset, scene, strip, grid, bands, dtype), strip.within(window)
            pixels[:, *place], valid[place] = part.pixels, part.valid
    return Patch(pixels, valid)


def _read_strip(
    dataset: rasterio.DatasetReader,
    scene: SceneInfo,
    strip: Window,
    grid: GeoBox,
    bands: Sequence[Band],
    dtype: np.dtype[np.generic],
) -> Patch:
    down = strip.row, strip.row_stop, grid.height, dataset.height
    across = strip.col, strip.col_stop, grid.width, dataset.width
    (top, bottom), (left, right) = reach(*down), reach(*across)
    source = Window(top, left, bottom - top, right - left)
    values, valid = read_window(dataset, scene, source, [band.index for band in bands])
    if dataset.shape != grid.shape:
        values, valid = resample(values, valid, taps(*down), taps(*across))
    declared = np.array([(band.scale, band.offset) for band in bands], np.float64)
    if (declared != (1.0, 0.0)).any():
        scale, offset = declared.T[:, :, None, None]
        values = (values * scale + offset).astype(np.float32)
    values = restore(values, dtype)
    if not valid.all():
        np.copyto(values, 0, where=~valid)
    return Patch(values, valid)


def read_validity(scene: SceneInfo, window: Window, bands: Sequence[int]) -> NDArray[np.bool_]:
    """Read the validity alone, at full resolution; the same as `read_patch` on ``scene.geobox``.

    Cheaper where the validity does not depend on the pixels, and free where all is data.
    """
    _check_request(scene, window, scene.geobox, bands)
    if not scene.validity or not window.height or not window.width:
        return np.ones(window.shape, bool)

    def read() -> NDArray[np.bool_]:
        with opened_scene(scene, window.shape) as dataset:
            return read_window(dataset, scene, window, bands)[1]

    return reading(scene.uri, read)


def close_scene(scene: SceneInfo) -> None:
    """Close the datasets that this process keeps open of a scene; reading opens it again."""
    close_kept(scene.uri)


def opened_scene(
    scene: SceneInfo, window: tuple[int, int], level: int | None = None
) -> AbstractContextManager[rasterio.DatasetReader]:
    """Give the open dataset to this thread alone, to read so many of its rows and columns.

    Parameters
    ----------
    level : int or None
        Overview to read; None: the scene itself.
    """
    plain = scene.geobox.transform == (1, 0, 0, 0, 1, 0)
    reads = window, pixel_bytes(scene)
    return opened(scene.uri, (scene.driver,), overview=level, warped=scene.warped, quiet=plain, reads=reads)


def _check_request(scene: SceneInfo, window: Window, grid: GeoBox, bands: Sequence[int]) -> list[Band]:
    """Return the bands that are asked for, if they and the window exist."""
    window.within(grid.window)
    if grid != scene.geobox and grid != scene.geobox.resized(grid.height, grid.width):
        raise ValueError("the grid does not cover the same ground as the scene")
    if not bands:
        raise ValueError("no bands to read")
    known = {band.index: band for band in scene.bands}
    for index in bands:
        if index not in known:
            raise ValueError(f"{scene.name} has no image band {index}")
    return [known[index] for index in bands]


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
    """Return stored values; of bands of several types, in the type that holds them all."""
    kinds = [dataset.dtypes[i - 1] for i in bands]
    dtype = np.result_type(*kinds)
    if len(set(kinds)) == 1:
        return np.asarray(dataset.read(bands, window=frame, out_dtype=dtype))
    return np.stack([dataset.read(i, window=frame).astype(dtype) for i in bands])


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
        alpha = _stored(dataset, [*scene.alpha], frame)
    valid = validity(stored, mask=mask, alpha=alpha)
    if {band.nodata for band in scene.bands} == {None}:  # none, or put aside by the caller
        return valid
    # As the band itself holds it: in the type that all have in common, 0.1 may be another number.
    held = map(stored_nodata, dataset.nodatavals, dataset.dtypes)
    values = [None if value is None else value.item() for value in held]
    absent = is_nodata(stored, [values[i - 1] for i in bands])
    image = [1] if scene.palette else [band.index for band in scene.bands]
    for other in image:
        # The other bands are read only where the bands in use leave it open.
        if other not in bands and absent.any():
            absent &= is_nodata(_stored(dataset, [other], frame), [values[other - 1]])
    return valid & ~absent


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


def _first_valid(scene: SceneInfo, bands: Sequence[int]) -> NDArray[np.generic]:
    """Return the valid pixels of the first window that has any, for scenes that are nearly all nodata."""
    box, side = scene.geobox, 2048
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
