"""Which pixels are data: pure functions over arrays.

A pixel is invalid where

- every band equals its nodata value (GDAL's rule for a dataset: a single band may well hold that value
  by chance; NaN as nodata equals NaN), or
- a mask (inside the file or beside it as ``.msk``) excludes it, or
- it is fully transparent (alpha 0), or
- a band that is used is not finite there.

0 without a nodata tag is data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def validity(
    pixels: NDArray[np.generic],
    *,
    nodata: Sequence[float | None],
    mask: NDArray[np.generic] | None = None,
    alpha: NDArray[np.generic] | None = None,
) -> NDArray[np.bool_]:
    """Return True where a pixel is data.

    Parameters
    ----------
    pixels : ndarray, shape (bands, rows, cols)
        Values as stored: before a palette is expanded or a scale applied.
    nodata : sequence of float or None
        One for each band; None: the band has no such value.
    mask : ndarray, shape (rows, cols) or (masks, rows, cols), optional
        0 is invalid. Of several (a mask for each band), each must be non-zero.
    alpha : ndarray, shape (rows, cols) or (bands, rows, cols), optional
        0 is invalid.

    Returns
    -------
    ndarray of bool, shape (rows, cols)
    """
    valid = ~is_nodata(pixels, nodata)
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
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
