"""How far a network really looks: its effective receptive field.

Luo, Li, Urtasun, Zemel: Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks, NIPS 2016, https://arxiv.org/abs/1701.04128: the gradient of one output with respect to
the input falls off like a bell, so that the field that matters is much smaller than what the
layers' kernels add up to. Here its squares are summed by their distance from the output's pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Predictor
from geoseg.values import CERTAIN

if TYPE_CHECKING:
    import torch

SHARES = (0.95, 0.999)
"""Shares of the energy that the two radii of a field hold."""

RING = 16
"""Width in pixels of the rings that are disturbed where there are no gradients."""

_NOISE = 0.25


@dataclass(frozen=True, slots=True)
class Field:
    """An effective receptive field.

    Parameters
    ----------
    radii : tuple of int
        Half the side, in pixels, of the squares round a pixel that hold `SHARES` of the energy.
    by_gradient : bool
        False: estimated by disturbing the input, in steps of `RING` pixels.
    """

    radii: tuple[int, int]
    by_gradient: bool


def field_by_gradient(module: torch.nn.Module, tiles: NDArray[np.float32]) -> Field:
    """Measure the field of a network of torch's.

    Parameters
    ----------
    module : Module
        In evaluation mode, logits out.
    tiles : ndarray of float32, shape (n, bands, size, size)
        Prepared tiles; each is asked at another place of the network's stride, near its centre.
    """
    import torch

    size = tiles.shape[-1]
    energy = np.zeros(size)
    signs = np.random.default_rng(0)
    for number, tile in enumerate(tiles):
        row, col = size // 2 + 5 * number % 32, size // 2 + 11 * number % 32
        picture = torch.from_numpy(tile[None].copy()).requires_grad_()
        with torch.enable_grad():
            answer = module(picture)[0, :, row, col]
            # Random signs: the expected square is the sum of the squares of all classes.
            sign = torch.from_numpy(signs.choice([-1.0, 1.0], len(answer)).astype(np.float32))
            (gradient,) = torch.autograd.grad((answer * sign).sum(), picture)
        squares = gradient[0].double().square().sum(dim=0).numpy()
        energy += np.bincount(distances(size, row, col).ravel(), squares.ravel(), minlength=size)[:size]
    return Field(_radii(energy, 1), by_gradient=True)


def field_by_disturbing(predict: Predictor, tiles: NDArray[np.float32]) -> Field:
    """Estimate the field of any model: disturb a ring of the input, look at the pixel in the middle.

    Independent noise in a ring moves the output by the ring's gradients, so the expected square of
    the move is the ring's energy. Moves below the step of 1/65535 in probability are not seen.

    Parameters
    ----------
    predict : Predictor
        On any backend.
    tiles : ndarray of float32, shape (n, bands, size, size)
        Prepared tiles.
    """
    size = tiles.shape[-1]
    away = distances(size, size // 2, size // 2)
    noise = np.random.default_rng(0).normal(0, _NOISE * tiles.std(), tiles.shape).astype(np.float32)
    calm = _middle(predict, tiles)
    energy = []
    for start in range(0, size // 2, RING):
        ring = (away >= start) & (away < start + RING)
        moved = _middle(predict, tiles + noise * ring)
        energy.append(float(np.square(moved - calm).sum()))
    return Field(_radii(np.array(energy), RING), by_gradient=False)


def distances(size: int, row: int, col: int) -> NDArray[np.int64]:
    """Return each pixel's distance from one, (size, size), in pixels: the larger of down and across."""
    index = np.arange(size)
    return np.asarray(np.maximum(np.abs(index - row)[:, None], np.abs(index - col)[None, :]))


def _middle(predict: Predictor, tiles: NDArray[np.float32]) -> NDArray[np.float64]:
    half = tiles.shape[-1] // 2
    answers: Sequence[NDArray[np.uint16]] = [predict(tile[None])[0, :, half, half] for tile in tiles]
    return np.stack(answers) / CERTAIN


def _radii(energy: NDArray[np.float64], step: int) -> tuple[int, int]:
    """Return the distances within which the shares of the energy lie; 0 where there is none at all."""
    if energy.sum() <= 0:
        return 0, 0
    held = np.cumsum(energy) / energy.sum()
    near, far = (int(np.searchsorted(held, share - 1e-12)) for share in SHARES)
    return (near + 1) * step - 1, (far + 1) * step - 1
