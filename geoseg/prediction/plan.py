"""Everything that fixes an output bit, and how it follows from scene, model and options. Pure."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geoseg.errors import InvalidOption
from geoseg.grid import TILE_MULTIPLE, Axis, TileGrid, choose_tile, largest_margin
from geoseg.models.card import ModelCard
from geoseg.models.document import ModelTask
from geoseg.models.inputs import InputSpec
from geoseg.prediction.options import AUTO, Limits, PredictOptions
from geoseg.prediction.view import View, grid_resolution, shape_rules, smallest_object_m2, split_rule
from geoseg.values import ClassInfo, ClassRule, GeoBox, LayerSchema
from geoseg.vector.islands import IslandRule, island_rule, without_islands
from geoseg.vector.shape import ShapeRules
from geoseg.vector.split import SplitRule
from geoseg.vector.unite import EDGE

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoseg.raster.describe import SceneInfo

BLOCK_PIXELS = 2048
"""Largest side of a block; bigger ones save nothing and wait longer for the first polygon."""

NO_FRACTION = 0.4321
"""Of a pixel, that origins of grids hardly lie at: there rounding would part scenes of one pixel grid."""

LEAST_OVERLAP = 16
"""Pixels that tiles share at least where objects are found."""


@dataclass(frozen=True)
class Plan:
    """Everything that fixes the output of a run; equal plans give equal results.

    Parameters
    ----------
    bands : tuple of int
        Bands to read, counted from 1, in the model's order.
    stretch : tuple of (low, high) or None
        Per band; None: values go to the model as they are.
    grid : GeoBox
        The working grid.
    tiles : TileGrid
        Its tiles and blocks.
    aoi : shapely geometry or None
        Area of interest in pixel coordinates of the working grid.
    split : SplitRule or None
        When parts of objects are objects of their own; None: never.
    shape_rules : ShapeRules
        Simplification and smallest area.
    crs : str or None
        CRS of the polygons; None: that of the scene.
    precision : str
        Backend and precision, which fix the last bits of a probability.
    wants_raster : bool
        Whether blended blocks are handed out.
    task : {"semantic", "instance"}
        What the model gives, see `geoseg.prediction.tasks`.
    """

    scene: SceneInfo
    bands: tuple[int, ...]
    stretch: tuple[Limits, ...] | None
    grid: GeoBox
    tiles: TileGrid
    aoi: BaseGeometry | None
    model_name: str
    model_digest: str
    inputs: InputSpec
    classes: tuple[ClassInfo, ...]
    rule: ClassRule
    split: SplitRule | None
    outline: Literal["smooth", "pixel"]
    shape_rules: ShapeRules
    crs: str | None
    precision: str
    wants_raster: bool
    task: ModelTask = "semantic"

    @functools.cached_property
    def digest(self) -> str:
        """Digest of all that fixes the result: two runs with the same digest may be mixed."""
        facts = {"plan": _canonical(self), "versions": _versions(self.precision)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def result_digest(self) -> str:
        """Digest of all that fixes the bytes of the result, which the size of blocks does not."""
        return self.with_blocks(1).digest

    @property
    def options(self) -> dict[str, object]:
        """The resolved options, for the summary and the layer's metadata."""
        return {
            "bands": list(self.bands),
            "stretch": None if self.stretch is None else list(map(list, self.stretch)),
            "tile": self.tiles.rows.size,
            "overlap": self.tiles.rows.overlap,
            "threshold": self.rule.threshold,
            "split": None if self.split is None else dataclasses.asdict(self.split),
            "min_confidence": self.shape_rules.min_confidence,
            "outline": self.outline,
            "simplify_m": round(self.shape_rules.simplify_m, 6),
            "min_area_m2": round(self.shape_rules.min_area_m2, 6),
            "min_hole_m2": round(self.shape_rules.min_hole_m2, 6),
            "max_deviation_m": self.shape_rules.max_deviation_m,
            "backend": self.precision,
        }

    @property
    def islands(self) -> IslandRule | None:
        """What is too small for a layer of several classes; None: nothing, or there is one class."""
        return island_rule(self.shape_rules) if self.schema.coverage else None

    @property
    def layer(self) -> tuple[TileGrid, GeoBox, ShapeRules, LayerSchema]:
        """Its blocks, their grid, how polygons are shaped (small islands are gone by then), its columns."""
        rules = without_islands(self.shape_rules) if self.islands else self.shape_rules
        return self.tiles, self.grid, replace(rules, within=self.aoi), self.schema

    @functools.cached_property
    def schema(self) -> LayerSchema:
        """What the sinks need to know."""
        metadata = {
            "geoseg_model": self.model_name,
            "geoseg_model_digest": self.model_digest,
            "geoseg_plan_digest": self.result_digest,
            "geoseg_options": json.dumps(self.options),
        }
        crs, pixel = self.crs or self.grid.crs, self.shape_rules.metres_per_pixel
        objects = self.task == "instance"
        numbered = objects and self.wants_raster
        return LayerSchema(self.model_name, crs, self.classes, metadata, pixel, numbered, objects)

    def with_blocks(self, side: int) -> Plan:
        """Return the plan with blocks of so many tiles a side."""
        return replace(self, tiles=replace(self.tiles, block=side))


