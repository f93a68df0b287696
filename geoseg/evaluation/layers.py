"""What files mean: their classes, and truth, prediction and probabilities as layers over the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.evaluation.labels import ClassTable, extend, make_table, nearest, parse_classes, to_words
from geoseg.evaluation.options import EvaluateOptions, parse_pairs
from geoseg.evaluation.rasters import (
    UNKNOWN,
    ClassMap,
    ProbabilityMap,
    on_grid,
    open_labels,
    read_facts,
)
from geoseg.evaluation.vectors import PolygonLayer, VectorFile, is_vector, read_vector, to_grid
from geoseg.values import ClassInfo, GeoBox, Window

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

DEFAULT_THRESHOLD = 0.5
"""Of probabilities of which neither the user nor their file says which threshold is meant."""

_NONE: NDArray[np.object_] = np.empty(0, dtype=object)


class Layer(Protocol):
    """Class ids over the grid."""

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return class ids and what is known, each of shape ``window.shape``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the user named.

    Parameters
    ----------
    truth, prediction : str
        Vector or raster files.
    probability : str, optional
        Raster of probabilities that belongs to a vector prediction.
    scene : str, optional
        What was predicted: its grid and its validity.
    model : str, optional
        For the record.
    classes : tuple of ClassInfo
        Of the model, where it is known.
    threshold : float, optional
        From which probability on a pixel is of its class; where it is known or given.
    failed_tiles : int
        Tiles that the model could not be given.
    """

    truth: str
    prediction: str
    probability: str | None = None
    scene: str | None = None
    model: str | None = None
    classes: tuple[ClassInfo, ...] = ()
    threshold: float | None = None
    failed_tiles: int = 0


def open_source(path: str, layer: str | None, columns: tuple[str, ...]) -> VectorFile | SceneInfo:
    """Read a vector file, or look at a raster.

    Raises
    ------
    InvalidOption, UnreadableScene
    """
    if is_vector(path):
        return read_vector(path, layer=layer, columns=columns)
    if layer is not None:
        raise InvalidOption(f"{path}: is a raster, which has no layer {layer!r}")
    return open_labels(path)


def settle_classes(
    sources: Sources,
    options: EvaluateOptions,
    prediction: VectorFile | SceneInfo,
    truth: VectorFile | SceneInfo,
) -> tuple[list[str] | None, ClassTable, list[str]]:
    """Return the truth's attribute values, the classes, and notes.

    The classes are those of the model, of ``--classes``, or those that the prediction names; a
    vector truth adds its own unless ``--classes`` says that there are no others.

    Raises
    ------
    InvalidOption
    """
    names = {info.id: info.name for info in sources.classes}
    names = names or parse_classes(parse_pairs(options.classes, "--classes")) or _named_by(prediction)
    pairs = parse_pairs(options.truth_values, "--truth-values")
    words, notes = attribute_words(truth, options), []
    if words is not None and options.classes is None:
        before = bool(names)
        names, added = extend(names, words, pairs)
        if before and added:
            notes.append(f"classes that only the truth has: {', '.join(added)}")
    names = names or {1: "object"}
    return words, make_table(names, sources.classes), notes


def _named_by(prediction: VectorFile | SceneInfo) -> dict[int, str]:
    """Return the classes that a prediction names: geoseg's columns, or its raster metadata."""
    if isinstance(prediction, VectorFile):
        ids, names = prediction.columns.get("class"), prediction.columns.get("class_name")
        if ids is None and names is None:
            return {}
        if ids is None or names is None:
            words = to_words(prediction.columns["class" if names is None else "class_name"])
            return extend({}, words, ())[0]
        pairs = dict(zip(to_words(ids), to_words(names), strict=True))
        if all(number.isdecimal() for number in pairs):
            return {int(number): name for number, name in pairs.items()}
        return extend({}, list(pairs), ())[0]
    facts = read_facts(prediction)
    if not _holds_probabilities(prediction):
        return dict(facts.names)
    numbers = facts.band_ids or tuple(range(1, len(prediction.bands) + 1))
    return {
        number: band.description or facts.names.get(number, f"class {number}")
        for number, band in zip(numbers, prediction.bands, strict=True)
    }


