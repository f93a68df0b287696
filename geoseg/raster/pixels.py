"""Pixels as arrays: which are data, the same ground with another number of pixels, values for the eye. Pure.

A pixel is invalid where

- every band equals its nodata value (GDAL's rule for a dataset: a single band may well hold that value
  by chance; NaN as nodata equals NaN), or
- a mask (inside the file or beside it as ``.msk``) excludes it, or
- it is fully transparent (alpha 0), or
- a band that is used is not finite there.

0 without a nodata tag is data.

Resampling is a separable area average where the grid is coarser than the source, bilinear where it is
finer. Every output pixel is computed from absolute grid coordinates by the same operations in the same
order, so it has the same bits through whatever window it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SLAB = 1 << 18
"""Source pixels resampled at a time: few enough that the partial sums stay in the cache."""

# A pixel is valid if at least half of what it is made of is: then the valid area neither grows nor
# shrinks on average. The tolerance makes an exact half count in spite of rounding.
_HALF = np.float32(0.5 - 1e-5)


def validity(
    pixels: NDArray[np.generic],
    *,
    mask: NDArray[np.generic] | None = None,
    alpha: NDArray[np.generic] | None = None,
) -> NDArray[np.bool_]:
    """Return True where a pixel is data, nodata values aside (`is_nodata`).

    Parameters
    ----------
    pixels : ndarray, shape (bands, rows, cols)
        Values as stored: before a palette is expanded or a scale applied. NaN, infinities and what float32
        cannot hold are no data.
    mask : ndarray, shape (rows, cols) or (masks, rows, cols), optional
        0 is invalid. Of several (a mask for each band), each must be non-zero.
    alpha : ndarray, shape (rows, cols) or (bands, rows, cols), optional
        0 is invalid.

    Returns
    -------
    ndarray of bool, shape (rows, cols)
    """
    valid = np.ones(pixels.shape[1:], bool)
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            valid &= np.isfinite(pixels.astype(np.float32, copy=False)).all(axis=0)
    for cover in (mask, alpha):
        if cover is not None:
            valid &= (cover.reshape(-1, *valid.shape) != 0).all(axis=0)
    return valid


def is_nodata(pixels: NDArray[np.generic], nodata: Sequence[float | None]) -> NDArray[np.bool_]:
    """Return True where every band equals its nodata value, shape (rows, cols).

    False everywhere if a band has none, or one that its dtype cannot hold.
    """
    values = [stored_nodata(value, pixels.dtype) for value in nodata]
    if not values or any(value is None for value in values):
        return np.zeros(pixels.shape[1:], bool)
    absent = np.ones(pixels.shape[1:], bool)
    for band, value in zip(pixels, values, strict=True):
        absent &= np.isnan(band) if value != value else band == value  # noqa: PLR0124 (NaN)
    return absent


def stored_nodata(nodata: float | None, dtype: np.dtype[np.generic] | str) -> np.generic | None:
    """Return a declared nodata value as pixels of this dtype hold it; None if they cannot.

    Values just beyond the largest float32 mean that float, as in GDAL: writers print too few digits.
    """
    kind = np.dtype(dtype)
    if nodata is None:
        return None
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        whole = np.isfinite(nodata) and int(nodata) == nodata
        return kind.type(int(nodata)) if whole and limits.min <= nodata <= limits.max else None
    largest = float(np.finfo(kind).max)
    if np.isfinite(nodata) and abs(nodata) > largest:
        close = abs(nodata) <= largest * (1 + 1e-6)
        return kind.type(np.copysign(largest, nodata)) if close else None
    return kind.type(nodata)


@dataclass(frozen=True, eq=False, slots=True)
class Taps:
    """What each output pixel along one axis is made of."""

    index: NDArray[np.int64]
    """int64, shape (n, taps). Pixels of the source axis."""
    weight: NDArray[np.float32]
    """float32, shape (n, taps). Non-negative, sums to 1."""
    nearest: NDArray[np.int64]
    """int64, shape (n,). The source pixel under the centre of each output pixel."""

    @property
    def start(self) -> int:
        """First source pixel that is needed."""
        return int(self.index.min())

    @property
    def stop(self) -> int:
        """The source pixel after the last that is needed."""
        return int(self.index.max()) + 1


def taps(start: int, stop: int, size: int, source: int) -> Taps:
    """Return the taps of output pixels ``start … stop - 1`` of an axis of `size` pixels over `source`.

    Area average if ``size < source``, else bilinear (centre to centre; the outermost source pixel
    continues outward). Weights come from integers, so they are exact up to their rounding to float32.
    """
    output = np.arange(start, stop, dtype=np.int64)[:, None]
    if size < source:
        # In units of 1/size of a source pixel: output i covers [i·source, (i+1)·source).
        index = output * source // size + np.arange(-(-source // size) + 1)
        low = np.maximum(index * size, output * source)
        high = np.minimum((index + 1) * size, (output + 1) * source)
        weight = np.maximum(high - low, 0) / source
    elif size == source:
        index, weight = output, np.ones((stop - start, 1))
    else:
        # The centre of output i lies at ((2i + 1)·source - size) / (2·size) source pixel centres.
        below, rest = np.divmod((2 * output + 1) * source - size, 2 * size)
        index = below + np.arange(2)
        weight = np.hstack([1 - rest / (2 * size), rest / (2 * size)])
    nearest = ((2 * output + 1) * source // (2 * size))[:, 0]
    return Taps(np.clip(index, 0, source - 1), weight.astype(np.float32), nearest)


def reach(start: int, stop: int, size: int, source: int) -> tuple[int, int]:
    """Return ``start`` and ``stop`` of the `taps` of the same arguments, without making them."""
    if size < source:
        first, last = start * source // size, (stop - 1) * source // size - (-source // size)
    elif size == source:
        first, last = start, stop - 1
    else:
        first = ((2 * start + 1) * source - size) // (2 * size)
        last = ((2 * stop - 1) * source - size) // (2 * size) + 1
    return min(max(first, 0), source - 1), min(max(last, 0), source - 1) + 1


def resample(
    pixels: NDArray[np.generic], valid: NDArray[np.bool_], rows: Taps, cols: Taps
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Resample a window of the source; invalid pixels never contribute.

    Parameters
    ----------
    pixels : ndarray, shape (bands, rows, cols)
        The source from ``rows.start, cols.start`` on.
    valid : ndarray of bool, shape (rows, cols)
        Which of them are data.
    rows, cols : Taps
        From `taps`.

    Returns
    -------
    values : ndarray of float32 (float64 for 32-bit integers and wider), shape (bands, n rows, n cols)
        Weighted mean of the valid pixels, 0 where the output is invalid.
    valid : ndarray of bool, shape (n rows, n cols)
        True where valid pixels hold at least half of the weight.
    """
    kind = np.result_type(pixels.dtype, np.float32)
    count = len(rows.index)
    values = np.empty((len(pixels), count, len(cols.index)), kind)
    covered = np.empty(values.shape[1:], bool)
    slab = max(1, _SLAB * count // max(1, pixels.shape[1] * pixels.shape[2]))
    for top in range(0, count, slab):
        part = slice(top, min(top + slab, count))
        strip = Taps(rows.index[part], rows.weight[part], rows.nearest[part])
        source = slice(strip.start - rows.start, strip.stop - rows.start)
        values[:, part], covered[part] = _slab(pixels[:, source], valid[source], strip, cols, kind)
    return values, covered


def restore(values: NDArray[np.generic], dtype: np.dtype[np.generic] | str) -> NDArray[np.generic]:
    """Round resampled values back to the dtype of the file; what has it already is handed through."""
    kind = np.dtype(dtype)
    if values.dtype == kind or kind.kind not in "iu":
        return values.astype(kind, copy=False)
    limits = np.iinfo(kind)
    return np.asarray(np.rint(values).clip(limits.min, limits.max), kind)


def _slab(
    pixels: NDArray[np.generic],
    valid: NDArray[np.bool_],
    rows: Taps,
    cols: Taps,
    kind: np.dtype[np.generic],
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    # Without a hole the weight is a product of two sums; computed by the same operations as the
    # general case, so that both give the same bits.
    whole = bool(valid.all())
    weight = _weight_of_all(valid.shape, rows, cols, kind) if whole else _weight(valid, rows, cols, kind)
    data = pixels if whole else np.where(valid, pixels, pixels.dtype.type(0))
    total = _along_cols(_along_rows(data, rows), cols)
    covered = np.greater_equal(weight, _HALF)
    values = np.divide(total, weight, out=np.zeros_like(total), where=covered)
    return values, covered


def _weight(
    valid: NDArray[np.bool_], rows: Taps, cols: Taps, kind: np.dtype[np.generic]
) -> NDArray[np.generic]:
    return np.asarray(_along_cols(_along_rows(valid[None].astype(kind), rows), cols)[0])


def _weight_of_all(
    shape: tuple[int, int], rows: Taps, cols: Taps, kind: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return what `_weight` does where all is valid: the same row for all rows of the same weight."""
    each = _along_rows(np.ones((1, shape[0], 1), kind), rows)[0, :, 0]
    few, which = np.unique(each, return_inverse=True)
    table = np.broadcast_to(few[None, :, None], (1, len(few), shape[1]))
    return np.asarray(_along_cols(table, cols)[0][which])


def _along_rows(source: NDArray[np.generic], taps: Taps) -> NDArray[np.generic]:
    shape = (len(source), len(taps.index), source.shape[2])
    kind = np.result_type(source.dtype, np.float32)
    total, term = np.zeros(shape, kind), np.empty(shape, kind)
    index = taps.index - taps.start
    for tap in np.flatnonzero(taps.weight.any(axis=0)):  # at a whole number of pixels the last is 0
        weight = taps.weight[:, tap, None].astype(kind)
        np.multiply(np.take(source, index[:, tap], axis=1), weight, out=term)
        total += term
    return total


def _along_cols(source: NDArray[np.generic], taps: Taps) -> NDArray[np.generic]:
    total = np.zeros((*source.shape[:2], len(taps.index)), source.dtype)
    term = np.empty_like(total)
    index = taps.index - taps.start
    for tap in np.flatnonzero(taps.weight.any(axis=0)):
        np.take(source, index[:, tap], axis=2, out=term, mode="clip")  # else it goes through a copy
        term *= taps.weight[:, tap].astype(source.dtype)
        total += term
    return total


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
    with np.errstate(over="ignore"):  # by what is no data
        stretched = pixels.astype(np.float32)
    stretched -= low
    stretched /= np.maximum(high - low, np.float32(1e-20))
    np.clip(stretched, 0, 1, out=stretched)
    stretched *= 255
    return stretched


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
