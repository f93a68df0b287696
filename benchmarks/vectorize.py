"""From probabilities to polygons alone: tracing, joining and shaping against rasterio.features.shapes.

    python benchmarks/vectorize.py --side 8192 --rounds 3

Three fields of probabilities: *blocks*, a clean mask of rectangles; *buildings*, the true buildings
of the sample, blurred as a model blurs them; *noise*, the same with 5 % of all pixels turned over. geoseg
traces them region by region as a run does, on one thread, and ends with simplified polygons
in the CRS, measured; ``shapes`` traces the whole mask at once and ends with polygons in the CRS.
Every polygon is kept, however small.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Literal

import common
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize, shapes
from scenes import true_outlines

from geoseg.grid import Axis, TileGrid
from geoseg.prediction.blocks import crop
from geoseg.testing import NORTH_UP
from geoseg.values import CERTAIN, ClassInfo, ClassRule, GeoBox, LayerSchema, ProbabilityBlock, Window
from geoseg.vector.features import finish
from geoseg.vector.pieces import Joiner, Piece
from geoseg.vector.shape import ShapeRules
from geoseg.vector.trace import trace

Field = NDArray[np.uint16]
CRS = "EPSG:32633"
RULE = ClassRule((1,), 0.5)
SCHEMA = LayerSchema("buildings", CRS, (ClassInfo(1, "building", (228, 87, 46)),))

COLUMNS: common.Columns = {
    "field": ("field", ""),
    "method": ("method", ""),
    "trace_seconds": ("trace s", ".2f"),
    "join_seconds": ("join s", ".2f"),
    "shape_seconds": ("shape s", ".2f"),
    "seconds": ("whole s", ".2f"),
    "spread": ("spread %", ".0f"),
    "MPix_s": ("MPix/s", ".1f"),
    "polygons": ("polygons", "d"),
    "vertices": ("vertices", "d"),
    "ratio": ("time / shapes'", ".2f"),
}


def rectangles(side: int) -> Field:
    """Return a clean mask: a rectangle of its own size in every square of 64 pixels."""
    field = np.zeros((side, side), np.uint16)
    random = np.random.default_rng(1)
    for row in range(0, side - 64, 64):
        for col in range(0, side - 64, 64):
            height, width = random.integers(16, 48, 2)
            field[row + 8 : row + 8 + height, col + 8 : col + 8 + width] = CERTAIN
    return field


def buildings(side: int) -> Field:
    """Return the true buildings, blurred over 5 × 5 pixels."""
    blurred = rasterize(true_outlines(side, side), out_shape=(side, side), dtype=np.uint8).astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(blurred, [(2, 2) if axis == k else (0, 0) for k in (0, 1)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=axis)
        blurred = windows.mean(axis=-1, dtype=np.float32)
    return np.asarray(np.rint(blurred * CERTAIN), np.uint16)


def with_noise(field: Field, share: float = 0.05) -> Field:
    """Return the field with a share of its pixels turned over."""
    turned = np.random.default_rng(2).random(field.shape, np.float32) < share
    return np.where(turned, CERTAIN - field, field).astype(np.uint16)


def geoseg_way(field: Field, outline: Literal["smooth", "pixel"]) -> common.Row:
    """Trace, join and shape as a run does."""
    side = field.shape[0]
    tiles = TileGrid(Axis(side, 512, 64), Axis(side, 512, 64), 4)
    whole = ProbabilityBlock(Window(0, 0, side, side), field[None], np.ones(field.shape, bool))
    grid = GeoBox(side, side, NORTH_UP, CRS)
    joiner, found = Joiner(field.shape), []
    tracing, joining = 0.0, 0.0
    for block in tiles.blocks():
        part = crop(whole, tiles.field(block))
        started = time.perf_counter()
        pieces = trace(part, tiles.region(block), field.shape, RULE, outline)
        between = time.perf_counter()
        found += joiner.add(pieces)
        tracing += between - started
        joining += time.perf_counter() - between
    joiner.finish()
    rules = ShapeRules(simplify_m=0.15 if outline == "smooth" else 0.0, metres_per_pixel=0.3)
    started = time.perf_counter()
    features = _shape(found, grid, rules)
    shaping = time.perf_counter() - started
    return {
        "method": f"geoseg {outline}",
        "trace_seconds": tracing,
        "join_seconds": joining,
        "shape_seconds": shaping,
        "seconds": tracing + joining + shaping,
        "polygons": len(features),
        "vertices": int(shapely.get_num_coordinates(features).sum()),
    }


def _shape(found: list[Piece], grid: GeoBox, rules: ShapeRules) -> NDArray[np.object_]:
    """Shape in batches as a run does."""
    batches = [found[start : start + 20_000] for start in range(0, len(found), 20_000)]
    return np.concatenate([finish(batch, grid, rules, SCHEMA).geometry.to_numpy() for batch in batches])


def shapes_way(field: Field) -> common.Row:
    """Trace the thresholded mask with rasterio and make shapely polygons."""
    mask = (field >= RULE.level).astype(np.uint8)
    started = time.perf_counter()
    traced = [one for one, _ in shapes(mask, mask=mask > 0, transform=Affine(*NORTH_UP))]
    between = time.perf_counter()
    polygons = np.array([shapely.geometry.shape(one) for one in traced], dtype=object)
    ended = time.perf_counter()
    return {
        "method": "rasterio.features.shapes",
        "trace_seconds": between - started,
        "shape_seconds": ended - between,
        "seconds": ended - started,
        "polygons": len(polygons),
        "vertices": int(shapely.get_num_coordinates(polygons).sum()),
    }


def measure(name: str, field: Field, rounds: int) -> list[common.Row]:
    """Let the methods take turns on one field."""
    methods: list[Callable[[Field], common.Row]] = [
        shapes_way,
        lambda f: geoseg_way(f, "smooth"),
        lambda f: geoseg_way(f, "pixel"),
    ]
    results = [[method(field) for method in methods] for _ in range(rounds)]
    rows = []
    for number in range(len(methods)):
        own = sorted((turn[number] for turn in results), key=lambda row: float(row["seconds"]))
        row = own[len(own) // 2]
        rows.append(
            row
            | {
                "field": name,
                "spread": common.spread([one["seconds"] for one in own]),
                "MPix_s": field.size / 1e6 / row["seconds"],
                "ratio": common.median([turn[number]["seconds"] / turn[0]["seconds"] for turn in results]),
            }
        )
    return rows


def main() -> None:
    """Print three lines for each field."""
    parser = common.parser(__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    options: argparse.Namespace = parser.parse_args()
    houses = buildings(options.side)
    fields = {"blocks": rectangles(options.side), "buildings": houses, "noise": with_noise(houses)}
    rows = [row for name, field in fields.items() for row in measure(name, field, options.rounds)]
    common.report("vectorize", COLUMNS, rows, options)


if __name__ == "__main__":
    main()
