"""What is particular to a kind of model: from its answers to what is merged, and who merges.

Everything else of a run, from reading to the sinks, knows only `Task`. Blocks of a model that gives objects
need nothing of each other: what tiles see is compared where it is merged, see `geoseg.vector.unite`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.backends.base import BatchSize, Detection, Detector
from geoseg.grid import BlockIndex, Share, Tile, TileGrid, share_window
from geoseg.prediction.blocks import (
    BlockPixels,
    BlockResult,
    Inferred,
    Tally,
    all_skipped,
    empty_result,
    infer_pixels,
    predicted,
    sort_tiles,
)
from geoseg.prediction.journal import Record
from geoseg.prediction.plan import Plan
from geoseg.values import CERTAIN, HALF, Window
from geoseg.vector.features import INSTANCE
from geoseg.vector.objects import Seen, TileObjects
from geoseg.vector.pieces import Joiner, Piece
from geoseg.vector.samples import Floats
from geoseg.vector.unite import Uniter

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from geoseg.raster.sink import RasterSink
    from geoseg.vector.shaper import FeatureSink

_REGULAR, _NOISE = [0, 1, 3], 2
"""Bytes of a sum that compress, and the one that does not."""


class Merger(Protocol):
    """Makes whole polygons of the pieces that blocks return, in any order."""

    def add(self, pieces: Any) -> list[Piece]:
        """Take the pieces of one block and return the polygons that are complete now."""

    def open_boxes(self) -> Floats:
        """Return what polygons that are not complete cover so far (col, row, col, row), shape (n, 4)."""

    def finish(self) -> None:
        """Check that nothing is left open."""


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """What the tiles of a block see, and the block's tally."""

    block: BlockIndex
    tiles: tuple[TileObjects, ...]
    tally: Tally


Answers = Inferred | Found
"""What was inferred of a block."""


class Task(Protocol):
    """What a kind of model needs of its own.

    Attributes
    ----------
    blends : bool
        Whether neighbouring blocks share pixels, to be blended and traced.
    """

    blends: bool

    def infer(
        self, plan: Plan, block: BlockIndex, pixels: BlockPixels, predict: Any, batch: BatchSize, stopped: Any
    ) -> Any:
        """Infer the tiles of a block."""

    def finish(self, plan: Plan, block: BlockIndex, answers: Any) -> BlockResult:
        """Return what a block hands on that needs nothing of its neighbours; None: it holds nothing."""

    def merger(self, plan: Plan) -> Merger:
        """Return what merges the results."""

    def pack(self, answers: Any) -> Record:
        """Return answers as a record."""

    def unpack(self, record: Record, grid: TileGrid, block: BlockIndex) -> Answers:
        """Return what a record holds; ValueError or KeyError where that is not of the block."""


def pack_sums(inferred: Inferred) -> dict[str, NDArray[Any]]:
    """Return a record of what the tiles of a block sum up to."""
    shares = inferred.shares
    facts = {
        "inferred": inferred.tally.inferred,
        "skipped": inferred.tally.skipped,
        "takers": list(shares),
        "channels": len(next(iter(shares.values())).sums),
    }
    arrays: dict[str, NDArray[Any]] = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
    for number, share in enumerate(shares.values()):
        arrays[f"sums{number}"] = _pack(share.sums)
        arrays[f"valid{number}"] = np.packbits(share.valid)
    return arrays


def unpack_sums(record: Record, grid: TileGrid, block: BlockIndex) -> Inferred:
    """Return what a record says of a block; the inverse of `pack_sums`.

    Raises
    ------
    ValueError, KeyError
        If it is none.
    """
    facts = json.loads(record["facts"].tobytes())
    shares = {}
    for i, (row, col) in enumerate(facts["takers"]):
        taker = BlockIndex(row, col)
        height, width = share_window(grid, block, taker).shape
        sums = _unpack(record[f"sums{i}"], (facts["channels"], height, width))
        valid = np.unpackbits(record[f"valid{i}"], count=height * width).astype(bool)
        shares[taker] = Share(block, sums, valid.reshape(height, width))
    return Inferred(shares, Tally(facts["inferred"], facts["skipped"]))


