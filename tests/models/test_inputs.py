from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.extra.numpy import arrays

from geoseg.errors import InvalidModel
from geoseg.models.bundle import find_model
from geoseg.models.card import card_of
from geoseg.models.card_json import amended, make_document, parse_document, to_json
from geoseg.models.inputs import InputSpec, fill_invalid
from geoseg.models.value_check import ENOUGH, inversion_evidence, unlike_training, value_statistics
from geoseg.values import Patch
from tests.models.test_card import BUILDING

RGB = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def plain(bands: int) -> InputSpec:
    return InputSpec(tuple(f"b{i}" for i in range(bands)), "float32", 1.0, (0.0,) * bands, (1.0,) * bands)


@st.composite
def patches(draw: st.DrawFn) -> Patch:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33)))
    dtype = draw(st.sampled_from(["uint8", "uint16", "int16", "float32"]))
    finite = {"allow_nan": False, "allow_infinity": False, "width": 16} if dtype == "float32" else None
    elements = st.floats(**finite) if finite else hnp.from_dtype(np.dtype(dtype))
    pixels = draw(hnp.arrays(dtype, shape, elements=elements))
    return Patch(pixels, draw(hnp.arrays(bool, shape[1:])))


@given(patches(), st.sampled_from([np.nan, np.inf, -np.inf, 1e300]))
def test_what_invalid_pixels_hold_changes_nothing(patch: Patch, poison: float) -> None:
    pixels = patch.pixels.astype(np.float64)
    poisoned = np.where(patch.valid, pixels, poison)
    spec = plain(len(pixels))
    clean = spec.prepare(Patch(pixels, patch.valid))
    assert np.isfinite(clean).all()
    np.testing.assert_array_equal(spec.prepare(Patch(poisoned, patch.valid)), clean)


@given(patches())
def test_valid_pixels_keep_their_values_and_filled_ones_stay_between_them(patch: Patch) -> None:
    if not patch.valid.any():
        return
    out = fill_invalid(patch.pixels, patch.valid)
    assert out.dtype == np.float32
    for band, before in zip(out, patch.pixels.astype(np.float32), strict=True):
        known = before[patch.valid]
        np.testing.assert_array_equal(band[patch.valid], known)
        assert known.min() <= band.min()
        assert band.max() <= known.max()


@given(patches(), st.floats(-1e6, 1e6, width=32))
def test_a_constant_scene_stays_constant(patch: Patch, value: float) -> None:
    if not patch.valid.any():
        return
    constant = np.full(patch.pixels.shape, value, np.float32)
    assert np.unique(fill_invalid(constant, patch.valid)).tolist() == [np.float32(value)]


def test_a_hole_takes_the_values_around_it_and_not_those_far_away() -> None:
    pixels = np.zeros((1, 64, 64), np.uint8)
    pixels[:, :, 32:] = 200
    valid = np.ones((64, 64), bool)
    valid[20:24, 50:54] = False
    assert np.unique(fill_invalid(pixels, valid)[0, 20:24, 50:54]).tolist() == [200]


def test_normalization_is_the_formula() -> None:
    pixels = np.array([0, 51, 255], np.uint8).repeat(2).reshape(3, 1, 2)
    out = RGB.prepare(Patch(pixels, np.ones((1, 2), bool)))
    np.testing.assert_allclose(out[:, 0, 0], [-1, -0.6, 1], atol=1e-6)
    assert out.dtype == np.float32


def test_a_patch_without_valid_pixels_is_the_mean() -> None:
    out = RGB.prepare(Patch(np.full((3, 4, 5), 7, np.uint8), np.zeros((4, 5), bool)))
    assert not out.any()


def test_the_patch_is_left_as_it_was() -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    before = pixels.copy()
    InputSpec(("gray",), "float32", 2.0, (1.0,), (3.0,)).prepare(Patch(pixels, np.ones((3, 4), bool)))
    np.testing.assert_array_equal(pixels, before)


def test_another_number_of_bands_is_an_error() -> None:
    with pytest.raises(ValueError, match="4 bands for a model of 3"):
        RGB.prepare(Patch(np.zeros((4, 2, 2), np.uint8), np.ones((2, 2), bool)))


