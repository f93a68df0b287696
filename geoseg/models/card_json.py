"""A model's card as JSON, ``model.json``: read, checked, made, amended, written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from geoseg.errors import InvalidModel
from geoseg.models.card import Head
from geoseg.models.document import MLM_SCHEMA, VERSION, CardDocument
from geoseg.models.inputs import InputSpec

CARD_LIMIT = 1_000_000
"""Largest card in bytes."""

_EXTENSIONS = (
    MLM_SCHEMA,
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)


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
        ``geoseg:training_statistics`` (`TrainingStatistics.as_property`).

    Raises
    ------
    InvalidModel
        If the values make no valid card.
    """
    size = tile if fixed_tile else -1
    task = "instance-segmentation" if "geoseg:instances" in (extra or {}) else "semantic-segmentation"
    properties: dict[str, object] = {
        "datetime": None,
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "mlm:name": name,
        "mlm:architecture": "unknown",
        "mlm:framework": "PyTorch",
        "mlm:tasks": [task],
        "mlm:input": [_input_json(inputs, size)],
        "mlm:output": [_output_json(head, size, task)],
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


def _output_json(head: Head, size: int, task: str) -> dict[str, object]:
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
        "tasks": [task],
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
