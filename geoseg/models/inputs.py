"""The input that a model takes, and how pixels become that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.values import Patch


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input of a model: bands in order, their dtype, and the normalization."""

    bands: tuple[str, ...]
    """Names in the order of the model's channels, e.g. ``("red", "green", "blue")``."""
    dtype: str
    """NumPy name of the dtype whose value range the model was trained on, e.g. ``uint8``."""
    scale: float
    """Factor applied to pixel values first, e.g. 1/255."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """`mean`, `std`: Per band, in scaled units: the model sees ``(pixel * scale - mean) / std``."""

    def __post_init__(self) -> None:
        if not len(self.bands) == len(self.mean) == len(self.std) > 0:
            raise ValueError(f"bands, mean and std need one entry a band: {self}")
        if min(self.scale, *self.std) <= 0 or not np.isfinite((self.scale, *self.std)).all():
            raise ValueError(f"scale and std must be finite and above 0: {self}")

    @property
    def center(self) -> tuple[float, ...]:
        """What is subtracted from the pixels of each band, in their own units; see `spread`."""
        return tuple(mean / self.scale for mean in self.mean)

    @property
    def spread(self) -> tuple[float, ...]:
        """What the difference is divided by: ``(pixel - center) / spread`` is what the model sees."""
        return tuple(std / self.scale for std in self.std)

    def fill(self, patch: Patch) -> NDArray[np.uint8]:
        """Fill invalid pixels, and leave scale and normalization to a predictor that does them.

        Parameters
        ----------
        patch : Patch
            Pixels of uint8, ``(bands, rows, cols)`` with the bands in the order of `bands`.

        Returns
        -------
        ndarray of uint8, shape (bands, rows, cols)
            As `prepare` fills them, rounded; the patch's own array where all of it is valid.

        Raises
        ------
        ValueError
            If the patch has another number of bands.
        """
        self._check_bands(patch)
        if patch.valid.all():
            return np.asarray(patch.pixels, np.uint8)
        if not patch.valid.any():
            center = np.array(self.center)[:, None, None]
            return np.broadcast_to(np.rint(np.clip(center, 0, 255)), patch.pixels.shape).astype(np.uint8)
        return np.rint(fill_invalid(patch.pixels, patch.valid)).astype(np.uint8)

    def prepare(self, patch: Patch) -> NDArray[np.float32]:
        """Fill invalid pixels, scale and normalize: what the network sees.

        Valid pixels depend on nothing but themselves; invalid ones are filled from the valid
        pixels of the same patch (`fill_invalid`), so that nodata does not poison neighbours.

        Parameters
        ----------
        patch : Patch
            Pixels ``(bands, rows, cols)`` with the bands in the order of `bands`.

        Returns
        -------
        ndarray of float32, shape (bands, rows, cols)
            Finite wherever the valid pixels are. 0 (the mean) where a patch has no valid pixel.

        Raises
        ------
        ValueError
            If the patch has another number of bands.
        """
        self._check_bands(patch)
        if not patch.valid.any():
            return np.zeros(patch.pixels.shape, np.float32)
        out = fill_invalid(patch.pixels, patch.valid)
        if self.scale != 1:
            out *= np.float32(self.scale)
        out -= np.array(self.mean, np.float32)[:, None, None]
        out /= np.array(self.std, np.float32)[:, None, None]
        return out

    def _check_bands(self, patch: Patch) -> None:
        if patch.pixels.shape[0] != len(self.bands):
            raise ValueError(f"{patch.pixels.shape[0]} bands for a model of {len(self.bands)}: {self.bands}")


def fill_invalid(pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return pixels as float32 with the invalid ones filled from valid ones near by.

    Pull-push: averages of valid pixels are pulled up a pyramid, 2 × 2 at a time, and each invalid
    pixel takes the value of the finest level that has one (Gortler et al., The Lumigraph, 1996).
    A filled value lies between the smallest and the largest valid one of its band.

    Parameters
    ----------
    pixels : ndarray, shape (bands, rows, cols)
        Any real dtype; what invalid pixels hold, NaN and infinity included, does not matter.
    valid : ndarray of bool, shape (rows, cols)
        At least one True.

    Examples
    --------
    >>> fill_invalid(np.array([[[4, 99], [8, 6]]]), np.array([[True, False], [True, True]]))
    array([[[4., 6.],
            [8., 6.]]], dtype=float32)
    """
    with np.errstate(over="ignore"):  # whatever an invalid pixel holds
        out = pixels.astype(np.float32)
    if not valid.all():
        out[:, ~valid] = 0
        _pull_push(out, valid)
    return out


def _pull_push(values: NDArray[np.floating[Any]], valid: NDArray[np.bool_]) -> None:
    """Fill `values` in place; they must be 0 where they are not valid."""
    rows, cols = np.nonzero(~valid)
    if len(rows) == 0 or valid.size == 1:
        return
    count = _quads(valid)
    # Sums of at most four float32 are exact in float64: a constant scene stays constant to the bit.
    coarse = _quads(values) / np.maximum(count, 1)
    _pull_push(coarse, count > 0)
    values[:, rows, cols] = coarse[:, rows // 2, cols // 2]


def _quads(values: NDArray[Any]) -> NDArray[np.float64]:
    """Sum each 2 × 2 square of the last two axes; beyond an odd edge there is 0."""
    rows, cols = values.shape[-2:]
    out = np.zeros((*values.shape[:-2], (rows + 1) // 2, (cols + 1) // 2))
    for row, col in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = values[..., row::2, col::2]
        out[..., : part.shape[-2], : part.shape[-1]] += part
    return out
