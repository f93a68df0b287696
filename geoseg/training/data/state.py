"""In what state the files of a run's data are: a run goes on only with those that it began with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from geoseg import files
from geoseg.training.data.chips import chip_rows
from geoseg.training.data.spec import DataSpec


def data_state(data: DataSpec, base: Path) -> dict[str, str]:
    """Return `geoseg.files.fingerprint` of each file of a recipe's data; URLs are left out.

    Parameters
    ----------
    data : DataSpec
        Of a recipe.
    base : Path
        Folder that its paths are relative to, and those of the result.

    Raises
    ------
    UnreadableScene, InvalidOption
        If an index of chips cannot be read.
    """
    paths = {path for path in _named(data, base) if path.is_file()}
    return {os.path.relpath(path, base): files.fingerprint(path) for path in sorted(paths)}


def _named(data: DataSpec, base: Path) -> Iterator[Path]:
    for scene in data.scenes:
        yield from (
            base / path for path in (scene.scene, scene.labels, scene.labelled_area) if path is not None
        )
    for chips in data.chips:
        yield from (base / path for path in (chips.index, *chips.labels.values()) if path is not None)
        for row in chip_rows(chips, base):
            yield from (row.image, row.mask)
