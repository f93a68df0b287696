"""Values unlike those of the training: what is warned about, and what is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoseg.errors import InvalidModel
from geoseg.models.bundle import find_model
from geoseg.models.card import card_of
from geoseg.models.card_json import amended, make_document, parse_document, to_json
from geoseg.models.statistics import ENOUGH, inversion_evidence, unlike_training, value_statistics
from tests.models.test_card import BUILDING, RGB

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
