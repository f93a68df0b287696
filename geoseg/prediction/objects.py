"""What happens to a block of tiles whose model gives objects in place of probabilities.

Blocks need nothing of each other: what tiles see is compared where it is merged, see `geoseg.vector.unite`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import BatchSize, Detection, Detector
from geoseg.grid import BlockIndex, Tile, TileGrid
from geoseg.prediction.blocks import BlockResult, Tally, all_skipped, predicted, sort_tiles
from geoseg.prediction.plan import Plan
from geoseg.prediction.reading import BlockPixels
from geoseg.values import CERTAIN, HALF, Window
from geoseg.vector.objects import Seen, TileObjects


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """What the tiles of a block see, and the block's tally."""

    block: BlockIndex
    tiles: tuple[TileObjects, ...]
    tally: Tally


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
    """Place what a model found in a tile on the grid, where data is; None where nothing of it lies there.

    Parameters
    ----------
    found : Detection
    tile : Tile
    extent : Window
        Of the pixels that are known.
    kept : ndarray of bool, shape of the extent
        Those that hold data and are asked for.
    """
    window = replace(
        found.window, row=found.window.row + tile.window.row, col=found.window.col + tile.window.col
    )
    inside = window.intersection(extent).intersection(tile.window)
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
