import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.grid import ONE, Axis, Taper, TileGrid
from geoseg.grid.tiles import weights_along
from tests.strategies import axes, tapers, tile_grids


@given(axes(), tapers)
def test_weights_sum_to_one_exactly_at_every_pixel(axis: Axis, taper: Taper) -> None:
    total = np.zeros(axis.n, np.int64)
    for tile, weight in enumerate(weights_along(axis, taper)):
        place = np.arange(axis.start(tile), axis.start(tile) + axis.size)
        inside = (place >= 0) & (place < axis.n)
        total[place[inside]] += weight[inside]
        assert not weight[~inside].any()
    assert (total == ONE).all()


@given(axes())
def test_tiles_cover_the_axis_and_stay_inside_it_or_keep_their_stride(axis: Axis) -> None:
    starts = [axis.start(i) for i in range(len(axis))]
    assert starts[0] == -(axis.before or 0)
    assert all(0 < b - a <= axis.stride for a, b in itertools.pairwise(starts))
    if axis.before is not None:
        assert {b - a for a, b in itertools.pairwise(starts)} <= {axis.stride}
        assert starts[-1] + axis.size >= axis.n
    elif axis.n >= axis.size:
        assert starts[-1] + axis.size == axis.n
    else:
        assert len(axis) == 1


@given(axes())
def test_there_is_no_tile_too_many(axis: Axis) -> None:
    if len(axis) > 1:
        assert (len(axis) - 2) * axis.stride + axis.size - (axis.before or 0) < axis.n


@given(axes(), st.data())
def test_tiles_that_cover_pixels_are_those_that_reach_into_them(axis: Axis, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis.n - 1))
    stop = data.draw(st.integers(start + 1, axis.n))
    reach = [i for i in range(len(axis)) if axis.start(i) < stop and axis.start(i) + axis.size > start]
    assert list(axis.covering(start, stop)) == reach


@given(axes(), st.integers(1, 4))
def test_blocks_are_a_stride_long_at_least_and_begin_at_seams(axis: Axis, tiles: int) -> None:
    edges = [axis.block_edge(tiles, block) for block in range(axis.blocks(tiles) + 1)]
    assert (edges[0], edges[-1]) == (0, axis.n)
    if len(edges) > 2:
        assert min(np.diff(edges)) >= axis.stride
        grid = TileGrid(axis, axis, tiles)
        assert set(np.array(edges[1:-1]) - 2) <= set(grid.seams(axis).tolist())


@given(tile_grids())
def test_every_tile_belongs_to_one_block(grid: TileGrid) -> None:
    tiles = [tile[:2] for block in grid.blocks() for tile in grid.tiles(block)]
    assert len(tiles) == len(set(tiles)) == len(grid.rows) * len(grid.cols)


@given(tile_grids())
def test_cores_and_regions_partition_the_grid(grid: TileGrid) -> None:
    for part in (grid.core, grid.region):
        hits = np.zeros(grid.window.shape, int)
        for block in grid.blocks():
            hits[part(block).within(grid.window)] += 1
        assert (hits == 1).all()


@given(tile_grids())
def test_what_a_block_contributes_falls_into_its_followers(grid: TileGrid) -> None:
    for block in grid.blocks():
        extent = grid.extent(block)
        reached = np.zeros(grid.window.shape, bool)
        for taker in grid.followers(block):
            assert block in set(grid.leaders(taker))
            reached[grid.core(taker).within(grid.window)] = True
        assert reached[extent.within(grid.window)].all()


@given(tile_grids())
def test_a_field_reaches_the_margin_before_its_region_and_a_pixel_more_beyond(grid: TileGrid) -> None:
    for block in grid.blocks():
        field, region = grid.field(block), grid.region(block)
        assert field.row == max(0, region.row - grid.margin)
        assert field.col == max(0, region.col - grid.margin)
        assert field.row_stop == min(grid.rows.n, region.row_stop + grid.margin + 1)
        assert field.col_stop == min(grid.cols.n, region.col_stop + grid.margin + 1)


@given(tile_grids())
def test_a_field_lies_in_the_cores_of_its_leaders(grid: TileGrid) -> None:
    for block in grid.blocks():
        covered = np.zeros(grid.window.shape, bool)
        for leader in grid.leaders(block):
            core = grid.core(leader)
            covered[core.within(grid.window)] = True
        assert covered[grid.field(block).within(grid.window)].all()


@pytest.mark.parametrize(("n", "size", "overlap"), [(0, 8, 0), (5, 4, 0), (20, 10, 6), (20, 10, -1)])
def test_impossible_axes_are_refused(n: int, size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=r"overlap|needs"):
        Axis(n, size, overlap)


@pytest.mark.parametrize("margin", [0, 6])
def test_a_margin_that_reaches_beyond_the_next_block_is_refused(margin: int) -> None:
    long, short = Axis(100, 16, 4), Axis(10, 16, 4)
    with pytest.raises(ValueError, match="margin"):
        TileGrid(long, long, 1, margin=margin)
    assert TileGrid(short, short, 1, margin=6).margin == 6  # a single tile has no neighbours
