"""A model's card as the other rooms read it, and its way from and to ``model.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from geoseg.errors import InvalidModel
from geoseg.models.document import MLM_SCHEMA, VERSION, Activation, CardDocument
from geoseg.models.inputs import InputSpec
from geoseg.models.statistics import ValueStatistics
from geoseg.values import ClassInfo, ClassRule

CARD_LIMIT = 1_000_000
"""Largest card in bytes."""

_EXTENSIONS = (
    MLM_SCHEMA,
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
_PALETTE = ("e4572e", "4c9f70", "2e86ab", "f3a712", "a23b72", "6c757d", "8d6a4f", "17bebb")


@dataclass(frozen=True, slots=True)
class Head:
    """What the output of a model means.

    Parameters
    ----------
    classes : tuple of ClassInfo
        The classes without the background.
    channels : tuple of int
        Class id of each output channel; 0 is the background.
    activation : str
        ``sigmoid`` or ``softmax`` to be applied to the output, or ``probability``: nothing.
    threshold : float
        In (0, 1), see `geoseg.values.ClassRule`.
    """

    classes: tuple[ClassInfo, ...]
    channels: tuple[int, ...]
    activation: Activation
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as the other rooms see it; holds nothing open.

    Parameters
    ----------
    name : str
        E.g. ``buildings``.
    digest : str
        64 hexadecimal digits: SHA-256 of the weights and of every field below that a result depends
        on. Two models of the same digest give the same result under the same options.
    inputs : InputSpec
        Bands, dtype, normalization.
    head : Head
        Classes, channels, activation, threshold.
    tile, overlap : int
        Pixels at the model's resolution.
    fixed_tile : bool
        True: the network takes tiles of exactly this size.
    any_tile : bool
        True: tiles of other sizes were measured to do as well.
    resolution_m : float or None
        Ground sample distance in metres that the model expects; None: the scene's own.
    resolution_range : tuple of float or None
        (finest, coarsest) ground sample distance in metres seen in training.
    smallest_overlap : int or None
        Pixels from which on tiles were measured not to show; None: not measured, or none does.
    trained_on : ValueStatistics or None
        Distribution of the values seen in training; None: not known.
    min_area_m2 : float or None
        Smaller polygons are no objects but noise, in square metres; None: not known.
    """

    name: str
    digest: str
    inputs: InputSpec
    head: Head
    tile: int
    overlap: int
    fixed_tile: bool = False
    any_tile: bool = False
    resolution_m: float | None = None
    resolution_range: tuple[float, float] | None = None
    smallest_overlap: int | None = None
    trained_on: ValueStatistics | None = None
    min_area_m2: float | None = None

    @property
    def best_overlap(self) -> int:
        """What ``--overlap auto`` takes: what was measured, else what the card suggests."""
        return self.overlap if self.smallest_overlap is None else self.smallest_overlap

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """The classes without the background."""
        return self.head.classes

    @property
    def channels(self) -> tuple[int, ...]:
        """Class id of each output channel; 0 is the background."""
        return self.head.channels

    @property
    def threshold(self) -> float:
        """Probability from which a class counts."""
        return self.head.threshold

    @property
    def activation(self) -> Activation:
        """What turns the network's output into probabilities."""
        return self.head.activation

    @property
    def rule(self) -> ClassRule:
        """How probabilities become class ids, by the card's own threshold."""
        return ClassRule(self.channels, self.threshold)


def read_document(path: Path) -> CardDocument:
    """Read and check a ``model.json``.

    Raises
    ------
    InvalidModel
        If it is missing, too large, no JSON, or wrong; the message names file and field.
    """
    try:
        with path.open("rb") as file:
            text = file.read(CARD_LIMIT + 1)
    except OSError as error:
        raise InvalidModel(f"{path}: cannot be read: {error.strerror}") from error
    if len(text) > CARD_LIMIT:
        raise InvalidModel(f"{path}: larger than {CARD_LIMIT // 1000} kB: not a model card")
    return parse_document(text, str(path))


def parse_document(text: bytes | str, source: str) -> CardDocument:
    """Check the JSON text of a card; `source` names it in errors.

    Raises
    ------
    InvalidModel
        One line naming the source, the first wrong field and what is wrong.
    """
    try:
        return CardDocument.model_validate_json(text)
    except ValidationError as error:
        raise InvalidModel(f"{source}: {_explain(error)}") from error


def to_json(document: CardDocument) -> str:
    """Return the card as JSON text, as it was read or made."""
    data = json.loads(document.model_dump_json(by_alias=True, exclude_unset=True))
    return json.dumps(data, indent=2, ensure_ascii=False)


def write_document(document: CardDocument, path: Path) -> None:
    """Write the card as JSON; use `geoseg.models.bundle.save_bundle` for a whole model."""
    path.write_text(to_json(document) + "\n", encoding="utf-8")


