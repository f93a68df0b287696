"""Blending overlapping tiles by sums that are exact in any order.

A tile's probabilities (uint16) times its integer weights are summed in uint32. The weights at a
pixel sum to ``ONE · ONE`` = 2¹⁶, so a full sum is at most 2¹⁶ · 65535 and dividing it by 2¹⁶ gives
the blended probability, the same bit for bit whatever was added first and in whatever block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.grid.tiles import ONE, BlockIndex, Tile, TileGrid
from geoseg.values import ProbabilityBlock, Window

Sums = NDArray[np.uint32]


@dataclass(frozen=True, eq=False, slots=True)
class Contribution:
    """What the tiles of one block add up to.

    Parameters
    ----------
    block : BlockIndex
    shares : mapping of BlockIndex to ndarray of uint32, shape (channels, rows, cols)
        For the block itself and each follower: the sums over the pixels of that block's core that
        this block's tiles reach (see `share_window`).
    valid : ndarray of bool, shape of the core
        Validity of the block's own core.
    missing : tuple of Tile
        Tiles that could not be read; their weights are missing from the sums.
    """

    block: BlockIndex
    shares: Mapping[BlockIndex, Sums]
    valid: NDArray[np.bool_]
    missing: tuple[Tile, ...] = ()


def share_window(grid: TileGrid, giver: BlockIndex, taker: BlockIndex) -> Window:
    """Return the pixels of the core of `taker` that tiles of `giver` reach."""
    return grid.extent(giver).intersection(grid.core(taker))


def accumulate(sums: Sums, extent: Window, grid: TileGrid, tile: Tile, values: NDArray[np.uint16]) -> None:
    """Add one tile's weighted probabilities to `sums`, in place.

    Parameters
    ----------
    sums : ndarray of uint32, shape (channels, rows, cols)
        Running sums over `extent`.
    values : ndarray of uint16, shape (channels, tile, tile)
        The tile's probabilities; pixels beyond the grid are ignored.
    """
    inside = tile.window.intersection(extent)
    down, across = grid.weight(tile)
    weight = down[: inside.height, None].astype(np.uint32) * across[: inside.width]
    rows, cols = inside.within(extent)
    for channel, tile_values in zip(sums, values, strict=True):
        channel[rows, cols] += weight * tile_values[: inside.height, : inside.width]


def split(sums: Sums, grid: TileGrid, block: BlockIndex) -> dict[BlockIndex, Sums]:
    """Cut a block's sums into the shares of the cores they fall into.

    Shares are copies, so that a strip kept for a neighbour does not keep the whole block alive.
    """
    extent = grid.extent(block)
    shares = {}
    for taker in grid.followers(block):
        window = share_window(grid, block, taker)
        rows, cols = window.within(extent)
        shares[taker] = np.ascontiguousarray(sums[:, rows, cols])
    return shares


def blend(
    grid: TileGrid,
    block: BlockIndex,
    shares: Iterable[tuple[BlockIndex, Sums]],
    valid: NDArray[np.bool_],
    missing: Iterable[Tile] = (),
) -> ProbabilityBlock:
    """Blend all shares of a block's core.

    Where a tile is missing, the sum is divided by the weights that are there; a pixel that no tile
    reached becomes invalid. A missing tile so takes pixels away and leaves a neighbour's estimate
    as it is, instead of fading it towards 0.

    Parameters
    ----------
    shares : iterable of (BlockIndex, ndarray of uint32)
        The giver and its share, for every leader of the block; any order.
    valid : ndarray of bool, shape of the core
    missing : iterable of Tile
        Missing tiles of all leaders.
    """
    core = grid.core(block)
    total: Sums | None = None
    for giver, sums in shares:
        if total is None:
            total = np.zeros((len(sums), *core.shape), np.uint32)
        rows, cols = share_window(grid, giver, block).within(core)
        total[:, rows, cols] += sums
    if total is None:
        raise ValueError(f"{block} got no shares")
    divisor = _divisor(grid, core, missing)
    if divisor is None:
        total += np.uint32(ONE * ONE // 2)
        total >>= np.uint32(16)
    else:
        valid = valid & (divisor > 0)
        total += divisor // 2
        np.floor_divide(total, np.maximum(divisor, 1), out=total)
    values = total.astype(np.uint16)
    values[:, ~valid] = 0
    return ProbabilityBlock(core, values, valid)


def _divisor(grid: TileGrid, core: Window, missing: Iterable[Tile]) -> Sums | None:
    """Return the weights that are there, or None where no tile of the core is missing."""
    divisor: Sums | None = None
    for tile in missing:
        inside = tile.window.intersection(core)
        if inside.height and inside.width:
            if divisor is None:
                divisor = np.full(core.shape, ONE * ONE, np.uint32)
            down, across = grid.weight(tile)
            rows, cols = inside.within(tile.window)
            divisor[inside.within(core)] -= down[rows, None].astype(np.uint32) * across[cols]
    return divisor
