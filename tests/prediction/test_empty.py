"""Ground that is known to be empty changes nothing but the time."""

from __future__ import annotations

import dataclasses
from unittest.mock import patch

import numpy as np
import pytest
import shapely
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.prediction.plan import Plan
from geoseg.prediction.resources import Resources
from geoseg.prediction.schedulers import run_on_cluster, run_on_threads
from geoseg.prediction.wiring import Work, area_of_interest, certainly_empty
from geoseg.raster.coverage import Coverage, Level
from geoseg.testing import ReferencePredictor, assert_same_polygons
from geoseg.values import Window
from tests.plans import ArrayReader, Load, make_test_plan, run_to_arrays

SHAPE = (100, 120)
SIDE = 16
"""Of the blocks of the file, in pixels."""


def scattered(seed: int, filled: float) -> tuple[ArrayReader, NDArray[np.bool_]]:
    """Noise on some of the file's blocks, with holes, and which blocks are there."""
    random = np.random.default_rng(seed)
    present = random.random((-(-SHAPE[0] // SIDE), -(-SHAPE[1] // SIDE))) < filled
    there = np.kron(present, np.ones((SIDE, SIDE), bool))[: SHAPE[0], : SHAPE[1]]
    pixels = random.random((1, *SHAPE)).astype(np.float32)
    return ArrayReader(pixels, there & (pixels[0] > 0.05)), present


def known(plan: Plan, present: NDArray[np.bool_]) -> Coverage:
    return Coverage(plan.scene, (Level((SIDE, SIDE), present),))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    filled=st.sampled_from([0.0, 0.03, 0.1, 0.3]),
    overlap=st.sampled_from([0, 4, 8]),
    block=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    broken=st.booleans(),
    span=st.sampled_from([1, 5, 256]),
    in_flight=st.integers(1, 4),
)
def test_what_is_known_to_be_empty_changes_no_bit(
    seed: int,
    filled: float,
    overlap: int,
    block: int,
    channels: int,
    broken: bool,
    span: int,
    in_flight: int,
) -> None:
    reader, present = scattered(seed, filled)
    if broken:  # some spot of what is there cannot be read
        spots = np.random.default_rng(seed).random(SHAPE) < 0.001
        reader = ArrayReader(reader.pixels, reader.valid, spots & reader.valid)
    plan = make_test_plan(SHAPE, overlap=overlap, block=block, channels=channels)
    resources = Resources(threads=2, in_flight=in_flight, batch=3)
    model = ReferencePredictor(channels)
    before = run_to_arrays(plan, reader, model, resources=resources)
    reader.windows.clear()
    with (
        patch("geoseg.prediction.schedulers.SPAN", span),
        patch("geoseg.prediction.schedulers.READY", 2 * span),
    ):
        after = run_to_arrays(plan, reader, model, resources=resources, coverage=known(plan, present))
    assert (before.values == after.values).all()
    assert (before.valid == after.valid).all()
    assert_same_polygons(after.pieces, before.pieces)
    assert (before.failures, before.inferred, before.skipped) == (
        after.failures,
        after.inferred,
        after.skipped,
    )
    ground = known(plan, present)
    # A block that could not be read in one go is read tile by tile.
    assert broken or not any(ground.empty(window, plan.grid) for window in reader.windows)


@settings(max_examples=60)
@given(
    corners=st.tuples(*[st.floats(0, 99)] * 4),
    angle=st.floats(0, 90),
    row=st.integers(0, 90),
    col=st.integers(0, 90),
    side=st.integers(1, 40),
)
def test_what_is_outside_the_area_of_interest_is_known(
    corners: tuple[float, float, float, float], angle: float, row: int, col: int, side: int
) -> None:
    west, north, east, south = corners
    box = shapely.box(min(west, east), min(north, south), max(west, east) + 1, max(north, south) + 1)
    area = shapely.affinity.rotate(box, angle)
    plan = dataclasses.replace(make_test_plan((150, 150)), aoi=area)
    window = Window(row, col, side, side)
    if certainly_empty(plan, None, window):
        assert not area_of_interest(plan, window).any()
    else:
        assert shapely.box(col, row, col + side, row + side).intersects(area)


@pytest.mark.slow
def test_blocks_on_a_cluster_come_in_order_and_are_the_same() -> None:
    reader, present = scattered(5, 0.03)
    plan = make_test_plan(SHAPE)
    work = Work(plan, reader, Load(ReferencePredictor()), 4, coverage=known(plan, present))
    whole = list(run_on_threads(work, 2, 3))
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, processes=False) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        parts = list(run_on_cluster(work, client, in_flight=3))
    assert [part.block for part in parts] == list(plan.tiles.blocks())
    for one, other in zip(whole, parts, strict=True):
        assert one.tally == other.tally
        assert one.raster is not None
        assert other.raster is not None
        assert (one.raster.values == other.raster.values).all()


def test_far_from_data_nothing_is_submitted() -> None:
    plan = make_test_plan((1000, 1000))
    present = np.zeros((63, 63), bool)
    present[30, 30] = True
    reader = ArrayReader(np.ones((1, 1000, 1000), np.float32), np.zeros((1000, 1000), bool))
    work = Work(plan, reader, Load(ReferencePredictor()), 4, coverage=known(plan, present))
    results = list(run_on_threads(work, 2, 3))
    assert [result.block for result in results] == list(plan.tiles.blocks())
    assert sum(result.tally.skipped for result in results) == len(plan.tiles.rows) * len(plan.tiles.cols)
    assert 1 <= len(reader.windows) <= 4
    far = results[0]
    assert far.raster is not None
    assert far.raster.values.base is not None
    assert far.raster.values.strides == (0, 0, 0)  # a single zero
