"""What files mean: their classes, and truth, prediction and probabilities as layers over the grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.evaluation import EvaluateOptions
from geoseg.labels.classes import UNKNOWN, ClassTable, Ids, text_of
from geoseg.labels.footprints import burn
from geoseg.labels.masks import (
    Mask,
    ProbabilityMap,
    check_placeable,
    holds_probabilities,
    open_labels,
    open_mask,
    probability_map,
)
from geoseg.labels.places import box_of
from geoseg.labels.polygons import Polygons, is_vector, read_polygons
from geoseg.options import parse_classes, parse_pairs
from geoseg.raster.encoding import read_facts
from geoseg.values import ClassInfo, GeoBox, Window

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

Labels = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Class ids, 0 for the background, and what is known."""


class Layer(Protocol):
    """Class ids over the grid."""

    def read(self, window: Window) -> Labels:
        """Return class ids and what is known, each of shape ``window.shape``."""


@dataclass(frozen=True, eq=False, slots=True)
class ClassMap:
    """A raster of class ids over the grid: the pixel under each pixel's centre."""

    mask: Mask
    grid: GeoBox

    def read(self, window: Window) -> Labels:
        """Return class ids and what is known, each of shape ``window.shape``.

        Raises
        ------
        InvalidOption
            If the raster holds a value without a meaning.
        UnreadableScene
        """
        found = self.mask.over(self.grid, box_of(window), window.shape)
        return np.where(found > 0, found, 0).astype(np.uint8), found != UNKNOWN


@dataclass(frozen=True, eq=False, slots=True)
class PolygonLayer:
    """Polygons with classes over the grid."""

    polygons: NDArray[np.object_]
    """Polygon, shape (n,). Valid, in pixel coordinates (col, row) of the grid; whole, also where they reach
    beyond it."""
    labels: NDArray[np.uint8]
    """uint8, shape (n,). Class ids. Of polygons that overlap, the later one has the pixel."""
    ignored: NDArray[np.object_]
    """Polygon, shape (m,). Inside these nothing is known."""
    scores: NDArray[np.float64] | None = None
    """float64, shape (n,), or None. How sure a prediction is of each polygon; None: it does not say."""
    _trees: tuple[shapely.STRtree, shapely.STRtree] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        trees = shapely.STRtree(self.polygons), shapely.STRtree(self.ignored)
        object.__setattr__(self, "_trees", trees)

    def read(self, window: Window) -> Labels:
        """Return class ids and what is known, by pixel centres, each of shape ``window.shape``."""
        box = box_of(window)
        chosen, hiding = (np.sort(tree.query(shapely.box(*box))) for tree in self._trees)
        ids, hidden = np.zeros(window.shape, np.uint8), np.zeros(window.shape, np.uint8)
        burn(self.polygons[chosen], self.labels[chosen], box, ids)
        burn(self.ignored[hiding], np.ones(len(hiding), np.uint8), box, hidden)
        return ids, hidden == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the user named."""

    truth: str
    prediction: str
    """`truth`, `prediction`: Vector or raster files."""
    probability: str | None = None
    """Raster of probabilities that belongs to a vector prediction."""
    scene: str | None = None
    """What was predicted: its grid and its validity."""
    model: str | None = None
    """For the record."""
    classes: tuple[ClassInfo, ...] = ()
    """Of the model, where it is known."""
    threshold: float | None = None
    """From which probability on a pixel is of its class; where it is known or given."""
    failed_tiles: int = 0
    """Tiles that the model could not be given."""


def open_source(
    path: str, option: str, layer: str | None, columns: tuple[str, ...], without: str | None = None
) -> Polygons | SceneInfo:
    """Read a vector file (see `read_polygons`), or look at a raster.

    Raises
    ------
    InvalidOption, UnreadableScene
    """
    if is_vector(path):
        return read_polygons(path, layer=layer, option=option, columns=columns, without=without)
    if layer is not None:
        raise InvalidOption(f"{path}: is a raster, which has no layers; leave out {option} {layer}")
    return open_labels(path)


def find_classes(
    sources: Sources, options: EvaluateOptions, prediction: Polygons | SceneInfo, truth: Polygons | SceneInfo
) -> tuple[ClassTable, list[str]]:
    """Return the classes, and notes.

    They are those of the model, of ``--classes``, or those that the prediction names; a vector truth
    adds its own unless ``--classes`` says that there are no others.

    Raises
    ------
    InvalidOption
        If the truth has no such attribute, or an id of a class is not in 1 … 255.
    """
    names = {info.id: info.name for info in sources.classes}
    names = names or parse_classes(options.classes) or _named_by(prediction)
    table, notes = ClassTable.named(names, sources.classes), []
    if options.class_attribute is not None:
        if not isinstance(truth, Polygons):
            raise InvalidOption(
                f"{truth.name}: is a raster, which has no attributes; leave out --class-attribute"
            )
        values = truth.values(options.class_attribute)
        if options.classes is None:
            table, added = table.extended(values, parse_pairs(options.truth_values, "--truth-values"))
            if names and added:
                notes.append(f"classes that only the truth has: {', '.join(added)}")
    return (table if table.classes else ClassTable.named({1: "object"})), notes


def _named_by(prediction: Polygons | SceneInfo) -> dict[int, str]:
    """Return the classes that a prediction names: geoseg's columns, or its raster metadata."""
    if isinstance(prediction, Polygons):
        ids, names = (prediction.columns.get(column) for column in ("class", "class_name"))
        if ids is not None and names is not None:
            pairs = {text_of(number): text_of(name) for number, name in zip(ids, names, strict=True)}
            if all(number.isdecimal() for number in pairs):
                return {int(number): name for number, name in pairs.items()}
        values = names if ids is None else ids
        table, _ = ClassTable(()).extended([] if values is None else values)
        return {info.id: info.name for info in table.classes}
    facts = read_facts(prediction)
    if not holds_probabilities(prediction):
        return dict(facts.names)
    numbers = facts.band_ids or tuple(range(1, len(prediction.bands) + 1))
    return {
        number: band.description or facts.names.get(number, f"class {number}")
        for number, band in zip(numbers, prediction.bands, strict=True)
    }


