"""Networks by name, built without the network: what a ``config.json`` says, filled from safetensors.

The format is that of ``save_pretrained`` in segmentation-models-pytorch: ``_model_class`` names the
architecture, every other key is an argument of its constructor. ``"_align_corners": false`` (of geoseg's
own) enlarges by the pixels' areas: the library's default aligns the centres of the outermost pixels, which
shifts what lies near the border of a tile by up to half the factor. A config is data from a stranger:
only architectures and argument names listed here are accepted, and nothing is ever downloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from geoseg.backends.maskrcnn import MaskRCNN
from geoseg.backends.networks import FCN, HRNet
from geoseg.errors import InvalidModel
from geoseg.files import replacing

ARCHITECTURES: Mapping[str, type[torch.nn.Module]] = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "manet": smp.MAnet,
    "linknet": smp.Linknet,
    "fpn": smp.FPN,
    "pspnet": smp.PSPNet,
    "pan": smp.PAN,
    "deeplabv3": smp.DeepLabV3,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "segformer": smp.Segformer,
    "upernet": smp.UPerNet,
    "fcn": FCN,
    "hrnet": HRNet,
    "maskrcnn": MaskRCNN,
}
"""Architectures by name, lower case; ``+`` may stand for ``plus`` (``unet++``, ``deeplabv3+``)."""

_ARGUMENTS = {
    "activation", "anchors", "aux_params", "channels", "classes", "decoder_aspp_dropout",
    "decoder_aspp_separable", "hidden", "normalized", "ratios",
    "decoder_atrous_rates", "decoder_attention_type", "decoder_channels", "decoder_dropout",
    "decoder_interpolation", "decoder_merge_policy", "decoder_pab_channels", "decoder_pyramid_channels",
    "decoder_segmentation_channels", "decoder_use_batchnorm", "decoder_use_norm", "encoder_depth",
    "encoder_name", "encoder_output_stride", "in_channels", "psp_dropout", "psp_out_channels",
    "psp_use_batchnorm", "psp_use_norm", "upsampling",
}  # fmt: skip
_LARGEST = {"in_channels": 64, "classes": 256, "encoder_depth": 6}
_LARGEST_OF_ALL = 4096
_ENCODER = re.compile(r"[\w.-]{1,100}")
"""An encoder's name; with a colon or slash timm would look for it on a hub or in a folder."""


def build(config: Mapping[str, object]) -> torch.nn.Module:
    """Build the network that a ``config.json`` describes, with random weights and logits as output.

    Parameters
    ----------
    config : mapping
        ``_model_class`` and constructor arguments; ``encoder_weights`` is ignored (never
        downloaded), ``activation`` must be empty: geoseg works on logits.

    Returns
    -------
    Module
        In evaluation mode; (batch, bands, rows, cols) float32 to (batch, classes, rows, cols).

    Raises
    ------
    InvalidModel
        If the architecture or an argument is not on the list, or the constructor refuses.
    """
    architecture = _architecture(config)
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    arguments["encoder_weights"] = None
    unknown = sorted(set(arguments) - _ARGUMENTS - {"encoder_weights"})
    if unknown:
        raise InvalidModel(f"config.json: unknown key {unknown[0]!r}; remove it")
    if arguments.get("activation") not in (None, "identity"):
        raise InvalidModel(
            f"config.json: activation {arguments['activation']!r}; export the model without one"
        )
    if arguments.get("aux_params") is not None:
        raise InvalidModel("config.json: aux_params is set; export the model without a classification head")
    encoder = arguments.get("encoder_name", "")
    if encoder != "" and not (isinstance(encoder, str) and _ENCODER.fullmatch(encoder)):
        raise InvalidModel(f"config.json: encoder_name {encoder!r} is no name of an encoder")
    _check_sizes(arguments)
    try:
        network = architecture(**arguments).eval()
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidModel(f"config.json: {config['_model_class']} cannot be built: {reason}") from error
    if config.get("_align_corners") is False:
        for layer in network.modules():
            if isinstance(layer, torch.nn.Upsample) and layer.mode == "bilinear":
                layer.align_corners = False
    return network


def load(folder: Path) -> torch.nn.Module:
    """Build the network of a model folder and fill it from ``model.safetensors``.

    Weights stored in half precision are computed with in float32.

    Raises
    ------
    InvalidModel
        If a file is missing or broken, or the weights do not fit the network.
    """
    config, weights = folder / "config.json", folder / "model.safetensors"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{config}: cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise InvalidModel(f"{config}: not a JSON object")
    module = build(content)
    load_weights(module, weights)
    return module


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Fill `module` from a safetensors file; every tensor must be there, and no other.

    Raises
    ------
    InvalidModel
        If the file is missing, broken, or does not fit the network.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{path}: cannot be read as safetensors ({type(error).__name__})") from error
    expected = module.state_dict()
    different = sorted(set(expected) ^ set(tensors))
    different += [key for key in expected if key in tensors and expected[key].shape != tensors[key].shape]
    if different:
        raise InvalidModel(
            f"{path}: does not fit config.json, {len(different)} tensors differ: {different[0]}"
        )
    module.load_state_dict(tensors)


def save(module: torch.nn.Module, config: Mapping[str, object], folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``, readable by ``smp.from_pretrained`` too.

    Float tensors that half precision holds without loss (see `round_to_half`) are stored so.
    """
    tensors = {key: compact(value) for key, value in module.state_dict().items()}
    with replacing(folder / "model.safetensors") as path:
        save_file(tensors, path)
    with replacing(folder / "config.json") as path:
        path.write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")


def round_to_half(module: torch.nn.Module) -> None:
    """Round convolution and linear weights, in place, to the nearest float16 value.

    Half the file, and every runtime that reads it computes with the same numbers; a change of at
    most 2⁻¹¹ of each weight. Norms and their statistics stay as they are.
    """
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear):
            layer.weight.data.copy_(layer.weight.data.half())


def compact(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` in float16 if that is lossless, else unchanged; contiguous in any case."""
    half = tensor.half() if tensor.dtype == torch.float32 else tensor
    return (half if torch.equal(half.to(tensor.dtype), tensor) else tensor).contiguous()


def _check_sizes(arguments: Mapping[str, object]) -> None:
    """Refuse numbers that would fill the memory before the constructor could complain."""
    for key, largest in _LARGEST.items():
        value = arguments.get(key, 1)
        if not isinstance(value, int) or not 1 <= value <= largest:
            raise InvalidModel(f"config.json: {key} is {value!r}; it must be 1 to {largest}")
    for key, value in arguments.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int | float) and not abs(number) <= _LARGEST_OF_ALL:
                raise InvalidModel(
                    f"config.json: {key} holds {number!r}; at most {_LARGEST_OF_ALL} is allowed"
                )


def _architecture(config: Mapping[str, object]) -> type[torch.nn.Module]:
    name = config.get("_model_class")
    if not isinstance(name, str):
        raise InvalidModel("config.json: _model_class is missing; it names the architecture, e.g. Unet")
    architecture = ARCHITECTURES.get(name.lower().replace("+", "plus"))
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise InvalidModel(f"config.json: architecture {name!r} is not known; known are {known}")
    return architecture
