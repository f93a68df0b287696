import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.grid import BlockIndex, Share, Tile, TileGrid, accumulate, blend, split
from geoseg.values import CERTAIN
from tests.strategies import tile_grids

Model = Callable[[Tile], NDArray[np.uint16]]


def by_content(tile: Tile) -> NDArray[np.uint16]:
    """A value that depends on the tile and on the place in it: any mistake in blending shows."""
    noise = np.random.default_rng((tile.row, tile.col))
    return noise.integers(0, CERTAIN + 1, (2, *tile.window.shape)).astype(np.uint16)


def by_place(tile: Tile) -> NDArray[np.uint16]:
    """A value that depends on the pixel's place in the scene only."""
    rows = tile.window.row + np.arange(tile.window.height)[:, None]
    cols = tile.window.col + np.arange(tile.window.width)
    return ((rows * 7919 + cols * 104729) % (CERTAIN + 1)).astype(np.uint16)[None]


def contribute(
    grid: TileGrid, block: BlockIndex, model: Model, missing: Iterable[tuple[int, int]] = ()
) -> dict[BlockIndex, Share]:
    extent = grid.extent(block)
    channels = len(model(grid.tile(0, 0)))
    sums = np.zeros((channels, *extent.shape), np.uint32)
    gone = [tile for tile in grid.tiles(block) if tile[:2] in set(missing)]
    for tile in grid.tiles(block):
        if tile not in gone:
            accumulate(sums, extent, grid, tile, model(tile))
    return split(sums, np.ones(extent.shape, bool), grid, block, tuple(gone))


def blend_all(
    grid: TileGrid, model: Model, missing: Iterable[tuple[int, int]] = ()
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    parts = {block: contribute(grid, block, model, missing) for block in grid.blocks()}
    values = np.zeros((len(model(grid.tile(0, 0))), *grid.window.shape), np.uint16)
    valid = np.zeros(grid.window.shape, bool)
    for block in grid.blocks():
        result = blend(grid, block, [parts[leader][block] for leader in grid.leaders(block)])
        rows, cols = result.window.within(grid.window)
        values[:, rows, cols] = result.values
        valid[rows, cols] = result.valid
    return values, valid


@given(tile_grids(max_n=60), st.integers(1, 6))
def test_blending_does_not_depend_on_the_blocks(grid: TileGrid, other_block: int) -> None:
    other = dataclasses.replace(grid, block=other_block)
    values, valid = blend_all(grid, by_content)
    other_values, _ = blend_all(other, by_content)
    assert valid.all()
    assert (values == other_values).all()


@given(tile_grids(max_n=60))
def test_where_all_tiles_agree_the_blend_is_their_value(grid: TileGrid) -> None:
    values, _ = blend_all(grid, by_place)
    assert (values == by_place(Tile(0, 0, grid.window))).all()


@given(tile_grids(max_n=40))
def test_the_blend_is_the_weighted_mean(grid: TileGrid) -> None:
    total = np.zeros((2, *grid.window.shape), float)
    for block in grid.blocks():
        for tile in grid.tiles(block):
            inside = tile.window.intersection(grid.window)
            down, across = grid.weight(tile)
            weighted = np.outer(down.astype(int), across) / 2**16 * by_content(tile)
            total[:, *inside.within(grid.window)] += weighted[:, *inside.within(tile.window)]
    values, _ = blend_all(grid, by_content)
    assert np.abs(values - total).max() <= 0.5 + 1e-6


@given(tile_grids(max_n=60), st.data())
def test_a_missing_tile_takes_pixels_away_and_changes_nothing_beside_it(
    grid: TileGrid, data: st.DataObject
) -> None:
    everywhere = [tile[:2] for block in grid.blocks() for tile in grid.tiles(block)]
    missing = data.draw(st.lists(st.sampled_from(everywhere), unique=True, max_size=4))
    covered = np.zeros(grid.window.shape, int)
    touched = np.zeros(grid.window.shape, bool)
    for row, col in everywhere:
        tile = grid.tile(row, col)
        inside = tile.window.intersection(grid.window)
        window = inside.within(grid.window)
        down, across = grid.weight(tile)
        weight = np.outer(down.astype(int), across)[inside.within(tile.window)]
        if (row, col) in missing:
            touched[window] |= weight > 0
        else:
            covered[window] += weight
    values, valid = blend_all(grid, by_place, missing)
    assert (valid == (covered > 0)).all()
    assert (values[:, valid] == by_place(Tile(0, 0, grid.window))[:, valid]).all()
    # With tiles that differ, pixels outside the missing tile keep their value bit for bit.
    whole, _ = blend_all(grid, by_content)
    holed, _ = blend_all(grid, by_content, missing)
    assert (whole[:, ~touched] == holed[:, ~touched]).all()
