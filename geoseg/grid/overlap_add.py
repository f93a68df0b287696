"""Blending overlapping tiles by sums that are exact in any order, and the classes that follow.

A tile's probabilities (uint16) times its integer weights are summed in uint32. The weights at a
pixel sum to ``ONE · ONE`` = 2¹⁶, so a full sum is at most 2¹⁶ · 65535 and dividing it by 2¹⁶ gives
the blended probability, the same bit for bit whatever was added first and in whatever block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.grid.tiles import ONE, BlockIndex, Tile, TileGrid
from geoseg.values import ClassRule, ProbabilityBlock, Window

STRIP = 64
"""Rows of a tile that are weighted at a time: what that takes stays in the processor's cache."""

Sums = NDArray[np.uint32]


@dataclass(frozen=True, eq=False, slots=True)
class Share:
    """What the tiles of one block add to one core, over the pixels that they reach of it."""

    giver: BlockIndex
    """The block whose tiles these are."""
    sums: Sums
    """uint32, shape (channels, rows, cols). Weighted sums over `share_window`."""
    valid: NDArray[np.bool_]
    """bool, shape (rows, cols). Pixels that the giver read and found valid."""
    missing: tuple[Tile, ...] = ()
    """Tiles of the giver that could not be read; their weights are missing from the sums."""


def share_window(grid: TileGrid, giver: BlockIndex, taker: BlockIndex) -> Window:
    """Return the pixels of the core of `taker` that tiles of `giver` reach."""
    return grid.extent(giver).intersection(grid.core(taker))


def accumulate(sums: Sums, extent: Window, grid: TileGrid, tile: Tile, values: NDArray[np.uint16]) -> None:
    """Add what one tile's weighted probabilities are over an extent to `sums`, in place.

    Parameters
    ----------
    sums : ndarray of uint32, shape (channels, rows, cols)
        Running sums over `extent`.
    values : ndarray of uint16, shape (channels, tile, tile)
        The tile's probabilities; pixels beyond the grid are ignored.
    """
    inside = tile.window.intersection(extent)
    rows, cols = inside.within(tile.window)
    down, across = grid.weight(tile)
    down, across = down[rows], across[cols].astype(np.uint32)
    values = values[:, rows, cols]
    rows, cols = inside.within(extent)
    for top in range(0, inside.height, STRIP):
        strip = slice(top, min(top + STRIP, inside.height))
        weight = down[strip, None] * across
        for channel, tile_values in zip(sums[:, rows, cols], values, strict=True):
            channel[strip] += weight * tile_values[strip]


def split(
    sums: Sums, valid: NDArray[np.bool_], grid: TileGrid, block: BlockIndex, missing: tuple[Tile, ...] = ()
) -> dict[BlockIndex, Share]:
    """Cut a block's sums into the shares of the cores they fall into, by the core's block.

    What neighbours get is copied, so that a strip kept for them does not keep the whole block alive;
    the block's own share, most of it, is a view.

    Parameters
    ----------
    sums : ndarray of uint32, shape (channels, rows, cols)
        Over the block's extent.
    valid : ndarray of bool, shape (rows, cols)
        Over the block's extent.
    missing : tuple of Tile
        Tiles of the block that could not be read.
    """
    extent = grid.extent(block)
    shares = {}
    for taker in grid.followers(block):
        rows, cols = share_window(grid, block, taker).within(extent)
        part, known = sums[:, rows, cols], valid[rows, cols]
        if taker != block:
            part, known = part.copy(), known.copy()
        shares[taker] = Share(block, part, known, missing)
    return shares


def blend(grid: TileGrid, block: BlockIndex, shares: Sequence[Share]) -> ProbabilityBlock:
    """Blend all shares of a block's core.

    Where a tile is missing, the sum is divided by the weights that are there; a pixel that no tile
    reached becomes invalid. A missing tile so takes pixels away and leaves a neighbour's estimate
    as it is, instead of fading it towards 0.

    Parameters
    ----------
    shares : sequence of Share
        One from every leader of the block, in any order.
    """
    core = grid.core(block)
    total: Sums = np.zeros((len(shares[0].sums), *core.shape), np.uint32)
    valid = np.zeros(core.shape, bool)
    for share in shares:
        rows, cols = share_window(grid, share.giver, block).within(core)
        total[:, rows, cols] += share.sums
        # Givers agree on what they both read; where one could not read, another may know.
        valid[rows, cols] |= share.valid
    return _divided(grid, core, total, valid, [tile for share in shares for tile in share.missing])


def blend_window(
    grid: TileGrid,
    window: Window,
    tiles: Mapping[Tile, NDArray[np.uint16]],
    valid: NDArray[np.bool_],
    missing: Sequence[Tile],
    channels: int,
) -> ProbabilityBlock:
    """Blend any window of the grid: the same bits as `blend` gives for the cores that it lies in.

    Parameters
    ----------
    tiles : mapping of Tile to ndarray of uint16, shape (channels, tile, tile)
        Probabilities of the tiles that reach into the window; those that hold nothing valid may be left out.
    valid : ndarray of bool, the shape of the window
    missing : sequence of Tile
        Those that are not known.
    """
    total: Sums = np.zeros((channels, *window.shape), np.uint32)
    for tile, values in tiles.items():
        accumulate(total, window, grid, tile, values)
    return _divided(grid, window, total, valid, missing)


def _divided(
    grid: TileGrid, core: Window, total: Sums, valid: NDArray[np.bool_], missing: Sequence[Tile]
) -> ProbabilityBlock:
    """Return the probabilities that sums of weighted ones make; `total` and `valid` are used up."""
    divisor: Sums | None = None  # the weights that are there
    for tile in missing:
        inside = tile.window.intersection(core)
        if inside.height and inside.width:
            if divisor is None:
                divisor = np.full(core.shape, ONE * ONE, np.uint32)
            down, across = grid.weight(tile)
            rows, cols = inside.within(tile.window)
            divisor[inside.within(core)] -= down[rows, None].astype(np.uint32) * across[cols]
    if divisor is None:
        total += np.uint32(ONE * ONE // 2)
        total >>= np.uint32(16)
    else:
        valid &= divisor > 0
        total += divisor // 2
        np.floor_divide(total, np.maximum(divisor, 1), out=total)
    values = total.astype(np.uint16)
    values[:, ~valid] = 0
    return ProbabilityBlock(core, values, valid)


def classify(values: NDArray[np.uint16], rule: ClassRule) -> NDArray[np.uint8]:
    """Return the class id of every pixel; 0 is the background.

    Parameters
    ----------
    values : ndarray of uint16, shape (channels, rows, cols)
        Probabilities, 65535 is certain.
    rule : ClassRule
        One channel: its class where the value reaches the threshold. Several: the largest value
        wins, the first of equals, if it reaches the threshold.

    Returns
    -------
    ndarray of uint8, shape (rows, cols)

    Examples
    --------
    >>> one = np.array([[[20000, 40000]]], np.uint16)
    >>> classify(one, ClassRule((7,), 0.5)).tolist()
    [[0, 7]]
    """
    ids = np.array(rule.channels, np.uint8)
    least = np.uint16(math.ceil(rule.level))  # among integers, which are compared 50 times as fast
    if len(ids) == 1:
        found: NDArray[np.uint8] = np.multiply(values[0] >= least, ids[0])
    else:
        found = np.multiply(values.max(axis=0) >= least, ids[values.argmax(axis=0)])
    return found
