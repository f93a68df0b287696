"""A raster of classes or probabilities of any tool: what it holds, read and traced block by block."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from geoseg.errors import InvalidOption
from geoseg.grid import Axis, BlockIndex, TileGrid
from geoseg.labels.classes import ClassTable
from geoseg.models.card import class_color
from geoseg.models.document import GATE
from geoseg.options import Metavar, Options, parse_classes, parse_pairs
from geoseg.prediction.options import AUTO, Auto, Count, Finite, Share, Size, layer_crs_text, parse_memory
from geoseg.prediction.view import NOISE_PIXELS, SMALLEST_PART
from geoseg.raster.describe import SceneInfo
from geoseg.raster.encoding import RasterFacts, read_facts
from geoseg.raster.scene import read_patch
from geoseg.values import CERTAIN, ClassInfo, ClassRule, Patch, ProbabilityBlock, Window
from geoseg.vector.features import INSTANCE
from geoseg.vector.islands import IslandRule, sieve
from geoseg.vector.pieces import Pieces
from geoseg.vector.split import SplitRule, find_cuts
from geoseg.vector.trace import trace

DEFAULT_MEMORY = 2 * 10**9
"""The default of --max-memory, in bytes."""

SCAN_SIDE = 1024
"""Side in pixels of what is read at a time to find out which ids there are."""


class VectorizeOptions(Options):
    """How a raster becomes polygons.

    Raises
    ------
    InvalidOption
        One line on the first that is wrong.
    """

    content: Literal["auto", "class", "probability"] = "auto"
    """What the raster holds: class ids, or probabilities, a band a class; auto: whole numbers without a scale
    are class ids."""

    band: Annotated[Count | None, Metavar("N")] = None
    """Band to take, counted from 1; unless given the first of class ids, all of probabilities."""

    scale: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | Auto, Metavar("FACTOR")] = AUTO
    """What stored values are multiplied by to be probabilities; auto: the file's own scale, else 1/255 for
    bytes and 1 for others."""

    nodata: Annotated[Finite | None, Metavar("VALUE")] = None
    """Stored value that says nothing, besides the file's own (0 in a class map is the background)."""

    classes: Annotated[str | None, Metavar("1=house,2=road…")] = None
    """Ids and names of the classes, where the file does not tell them (of probabilities in the order of the
    bands); others are left out."""

    colors: Annotated[str | None, Metavar("1=e4572e,…")] = None
    """Their colours, where the file has none."""

    threshold: Annotated[Share | Auto, Metavar("0…1")] = AUTO
    """Probability from which a pixel is an object; auto: what the file says, else 0.5."""

    split: Literal["touching", "none"] = "none"
    """Whether objects that touch become polygons of their own, where the probability falls between them; none
    unless given, and class ids have no probabilities."""

    outline: Literal["auto", "smooth", "pixel"] = "auto"
    """Outlines at sub-pixel accuracy, or exact pixel edges; auto: smooth for probabilities."""

    simplify: Annotated[Size | Auto, Metavar("M")] = AUTO
    """Tolerance of simplification in metres; auto: half a pixel of smooth outlines, else 0."""

    min_area: Annotated[Size, Metavar("M2")] = 0.0
    """Leave out polygons smaller than this, in m²."""

    regularize: bool = False
    """Straight walls, right angles and circles, within --max-deviation."""

    max_deviation: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | Auto, Metavar("M")] = AUTO
    """How far traced vertices may lie from the walls of --regularize, in metres (a new corner up
    to a pixel further from the traced outline); auto: a pixel."""

    min_hole: Annotated[Size | Auto, Metavar("M2")] = AUTO
    """Close holes smaller than this, in m²; auto: a quarter of --min-area."""

    crs: Annotated[str | None, BeforeValidator(layer_crs_text), Metavar("CRS")] = None
    """CRS of the polygons; the raster's own unless given."""

    max_memory: Annotated[Count, BeforeValidator(parse_memory), Metavar("SIZE")] = DEFAULT_MEMORY
    """Most memory that the run may take, such as 1GB."""

    overwrite: bool = False
    """Replace an output that exists."""


