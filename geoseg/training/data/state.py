"""In what state the files of a run's data are: a run goes on only with those that it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from geoseg import files
from geoseg.training.data.spec import ChipsSpec, DataSpec


def data_state(data: DataSpec, base: Path) -> dict[str, str]:
    """Return a digest of each file and folder that the data of a recipe names; URLs are left out.

    Of files it is `geoseg.files.fingerprint`; of folders, names, sizes and times of the files in them.

    Parameters
    ----------
    data : DataSpec
        Of a recipe.
    base : Path
        Folder that its paths are relative to.
    """
    named = [base / path for path in _named(data) if "://" not in str(path)]
    return {str(path): state for path in sorted(set(named)) if (state := _state(path))}


def _named(data: DataSpec) -> Iterator[Path | str]:
    for scene in data.scenes:
        yield from (path for path in (scene.scene, scene.labels, scene.labelled_area) if path is not None)
    for chips in data.chips:
        yield from _of_chips(chips)


def _of_chips(chips: ChipsSpec) -> Iterable[Path]:
    named = (chips.index, chips.images, chips.masks, *chips.labels.values())
    return (path for path in named if path is not None)


def _state(path: Path) -> str | None:
    try:
        if path.is_file():
            return files.fingerprint(path)
        inside = sorted(path.iterdir())
        facts = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in inside]
    except OSError:  # whoever reads it says what is wrong with it
        return None
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
