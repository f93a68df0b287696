"""What happens to one block of tiles of a model that gives probabilities: infer, share strips, blend, finish.

The steps are the same functions in any scheduler (`geoseg.prediction.wiring`), and pure, so that a block
can be done again after a worker died, with the same result. A model that gives objects has steps of its
own, see `geoseg.prediction.tasks`.

On empty ground a step is left out: its result is then None, or a value whose arrays are one zero,
broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import BatchSize, Model, Predictor, predict_batches
from geoseg.grid import BlockIndex, Share, Tile, TileGrid, accumulate, blend, split
from geoseg.prediction.options import Limits
from geoseg.prediction.plan import Plan
from geoseg.values import Patch, ProbabilityBlock, Window
from geoseg.vector.islands import sieve
from geoseg.vector.objects import TileObjects
from geoseg.vector.pieces import Pieces
from geoseg.vector.split import find_cuts
from geoseg.vector.trace import trace


class Stopped(Exception):
    """The run was stopped from outside."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A tile that could not be read: its window in the working grid, and why."""

    window: Window
    reason: str


@dataclass(frozen=True, eq=False, slots=True)
class BlockPixels:
    """What was read of a block."""

    patch: Patch
    """Of the extent of the block's tiles."""
    kept: NDArray[np.bool_]
    """bool, shape of the extent. Pixels that are valid and in the area of interest."""
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """What was done, summed over blocks.

    Parameters
    ----------
    inferred, skipped : int
        Tiles that the model saw, and tiles without a valid pixel that it did not need to see.
    valid_pixels : int
        Pixels of the working grid with a probability.
    shrunk_batch : int or None
        Tiles a forward pass that the device's memory allowed; None: all that were asked for.
    """

    inferred: int = 0
    skipped: int = 0
    valid_pixels: int = 0
    failures: tuple[Failure, ...] = ()
    shrunk_batch: int | None = None

    def __add__(self, other: Tally) -> Tally:
        shrunk = [size for size in (self.shrunk_batch, other.shrunk_batch) if size is not None]
        return Tally(
            self.inferred + other.inferred,
            self.skipped + other.skipped,
            self.valid_pixels + other.valid_pixels,
            self.failures + other.failures,
            min(shrunk, default=None),
        )


@dataclass(frozen=True, eq=False, slots=True)
class Inferred:
    """What a block's tiles add to its own core and to each follower's, and their tally."""

    shares: Mapping[BlockIndex, Share]
    tally: Tally


@dataclass(frozen=True, eq=False, slots=True)
class BlockResult:
    """What leaves the graph for the sinks.

    Parameters
    ----------
    pieces : Pieces, or tuple of TileObjects
        Traced polygons of the block's region, or what its tiles see: what is merged.
    raster : ProbabilityBlock or None
        The block's core, where a raster is wanted.
    """

    block: BlockIndex
    pieces: Pieces | tuple[TileObjects, ...]
    raster: ProbabilityBlock | None = None
    tally: Tally = Tally()


def infer_pixels(
    plan: Plan,
    block: BlockIndex,
    pixels: BlockPixels,
    predict: Predictor,
    batch: BatchSize,
    stopped: Callable[[], bool] | None = None,
) -> Inferred:
    """Infer a block's tiles in batches and sum their weighted probabilities.

    Parameters
    ----------
    pixels : BlockPixels
        From `geoseg.prediction.wiring.read_block`.
    batch : BatchSize
        Tiles in one forward pass; shrinks where the device's memory asks for it.
    stopped : callable, optional
        Asked between batches; True raises `Stopped`.
    """
    grid, patch, kept = plan.tiles, pixels.patch, pixels.kept
    extent = grid.extent(block)
    sums = np.zeros((len(plan.rule.channels), *extent.shape), np.uint32)
    wanted, missing, skipped = sort_tiles(grid, block, pixels)
    for tile, values in predicted(plan, extent, patch, wanted, (predict, batch, stopped)):
        accumulate(sums, extent, grid, tile, values)
    shrunk = batch.value if batch.shrunk else None
    tally = Tally(len(wanted), skipped, failures=pixels.failures, shrunk_batch=shrunk)
    return Inferred(split(sums, kept, grid, block, tuple(missing)), tally)


