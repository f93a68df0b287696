"""Promise 8: close to the limit. Seconds are for `benchmarks/`; here reads, passes and copies are counted."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.prediction.resources import Resources
from geoseg.testing import PointwisePredictor
from tests.plans import ArrayReader, make_test_plan, run_to_arrays

SHAPE = (150, 170)


@dataclass(frozen=True)
class Counting:
    """Notes the batches that it is given."""

    normalizes: bool = False
    name: str = "counting"
    device: str = "cpu"
    batches: list[NDArray[np.generic]] = field(default_factory=list)

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.uint16]:
        self.batches.append(batch)
        return PointwisePredictor()(batch.astype(np.float32))


def reader(dtype: type = np.float32) -> ArrayReader:
    pixels = np.random.default_rng(0).random((1, *SHAPE)) * 200
    return ArrayReader(pixels.astype(dtype), np.ones(SHAPE, bool))


@settings(max_examples=25)
@given(block=st.integers(1, 5), batch=st.integers(1, 9), threads=st.integers(1, 3))
def test_each_block_is_read_once_and_inferred_in_full_batches(block: int, batch: int, threads: int) -> None:
    plan, source, model = make_test_plan(SHAPE, block=block), reader(), Counting()
    run_to_arrays(plan, source, model, batch=batch, resources=Resources(threads, threads + 1, batch))
    blocks = list(plan.tiles.blocks())
    assert Counter(source.windows) == Counter(plan.tiles.extent(index) for index in blocks)
    tiles = [sum(1 for _ in plan.tiles.tiles(index)) for index in blocks]
    assert len(model.batches) == sum(math.ceil(count / batch) for count in tiles)
    assert sum(map(len, model.batches)) == len(plan.tiles.rows) * len(plan.tiles.cols)


def test_large_blocks_read_and_infer_little_twice() -> None:
    shape = (1500, 1500)
    plan = make_test_plan(shape, tile=64, overlap=8, block=8)
    source = ArrayReader(np.ones((1, *shape), np.float32), np.ones(shape, bool))
    model = Counting()
    run_to_arrays(plan, source, model, batch=8)
    pixels = shape[0] * shape[1]
    assert sum(window.height * window.width for window in source.windows) < 1.05 * pixels
    assert sum(batch[:, 0].size for batch in model.batches) < 1.02 * (64 / 56) ** 2 * pixels


@pytest.mark.parametrize(("normalizes", "dtype"), [(True, np.uint8), (False, np.float32)])
def test_a_tile_is_copied_once_on_its_way_to_the_model(
    normalizes: bool, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that normalizes gets stored bytes: nothing is converted to floats before it."""
    plan, source, model = make_test_plan(SHAPE), reader(np.uint8), Counting(normalizes)
    copied: list[int] = []
    stack = np.stack

    def counted(arrays: list[NDArray[np.generic]], axis: int = 0) -> NDArray[np.generic]:
        if arrays[0].shape == (1, 16, 16):  # tiles; outlines are stacked too
            copied.append(len(arrays))
        return stack(arrays, axis)

    monkeypatch.setattr(np, "stack", counted)
    run_to_arrays(plan, source, model)
    assert {batch.dtype for batch in model.batches} == {np.dtype(dtype)}
    assert sum(copied) == len(plan.tiles.rows) * len(plan.tiles.cols)
