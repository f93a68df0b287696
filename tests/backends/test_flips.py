from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.backends import select
from geoseg.backends.base import FLIPS, BatchSize, FlippingPredictor, Predictor, predict_batches
from geoseg.models.bundle import Bundle
from geoseg.testing import PointwisePredictor, ReferencePredictor
from geoseg.values import CERTAIN
from tests.plans import ArrayReader, make_test_plan, run_to_arrays

pytestmark = pytest.mark.slow

Batch = NDArray[np.float32]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Tiles of any shape, square or not."""
    count, bands, rows, cols = (draw(st.integers(1, n)) for n in (3, 3, 9, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random.random((count, bands, rows, cols), np.float32)


@dataclass(frozen=True)
class Corner:
    """Says only where in the tile a pixel lies."""

    name: str = "corner"
    device: str = "cpu"
    normalizes: bool = False

    def __call__(self, batch: Batch) -> NDArray[np.uint16]:
        rows, cols = batch.shape[2:]
        place = np.arange(rows * cols, dtype=np.uint16).reshape(rows, cols) * 7
        return np.broadcast_to(place, (len(batch), 1, rows, cols)).copy()


@given(batches(), st.integers(1, 3))
def test_a_model_that_does_not_mind_flips_gives_what_it_gives_without(batch: Batch, channels: int) -> None:
    inner = PointwisePredictor(channels)
    np.testing.assert_array_equal(FlippingPredictor(inner)(batch), inner(batch))


@given(batches())
def test_a_model_that_knows_places_is_averaged_exactly(batch: Batch) -> None:
    place = Corner()(batch).astype(np.int64)
    views = [place, place[..., ::-1], place[..., ::-1, :], place[..., ::-1, ::-1]]
    expected = np.floor(np.mean(views, axis=0) + 0.5)
    output = FlippingPredictor(Corner())(batch)
    assert output.dtype == np.uint16
    np.testing.assert_array_equal(output, expected)


@given(batches(), st.sampled_from(FLIPS))
def test_flipping_a_tile_flips_the_result(batch: Batch, axes: tuple[int, ...]) -> None:
    predictor = FlippingPredictor(ReferencePredictor(2))
    flipped = predictor(np.flip(batch, axes))
    # The reference takes a mean over the tile, whose last bit depends on the order.
    assert np.abs(flipped.astype(int) - np.flip(predictor(batch), axes)).max() <= 1


def test_the_four_flips_are_all_there_are() -> None:
    tile = np.arange(6).reshape(1, 1, 2, 3)
    seen = {np.flip(tile, axes).tobytes() for axes in FLIPS}
    assert len(seen) == len(FLIPS) == 4
    for one, two in itertools.product(FLIPS, repeat=2):
        assert np.flip(np.flip(tile, one), two).tobytes() in seen  # a group: nothing is left out


def test_nothing_overflows_at_certainty() -> None:
    ones = np.ones((2, 1, 4, 6), np.float32)
    assert (FlippingPredictor(PointwisePredictor())(ones) == CERTAIN).all()


@given(st.integers(1, 4), st.integers(1, 3))
def test_blocks_and_batches_change_nothing(batch: int, block: int) -> None:
    random = np.random.default_rng(5)
    pixels, valid = random.random((1, 41, 53), np.float32), np.ones((41, 53), bool)
    predictor = FlippingPredictor(ReferencePredictor())
    expected = run_to_arrays(make_test_plan((41, 53), block=4), ArrayReader(pixels, valid), predictor)
    found = run_to_arrays(
        make_test_plan((41, 53), block=block), ArrayReader(pixels, valid), predictor, batch=batch
    )
    np.testing.assert_array_equal(found.values, expected.values)
    assert len(found.pieces) == len(expected.pieces)


@pytest.mark.parametrize("backend", select.BACKENDS)
def test_every_backend_takes_flips(binary: Bundle, tiles: Batch, backend: str) -> None:
    plain = select.load_predictor(binary, backend=backend, device="cpu")
    flipping = select.load_predictor(binary, backend=backend, device="cpu", flips=True)
    assert (flipping.name, flipping.device) == (f"{plain.name}, mean of 4 flips", "cpu")
    views = [np.flip(plain(np.flip(tiles, axes)), axes).astype(np.int64) for axes in FLIPS]
    np.testing.assert_array_equal(flipping(tiles), (np.sum(views, axis=0) + 2) // 4)
    assert (flipping(tiles) != plain(tiles)).any()
    parts = predict_batches(flipping, tiles, BatchSize(2))
    np.testing.assert_array_equal(parts, flipping(tiles))


def test_flips_are_part_of_what_a_worker_loads(binary: Bundle) -> None:
    recipe = select.choose_predictor(binary, device="cpu", flips=True)
    assert "4 passes over each tile" in recipe.reason
    loaded: Predictor = recipe.load()
    assert loaded.name == recipe.name
    assert recipe.name != select.choose_predictor(binary, device="cpu").name
