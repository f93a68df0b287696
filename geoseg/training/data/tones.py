"""Lending one sample the light and the colours of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from geoseg.training.data.sample import IGNORE

if TYPE_CHECKING:
    import numpy as np

    from geoseg.training.data.sample import Sample

_FEWEST = 256
"""Known pixels that a sample needs for its colours to mean anything."""

_FLOOR = 9.0
"""Least variance of a colour, in squared grey values: what is nearly flat is not blown up to noise."""

_LEAST = 0.3
"""Smallest share of the way to the other sample's colours."""


def lend_tones(sample: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """Move the colours of `sample` towards those of `donor`; labels stay.

    The linear map that carries one Gaussian distribution of colours to the other with least effort
    (Pitié and Kokaram, The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour
    Transfer, 2007), applied in part: between 0.3 and 1 of the way. So a town is seen in the light, haze
    and film of another survey.

    Parameters
    ----------
    sample, donor : Sample
        Pixels (bands, rows, cols) uint8 and labels (rows, cols); any number of bands, the same in both.
        Unknown pixels do not count as colours, but are moved with the others.
    rng : Generator
        Chooses how far.

    Returns
    -------
    Sample
        `sample` itself where either has hardly any known pixel.
    """
    share = float(rng.uniform(_LEAST, 1.0))
    own, other = _known(sample), _known(donor)
    if min(own.shape[1], other.shape[1]) < _FEWEST:
        return sample
    moved = _map(_covariance(own), _covariance(other)) @ (sample[0].flatten(1).float() - own.mean(1, True))
    moved = (moved + other.mean(1, True)).reshape(sample[0].shape)
    mixed = torch.lerp(sample[0].float(), moved, share)
    return mixed.round().clamp(0, 255).to(torch.uint8), sample[1]


def _known(sample: Sample) -> torch.Tensor:
    """Return the known pixels as float32, shape (bands, n)."""
    pixels, labels = sample
    return pixels.flatten(1)[:, labels.flatten() != IGNORE].float()


def _covariance(values: torch.Tensor) -> torch.Tensor:
    return torch.cov(values).reshape(len(values), len(values))  # that of one band is a number


def _map(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the symmetric matrix that turns covariance `own` into `other`."""
    floor = _FLOOR * torch.eye(len(own))
    own, other = own + floor, other + floor
    root = _root(own)
    back = torch.linalg.inv(root)
    result: torch.Tensor = back @ _root(root @ other @ root) @ back
    return result


def _root(matrix: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: torch.Tensor = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    return root
