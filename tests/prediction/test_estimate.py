"""What a run would take: the arithmetic, the measurement, and which tiles are known to be empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.grid import Axis, TileGrid
from geoseg.prediction.estimate import (
    START_SECONDS,
    Pace,
    count_empty,
    forward_ratio,
    measure_pace,
    tile_count,
)
from geoseg.testing import ReferencePredictor
from geoseg.values import Window
from tests.plans import make_test_plan

axes = st.builds(
    lambda n, tile, share: Axis(n, tile, int(share * tile)),
    st.integers(1, 400),
    st.sampled_from([8, 16, 32]),
    st.floats(0, 0.5),
)
grids = st.builds(
    lambda rows, n, block: TileGrid(rows, Axis(n, rows.size, rows.overlap), block),
    axes,
    st.integers(1, 400),
    st.integers(1, 4),
)


@given(st.integers(0, 10**6), st.integers(0, 10**11))
def test_more_work_takes_longer_and_none_takes_the_start(tiles: int, pixels: int) -> None:
    pace = Pace(start=2.0, tile=0.25)
    assert pace.seconds(0, 0) == 2.0
    assert pace.seconds(tiles, pixels) < pace.seconds(tiles + 1, pixels + 1)
    twice = pace.seconds(2 * tiles, 2 * pixels) - 2.0
    assert twice == pytest.approx(2 * (pace.seconds(tiles, pixels) - 2.0), rel=1e-6)


def test_the_measurement_runs_whole_batches_until_its_time_is_up() -> None:
    shapes = []

    class Counting(ReferencePredictor):
        def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
            shapes.append(batch.shape)
            return ReferencePredictor.__call__(self, batch)

    pace = measure_pace(Counting(), make_test_plan((200, 300)), 4, budget=0.0)
    assert shapes == [(4, 1, 16, 16)] * 2
    assert pace.start >= START_SECONDS
    assert pace.tile > 0


@given(grids, st.integers(0, 10**6))
def test_empty_tiles_are_counted_as_if_each_were_asked_for(grid: TileGrid, seed: int) -> None:
    place = Window(seed % 397, seed // 397 % 389, 1 + seed % 200, 1 + seed % 150)

    def apart(window: Window) -> bool:
        return not (common := window.intersection(place)).height or not common.width

    every = [
        grid.tile(row, col).window.intersection(grid.window)
        for row in range(len(grid.rows))
        for col in range(len(grid.cols))
    ]
    assert tile_count(grid) == len(every)
    assert count_empty(grid, apart) == sum(map(apart, every))


def test_large_empty_ground_takes_few_questions() -> None:
    grid = TileGrid(Axis(10**6, 512, 64), Axis(10**6, 512, 64), 4)
    asked = []
    assert count_empty(grid, lambda window: asked.append(window) is None) == tile_count(grid)
    assert len(asked) == 1


@given(grids)
def test_the_model_sees_every_pixel_at_least_once(grid: TileGrid) -> None:
    assert forward_ratio(grid) >= 1
    assert forward_ratio(grid, 4) == pytest.approx(4 * forward_ratio(grid))
    exact = TileGrid(Axis(96, 32, 0), Axis(64, 32, 0), 1)
    assert forward_ratio(exact) == 1
