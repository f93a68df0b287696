"""Promise 1: the tiling cannot be seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.prediction.resources import Resources
from geoseg.testing import PointwisePredictor, ReferencePredictor
from geoseg.vector.split import SplitRule
from tests.plans import ArrayReader, Outcome, make_test_plan, run_to_arrays
from tests.strategies import tapers

sizes = st.integers(1, 70)


def picture(shape: tuple[int, int], seed: int, *, holes: bool) -> ArrayReader:
    """Blobs at several scales, with invalid areas."""
    random = np.random.default_rng(seed)
    rows, cols = np.indices(shape)
    waves = sum(
        np.sin(rows / random.uniform(1, 9) + cols / random.uniform(1, 9) + random.uniform(0, 6))
        for _ in range(4)
    )
    pixels = np.clip(0.5 + 0.2 * waves + random.normal(0, 0.05, shape), 0, 1).astype(np.float32)
    valid = np.ones(shape, bool)
    if holes:
        valid &= np.hypot(rows - random.uniform(0, shape[0]), cols - random.uniform(0, shape[1])) > 6
        valid &= rows + cols > random.uniform(0, 20)
    return ArrayReader(pixels[None], valid)


def key(outcome: Outcome) -> Counter[tuple[object, ...]]:
    return Counter((piece.label, piece.evidence, piece.polygon.normalize().wkb) for piece in outcome.pieces)


@settings(max_examples=150)
@given(
    shape=st.tuples(sizes, sizes),
    seed=st.integers(0, 1000),
    tile=st.integers(8, 24),
    share=st.floats(0, 0.5),
    taper=tapers,
    channels=st.sampled_from([1, 3]),
    outline=st.sampled_from(["smooth", "pixel"]),
    holes=st.booleans(),
    blocks=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    batches=st.tuples(st.integers(1, 3), st.integers(4, 9)),
    threads=st.integers(1, 4),
    margin=st.integers(1, 5),
    split=st.sampled_from([None, SplitRule(0.02, 4), SplitRule(0.1, 12)]),
    span=st.sampled_from([1, 3, 256]),
)
def test_no_block_batch_thread_or_margin_changes_a_bit(
    shape: tuple[int, int],
    seed: int,
    tile: int,
    share: float,
    taper: Literal["hann", "linear", "flat"],
    channels: int,
    outline: Literal["smooth", "pixel"],
    holes: bool,
    blocks: tuple[int, int],
    batches: tuple[int, int],
    threads: int,
    margin: int,
    split: SplitRule | None,
    span: int,
) -> None:
    reader = picture(shape, seed, holes=holes)
    margin = min(margin, (tile - int(tile * share) - 1) // 2)
    split = split if margin >= 2 else None

    def run(block: int, batch: int, workers: int, margin: int) -> Outcome:
        plan = make_test_plan(
            shape,
            tile=tile,
            overlap=int(tile * share),
            block=block,
            taper=taper,
            channels=channels,
            outline=outline,
            margin=margin,
            split=split,
        )
        resources = Resources(workers, workers + 1, batch)
        return run_to_arrays(plan, reader, ReferencePredictor(channels), batch=batch, resources=resources)

    # What is looked at beyond a region changes nothing but what is split.
    widths = (1, margin) if split is None else (margin, margin)
    with patch("geoseg.prediction.schedulers.SPAN", span):
        outcomes = [
            run(block, batch, workers, width)
            for block, batch, workers, width in zip(blocks, batches, (1, threads), widths, strict=True)
        ]
    first, second = outcomes
    assert (first.values == second.values).all()
    assert (first.valid == second.valid).all()
    assert (first.valid == reader.valid).all()
    assert key(first) == key(second)


@dataclass(frozen=True)
class CountingPredictor:
    """Counts the tiles that it sees."""

    name: str = "counting"
    device: str = "cpu"
    normalizes: bool = False
    batches: list[int] = field(default_factory=list)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        self.batches.append(len(batch))
        return PointwisePredictor()(batch)


@settings(max_examples=40)
@given(shape=st.tuples(sizes, sizes), block=st.integers(1, 5), seed=st.integers(0, 100))
def test_every_tile_is_inferred_once_and_empty_ones_never(
    shape: tuple[int, int], block: int, seed: int
) -> None:
    plan = make_test_plan(shape, block=block)
    reader = picture(shape, seed, holes=True)
    predictor = CountingPredictor()
    outcome = run_to_arrays(plan, reader, predictor, batch=4)
    tiles = [tile for each in plan.tiles.blocks() for tile in plan.tiles.tiles(each)]
    with_data = sum(
        bool(reader.valid[tile.window.intersection(plan.tiles.window).within(plan.tiles.window)].any())
        for tile in tiles
    )
    assert sum(predictor.batches) == outcome.inferred == with_data
    assert outcome.inferred + outcome.skipped == len(tiles)
    assert max(predictor.batches, default=1) <= 4
    # A model that looks at single pixels comes through tiling and blending untouched.
    expected = np.where(reader.valid, PointwisePredictor()(reader.pixels[None])[0, 0], 0)
    assert (outcome.values[0] == expected).all()


@settings(max_examples=30)
@given(shape=st.tuples(sizes, sizes), block=st.integers(1, 4), data=st.data())
def test_a_broken_spot_takes_its_tiles_away_and_changes_nothing_beside_them(
    shape: tuple[int, int], block: int, data: st.DataObject
) -> None:
    plan = make_test_plan(shape, block=block)
    reader = picture(shape, 7, holes=False)
    broken = np.zeros(shape, bool)
    broken[data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))] = True
    outcome = run_to_arrays(plan, ArrayReader(reader.pixels, reader.valid, broken), PointwisePredictor())
    survives = np.zeros(shape, bool)
    lost = 0
    for each in plan.tiles.blocks():
        for tile in plan.tiles.tiles(each):
            window = tile.window.intersection(plan.tiles.window).within(plan.tiles.window)
            if broken[window].any():
                lost += 1
            else:
                down, across = plan.tiles.weight(tile)
                weight = np.outer(down.astype(int), across)
                survives[window] |= weight[: survives[window].shape[0], : survives[window].shape[1]] > 0
    assert outcome.failures == lost > 0
    assert (outcome.valid == survives).all()
    expected = np.where(survives, PointwisePredictor()(reader.pixels[None])[0, 0], 0)
    assert (outcome.values[0] == expected).all()


@pytest.mark.slow
@pytest.mark.parametrize("outline", ["smooth", "pixel"])
def test_a_cluster_of_processes_gives_the_same_bits(outline: Literal["smooth", "pixel"]) -> None:
    shape = (90, 110)
    plan = make_test_plan(shape, outline=outline)
    reader = picture(shape, 3, holes=True)
    here = run_to_arrays(plan, reader, ReferencePredictor())
    there = run_to_arrays(
        plan, reader, ReferencePredictor(), resources=Resources(threads=1, in_flight=4, batch=3, workers=2)
    )
    assert (here.values == there.values).all()
    assert key(here) == key(there)