def sort_tiles(grid: TileGrid, block: BlockIndex, pixels: BlockPixels) -> tuple[list[Tile], list[Tile], int]:
    """Return the tiles that a model is to see, those that could not be read, and how many hold nothing."""
    extent = grid.extent(block)
    broken = [failure.window for failure in pixels.failures]
    wanted, missing, skipped = [], [], 0
    for tile in grid.tiles(block):
        inside = tile.window.intersection(extent)
        if inside in broken:
            missing.append(tile)
        elif pixels.kept[inside.within(extent)].any():
            wanted.append(tile)
        else:
            skipped += 1
    return wanted, missing, skipped


def predicted(
    plan: Plan,
    extent: Window,
    patch: Patch,
    tiles: Sequence[Tile],
    how: tuple[Model, BatchSize, Callable[[], bool] | None],
) -> Iterator[tuple[Tile, Any]]:
    """Yield each tile with what the model says of it, batch by batch."""
    predict, batch, stopped = how
    while tiles:
        if stopped is not None and stopped():
            raise Stopped
        chosen, tiles = tiles[: batch.value], tiles[batch.value :]
        inputs = np.stack([prepare(plan, cut(patch, extent, tile), predict.normalizes) for tile in chosen])
        yield from zip(chosen, predict_batches(predict, inputs, batch), strict=True)


def cut(patch: Patch, extent: Window, tile: Tile) -> Patch:
    """Cut a tile out of a block's pixels; where the grid is smaller than a tile, reflect it."""
    inside = tile.window.intersection(extent)
    rows, cols = inside.within(extent)
    rows_of, cols_of = inside.within(tile.window)
    beyond = (
        (rows_of.start, tile.window.height - rows_of.stop),
        (cols_of.start, tile.window.width - cols_of.stop),
    )
    pixels, valid = patch.pixels[:, rows, cols], patch.valid[rows, cols]
    if inside.shape != tile.window.shape:
        pixels = np.pad(pixels, ((0, 0), *beyond), mode="reflect")
        valid = np.pad(valid, beyond, mode="reflect")
    return Patch(pixels, valid)