@dataclass(frozen=True, eq=False, slots=True)
class ClassRaster:
    """A raster, and how its values are probabilities of classes."""

    scene: SceneInfo
    bands: tuple[int, ...]
    nodata: float | None
    """Value that says nothing, besides what the scene knows of."""
    scale: float | None
    """None: the values are class ids."""
    classes: tuple[ClassInfo, ...]
    rule: ClassRule
    """Of the probabilities; of class ids all classes."""
    outline: Literal["smooth", "pixel"]
    split: SplitRule | None = None
    """When parts of an object are objects."""

    def block(self, tiles: TileGrid, index: BlockIndex) -> tuple[ProbabilityBlock, ClassRule] | None:
        """Read what tracing a block needs; None where there is nothing to trace."""
        window = tiles.field(index)
        read = _read_ids if self.scale is None else _read
        patch = read(self.scene, window, self.bands, self.nodata)
        if not patch.valid.any():
            return None
        if self.scale is not None:
            values = _probabilities(patch.pixels, patch.valid, self.scale, self.scene.name)
            return ProbabilityBlock(window, values, patch.valid), self.rule
        ids = patch.pixels[0]
        channels = self.rule.channels
        if self.outline == "pixel":  # smooth outlines need the same classes on both sides of a seam
            channels = tuple(one for one in channels if (ids == one).any())
            if not channels:
                return None
        values = np.empty((len(channels), *ids.shape), np.uint16)
        for channel, number in zip(values, channels, strict=True):
            np.multiply((ids == number) & patch.valid, np.uint16(CERTAIN), out=channel)
        return ProbabilityBlock(window, values, patch.valid), ClassRule(channels, 0.5)

    def trace(self, tiles: TileGrid, index: BlockIndex, islands: IslandRule | None) -> Pieces:
        """Trace a block, without small islands."""
        found = self.block(tiles, index)
        if found is None:
            return Pieces((), ())
        block, rule, region = *found, tiles.region(index)
        cuts = None if self.split is None else find_cuts(block, region, tiles, rule, self.split)
        if islands is not None:
            block = sieve(block, tiles.window.shape, rule, islands, tiles.margin)
        return trace(block, region, tiles.window.shape, rule, self.outline, cuts)


def inspect_raster(
    scene: SceneInfo, options: VectorizeOptions, on_step: Callable[[float], None]
) -> ClassRaster:
    """Find out what a raster holds; class ids without names are looked for in all of it.

    Parameters
    ----------
    on_step : callable
        Called with the share that is done.

    Raises
    ------
    InvalidOption
        If the options do not fit what is there.
    """
    facts = read_facts(scene)
    known = {band.index: band for band in scene.bands}
    if options.band is not None and options.band not in known:
        raise InvalidOption(f"--band {options.band}: {scene.name} has bands 1 to {len(known)}")
    first = known[options.band or min(known)]
    plain = np.dtype(first.read_dtype).kind in "iu"
    is_class = options.content == "class" or (options.content == "auto" and plain and options.scale == AUTO)
    bands = (first.index,) if is_class or options.band is not None else tuple(known)
    if first.nodata == 0 and (is_class or options.nodata is not None):
        scene = _without_nodata(scene)
    nodata = None if options.nodata is None else options.nodata * first.scale + first.offset
    named = parse_classes(options.classes)
    names = dict(facts.names) | named
    outline: Any = options.outline if options.outline != "auto" else "pixel" if is_class else "smooth"
    if is_class:
        if first.description == INSTANCE:
            raise InvalidOption(
                f"{scene.name}: its values number objects and are no classes; geoseg labels import makes "
                "polygons of them"
            )
        _check_class_options(options, scene.name)
        if len(known) > 2 and options.band is None and first.color == "red":
            raise InvalidOption(
                f"{scene.name}: is a picture, no class map; give --band 1 if it holds class ids"
            )
        ids = tuple(sorted(named or facts.names)) or _ids_in(scene, bands, nodata, on_step)
        classes = _classes(ids, names, scene, options)
        return ClassRaster(scene, bands, nodata, None, classes, ClassRule(ids or (1,), 0.5), outline)
    ids = _ids_of_bands(facts, named, tuple(known), bands)
    if not set(named or ids) <= set(ids):
        raise InvalidOption(
            f"--classes {options.classes}: {scene.name} holds probabilities, a band a class, of "
            f"{', '.join(map(str, ids))}"
        )
    channels = tuple(one if one in (named or ids) else 0 for one in ids)
    scale = (1 / 255 if plain and first.dtype == "uint8" else 1.0) if options.scale == AUTO else options.scale
    threshold = (facts.threshold or 0.5) if options.threshold == AUTO else options.threshold
    classes = _classes(tuple(filter(None, channels)), names, scene, options)
    part = SplitRule(GATE, SMALLEST_PART * NOISE_PIXELS) if options.split == "touching" else None
    return ClassRaster(scene, bands, nodata, scale, classes, ClassRule(channels, threshold), outline, part)


def _check_class_options(options: VectorizeOptions, name: str) -> None:
    """Refuse options of probabilities, which class ids have none of."""
    for option, value in (("--threshold", options.threshold), ("--scale", options.scale)):
        if value != AUTO:
            raise InvalidOption(f"{option} {value:g}: {name} holds class ids; give --content probability")
    if options.split != "none":
        raise InvalidOption(f"--split {options.split}: {name} holds class ids, no probabilities")