def card_of(document: CardDocument, checksums: Mapping[str, str]) -> ModelCard:
    """Return the view of a checked card.

    Parameters
    ----------
    document : CardDocument
        The card.
    checksums : mapping of str to str
        SHA-256 of each file of weights or architecture, by file name.
    """
    properties = document.properties
    spec = _inputs(document)
    head = _head(document)
    fields = {
        "inputs": asdict(spec),
        "head": asdict(head),
        "tile": properties.tile,
        "overlap": properties.overlap,
        "resolution": properties.resolution_m,
    }
    fixed_tile = properties.inputs[0].input.shape[2] > 0
    any_tile = properties.depends_on_extent is False and not fixed_tile
    if any_tile:
        fields["any_tile"] = True
    if properties.smallest_overlap is not None:  # it fixes results, as the suggested overlap does
        fields["smallest_overlap"] = properties.smallest_overlap
    if properties.min_area_m2 is not None:
        fields["min_area_m2"] = properties.min_area_m2
    state = json.dumps([fields, sorted(checksums.items())], sort_keys=True)
    return ModelCard(
        name=properties.name,
        digest=hashlib.sha256(state.encode()).hexdigest(),
        inputs=spec,
        head=head,
        tile=properties.tile,
        overlap=properties.overlap,
        fixed_tile=fixed_tile,
        any_tile=any_tile,
        resolution_m=properties.resolution_m,
        resolution_range=properties.resolution_range,
        smallest_overlap=properties.smallest_overlap,
        trained_on=_statistics(document),
        min_area_m2=properties.min_area_m2,
    )


def make_document(
    name: str,
    inputs: InputSpec,
    head: Head,
    *,
    tile: int,
    overlap: int,
    resolution_m: float | None = None,
    fixed_tile: bool = False,
    extra: Mapping[str, object] | None = None,
) -> CardDocument:
    """Make a card from what geoseg needs to know.

    Parameters
    ----------
    name, inputs, head, tile, overlap, resolution_m, fixed_tile
        See `ModelCard`.
    extra : mapping of str to JSON
        Further properties under their JSON names, e.g. ``mlm:architecture``, ``description``,
        ``geoseg:training_data``, ``geoseg:accuracy``, ``geoseg:resolution_range_m``,
        ``geoseg:training_statistics`` (`geoseg.models.statistics.ValueStatistics.as_property`).

    Raises
    ------
    InvalidModel
        If the values make no valid card.
    """
    size = tile if fixed_tile else -1
    properties: dict[str, object] = {
        "datetime": None,
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "mlm:name": name,
        "mlm:architecture": "unknown",
        "mlm:framework": "PyTorch",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:input": [_input_json(inputs, size)],
        "mlm:output": [_output_json(head, size)],
        "bands": [{"name": band, "data_type": inputs.dtype} for band in inputs.bands],
        "geoseg:version": VERSION,
        "geoseg:activation": head.activation,
        "geoseg:threshold": head.threshold,
        "geoseg:tile": tile,
        "geoseg:overlap": overlap,
        "geoseg:resolution_m": resolution_m,
        **(extra or {}),
    }
    item: dict[str, object] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": _EXTENSIONS,
        "id": name,
        "geometry": None,
        "properties": properties,
        "assets": {},
        "links": [],
    }
    return parse_document(json.dumps(item), f"card of {name}")


def amended(document: CardDocument, properties: Mapping[str, object]) -> CardDocument:
    """Return the card with other properties, under their JSON names, checked again; None takes one out.

    Raises
    ------
    InvalidModel
        If the values make no valid card.
    """
    item = json.loads(to_json(document))
    item["properties"] |= properties
    for name in (name for name, value in properties.items() if value is None):
        del item["properties"][name]
    return parse_document(json.dumps(item), f"card of {document.properties.name}")


def class_color(class_id: int) -> tuple[int, int, int]:
    """Return a colour (red, green, blue) for a class that names none."""
    red, green, blue = bytes.fromhex(_PALETTE[(class_id - 1) % len(_PALETTE)])
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
        mean=tuple(shift for shift, _ in pairs),
        std=tuple(divisor for _, divisor in pairs),
    )


def _statistics(document: CardDocument) -> ValueStatistics | None:
    found = document.properties.training_statistics
    if found is None:
        return None
    return ValueStatistics(*found.range, found.mean, found.stddev, found.p1, found.p99, found.histograms)


def _head(document: CardDocument) -> Head:
    properties = document.properties
    output = properties.outputs[0]
    classes = tuple(
        ClassInfo(entry.value, entry.name, entry.color or class_color(entry.value))
        for entry in output.classes
        if entry.value
    )
    channels = tuple(entry.value for entry in output.classes)
    if output.result.shape[1] == 1:  # a background may be listed beside the only class
        channels = (classes[0].id,)
    return Head(classes, channels, properties.activation, properties.threshold)


def _input_json(inputs: InputSpec, size: int) -> dict[str, object]:
    scaling = [
        {"type": "z-score", "mean": mean / inputs.scale, "stddev": std / inputs.scale}
        for mean, std in zip(inputs.mean, inputs.std, strict=True)
    ]
    return {
        "name": "tile",
        "bands": inputs.bands,
        "input": {
            "shape": [-1, len(inputs.bands), size, size],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": scaling,
    }


def _output_json(head: Head, size: int) -> dict[str, object]:
    named = {info.id: info for info in head.classes}
    entries: list[dict[str, object]] = []
    for channel in head.channels:
        if channel in named:
            info = named[channel]
            entries.append({"value": channel, "name": info.name, "color_hint": bytes(info.color).hex()})
        else:
            entries.append({"value": channel, "name": "background"})
    return {
        "name": "classes",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, len(head.channels), size, size],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": entries,
    }


def _explain(error: ValidationError) -> str:
    """One printable line on the first mistake: field, what is wrong, how many more there are."""
    first, *more = error.errors(include_url=False, include_input=False)
    path = [str(part) for part in first["loc"]]
    if path and path[0] == "properties":
        path = path[1:]
    where = f"{'.'.join(path)[:200]}: " if path else ""
    rest = f" (and {len(more)} more)" if more else ""
    line = f"{where}{first['msg'].removeprefix('Value error, ')}{rest}"
    return " ".join("".join(letter if letter.isprintable() else " " for letter in line).split())
