"""Networks by name, built without the network: what a ``config.json`` says, filled from safetensors.

The format is that of ``save_pretrained`` in segmentation-models-pytorch: ``_model_class`` names the
architecture, every other key is an argument of its constructor. ``"_align_corners": false`` (of geoseg's
own) enlarges by the pixels' areas: the library's default aligns the centres of the outermost pixels, which
shifts what lies near the border of a tile by up to half the factor. A config is data from a stranger:
only architectures and argument names listed here are accepted, and nothing is ever downloaded.

Two networks of the field no library has as such. FCN-8s: Long, Shelhamer, Darrell: Fully Convolutional
Networks for Semantic Segmentation, CVPR 2015, https://arxiv.org/abs/1411.4038, section 4.2: class scores at
strides 8, 16 and 32, added from coarse to fine. HRNetV2: Sun, Zhao, Jiang et al.: High-Resolution
Representations for Labeling Pixels and Regions, 2019, https://arxiv.org/abs/1904.04514, section 3: the maps
of all four resolutions, enlarged to the finest, side by side, mixed by a 1 × 1 convolution. Both take any
encoder of smp or timm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn
from torch.nn import functional

from geoseg.backends.maskrcnn import MaskRCNN
from geoseg.errors import InvalidModel
from geoseg.files import replacing


def enlarge(maps: torch.Tensor, times: int) -> torch.Tensor:
    """Enlarge (batch, channels, rows, cols) by a whole factor, bilinear, by the areas of the pixels."""
    if times == 1:
        return maps
    return functional.interpolate(maps, scale_factor=float(times), mode="bilinear", align_corners=False)


class EncoderNetwork(nn.Module):
    """What the networks here have in common: the features of an encoder.

    Parameters
    ----------
    encoder_name : str
        An encoder of segmentation-models-pytorch, or ``tu-`` and a name of timm's, with features at
        strides 4 to 32.
    in_channels, classes : int
        Bands of the input, channels of the output.
    encoder_weights : None
        Nothing is downloaded here.
    """

    hrnet: Mapping[str, str] = {}
    """Arguments of HRNet's encoders."""

    def __init__(
        self, encoder_name: str, in_channels: int = 3, classes: int = 1, encoder_weights: None = None
    ) -> None:
        super().__init__()
        more = self.hrnet if encoder_name.startswith("tu-hrnet") else {}
        self.encoder = get_encoder(encoder_name, in_channels, depth=5, weights=encoder_weights, **more)
        self.add_head(self.encoder.out_channels, classes)

    def add_head(self, channels: Sequence[int], classes: int) -> None:
        """Make what turns features of so many channels, the finest first, into classes."""
        raise NotImplementedError


class FCN(EncoderNetwork):
    """Scores of three depths, summed: the fine ones know where, the coarse ones know what.

    As in the paper a 1 × 1 convolution scores the features of each stride, and the sums are
    enlarged twofold, then eightfold. Enlarging is bilinear and fixed, to which the paper's
    transposed convolutions are initialised; the stages of the encoder stand for VGG's, whose
    fully connected layers belong to its classifier.
    """

    def add_head(self, channels: Sequence[int], classes: int) -> None:
        """Score the features at strides 8, 16 and 32; sums of zeros, as in the paper, pass gradients on."""
        self.scores = nn.ModuleList([nn.Conv2d(count, classes, kernel_size=1) for count in channels[-3:]])
        for parameter in self.scores.parameters():
            nn.init.zeros_(parameter)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Map (batch, bands, rows, cols), sides multiples of 32, to logits (batch, classes, rows, cols)."""
        features: Sequence[torch.Tensor] = self.encoder(picture)[-3:]
        fine, middle, coarse = [score(part) for score, part in zip(self.scores, features, strict=True)]
        return enlarge(enlarge(enlarge(coarse, 2) + middle, 2) + fine, 8)


class HRNet(EncoderNetwork):
    """Four resolutions side by side at a quarter of the input's, mixed, scored, enlarged.

    ``tu-hrnet_w18`` and its like have four resolutions in their last stage; any other encoder works too.
    """

    # timm's default widens each resolution for its classifier; the paper takes them as they are.
    hrnet: Mapping[str, str] = {"feature_location": ""}

    def add_head(self, channels: Sequence[int], classes: int) -> None:
        """Mix the features at strides 4, 8, 16 and 32."""
        width = sum(channels[-4:])
        self.head = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, kernel_size=1),
        )

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Map (batch, bands, rows, cols), sides multiples of 32, to logits (batch, classes, rows, cols)."""
        maps: list[torch.Tensor] = self.encoder(picture)[-4:]
        together = torch.cat([enlarge(part, 2**step) for step, part in enumerate(maps)], dim=1)
        return enlarge(self.head(together), 4)


ARCHITECTURES: Mapping[str, type[nn.Module]] = {
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


def build(config: Mapping[str, object]) -> nn.Module:
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
            if isinstance(layer, nn.Upsample) and layer.mode == "bilinear":
                layer.align_corners = False
    return network


def load(folder: Path) -> nn.Module:
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


def load_weights(module: nn.Module, path: Path) -> None:
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


def save(module: nn.Module, config: Mapping[str, object], folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``, readable by ``smp.from_pretrained`` too.

    Float tensors that half precision holds without loss (see `round_to_half`) are stored so.
    """
    tensors = {key: compact(value) for key, value in module.state_dict().items()}
    with replacing(folder / "model.safetensors") as path:
        save_file(tensors, path)
    with replacing(folder / "config.json") as path:
        path.write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")


def round_to_half(module: nn.Module) -> None:
    """Round convolution and linear weights, in place, to the nearest float16 value.

    Half the file, and every runtime that reads it computes with the same numbers; a change of at
    most 2⁻¹¹ of each weight. Norms and their statistics stay as they are.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
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


def _architecture(config: Mapping[str, object]) -> type[nn.Module]:
    name = config.get("_model_class")
    if not isinstance(name, str):
        raise InvalidModel("config.json: _model_class is missing; it names the architecture, e.g. Unet")
    architecture = ARCHITECTURES.get(name.lower().replace("+", "plus"))
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise InvalidModel(f"config.json: architecture {name!r} is not known; known are {known}")
    return architecture