def _ids_of_bands(
    facts: RasterFacts, named: Mapping[int, str], known: tuple[int, ...], bands: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the class ids of bands: what the file says, else the option, else the first ones."""
    if facts.band_ids:
        return tuple(facts.band_ids[known.index(one)] for one in bands)
    return tuple(sorted(named)) if len(named) == len(bands) else tuple(range(1, len(bands) + 1))


def _without_nodata(scene: SceneInfo) -> SceneInfo:
    """Return the scene without its nodata values."""
    return dataclasses.replace(
        scene, bands=tuple(dataclasses.replace(band, nodata=None) for band in scene.bands)
    )


def _read(scene: SceneInfo, window: Window, bands: tuple[int, ...], nodata: float | None) -> Patch:
    """Read bands; pixels where all hold what the user calls nodata are invalid."""
    patch = read_patch(scene, window, scene.geobox, bands)
    if nodata is None:
        return patch
    absent = (patch.pixels == np.asarray(nodata, patch.pixels.dtype)).all(axis=0)
    return Patch(patch.pixels, patch.valid & ~absent)


def _read_ids(scene: SceneInfo, window: Window, bands: tuple[int, ...], nodata: float | None) -> Patch:
    """Read class ids, which some tools store as fractional numbers.

    Raises
    ------
    InvalidOption
        If a value is not whole.
    """
    patch = _read(scene, window, bands, nodata)
    if patch.pixels.dtype.kind == "f":
        values: NDArray[np.floating[Any]] = patch.pixels[:, patch.valid].astype(np.float64, copy=False)
        broken = values[values != np.round(values)]
        if broken.size:
            raise InvalidOption(
                f"{scene.name}: holds {broken[0]:g}, and class ids are whole numbers; "
                "give --content probability"
            )
    return patch


def _ids_in(
    scene: SceneInfo, bands: tuple[int, ...], nodata: float | None, on_step: Callable[[float], None]
) -> tuple[int, ...]:
    """Read a class map and return the ids in it."""
    height, width = scene.geobox.shape
    tiles = TileGrid(Axis(height, SCAN_SIDE, 0), Axis(width, SCAN_SIDE, 0), 1)
    found, count = np.zeros(256, bool), math.prod(tiles.block_shape)
    for number, index in enumerate(tiles.blocks(), 1):
        patch = _read_ids(scene, tiles.core(index), bands, nodata)
        ids = patch.pixels[0][patch.valid]
        if ids.size and (ids.min() < 0 or ids.max() > 255):
            worst = ids.min() if ids.min() < 0 else ids.max()
            raise InvalidOption(
                f"{scene.name}: holds the value {worst}, and class ids are 1 … 255; name those that are "
                "wanted with --classes, or say that it holds --content probability"
            )
        found |= np.bincount(ids.astype(np.uint8), minlength=256) > 0
        on_step(number / count)
    return tuple(np.flatnonzero(found[1:]) + 1)


def _classes(
    ids: tuple[int, ...], names: dict[int, str], scene: SceneInfo, options: VectorizeOptions
) -> tuple[ClassInfo, ...]:
    """Return the classes with names and colours."""
    table = ClassTable.named({one: names.get(one, f"class {one}") for one in map(int, ids)} or {1: "class 1"})
    chosen = {}
    for number, text in parse_pairs(options.colors, "--colors").items():
        try:
            red, green, blue = bytes.fromhex(text.removeprefix("#"))
            chosen[int(number)] = (red, green, blue)
        except ValueError:
            raise InvalidOption(f"--colors takes pairs such as 1=e4572e, not {number}={text}") from None
    return tuple(
        dataclasses.replace(info, color=chosen.get(info.id, class_color(info.id))) for info in table.classes
    )


def _probabilities(
    pixels: NDArray[np.generic], valid: NDArray[np.bool_], scale: float, name: str
) -> NDArray[np.uint16]:
    """Return stored values as probabilities on the integer scale.

    Raises
    ------
    InvalidOption
        If a value is none.
    """
    values = np.where(valid, pixels, 0).astype(np.float32) * np.float32(scale)
    if values.min() < -1e-6 or values.max() > 1 + 1e-6:
        worst = values.max() if values.max() > 1 else values.min()
        raise InvalidOption(
            f"{name}: holds {worst:g}, and probabilities lie within 0 … 1; say what stored values are "
            "multiplied by: --scale"
        )
    return np.asarray(np.round(values.clip(0, 1) * CERTAIN), np.uint16)