def attribute_words(truth: VectorFile | SceneInfo, options: EvaluateOptions) -> list[str] | None:
    """Return what the truth's class attribute says of each polygon; None where no attribute is named.

    Raises
    ------
    InvalidOption
        If the truth has none of that name.
    """
    name = options.class_attribute
    if name is None:
        return None
    if not isinstance(truth, VectorFile):
        raise InvalidOption(f"{truth.name}: is a raster, which has no --class-attribute {name}")
    if name not in truth.columns:
        raise InvalidOption(f"{truth.name}: has no column {name!r}; {nearest(name, truth.available)}")
    return to_words(truth.columns[name])


def truth_layer(
    truth: VectorFile | SceneInfo,
    words: list[str] | None,
    table: ClassTable,
    grid: GeoBox,
    options: EvaluateOptions,
    notes: list[str],
) -> Layer:
    """Return the truth over the grid; what a reader should know is added to `notes`.

    Raises
    ------
    InvalidOption
        If classes are missing or nothing of it lies on the grid.
    """
    pairs = parse_pairs(options.truth_values, "--truth-values")
    if not isinstance(truth, VectorFile):
        if options.ignore_layer is not None:
            raise InvalidOption(f"{truth.name}: is a raster, which has no --ignore-layer")
        advice = f"classes are {table.text}; say what it means: --truth-values VALUE=CLASS (or ignore)"
        meanings = table.of_numbers(pairs, "--truth-values")
        notes += _nodata_note(truth)
        return ClassMap(on_grid(truth, grid, truth.name), grid, truth.name, meanings, advice)
    if words is None and len(table.ids) > 1:
        raise InvalidOption(
            f"{truth.name}: which column holds the class ({table.text})? Name it with --class-attribute"
        )
    notes += _condition(truth)
    labels = np.full(len(truth.polygons), table.ids[0], np.int16)
    if words is not None:
        labels = table.of_words(words, pairs, truth.name)
    placed, kept = to_grid(truth, grid)
    if not len(placed) and options.labelled_area is None:
        raise InvalidOption(
            f"{truth.name}: {_absence(truth)}; if that is the truth, give the --labelled-area where it holds"
        )
    labels = labels[kept]
    ignored = placed[labels == UNKNOWN]
    if options.ignore_layer is not None:
        more, _ = to_grid(read_vector(truth.name, layer=options.ignore_layer), grid)
        ignored = np.concatenate([ignored, more])
    real = labels > 0
    return PolygonLayer(placed[real], labels[real].astype(np.uint8), ignored)


def prediction_layer(
    prediction: VectorFile | SceneInfo,
    table: ClassTable,
    grid: GeoBox,
    sources: Sources,
    options: EvaluateOptions,
    notes: list[str],
) -> Layer:
    """Return the prediction over the grid; what a reader should know is added to `notes`.

    Raises
    ------
    InvalidOption
        As `truth_layer`.
    """
    pairs = parse_pairs(options.prediction_values, "--prediction-values")
    if not isinstance(prediction, VectorFile):
        if _holds_probabilities(prediction):
            found = _probability_map(prediction, sources.prediction, table, grid, sources.threshold)
            if sources.threshold is None:
                notes.append(
                    f"{found.name}: classes begin at a probability of {found.threshold:g} (--threshold)"
                )
            return found
        advice = f"classes are {table.text}; say what it means: --prediction-values VALUE=CLASS (or ignore)"
        meanings = table.of_numbers(pairs, "--prediction-values")
        notes += _nodata_note(prediction)
        return ClassMap(on_grid(prediction, grid, prediction.name), grid, prediction.name, meanings, advice)
    if pairs:
        raise InvalidOption(f"--prediction-values is for a class map, and {prediction.name} is none")
    if sources.threshold is not None and sources.probability is None:
        raise InvalidOption(f"--threshold is for probabilities, and {prediction.name} holds polygons")
    notes += _condition(prediction)
    labels = _prediction_labels(prediction, table)
    placed, kept = to_grid(prediction, grid)
    if not len(prediction.polygons):
        notes.append(f"{prediction.name}: holds no polygons, so nothing is found")
    elif not len(placed):
        raise InvalidOption(f"{prediction.name}: {_absence(prediction)}; is it of another scene?")
    return PolygonLayer(placed, labels[kept], _NONE)


