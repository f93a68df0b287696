import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import special

from geoseg.backends.base import (
    BatchSize,
    Predictor,
    predict_batches,
    quantize,
    sigmoid,
    softmax,
    to_network,
    to_probabilities,
)
from geoseg.errors import InvalidModel, OutOfDeviceMemory
from geoseg.testing import PointwisePredictor, ReferencePredictor
from geoseg.values import CERTAIN

logits = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=4, max_dims=4, max_side=4),
    elements=st.floats(-(2.0**126), 2.0**126, width=32) | st.floats(-20, 20, width=32),
)


@given(logits)
def test_sigmoid_is_that_of_double_precision_and_never_overflows(values: NDArray[np.float32]) -> None:
    out = sigmoid(values)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, special.expit(values.astype(np.float64)), atol=2e-7)


@given(logits)
def test_softmax_is_that_of_double_precision_and_sums_to_one(values: NDArray[np.float32]) -> None:
    out = softmax(values)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, special.softmax(values.astype(np.float64), axis=1), atol=1e-6)
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-6)


@given(st.integers(0, CERTAIN))
def test_every_integer_comes_back(value: int) -> None:
    assert quantize(np.array([value / CERTAIN], np.float32))[0] == value


def test_quantize_rounds_half_to_even_and_clips() -> None:
    halves = (np.array([0.5, 1.5, 2.5]) / CERTAIN).astype(np.float32)
    scaled = halves * np.float32(CERTAIN)
    np.testing.assert_array_equal(quantize(halves), np.rint(scaled))
    assert quantize(np.array([-0.1, 1.1, -np.inf, np.inf], np.float32)).tolist() == [0, CERTAIN, 0, CERTAIN]


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "probability"])
def test_nan_is_an_error_and_never_a_zero(activation: str) -> None:
    output = np.zeros((1, 2, 3, 3), np.float32)
    output[0, 1, 2, 2] = np.nan
    with pytest.raises(InvalidModel, match="NaN"):
        to_probabilities(output, activation)  # type: ignore[arg-type]


def test_softmax_of_infinities_is_reported_too() -> None:
    with pytest.raises(InvalidModel, match="NaN"):
        to_probabilities(np.full((1, 2, 1, 1), np.inf, np.float32), "softmax")


def test_integer_networks_get_rounded_and_clipped_pixels() -> None:
    batch = np.array([-3, 0.4, 0.6, 254.6, 300], np.float32)
    assert to_network(batch, np.dtype("uint8")).tolist() == [0, 0, 1, 255, 255]
    assert to_network(batch, np.dtype("float32")) is batch


class Limited:
    """Runs out of memory above `limit` tiles."""

    name = "limited"
    device = "cuda"
    normalizes = False

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.calls: list[int] = []
        self.inner = ReferencePredictor(2)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        self.calls.append(len(batch))
        if len(batch) > self.limit:
            raise OutOfDeviceMemory("too much")
        return self.inner(batch)


@given(st.integers(1, 20), st.integers(1, 16), st.integers(1, 16))
def test_batches_shrink_until_they_fit_and_stay_small(count: int, batch: int, limit: int) -> None:
    tiles = np.random.default_rng(count).random((count, 3, 4, 5), np.float32)
    predictor, size = Limited(limit), BatchSize(batch)
    out = predict_batches(predictor, tiles, size)
    np.testing.assert_array_equal(out, ReferencePredictor(2)(tiles))
    assert 1 <= size.value <= batch
    predictor.calls.clear()
    np.testing.assert_array_equal(predict_batches(predictor, tiles, size), out)
    assert max(predictor.calls) <= limit  # what was learned is kept


def test_one_tile_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(OutOfDeviceMemory, match="not even one tile of 64 × 32 pixels"):
        predict_batches(Limited(0), np.zeros((3, 1, 64, 32), np.float32), BatchSize(4))


@pytest.mark.parametrize("predictor", [PointwisePredictor(2), ReferencePredictor(2)])
def test_fakes_conform_and_do_not_depend_on_the_batch(predictor: Predictor) -> None:
    assert isinstance(predictor, Predictor)
    tiles = np.random.default_rng(0).random((3, 3, 6, 7), np.float32)
    out = predictor(tiles)
    assert (out.shape, out.dtype) == ((3, 2, 6, 7), np.uint16)
    for index in range(3):
        np.testing.assert_array_equal(predictor(tiles[index : index + 1])[0], out[index])


def test_the_pointwise_fake_knows_no_place_and_the_reference_does() -> None:
    tiles = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    shifted = np.roll(tiles, 1, axis=3)
    pointwise, reference = PointwisePredictor(), ReferencePredictor()
    np.testing.assert_array_equal(np.roll(pointwise(tiles), 1, axis=3), pointwise(shifted))
    assert (np.roll(reference(tiles), 1, axis=3) != reference(shifted)).any()
    brighter = tiles.copy()
    brighter[0, 0, 0, 0] += 1
    assert (reference(brighter)[0, 0, 4:] != reference(tiles)[0, 0, 4:]).any()
