"""A model's card as the other rooms see it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from geoseg.models.document import (
    Activation,
    CardDocument,
    CardProperties,
    Confidence,
    Instances,
    ModelTask,
    Split,
)
from geoseg.models.inputs import InputSpec
from geoseg.models.value_check import TrainingStatistics
from geoseg.values import ClassInfo, ClassRule

_PALETTE = ("e4572e", "4c9f70", "2e86ab", "f3a712", "a23b72", "6c757d", "8d6a4f", "17bebb")


@dataclass(frozen=True, slots=True)
class Head:
    """What the output of a model means."""

    classes: tuple[ClassInfo, ...]
    """The classes without the background."""
    channels: tuple[int, ...]
    """Class id of each output channel; 0 is the background."""
    activation: Activation
    """``sigmoid`` or ``softmax`` to be applied to the output, or ``probability``: nothing."""
    threshold: float = 0.5
    """In (0, 1), see `geoseg.values.ClassRule`."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as the other rooms see it; holds nothing open."""

    name: str
    """E.g. ``buildings``."""
    digest: str
    """64 hexadecimal digits: SHA-256 of the weights and of every field below that a result depends on. Two
    models of the same digest give the same result under the same options."""
    inputs: InputSpec
    """Bands, dtype, normalization."""
    classes: tuple[ClassInfo, ...]
    channels: tuple[int, ...]
    activation: Activation
    threshold: float
    """See `Head`."""
    tile: int
    overlap: int
    """`tile`, `overlap`: Pixels at the model's resolution."""
    fixed_tile: bool = False
    """True: the network takes tiles of exactly this size."""
    any_tile: bool = False
    """True: tiles of other sizes were measured to do as well."""
    resolution_m: float | None = None
    """Ground sample distance in metres that the model expects; None: the scene's own."""
    resolution_range: tuple[float, float] | None = None
    """(finest, coarsest) ground sample distance in metres seen in training."""
    smallest_overlap: int | None = None
    """Pixels from which on tiles were measured not to show; None: not measured, or none does."""
    trained_on: TrainingStatistics | None = None
    """Distribution of the values seen in training; None: not known."""
    min_area_m2: float | None = None
    """Smaller polygons are no objects but noise, in square metres; None: not known."""
    man_made: bool = False
    """Objects have straight walls, which `geoseg.vector.regularize` gives them back."""
    max_deviation_m: float | None = None
    """How far outlines may lie from these walls, in metres; None: not known."""
    min_confidence: float | None = None
    """Polygons of lower confidence are no objects; None: not known."""
    confidence: Confidence | None = None
    """How likely an object is right; None: its mean probability says it."""
    split: Split | None = None
    """How objects that touch are told apart; None: they are not."""
    task: ModelTask = "semantic"
    """Whether it gives probabilities or objects."""
    instances: Instances | None = None
    """How objects are found; None: a semantic model."""

    @property
    def best_overlap(self) -> int:
        """What ``--overlap auto`` takes: what was measured, else what the card suggests."""
        return self.overlap if self.smallest_overlap is None else self.smallest_overlap

    @property
    def rule(self) -> ClassRule:
        """How probabilities become class ids, by the card's own threshold."""
        return ClassRule(self.channels, self.threshold)


def card_of(document: CardDocument, checksums: Mapping[str, str]) -> ModelCard:
    """Return the view of a checked card.

    Parameters
    ----------
    document : CardDocument
        The card.
    checksums : mapping of str to str
        SHA-256 of each file of weights or architecture, by file name.
    """
    properties, spec, head = document.properties, _inputs(document), _head(document)
    fixed_tile = properties.inputs[0].input.shape[2] > 0
    any_tile = properties.depends_on_extent is False and not fixed_tile
    told = CardProperties.model_fields.keys() & {field.name for field in fields(ModelCard)}
    values: dict[str, Any] = {name: getattr(properties, name) for name in told}
    values |= {
        "digest": _digest(properties, spec, head, checksums, any_tile=any_tile),
        "inputs": spec,
        "classes": head.classes,
        "channels": head.channels,
        "fixed_tile": fixed_tile,
        "any_tile": any_tile,
        "trained_on": properties.training_statistics,
        "man_made": bool(properties.man_made),
        "task": "semantic" if properties.instances is None else "instance",
    }
    return ModelCard(**values)


def _digest(
    properties: CardProperties, spec: InputSpec, head: Head, checksums: Mapping[str, str], *, any_tile: bool
) -> str:
    """Return the digest of all that fixes results; what a card does not say is left out."""
    said = {
        "any_tile": any_tile or None,
        "smallest_overlap": properties.smallest_overlap,
        "min_area_m2": properties.min_area_m2,
        "man_made": properties.man_made,
        "max_deviation_m": properties.max_deviation_m,
        "min_confidence": properties.min_confidence,
        "confidence": properties.confidence and properties.confidence.model_dump(),
        "split": properties.split and properties.split.model_dump(),
        "instances": properties.instances and properties.instances.model_dump(),
    }
    fields = {
        "inputs": asdict(spec),
        "head": asdict(head),
        "tile": properties.tile,
        "overlap": properties.overlap,
        "resolution": properties.resolution_m,
        **{name: value for name, value in said.items() if value is not None},
    }
    state = json.dumps([fields, sorted(checksums.items())], sort_keys=True)
    return hashlib.sha256(state.encode()).hexdigest()


def class_color(class_id: int, hint: str | None = None) -> tuple[int, int, int]:
    """Return the colour (red, green, blue) of a class; `hint`: six hexadecimal digits that name it."""
    red, green, blue = bytes.fromhex(hint or _PALETTE[(class_id - 1) % len(_PALETTE)])
    return red, green, blue


def _inputs(document: CardDocument) -> InputSpec:
    spec = document.properties.inputs[0]
    dtypes = {band.name: band.data_type for band in document.properties.bands}
    pairs = [scaling.shift_and_divisor() for scaling in spec.value_scaling or ()] or [(0.0, 1.0)]
    pairs *= len(spec.bands) // len(pairs)
    return InputSpec(
        bands=spec.bands,
        dtype=dtypes.get(spec.bands[0], "uint8"),
        scale=1.0,
        mean=tuple([shift for shift, _ in pairs]),
        std=tuple([divisor for _, divisor in pairs]),
    )


def _head(document: CardDocument) -> Head:
    properties = document.properties
    output = properties.outputs[0]
    channels = tuple([entry.value for entry in output.classes])
    classes = tuple(
        [
            ClassInfo(entry.value, entry.name, class_color(entry.value, entry.color_hint))
            for entry in output.classes
            if entry.value
        ]
    )
    if output.result.shape[1] == 1:  # a background may be listed beside the only class
        channels = (classes[0].id,)
    return Head(classes, channels, properties.activation, properties.threshold)