def _pack(sums: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Compress by LZ4, which costs next to nothing; zlib took a sixth of the time of inference.

    The four bytes of all numbers are grouped: the upper one hardly varies, the lower two are mostly 0.
    The one between them is noise, which LZ4 takes longest for and makes hardly smaller: it is kept.
    """
    import pyarrow

    by_byte = np.moveaxis(sums.view(np.uint8).reshape(*sums.shape, 4), -1, 0)
    packed = pyarrow.compress(by_byte[_REGULAR].reshape(-1), codec="lz4_raw", asbytes=True)
    return np.concatenate([np.frombuffer(packed, np.uint8), by_byte[_NOISE].reshape(-1)])


def _unpack(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint32]:
    import pyarrow

    count = math.prod(shape)
    if len(packed) < count:
        raise ValueError("a record is too short")
    head, noise = packed[: len(packed) - count], packed[len(packed) - count :]
    stored = pyarrow.decompress(np.ascontiguousarray(head), 3 * count, codec="lz4_raw", asbytes=True)
    numbers = np.empty((count, 4), np.uint8)
    numbers[:, _REGULAR] = np.frombuffer(stored, np.uint8).reshape(3, -1).T
    numbers[:, _NOISE] = noise
    return numbers.view(np.uint32).reshape(shape)


class Probabilities:
    """Models that say what each pixel is."""

    blends = True

    infer = staticmethod(infer_pixels)
    finish = staticmethod(empty_result)  # of a block that holds nothing; others are blended first
    pack = staticmethod(pack_sums)
    unpack = staticmethod(unpack_sums)

    def merger(self, plan: Plan) -> Merger:
        """Return what joins outlines at seams."""
        return Joiner(plan.grid.shape)


def infer_objects(
    plan: Plan,
    block: BlockIndex,
    pixels: BlockPixels,
    predict: Detector,
    batch: BatchSize,
    stopped: Callable[[], bool] | None = None,
) -> Found:
    """Find the objects of a block's tiles; parameters as of `geoseg.prediction.blocks.infer_pixels`."""
    extent = plan.tiles.extent(block)
    wanted, _, skipped = sort_tiles(plan.tiles, block, pixels)
    answers = dict[tuple[int, int], tuple[Seen, ...]]()
    for tile, detections in predicted(plan, extent, pixels.patch, wanted, (predict, batch, stopped)):
        seen = (
            place(one, tile, extent, pixels.kept) for one in detections if one.score >= plan.rule.threshold
        )
        answers[tile.row, tile.col] = tuple(one for one in seen if one is not None)
    tiles = tuple(TileObjects(tile, answers.get(tile[:2], ())) for tile in plan.tiles.tiles(block))
    valid = int(np.count_nonzero(pixels.kept[plan.tiles.core(block).within(extent)]))
    shrunk = batch.value if batch.shrunk else None
    return Found(block, tiles, Tally(len(wanted), skipped, valid, pixels.failures, shrunk))


def place(found: Detection, tile: Tile, extent: Window, kept: NDArray[np.bool_]) -> Seen | None:
    """Place what a model found in a tile on the grid, cut to valid pixels; None if none is left.

    Parameters
    ----------
    extent : Window
        Of the pixels that are known.
    kept : ndarray of bool, shape of the extent
        Those that hold data and are asked for.
    """
    window = replace(
        found.window, row=found.window.row + tile.window.row, col=found.window.col + tile.window.col
    )
    inside = window.intersection(extent).intersection(tile.window)
    if not (inside.height and inside.width):
        return None  # it was found in the mirror image beyond the scene
    values = found.values[inside.within(window)]
    valid = kept[inside.within(extent)]
    values = np.where(valid, values, 0).astype(np.uint8)
    mask = values >= HALF
    if not mask.any():
        return None
    down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    rows = slice(max(0, int(down[0]) - 1), int(down[-1]) + 2)
    cols = slice(max(0, int(across[0]) - 1), int(across[-1]) + 2)
    values, valid = values[rows, cols], valid[rows, cols].copy()
    window = Window(inside.row + rows.start, inside.col + cols.start, *values.shape)
    return Seen(found.label, round(found.score * CERTAIN), window, values.copy(), valid)


def finish_objects(plan: Plan, block: BlockIndex, found: Found | None) -> BlockResult:
    """Hand on what the tiles of a block see; None: there was nothing to be seen."""
    if found is None:
        tiles = tuple(TileObjects(tile, ()) for tile in plan.tiles.tiles(block))
        return BlockResult(block, tiles, None, all_skipped(plan, block))
    return BlockResult(block, found.tiles, None, found.tally)


class DrawingSink:
    """Hands features on in their final order, and draws them into a raster of the scene's own grid.

    The raster is of numbers of objects, or of class ids.
    """

    def __init__(self, plan: Plan, sink: FeatureSink, raster: RasterSink) -> None:
        self._plan, self._sink, self._raster = plan, sink, raster

    def write(self, features: GeoDataFrame) -> None:
        """Take the next features."""
        box, column = self._plan.scene.geobox, INSTANCE if self._raster.content == INSTANCE else "class"
        there = features.geometry if box.crs is None else features.geometry.to_crs(box.crs)
        self._raster.draw(shapely.transform(there.to_numpy(), box.to_pixels), features[column].tolist())
        self._sink.write(features)

    def finish(self) -> None:
        """Tell ground without objects from ground without data."""
        aoi, plan = self._plan.aoi, self._plan
        if aoi is not None:
            scale = np.array(plan.scene.geobox.shape[::-1]) / plan.grid.shape[::-1]
            aoi = shapely.transform(aoi, lambda points: points * scale)
        self._raster.fill_background(aoi)


def pack_objects(found: Found) -> dict[str, NDArray[Any]]:
    """Return a record of what was found, for the journal."""
    seen = [(one.tile, each) for one in found.tiles for each in one.seen]
    numbers = [
        (tile.row, tile.col, one.label, one.score, one.window.row, one.window.col, *one.window.shape)
        for tile, one in seen
    ]
    tally = found.tally
    facts = {"block": found.block, "tally": [tally.inferred, tally.skipped, tally.valid_pixels]}
    return {
        "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
        "objects": np.array(numbers, np.int64).reshape(-1, 8),
        "values": _flat([one.values for _, one in seen], np.uint8),
        "valid": np.packbits(_flat([one.valid for _, one in seen], bool)),
    }


def unpack_objects(record: Mapping[str, NDArray[Any]], grid: TileGrid, block: BlockIndex) -> Found:
    """Return what a record says of a block; the inverse of `pack_objects`.

    Raises
    ------
    ValueError, KeyError
        If it is none.
    """
    facts = json.loads(record["facts"].tobytes())
    if tuple(facts["block"]) != block:
        raise ValueError("a record is of another block")
    numbers, values = record["objects"], record["values"]
    sizes = numbers[:, 6] * numbers[:, 7]
    if len(values) != sizes.sum():
        raise ValueError("a record is too short")
    valid = np.unpackbits(record["valid"], count=len(values)).astype(bool)
    seen: dict[tuple[int, int], list[Seen]] = {}
    for (row, col, label, score, *place), stop, size in zip(
        numbers.tolist(), np.cumsum(sizes).tolist(), sizes.tolist(), strict=True
    ):
        window, part = Window(*place), slice(stop - size, stop)
        shaped = [array[part].reshape(window.shape) for array in (values, valid)]
        seen.setdefault((row, col), []).append(Seen(label, score, window, shaped[0], shaped[1]))
    tiles = tuple(TileObjects(tile, tuple(seen.get(tile[:2], ()))) for tile in grid.tiles(block))
    return Found(block, tiles, Tally(*facts["tally"]))


def _flat(arrays: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *(array.ravel() for array in arrays)])


class Objects:
    """Models that find objects."""

    blends = False

    infer = staticmethod(infer_objects)
    finish = staticmethod(finish_objects)
    pack = staticmethod(pack_objects)
    unpack = staticmethod(unpack_objects)

    def merger(self, plan: Plan) -> Merger:
        """Return what unites views of objects."""
        return Uniter(plan.tiles, plan.outline)


TASKS: Mapping[str, Task] = {"semantic": Probabilities(), "instance": Objects()}
"""What the model of a plan needs of its own, by `Plan.task`."""