def _prediction_labels(prediction: VectorFile, table: ClassTable) -> NDArray[np.uint8]:
    """Return class ids from the columns that geoseg writes, else the only class there is."""
    for column in ("class", "class_name"):
        if column in prediction.columns:
            words = to_words(prediction.columns[column])
            found = {word: table.find(word) for word in dict.fromkeys(words)}
            strange = [word for word, class_id in found.items() if not class_id or class_id < 0]
            if strange:
                raise InvalidOption(
                    f"{prediction.name}: {column} {strange[0]} is no class; there are {table.text}"
                )
            return np.array([found[word] for word in words], np.uint8)
    if len(table.ids) > 1 and len(prediction.polygons):
        raise InvalidOption(f"{prediction.name}: has no column 'class' that tells {table.text} apart")
    return np.full(len(prediction.polygons), table.ids[0], np.uint8)


def probabilities(
    sources: Sources, prediction: VectorFile | SceneInfo, table: ClassTable, grid: GeoBox
) -> ProbabilityMap | None:
    """Return the probabilities over the grid, if there are any.

    Raises
    ------
    InvalidOption
        If the raster named for them holds something else.
    """
    if sources.probability is not None:
        raster = open_labels(sources.probability)
        if not _holds_probabilities(raster):
            raise InvalidOption(f"{sources.probability}: is a class map, which holds no probabilities")
        return _probability_map(raster, sources.probability, table, grid, sources.threshold)
    if not isinstance(prediction, VectorFile) and _holds_probabilities(prediction):
        return _probability_map(prediction, sources.prediction, table, grid, sources.threshold)
    return None


def _probability_map(
    raster: SceneInfo, name: str, table: ClassTable, grid: GeoBox, threshold: float | None
) -> ProbabilityMap:
    """Assign bands to classes: by the id in the band's metadata, by the band's name, else in order."""
    if len(raster.bands) > len(table.ids):
        raise InvalidOption(
            f"{name}: has {len(raster.bands)} bands for {len(table.ids)} classes ({table.text})"
        )
    facts = read_facts(raster)
    by_name = [table.find(band.description) if band.description else None for band in raster.bands]
    named = tuple(found for found in by_name if found is not None and found > 0)
    ids = table.ids[: len(raster.bands)]
    for known in (named, facts.band_ids):
        if len(set(known)) == len(raster.bands) and set(known) <= set(table.ids):
            ids = known
    given = (value for value in (threshold, facts.threshold) if value is not None)
    chosen = next(given, DEFAULT_THRESHOLD)
    return ProbabilityMap(on_grid(raster, grid, name), grid, name, ids, chosen)


def _holds_probabilities(raster: SceneInfo) -> bool:
    return all(band.read_dtype.startswith("float") for band in raster.bands)


def _nodata_note(raster: SceneInfo) -> list[str]:
    if raster.bands[0].nodata != 0:
        return []
    return [
        f"{raster.name}: says that 0 is nodata, so nothing is known there; where it means background, "
        f"take that away: gdal_edit.py -unsetnodata {raster.name}"
    ]


def _condition(file: VectorFile) -> list[str]:
    notes = []
    if file.repaired:
        notes.append(f"{file.name}: {file.repaired} polygons were not valid and have been repaired")
    if file.dropped:
        notes.append(f"{file.name}: {file.dropped} features without an area were left out")
    return notes


def _absence(file: VectorFile) -> str:
    count = len(file.polygons)
    return f"none of its {count:,} polygons lies where it is compared" if count else "holds no polygons"
