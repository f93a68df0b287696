"""Changing the card of a model of one's own: what was measured later."""

from __future__ import annotations

from collections.abc import Mapping

from geoseg import files
from geoseg.errors import InvalidOption
from geoseg.models.bundle import CARD, Bundle, builtin_models, find_model
from geoseg.models.card_json import amended, write_document


def find_own_model(name_or_path: str) -> Bundle:
    """Find a model whose card may be changed: the user's own folder.

    Raises
    ------
    InvalidModel
        As `find_model`.
    InvalidOption
        If it ships with geoseg, or has no card.
    """
    bundle = find_model(name_or_path)
    if name_or_path in builtin_models():
        raise InvalidOption(
            f"--write: {name_or_path} ships with geoseg and is not changed; copy its folder {bundle.path} "
            "and give the copy"
        )
    if not bundle.path.is_dir():
        raise InvalidOption(f"--write: {bundle.path} has no card; put it into a folder with a model.json")
    return bundle


def amend(bundle: Bundle, properties: Mapping[str, object]) -> None:
    """Write a model folder's card anew with other properties, see `geoseg.models.card_json.amended`.

    Raises
    ------
    InvalidModel
        If the values make no valid card.
    UnwritableOutput
        If the folder cannot be written.
    """
    document = amended(bundle.document, properties)
    with files.replacing(bundle.path / CARD) as path:
        write_document(document, path)
