"""Deciding everything that fixes an output bit, before a pixel is read. Pure."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.grid import TILE_MULTIPLE, Axis, TileGrid, choose_tile, classify
from geoseg.models.card import ModelCard
from geoseg.models.inputs import InputSpec
from geoseg.prediction.fit import check_resolution
from geoseg.prediction.options import AUTO, Limits, PredictOptions
from geoseg.values import ClassInfo, ClassRule, GeoBox, LayerSchema, ProbabilityBlock
from geoseg.vector.shape import ShapeRules

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoseg.raster.describe import SceneInfo

BLOCK_PIXELS = 2048
"""Largest side of a block; bigger ones save nothing and wait longer for the first polygon."""

NOISE_PIXELS = 25
"""The default of --min-area, in pixels of the working grid."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that fixes the output of a run; equal plans give equal results.

    Parameters
    ----------
    scene : SceneInfo
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
    model_name, model_digest : str
    inputs : InputSpec
    classes : tuple of ClassInfo
    rule : ClassRule
    outline : {"smooth", "pixel"}
    shape_rules : ShapeRules
        Simplification and smallest area.
    crs : str or None
        CRS of the polygons; None: that of the scene.
    precision : str
        Backend and precision, which fix the last bits of a probability.
    wants_raster : bool
        Whether blended blocks are handed out.
    warnings : tuple of str
        What a user should know before trusting the result.
    reason : str
        Why this precision, for people.
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
    outline: Literal["smooth", "pixel"]
    shape_rules: ShapeRules
    crs: str | None
    precision: str
    wants_raster: bool
    warnings: tuple[str, ...] = ()
    reason: str = ""

    @property
    def digest(self) -> str:
        """Digest of all that fixes the result: two runs with the same digest may be mixed."""
        facts = {
            field.name: _canonical(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name not in {"scene", "warnings", "reason"}
        }
        facts["scene"] = self.scene.fingerprint
        facts["versions"] = _versions(self.precision)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def options(self) -> dict[str, object]:
        """The resolved options, for the summary and the layer's metadata."""
        return {
            "bands": list(self.bands),
            "stretch": None if self.stretch is None else [list(pair) for pair in self.stretch],
            "tile": self.tiles.rows.size,
            "overlap": self.tiles.rows.overlap,
            "threshold": self.rule.threshold,
            "outline": self.outline,
            "simplify_m": round(self.shape_rules.simplify_m, 6),
            "min_area_m2": round(self.shape_rules.min_area_m2, 6),
            "backend": self.precision,
        }

    @property
    def schema(self) -> LayerSchema:
        """What the sinks need to know."""
        metadata = {
            "geoseg_model": self.model_name,
            "geoseg_model_digest": self.model_digest,
            "geoseg_plan_digest": self.digest,
            "geoseg_options": json.dumps(self.options),
        }
        return LayerSchema(self.model_name, self.crs or self.grid.crs, self.classes, metadata)

    def classify(self, block: ProbabilityBlock) -> NDArray[np.uint8]:
        """Return the class ids of a block; 0 where there is none."""
        return classify(block.values, self.rule)


@functools.cache
def _versions(precision: str) -> list[str]:
    """Return the versions of what computes results: looked up once, as it takes 10 ms."""
    runtime = {"openvino": "openvino", "onnxruntime": "onnxruntime", "pytorch": "torch"}
    package = runtime.get(precision.partition(" ")[0])
    return [f"{name} {version(name)}" for name in ("geoseg", package) if name is not None]


def _canonical(value: Any) -> Any:
    if hasattr(value, "wkb_hex"):
        return value.wkb_hex
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_canonical(part) for part in value]
    return value


@dataclass(frozen=True, slots=True)
class View:
    """How a run looks at a scene; the fields are those of `Plan`."""

    grid: GeoBox
    bands: tuple[int, ...]
    stretch: tuple[Limits, ...] | None
    aoi: BaseGeometry | None
    crs: str | None