@functools.cache
def _versions(precision: str) -> list[str]:
    """Return the versions of what computes results: looked up once, as it takes 10 ms."""
    runtime = {"openvino": "openvino", "onnxruntime": "onnxruntime", "pytorch": "torch"}
    package = runtime.get(precision.partition(" ")[0])
    return [f"geoseg {version('geoseg')}", *([f"{package} {version(package)}"] if package else [])]


def _canonical(value: Any) -> Any:
    if hasattr(value, "wkb_hex"):
        return value.wkb_hex
    if hasattr(value, "fingerprint"):  # a scene: the same wherever it lies
        return value.fingerprint
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return list(map(_canonical, value))
    return value


def make_plan(scene: SceneInfo, card: ModelCard, options: PredictOptions, view: View, precision: str) -> Plan:
    """Resolve every option that is ``auto`` and choose grid and tiles.

    Blocks are the largest that make sense; `geoseg.prediction.budget` fits them to the memory.

    Parameters
    ----------
    precision : str
        `Predictor.name` of what runs the model.

    Raises
    ------
    InvalidOption
        If the options, the scene and the model do not fit together.
    """
    pixel_m = math.sqrt(math.prod(grid_resolution(scene, view.grid) or (1.0, 1.0)))
    least = smallest_object_m2(card.min_area_m2, pixel_m)
    threshold = card.threshold if options.threshold == AUTO else options.threshold
    _check_task(options, card)
    split, margin_m = split_rule(options, card, pixel_m)
    usual = card.min_confidence or 0.0
    confidence = usual if options.min_confidence == AUTO else options.min_confidence
    shaped = shape_rules(
        options,
        options.outline,
        pixel_m=pixel_m,
        min_area_m2=least if options.min_area == AUTO else options.min_area,
        classes=len(card.classes) if card.instances is None else 1,
        card=card,
    )
    islands = island_rule(shaped) if card.task == "semantic" and len(card.classes) > 1 else None
    return Plan(
        scene=scene,
        bands=view.bands,
        stretch=view.stretch,
        grid=view.grid,
        tiles=_tile_grid(
            scene, view.grid, card, options, pixel_m, max(margin_m / pixel_m, islands.reach if islands else 0)
        ),
        aoi=view.aoi,
        model_name=card.name,
        model_digest=card.digest,
        inputs=card.inputs,
        classes=card.classes,
        rule=ClassRule(card.channels, threshold),
        split=split,
        outline=options.outline,
        shape_rules=replace(shaped, min_confidence=confidence),
        crs=view.crs,
        precision=precision,
        wants_raster=options.raster is not None,
        task=card.task,
    )


