"""Tiles of the model for the map: inferred once, bounded, and one that fails harms no other."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from geoseg.prediction.decide import Decision
from geoseg.prediction.report import Remarks
from geoseg.prediction.resources import Resources
from geoseg.prediction.wiring import Work
from geoseg.serve.scenes import OPACITY, LiveScene, raw_png, styled_png
from geoseg.serve.tiles import Busy, ModelTiles, tile_bytes
from geoseg.testing import PointwisePredictor, ReferencePredictor
from geoseg.values import ProbabilityBlock, Window
from tests.plans import ArrayReader, Load, make_test_plan, run_to_arrays


def decided(
    shape: tuple[int, int], predictor: Any, *, channels: int = 1, broken: NDArray[np.bool_] | None = None
) -> Decision:
    plan = make_test_plan(shape, channels=channels)
    pixels = np.random.default_rng(3).random((1, *shape), np.float32)
    valid = np.ones(shape, bool)
    valid[: shape[0] // 3, : shape[1] // 2] = False
    work = Work(plan, ArrayReader(pixels, valid, broken), Load(predictor), 1)
    return Decision(work, Resources(threads=2, in_flight=3, batch=1), Remarks((), ""))


@settings(max_examples=30)
@given(
    st.tuples(st.integers(5, 60), st.integers(5, 60)),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.data(),
)
def test_a_window_of_the_map_has_the_bits_of_a_run(
    shape: tuple[int, int], channels: int, damaged: bool, data: st.DataObject
) -> None:
    broken = np.zeros(shape, bool)
    broken[shape[0] // 2, shape[1] // 2] = damaged
    decision = decided(shape, ReferencePredictor(channels), channels=channels, broken=broken)
    whole = run_to_arrays(decision.plan, decision.work.read, ReferencePredictor(channels))
    row, col = data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))
    height, width = data.draw(st.integers(1, shape[0] - row)), data.draw(st.integers(1, shape[1] - col))
    window, grid = Window(row, col, height, width), decision.plan.tiles
    rows, cols = grid.rows.covering(row, row + height), grid.cols.covering(col, col + width)
    wanted = [grid.tile(i, j) for i in rows for j in cols]
    everywhere = [grid.tile(i, j) for i in range(len(grid.rows)) for j in range(len(grid.cols))]
    touching = [tile for tile in everywhere if 0 not in tile.window.intersection(window).shape]
    assert wanted == touching
    tiles = ModelTiles(10**9, 2)
    known = {entry.tile: entry.future.result() for entry in tiles.take(decision, wanted)}
    tiles.close()
    found = LiveScene("scene", "", decision).blend(window, known)
    assert (found.valid == whole.valid[window.slices]).all()
    assert (found.values == whole.values[:, *window.slices]).all()


@dataclass
class Counting:
    """Counts what it infers, and waits until it is let go."""

    name: str = "counting"
    device: str = "cpu"
    normalizes: bool = False
    batches: list[int] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        assert self.go.wait(60)
        self.batches.append(len(batch))
        if self.error is not None:
            raise self.error
        return PointwisePredictor()(batch)


def test_who_asks_together_shares_a_tile_and_memory_is_kept() -> None:
    predictor = Counting()
    decision = decided((60, 60), predictor)
    grid, size = decision.plan.tiles, tile_bytes(decision.plan)
    one, two, three = (grid.tile(3, col) for col in range(3))
    tiles = ModelTiles(2 * size, 1)
    first, second = tiles.take(decision, [one, two]), tiles.take(decision, [two])
    assert first[1] is second[0]
    with pytest.raises(Busy, match="ask again"):
        tiles.take(decision, [three])
    predictor.go.set()
    assert all(entry.future.result(60).values is not None for entry in first)
    tiles.give_back([*first, *second])
    assert tiles.used == 2 * size
    for tile in (three, one, two, two):
        taken = tiles.take(decision, [tile])
        taken[0].future.result(60)
        tiles.give_back(taken)
        assert tiles.used <= 2 * size
    tiles.close()
    assert sum(predictor.batches) == 5  # of three tiles two are kept


def test_what_nobody_waits_for_is_not_inferred() -> None:
    predictor = Counting()
    decision = decided((60, 60), predictor)
    tiles = ModelTiles(10**9, 1)
    begun = tiles.take(decision, [decision.plan.tiles.tile(3, 0)])
    left = tiles.take(decision, [decision.plan.tiles.tile(3, col) for col in (1, 2)])
    tiles.give_back(left)
    predictor.go.set()
    begun[0].future.result(60)
    tiles.close()
    assert sum(predictor.batches) == 1


def test_a_failure_is_told_to_those_who_asked_and_tried_again() -> None:
    predictor = Counting(error=ValueError("broken"))
    predictor.go.set()
    decision = decided((60, 60), predictor)
    tiles, tile = ModelTiles(10**9, 1), decision.plan.tiles.tile(3, 0)
    with pytest.raises(ValueError, match="broken"):
        tiles.take(decision, [tile])[0].future.result(60)
    predictor.error = None
    assert tiles.take(decision, [tile])[0].future.result(60).values is not None
    tiles.close()


def test_a_gpu_gets_what_waits_in_batches() -> None:
    predictor = Counting()
    decision = decided((60, 60), predictor)
    decision = replace(decision, resources=replace(decision.resources, batch=4, device="cuda"))
    decision = replace(decision, work=replace(decision.work, batch=4))
    tiles, grid = ModelTiles(10**9, 1), decision.plan.tiles
    entries = tiles.take(decision, [grid.tile(3, 0)])
    entries += tiles.take(decision, [grid.tile(4, col) for col in range(5)])
    predictor.go.set()
    for entry in entries:
        entry.future.result(60)
    tiles.close()
    assert sum(predictor.batches) == 6
    assert max(predictor.batches) == 4


def test_raw_tiles_of_several_classes_name_the_winner() -> None:
    plan = make_test_plan((60, 60), channels=3)  # background, one, two
    values = np.zeros((3, 256, 256), np.uint16)
    values[0], values[1, :, 100:], values[2, 50:] = 20000, 30000, 65535
    valid = np.ones((256, 256), bool)
    valid[:, 200:] = False
    block = ProbabilityBlock(Window(0, 0, 256, 256), values, valid)
    raw = np.asarray(Image.open(io.BytesIO(raw_png(block, plan))))
    styled = np.asarray(Image.open(io.BytesIO(styled_png(block, plan))))
    assert raw[[0, 0, 60, 60], [0, 150, 150, 220]].tolist() == [
        [76, 0, 0],
        [114, 1, 0],
        [250, 2, 0],
        [255, 0, 0],
    ]
    assert styled[[0, 0, 60, 60], [0, 150, 150, 220], 3].tolist() == [0, OPACITY, OPACITY, 0]
    assert styled[60, 150, :3].tolist() == [60, 200, 60]