def prepare(plan: Plan, patch: Patch, normalizes: bool) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Turn a tile's pixels into what the predictor takes: stretch, fill, scale, normalize.

    Parameters
    ----------
    normalizes : bool
        Whether it scales and normalizes uint8 pixels itself, see `geoseg.backends.base.Predictor`.
    """
    patch = stretched(patch, plan.stretch)
    if normalizes and patch.pixels.dtype == np.uint8:
        return plan.inputs.fill(patch)
    return plan.inputs.prepare(patch)


def stretched(patch: Patch, limits: Sequence[Limits] | None) -> Patch:
    """Map a patch's values to the model's range; without limits it stays as it is."""
    if limits is None:
        return patch
    from geoseg.raster.pixels import apply_stretch

    return replace(patch, pixels=apply_stretch(patch.pixels, limits))


def share_strip(inferred: Inferred, taker: BlockIndex) -> Share | None:
    """Return the sums that a block adds to a neighbour, None if none; the block can then be freed."""
    share = inferred.shares[taker]
    # Where this block found nothing valid, no other does, and the sums mean nothing.
    return share if share.valid.any() or share.missing else None


def blend_block(
    plan: Plan, block: BlockIndex, inferred: Inferred | None, strips: Sequence[Share | None]
) -> ProbabilityBlock:
    """Blend a block's core from its own sums and its neighbours' strips.

    Parameters
    ----------
    inferred : Inferred or None
        None: its tiles hold nothing.
    strips : sequence of Share or None
        Of the neighbours above and to the left.
    """
    if inferred is None:
        shape = plan.tiles.core(block).shape
        sums = np.broadcast_to(np.uint32(0), (len(plan.rule.channels), *shape))
        own = Share(block, sums, np.broadcast_to(np.False_, shape))
    else:
        own = inferred.shares[block]
    return blend(plan.tiles, block, [own, *filter(None, strips)])


def share_margin(plan: Plan, blended: ProbabilityBlock, taker: BlockIndex) -> ProbabilityBlock | None:
    """Return the last rows and columns of a blended core, which a neighbour traces with; None if invalid."""
    margin = crop(blended, blended.window.intersection(plan.tiles.field(taker)))
    return margin if margin.valid.any() else None


def finish_block(
    plan: Plan,
    block: BlockIndex,
    blended: ProbabilityBlock | None,
    margins: Sequence[ProbabilityBlock | None],
    tally: Tally | None,
) -> BlockResult:
    """Trace a block, once the margins of its upper and left neighbours are there.

    Parameters
    ----------
    blended : ProbabilityBlock or None
        Its core; None: that holds nothing.
    tally : Tally or None
        Of its inference; None: all of its tiles were skipped.
    """
    known = list(filter(None, margins))
    if blended is None and not known:
        return empty_result(plan, block, tally)
    blended = blended or _empty_core(plan, block)
    window = plan.tiles.field(block)
    parts = [(part.window, Patch(part.values, part.valid)) for part in (blended, *known)]
    seen = assemble(window, parts)
    field = ProbabilityBlock(window, np.asarray(seen.pixels, np.uint16), seen.valid)
    region = plan.tiles.region(block)
    cuts = None if plan.split is None else find_cuts(field, region, plan.tiles, plan.rule, plan.split)
    if plan.islands is not None:
        field = sieve(field, plan.grid.shape, plan.rule, plan.islands, plan.tiles.margin)
    pieces = trace(field, region, plan.grid.shape, plan.rule, plan.outline, cuts)
    counted = Tally(valid_pixels=int(np.count_nonzero(blended.valid)))
    tally = tally or all_skipped(plan, block)
    return BlockResult(block, pieces, blended if plan.wants_raster else None, tally + counted)


def empty_result(plan: Plan, block: BlockIndex, tally: Tally | None = None) -> BlockResult:
    """Return the result of a block without a valid pixel where it is traced."""
    raster = _empty_core(plan, block) if plan.wants_raster else None
    return BlockResult(block, Pieces((), ()), raster, tally or all_skipped(plan, block))


def all_skipped(plan: Plan, block: BlockIndex) -> Tally:
    """Return the tally of a block that holds nothing."""
    return Tally(skipped=len(plan.tiles.tiles(block)))


def _empty_core(plan: Plan, block: BlockIndex) -> ProbabilityBlock:
    core = plan.tiles.core(block)
    values = np.broadcast_to(np.uint16(0), (len(plan.rule.channels), *core.shape))
    return ProbabilityBlock(core, values, np.broadcast_to(np.False_, core.shape))


def assemble(extent: Window, parts: Sequence[tuple[Window, Patch]]) -> Patch:
    """Put patches in their places within `extent`; the rest is 0 and invalid."""
    if len(parts) == 1 and parts[0][0] == extent:
        return parts[0][1]
    like = parts[0][1].pixels if parts else np.zeros((1, 0, 0), np.uint8)
    pixels = np.zeros((len(like), *extent.shape), like.dtype)
    valid = np.zeros(extent.shape, bool)
    for window, patch in parts:
        rows, cols = window.within(extent)
        pixels[:, rows, cols] = patch.pixels
        valid[rows, cols] = patch.valid
    return Patch(pixels, valid)


def crop(block: ProbabilityBlock, window: Window) -> ProbabilityBlock:
    """Return a copy of part of a block."""
    rows, cols = window.within(block.window)
    return ProbabilityBlock(window, block.values[:, rows, cols].copy(), block.valid[rows, cols].copy())