def _check_task(options: PredictOptions, card: ModelCard) -> None:
    """Refuse options that the model's task has no use for."""
    content = options.raster_content
    if card.instances is None:
        if content == "instance":
            raise InvalidOption(
                f"--raster-content {content}: model {card.name} finds no objects; leave it out"
            )
        if options.max_object is not None:
            raise InvalidOption(f"--max-object: model {card.name} finds no objects; leave it out")
        return
    if content.startswith("probability"):
        raise InvalidOption(
            f"--raster-content {content}: model {card.name} finds objects, which have no probability of "
            "pixels; give instance or class"
        )
    if options.raster_resolution == "model":
        raise InvalidOption(
            "--raster-resolution model: objects are drawn on the scene's own grid; leave it out"
        )
    if options.split == "touching":
        raise InvalidOption(f"--split touching: model {card.name} tells objects apart itself; leave it out")
    if options.tta:
        raise InvalidOption(f"--tta: model {card.name} finds objects, which have no mean; leave it out")


def _overlap(card: ModelCard, options: PredictOptions, tile: int, pixel_m: float) -> int:
    """Return the pixels that tiles share: of objects, as many as the largest measures."""
    if options.overlap != AUTO:
        if card.instances is not None and options.overlap < LEAST_OVERLAP:
            raise InvalidOption(
                f"--overlap {options.overlap}: objects are told apart by what tiles share; "
                f"give {LEAST_OVERLAP} or more"
            )
        return options.overlap
    if card.instances is None:
        return min(card.best_overlap, tile // 2)
    largest = math.ceil((options.max_object or card.instances.largest_m) / pixel_m) + 2 * EDGE
    return min(max(largest, LEAST_OVERLAP), tile // 2)


def tiles_before(grid: GeoBox, stride: int) -> tuple[int, int]:
    """Return the rows and columns of pixels that the first tile starts before a grid.

    So that tiles start at multiples of the stride, counted in pixels from the origin of the CRS: grids
    whose origins lie whole pixels apart have the same tiles.

    Examples
    --------
    >>> tiles_before(GeoBox(500, 500, (0.5, 0, 1000.0, 0, -0.5, 4000.0), "EPSG:32632"), 576)
    (64, 272)
    """
    ((col, row),) = np.floor(grid.to_pixels(np.zeros((1, 2))) + NO_FRACTION).astype(int).tolist()
    return -row % stride, -col % stride


def _tile_grid(
    scene: SceneInfo, grid: GeoBox, card: ModelCard, options: PredictOptions, pixel_m: float, margin: float
) -> TileGrid:
    tile = card.tile if options.tile == AUTO else options.tile
    overlap = _overlap(card, options, tile, pixel_m)
    aligned = bool(options.align_tiles) and grid is scene.geobox
    if options.tile == AUTO and card.any_tile and not aligned:
        tile = choose_tile(grid.shape, tile, overlap)
    if card.fixed_tile and tile != card.tile:
        raise InvalidOption(f"--tile {tile}: model {card.name} takes tiles of {card.tile} only")
    if tile % TILE_MULTIPLE or tile < 2 * TILE_MULTIPLE:
        raise InvalidOption(
            f"--tile {tile}: must be a multiple of {TILE_MULTIPLE}, {2 * TILE_MULTIPLE} or more"
        )
    if not 0 <= overlap <= tile // 2:
        raise InvalidOption(f"--overlap {overlap}: must lie within 0 and half the tile of {tile}")
    before = tiles_before(grid, tile - overlap) if aligned else (None, None)
    rows, cols = Axis(grid.height, tile, overlap, before[0]), Axis(grid.width, tile, overlap, before[1])
    margin = max(1, min(round(margin), largest_margin(rows, cols)))
    return TileGrid(rows, cols, max(1, BLOCK_PIXELS // rows.stride), margin=margin)
