"""The arithmetic of a forecast: what a run takes, what is learned from one, which tiles are empty."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.grid import Axis, TileGrid
from geoseg.prediction.forecast import (
    ENOUGH_TILES,
    LARGEST_STEP,
    SLOWEST,
    START_SECONDS,
    Pace,
    count_empty,
    forward_ratio,
    learn,
    make_forecast,
    tile_count,
)
from geoseg.values import Window

paces = st.builds(
    Pace,
    start=st.floats(0, 100),
    tile=st.floats(1e-6, 100),
    pixel=st.floats(0, 1e-3),
    runs=st.integers(0, 50),
)
any_paces = st.builds(
    Pace,
    start=st.floats(0, SLOWEST),
    tile=st.floats(1e-9, SLOWEST),
    pixel=st.floats(0, SLOWEST),
    runs=st.integers(0, 10**9),
)
tiles = st.integers(ENOUGH_TILES, 10**6)
pixels = st.integers(0, 10**11)

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


@given(paces, tiles, tiles, pixels, pixels)
def test_more_work_takes_longer_and_none_takes_the_start(
    pace: Pace, some: int, more: int, few: int, many: int
) -> None:
    assert pace.seconds(0, 0) == pace.start
    assert pace.seconds(some, few) <= pace.seconds(some + more, few + many)
    twice = pace.seconds(2 * some, 2 * few) - pace.start
    assert twice == pytest.approx(2 * (pace.seconds(some, few) - pace.start), rel=1e-6)


@given(any_paces | st.none(), st.integers(0, 10**9), st.integers(0, 10**15), st.floats(0, 1e9))
def test_whatever_is_learned_is_a_pace_that_forecasts_a_finite_time(
    pace: Pace | None, some: int, area: int, seconds: float
) -> None:
    after = learn(pace, some, area, seconds)
    forecast = make_forecast(after, some, area, 1)
    assert (forecast.seconds is None) == (after is None)
    assert after is None or math.isfinite(after.seconds(some, area))
    if some < ENOUGH_TILES:
        assert after is pace


@given(paces, tiles, pixels, st.floats(0.2, 5))
def test_the_first_run_is_believed_wholly_and_later_ones_half(
    pace: Pace, some: int, area: int, times: float
) -> None:
    work = pace.seconds(some, area) - pace.start
    took = pace.start + times * work
    first = learn(dataclasses.replace(pace, runs=0), some, area, took)
    later = learn(dataclasses.replace(pace, runs=3), some, area, took)
    assert first is not None
    assert later is not None
    assert first.seconds(some, area) == pytest.approx(took, rel=1e-6)
    assert later.seconds(some, area) == pytest.approx(pace.start + math.sqrt(times) * work, rel=1e-6)
    assert (first.runs, later.runs) == (1, 4)


@given(paces, tiles, pixels)
def test_equal_runs_are_learned_and_one_that_was_disturbed_is_forgotten(
    pace: Pace, some: int, area: int
) -> None:
    usual = pace.seconds(some, area)
    known: Pace | None = learn(pace, some, area, 1000 * usual)
    assert known is not None
    assert known.seconds(some, area) - pace.start <= LARGEST_STEP * (usual - pace.start) * (1 + 1e-6)
    for _ in range(12):
        known = learn(known, some, area, usual)
    assert known is not None
    assert known.seconds(some, area) == pytest.approx(usual, rel=0.01)


@given(tiles, pixels, st.floats(START_SECONDS + 0.1, 1e6))
def test_a_run_that_nothing_was_known_of_is_forecast_as_it_went(some: int, area: int, took: float) -> None:
    after = learn(None, some, area, took)
    assert after is not None
    assert after.seconds(some, area) == pytest.approx(took, rel=1e-6)
    assert make_forecast(after, some, area, None).source == "runs"


@pytest.mark.parametrize("took", [0.0, 0.7, START_SECONDS])
def test_a_run_shorter_than_its_start_only_shortens_that(took: float) -> None:
    assert learn(None, 100, 100, took) is None
    assert learn(Pace(START_SECONDS, 0.1, 0.0), 100, 100, took) == Pace(took, 0.1, 0.0)


@pytest.mark.parametrize(
    "wrong", [{"start": -1.0}, {"tile": 0.0}, {"tile": math.inf}, {"pixel": math.nan}, {"runs": -1}]
)
def test_what_is_no_pace_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"pace|runs"):
        dataclasses.replace(Pace(1.0, 0.1, 1e-8), **wrong)  # type: ignore[arg-type]


def test_where_a_forecast_comes_from() -> None:
    assert make_forecast(None, 10, 10, 5) == make_forecast(None, 99, 0, 5)
    assert make_forecast(None, 10, 10, 5).source == "none"
    assert make_forecast(Pace(1, 1, 0), 10, 10, 5).source == "measured"
    assert make_forecast(Pace(1, 1, 0, runs=2), 10, 10, 5).source == "runs"
    assert make_forecast(Pace(1, 2, 3), 10, 20, 5).seconds == 1 + 20 + 60


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
