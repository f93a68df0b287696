"""How probabilities and classes are stored in a raster, and what such a raster says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import classify
from geoseg.raster.describe import SceneInfo
from geoseg.raster.opening import opened, translating
from geoseg.raster.pixels import Taps, resample, restore
from geoseg.values import CERTAIN, ClassRule, LayerSchema, ProbabilityBlock

Content = Literal["probability", "probability-float32", "class", "instance"]

STEPS = 250
"""Stored value of probability 1 in 8 bits; the file declares the scale 1 / `STEPS`."""

NODATA = 255
"""Stored value of "no data" in 8 bits."""

THRESHOLD_ITEM = "geoseg_threshold"
"""Metadata item of a raster output: the probability from which on a pixel is of its class."""

CLASS_PREFIX = "CLASS_"
"""Metadata items of a raster output: ``CLASS_<id>`` is the name of a class."""

CLASS_ITEM = "CLASS"
"""Metadata item of a band of probabilities: the id of its class."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """What a raster output holds."""

    content: Content
    """One band for each class: uint8 in steps of 1/250 with nodata 255, or float32 in 0 … 1 with nodata NaN.
    Or one band of class ids as uint8, 0 the background, nodata 255; or of numbers of objects as uint32, 0 the
    background, nodata the largest."""
    rule: ClassRule
    """What the channels stand for; background channels are not stored as probabilities."""

    @property
    def dtype(self) -> str:
        """Of the stored values."""
        return {"probability-float32": "float32", "instance": "uint32"}.get(self.content, "uint8")

    @property
    def nodata(self) -> float:
        """Stored where there is no value."""
        return {"float32": float("nan"), "uint32": 2**32 - 1}.get(self.dtype, NODATA)

    @property
    def scale(self) -> float:
        """Value = stored * scale."""
        return 1 / STEPS if self.content == "probability" else 1.0

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels that are stored, one band each; empty for classes, which are one band."""
        if self.content in ("class", "instance"):
            return ()
        return tuple(i for i, class_id in enumerate(self.rule.channels) if class_id != 0)

    @property
    def count(self) -> int:
        """Bands that are stored."""
        return len(self.channels) or 1

    @property
    def band_classes(self) -> tuple[int, ...]:
        """The class id of each band of probabilities; empty for classes."""
        return tuple(self.rule.channels[channel] for channel in self.channels)

    def items(self, schema: LayerSchema) -> dict[str, str]:
        """Return the metadata of the file: the schema's, the names of the classes, the threshold."""
        names = {f"{CLASS_PREFIX}{info.id}": info.name for info in schema.classes}
        return {**schema.metadata, **names, THRESHOLD_ITEM: repr(self.rule.threshold)}

    def encode(self, block: ProbabilityBlock) -> NDArray[np.generic]:
        """Return what is stored for a block, shape (count, rows, cols)."""
        if self.content == "class":
            return self.fill(classify(block.values, self.rule)[None], block.valid)
        values = block.values[[*self.channels]]
        if self.content == "probability":
            steps = (values.astype(np.uint32) * STEPS + CERTAIN // 2) // CERTAIN
            return self.fill(steps.astype(np.uint8), block.valid)
        return self.fill(values.astype(np.float32) / np.float32(CERTAIN), block.valid)

    def fill(self, stored: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.generic]:
        """Return stored values, shape (count, rows, cols), with nodata where they are not valid."""
        return np.where(valid, stored, stored.dtype.type(self.nodata))

    def valid(self, stored: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Return True where stored values are not nodata, shape (rows, cols)."""
        return np.asarray(~np.isnan(stored[0]) if self.dtype == "float32" else stored[0] != self.nodata)

    def resample(self, stored: NDArray[np.generic], rows: Taps, cols: Taps) -> NDArray[np.generic]:
        """Return stored values on another grid: means of probabilities, of classes the nearest.

        Parameters
        ----------
        stored : ndarray, shape (count, rows, cols)
            From ``rows.start, cols.start`` on.
        rows, cols : Taps
            What the output pixels are made of.
        """
        if self.content == "class":
            return stored[:, (rows.nearest - rows.start)[:, None], cols.nearest - cols.start]
        values, valid = resample(stored, self.valid(stored), rows, cols)
        return self.fill(restore(values, self.dtype), valid)


@dataclass(frozen=True, slots=True)
class RasterFacts:
    """What a raster says about itself; all of it may be missing."""

    names: Mapping[int, str]
    """Names of classes by id."""
    band_ids: tuple[int, ...]
    """The class id of each band of probabilities; empty where not every band has its own."""
    threshold: float | None
    """In (0, 1): from which probability on a pixel was taken to be of its class."""


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