def truth_layer(
    truth: Polygons | SceneInfo,
    path: str,
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
    if not isinstance(truth, Polygons):
        if options.ignore_layer is not None:
            raise InvalidOption(f"{truth.name}: is a raster, which has no layers; leave out --ignore-layer")
        mask = open_mask(path, table, pairs or None, "--truth-values")
        return _class_map(mask, truth, grid, "--truth-values", notes)
    notes += truth.notes
    labels = truth.class_ids(
        table,
        options.class_attribute,
        "--class-attribute",
        table.meanings(pairs, "--truth-values"),
        "--truth-values",
    )
    placed, index = on_grid(truth, grid)
    if not len(placed) and options.labelled_area is None:
        advice = "; if that is the truth, give the --labelled-area where it holds"
        raise _absent(truth, grid, advice)
    labels = labels[index]
    ignored = placed[labels == UNKNOWN]
    if options.ignore_layer is not None:
        more, _ = on_grid(read_polygons(truth.name, layer=options.ignore_layer), grid)
        ignored = np.concatenate([ignored, more])
    real = labels > 0
    return PolygonLayer(placed[real], labels[real].astype(np.uint8), ignored)


def prediction_layer(
    prediction: Polygons | SceneInfo,
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
    if not isinstance(prediction, Polygons):
        if holds_probabilities(prediction):
            found = probability_map(prediction, sources.prediction, table, grid, sources.threshold)
            if sources.threshold is None:
                notes.append(
                    f"{found.name}: classes begin at a probability of {found.threshold:g} (--threshold)"
                )
            return found
        mask = open_mask(sources.prediction, table, pairs, "--prediction-values")
        return _class_map(mask, prediction, grid, "--prediction-values", notes)
    if pairs:
        raise InvalidOption(f"{prediction.name}: is no class map; leave out --prediction-values")
    if sources.threshold is not None and sources.probability is None:
        raise InvalidOption(
            f"{prediction.name}: holds polygons, and a threshold is for probabilities; leave out --threshold"
        )
    notes += prediction.notes
    labels = _prediction_labels(prediction, table)
    placed, index = on_grid(prediction, grid)
    if not len(prediction.parts):
        notes.append(f"{prediction.name}: holds no polygons, so nothing is found")
    elif not len(placed):
        raise _absent(prediction, grid, "; is it of another scene?")
    scores = _scores(prediction)
    scores = None if scores is None else scores[index]
    return PolygonLayer(placed, labels[index].astype(np.uint8), np.empty(0, object), scores)


def _scores(prediction: Polygons) -> NDArray[np.float64] | None:
    """Return how sure a prediction is of each polygon; None where it does not say of all."""
    try:
        scores = np.asarray(prediction.columns.get("confidence"), np.float64)
    except (TypeError, ValueError):  # text, or no value
        return None
    return scores if scores.ndim and np.isfinite(scores).all() else None


def _prediction_labels(prediction: Polygons, table: ClassTable) -> Ids:
    """Return class ids from the columns that geoseg writes, else the only class there is."""
    plain = {str(class_id): class_id for class_id in table.ids}
    for column, given in (("class", plain), ("class_name", {})):
        if column in prediction.columns:
            found = table.look_up(prediction.columns[column], f"{prediction.name}: {column}", given)
            if len(found) and found.min() < 1:
                raise InvalidOption(f"{prediction.name}: {column} is background or unknown in places")
            return found
    if not len(prediction.parts):
        return np.empty(0, np.int16)
    return prediction.class_ids(table, None, "an attribute 'class'")


def _class_map(mask: Mask, raster: SceneInfo, grid: GeoBox, option: str, notes: list[str]) -> ClassMap:
    check_placeable(mask.geobox, grid, raster.name, "what it is compared with")
    if mask.scene.bands[0].nodata == 0:
        notes.append(
            f"{raster.name}: says that 0 is nodata, so nothing is known there; where it means background, "
            f"say so: {option} 0=background"
        )
    return ClassMap(mask, grid)


def on_grid(file: Polygons, grid: GeoBox) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return the polygons that share area with the grid, in its pixels, and which each is part of.

    Raises
    ------
    InvalidOption
        As `Polygons.placed`.
    """
    placed, index = file.placed(grid)
    frame = shapely.box(0, 0, grid.width, grid.height)
    kept = shapely.intersects(placed, frame) & ~shapely.touches(placed, frame)
    return placed[kept], index[kept]


def _absent(file: Polygons, grid: GeoBox, advice: str) -> InvalidOption:
    if not len(file.parts):
        return InvalidOption(f"{file.name}: holds no polygons{advice}")
    if grid.crs is not None:
        file.check_overlap(grid, "what it is compared with", advice)
    return InvalidOption(
        f"{file.name}: none of its {len(file.parts):,} polygons lies where it is compared{advice}"
    )


def probabilities(
    sources: Sources, prediction: Polygons | SceneInfo, table: ClassTable, grid: GeoBox
) -> ProbabilityMap | None:
    """Return the probabilities over the grid, if there are any.

    Raises
    ------
    InvalidOption
        If the raster named for them holds something else.
    """
    if sources.probability is not None:
        raster = open_labels(sources.probability)
        if not holds_probabilities(raster):
            raise InvalidOption(f"{sources.probability}: is a class map, which holds no probabilities")
        return probability_map(raster, sources.probability, table, grid, sources.threshold)
    if not isinstance(prediction, Polygons) and holds_probabilities(prediction):
        return probability_map(prediction, sources.prediction, table, grid, sources.threshold)
    return None