def make_plan(
    scene: SceneInfo,
    card: ModelCard,
    options: PredictOptions,
    view: View,
    *,
    precision: str,
    reason: str = "",
) -> Plan:
    """Resolve every option that is ``auto`` and decide grid and tiles.

    Blocks are the largest that make sense; `geoseg.prediction.budget` fits them to the memory.

    Raises
    ------
    InvalidOption
        If the options, the scene and the model do not fit together.
    """
    warnings = [*scene.warnings, *check_resolution(scene, card)]
    pixel_m = 1.0 if scene.resolution is None else _pixel_size(scene, view.grid)
    tile, overlap = _tile(view.grid, card, options)
    threshold = card.threshold if options.threshold == AUTO else options.threshold
    return Plan(
        scene=scene,
        bands=view.bands,
        stretch=view.stretch,
        grid=view.grid,
        tiles=_tile_grid(view.grid, tile, overlap, card),
        aoi=view.aoi,
        model_name=card.name,
        model_digest=card.digest,
        inputs=card.inputs,
        classes=card.classes,
        rule=ClassRule(card.channels, threshold),
        outline=options.outline,
        shape_rules=_shape_rules(options, card, pixel_m),
        crs=view.crs,
        precision=precision,
        wants_raster=options.raster is not None,
        warnings=tuple(warnings),
        reason=reason,
    )


def _tile(grid: GeoBox, card: ModelCard, options: PredictOptions) -> tuple[int, int]:
    """Return tile and overlap."""
    tile = card.tile if options.tile == AUTO else options.tile
    overlap = min(card.best_overlap, tile // 2) if options.overlap == AUTO else options.overlap
    if options.tile == AUTO and card.any_tile:
        tile = choose_tile(grid.shape, tile, overlap)
    return tile, overlap


def _shape_rules(options: PredictOptions, card: ModelCard, pixel_m: float) -> ShapeRules:
    # Half a pixel takes the tracing's small steps out of a straight wall and moves nothing visibly;
    # exact pixel edges stay exact unless simplification is asked for.
    default = 0.5 * pixel_m if options.outline == "smooth" else 0.0
    simplify = default if options.simplify == AUTO else options.simplify
    known = smallest_object_m2(card.min_area_m2, pixel_m)
    return ShapeRules(simplify, known if options.min_area == AUTO else options.min_area, pixel_m)


def smallest_object_m2(known: float | None, pixel_m: float) -> float:
    """Return the area below which polygons are taken for noise, in m².

    Parameters
    ----------
    known : float or None
        What a model's card says; None: nothing.
    pixel_m : float
        Side of a pixel of the working grid in metres.
    """
    return NOISE_PIXELS * pixel_m**2 if known is None else known


def _pixel_size(scene: SceneInfo, grid: GeoBox) -> float:
    across, down = scene.resolution or (1.0, 1.0)
    return math.sqrt(across * scene.geobox.width / grid.width * down * scene.geobox.height / grid.height)


def _tile_grid(grid: GeoBox, tile: int, overlap: int, card: ModelCard) -> TileGrid:
    if card.fixed_tile and tile != card.tile:
        raise InvalidOption(f"--tile {tile}: model {card.name} takes tiles of {card.tile} only")
    if tile % TILE_MULTIPLE or tile < 2 * TILE_MULTIPLE:
        raise InvalidOption(
            f"--tile {tile}: must be a multiple of {TILE_MULTIPLE}, {2 * TILE_MULTIPLE} or more"
        )
    if not 0 <= overlap <= tile // 2:
        raise InvalidOption(f"--overlap {overlap}: must lie within 0 and half the tile of {tile}")
    rows, cols = Axis(grid.height, tile, overlap), Axis(grid.width, tile, overlap)
    return TileGrid(rows, cols, max(1, BLOCK_PIXELS // rows.stride))
