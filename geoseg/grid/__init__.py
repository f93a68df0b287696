"""Tiles, blocks, weights and exact overlap-add: pixels and numpy only."""

from geoseg.grid.overlap_add import Share, accumulate, blend, blend_window, classify, share_window, split
from geoseg.grid.tiles import (
    ONE,
    TILE_MULTIPLE,
    Axis,
    BlockIndex,
    Taper,
    Tile,
    TileGrid,
    choose_tile,
    largest_margin,
)

__all__ = [
    "ONE",
    "TILE_MULTIPLE",
    "Axis",
    "BlockIndex",
    "Share",
    "Taper",
    "Tile",
    "TileGrid",
    "accumulate",
    "blend",
    "blend_window",
    "choose_tile",
    "classify",
    "largest_margin",
    "share_window",
    "split",
]