@pytest.mark.parametrize(
    ("bands", "scale", "mean", "std"),
    [
        ((), 1.0, (), ()),
        (("a",), 1.0, (0.0, 0.0), (1.0,)),
        (("a",), 1.0, (0.0,), (0.0,)),
        (("a",), 0.0, (0.0,), (1.0,)),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(bands, scale, mean, std) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"need|must"):
        InputSpec(bands, "uint8", scale, mean, std)


pictures = arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 60)))
in_bins = pictures.map(lambda pixels: (pixels // 17 % 15 * 17 + 8).astype(np.uint8))
"""Values amid the bins, and so their differences: on the edge of two, a negative rounds the other way."""

NAMES = ("red", "green", "blue")


def ground(seed: int = 0, count: int = 40_000) -> np.ndarray:
    """Right-skewed brightness with a green and a warm kind of ground, as from above."""
    rng = np.random.default_rng(seed)
    light = 20 + rng.gamma(4.0, 24.0, count)
    tint = np.where(rng.random(count) < 0.5, [[-12], [14], [-8]], [[16], [0], [-14]])
    return np.clip(light + tint + rng.normal(0, 4, (3, count)), 0, 255).astype(np.uint8)


@given(pictures)
def test_histograms_are_shares_of_every_band_and_difference(pixels: np.ndarray) -> None:
    found = value_statistics(pixels)
    assert len(found.histograms) == 2 * len(pixels) - 1
    for row in found.histograms:
        assert sum(row) == pytest.approx(1)
    assert found.mean == pytest.approx(pixels.mean(axis=1, dtype=float).tolist())
    for low, mean, high in zip(pixels.min(axis=1), found.mean, pixels.max(axis=1), strict=True):
        assert low - 1e-9 <= mean <= high + 1e-9


@given(in_bins, in_bins)
def test_a_negative_is_as_much_less_like_it_as_the_picture_is_more(
    one: np.ndarray, other: np.ndarray
) -> None:
    bands = min(len(one), len(other))
    trained = value_statistics(other[:bands])
    seen, negative = (value_statistics(pixels) for pixels in (one[:bands], 255 - one[:bands]))
    assert inversion_evidence(seen, trained) == pytest.approx(
        -inversion_evidence(negative, trained), abs=1e-9
    )
    assert inversion_evidence(trained, trained) <= 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_ground_like_that_of_the_training_is_not_warned_about(seed: int) -> None:
    assert unlike_training(ground(seed), value_statistics(ground(99)), NAMES) == ()
    assert unlike_training(ground(seed)[:, : ENOUGH - 1] // 20, value_statistics(ground(99)), NAMES) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pixels: pixels // 20, "darker"),
        (lambda pixels: 200 + pixels // 5, "brighter"),
        (lambda pixels: 90 + pixels // 30, "vary far less"),
        (lambda pixels: pixels.astype(np.uint16) * 11, "brighter"),
        (lambda pixels: 255 - pixels, "inverted"),
    ],
)
def test_what_is_far_from_the_training_is_told_in_one_line(change: object, words: str) -> None:
    assert callable(change)
    (line,) = unlike_training(change(ground()), value_statistics(ground(99)), NAMES)
    assert words in line


def test_the_card_carries_them_there_and_back_and_the_digest_stays() -> None:
    plain = make_document("buildings", RGB, BUILDING, tile=512, overlap=64)
    trained = value_statistics(ground())
    told = amended(plain, {"geoseg:training_statistics": trained.as_property()})
    card = card_of(parse_document(to_json(told), "x"), {})
    assert card.trained_on is not None
    assert card.trained_on.mean == pytest.approx(trained.mean, rel=1e-4)
    assert np.array(card.trained_on.histograms) == pytest.approx(np.array(trained.histograms), abs=1e-5)
    assert card.digest == card_of(plain, {}).digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": [1.0]}, "one entry a band"),
        ({"range": [255.0, 0.0]}, "must be [low, high]"),
        ({"histograms": [[0.5, 0.25, 0.25]]}, "must be 5"),
        ({"stddev": [1.0, -1.0, 1.0]}, "stddev"),
        ({"median": [1.0]}, "median"),
    ],
)
def test_a_card_with_wrong_statistics_is_refused(change: dict[str, object], words: str) -> None:
    plain = make_document("buildings", RGB, BUILDING, tile=512, overlap=64)
    wrong = value_statistics(ground()).as_property() | change
    with pytest.raises(InvalidModel, match="geoseg:training_statistics") as refusal:
        amended(plain, {"geoseg:training_statistics": wrong})
    assert words in str(refusal.value)


def test_statistics_of_other_bands_than_the_input_are_refused() -> None:
    plain = make_document("buildings", RGB, BUILDING, tile=512, overlap=64)
    with pytest.raises(InvalidModel, match="has 2 bands, the input has 3"):
        amended(plain, {"geoseg:training_statistics": value_statistics(ground()[:2]).as_property()})


def test_the_model_that_ships_says_what_it_was_trained_on() -> None:
    bundle = find_model("buildings")
    assert bundle.card.trained_on is not None
    assert json.loads(to_json(bundle.document))["properties"]["geoseg:training_statistics"]["range"] == [
        0,
        255,
    ]
