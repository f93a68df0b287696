"""What a raster of classes or probabilities says of itself, as `geoseg predict` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geoseg.raster.describe import SceneInfo
from geoseg.raster.encoding import CLASS_ITEM, CLASS_PREFIX, THRESHOLD_ITEM
from geoseg.raster.opening import opened, translating


@dataclass(frozen=True, slots=True)
class RasterFacts:
    """What a raster says about itself; all of it may be missing.

    Parameters
    ----------
    names : mapping of int to str
        Names of classes by id.
    band_ids : tuple of int
        The class id of each band of probabilities; empty where not every band has its own.
    threshold : float or None
        In (0, 1): from which probability on a pixel was taken to be of its class.
    """

    names: Mapping[int, str]
    band_ids: tuple[int, ...]
    threshold: float | None


def read_facts(scene: SceneInfo) -> RasterFacts:
    """Return what a raster's metadata says, as `geoseg predict` writes it.

    Raises
    ------
    UnreadableScene
    """
    with translating(scene.uri), opened(scene.uri, (scene.driver,)) as dataset:
        items = {str(key): str(value) for key, value in dataset.tags().items()}
        bands = [str(dataset.tags(band.index).get(CLASS_ITEM, "")) for band in scene.bands]
    return facts_of(items, bands)


def facts_of(items: Mapping[str, str], bands: Sequence[str]) -> RasterFacts:
    """Make sense of metadata that anybody may have written; what makes none is left out.

    Parameters
    ----------
    items : mapping of str to str
        Of the file.
    bands : sequence of str
        The class id of each band as text, empty where there is none.
    """
    named = {
        key.removeprefix(CLASS_PREFIX): name for key, name in items.items() if key.startswith(CLASS_PREFIX)
    }
    ids = [int(text) for text in bands if _is_number(text)]
    whole = len(ids) == len(bands) == len(set(ids)) and all(1 <= one <= 255 for one in ids)
    try:
        threshold = float(items.get(THRESHOLD_ITEM, ""))
    except ValueError:
        threshold = 0.0
    return RasterFacts(
        {int(number): name for number, name in named.items() if _is_number(number)},
        tuple(ids) if whole else (),
        threshold if 0 < threshold < 1 else None,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 3
