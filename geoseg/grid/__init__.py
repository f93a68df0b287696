"""Tiles, blocks, weights and exact overlap-add: pixels and numpy only."""

from geoseg.grid.classes import classify
from geoseg.grid.overlap_add import Share, accumulate, blend, share_window, split
from geoseg.grid.tiles import HALO, ONE, Axis, BlockIndex, Taper, Tile, TileGrid

__all__ = [
    "HALO",
    "ONE",
    "Axis",
    "BlockIndex",
    "Share",
    "Taper",
    "Tile",
    "TileGrid",
    "accumulate",
    "blend",
    "classify",
    "share_window",
    "split",
]
