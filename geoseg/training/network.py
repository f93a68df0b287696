"""The network that training begins with: built by name, or gone on from a model that exists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from geoseg.backends import architectures
from geoseg.backends.families import find_encoder, find_family, make_config
from geoseg.errors import InvalidModel, InvalidOption
from geoseg.models.bundle import CONFIG, WEIGHTS, Bundle, find_model
from geoseg.models.inputs import InputSpec
from geoseg.training.pretrained import load_imagenet
from geoseg.training.recipe import ModelSpec


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """What training begins with.

    Parameters
    ----------
    network : Module
        To be trained.
    config : dict
        Its ``config.json``, see `geoseg.backends.architectures`.
    source : str or None
        Where its first weights come from; None: from chance.
    bases : tuple of Bundle
        The models that it goes on from: their mean, where there are several.
    note : str
        What a user should know about it, or nothing.
    """

    network: torch.nn.Module
    config: dict[str, object]
    source: str | None
    bases: tuple[Bundle, ...] = ()
    note: str = ""


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
        return _mean([_go_on(spec, name, bands, channels) for name in spec.start])
    config = make_config(spec.arch, spec.encoder, bands, channels, **spec.details)
    network = architectures.build(config)
    source = None
    if spec.weights == "imagenet":
        source = load_imagenet(network, str(config["encoder_name"]))
    return Start(network, config, source)


def _go_on(spec: ModelSpec, name: str, bands: int, channels: int) -> Start:
    if spec.weights is not None:
        raise InvalidOption("model.weights and model.start both say what training begins with; give one")
    bundle = find_model(name)
    if not {WEIGHTS, CONFIG} <= set(bundle.files):
        raise InvalidModel(f"{name}: has no {WEIGHTS} to go on from; an ONNX file cannot be trained")
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
    """Refuse a recipe that asks for another network than the one it goes on from."""
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
