"""Lent tones: the colours become the donor's, and nothing else changes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.labels.classes import IGNORE
from geoseg.training.augment import match_tones

pytestmark = pytest.mark.slow


class Always:
    """Chance that goes a fixed share of the way."""

    def __init__(self, share):
        self.share = share

    def uniform(self, low, high):
        return self.share


def sample(seed, bands=3, size=48, mean=120.0, spread=12.0):
    rng = np.random.default_rng(seed)
    mixing = (np.eye(bands) + rng.normal(size=(bands, bands)) * 0.2) * spread
    values = mixing @ rng.normal(size=(bands, size * size)) + mean
    pixels = torch.from_numpy(values.round().clip(0, 255).astype(np.uint8).reshape(bands, size, size))
    labels = torch.from_numpy(rng.integers(0, 2, (size, size)).astype(np.uint8))
    return pixels, labels


def moments(pixels):
    values = pixels.flatten(1).double()
    return values.mean(1), torch.cov(values).reshape(len(values), len(values))


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_all_the_way_gives_the_donors_mean_and_covariance(bands):
    own, donor = sample(1, bands, mean=120, spread=22), sample(2, bands, mean=135, spread=25)
    moved = match_tones(own, donor, Always(1.0))[0]
    (mean, covariance), (donor_mean, donor_covariance) = moments(moved), moments(donor[0])
    assert torch.allclose(mean, donor_mean, atol=0.5)
    # The floor under variances, and values beyond 0 … 255, keep it from being exact.
    assert torch.allclose(covariance, donor_covariance, atol=0.03 * float(donor_covariance.max()))
    assert not torch.allclose(covariance, moments(own[0])[1], atol=0.1 * float(donor_covariance.max()))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.sampled_from([1, 3, 4]))
def test_labels_and_inputs_stay_and_the_own_colours_change_nothing(one, two, seed, bands):
    own, donor = sample(one, bands), sample(two, bands, mean=150)
    kept = own[0].clone(), donor[0].clone()
    pixels, labels = match_tones(own, donor, np.random.default_rng(seed))
    assert labels is own[1]
    assert pixels.dtype == torch.uint8
    assert torch.equal(own[0], kept[0])
    assert torch.equal(donor[0], kept[1])
    same = match_tones(own, own, np.random.default_rng(seed))[0]
    assert int((same.int() - own[0].int()).abs().max()) <= 1


def test_part_of_the_way_lies_between():
    own, donor = sample(3, mean=80), sample(4, mean=160)
    half = match_tones(own, donor, Always(0.5))[0].float().mean()
    assert 115 < float(half) < 125


def test_unknown_pixels_are_no_colours_and_a_donor_of_nothing_else_lends_none():
    own, donor = sample(5), sample(6, mean=150)
    spoiled = donor[0].clone(), donor[1].clone()
    spoiled[0][:, :10], spoiled[1][:10] = 0, IGNORE
    donor[1][:10] = IGNORE
    with_black = match_tones(own, spoiled, Always(1.0))[0]
    assert torch.equal(with_black, match_tones(own, donor, Always(1.0))[0])
    blind = donor[0], torch.full_like(donor[1], IGNORE)
    assert match_tones(own, blind, Always(1.0)) is own
    assert match_tones((own[0], blind[1]), donor, Always(1.0))[0] is own[0]


def test_flat_ground_is_not_blown_up_to_noise():
    flat = torch.full((3, 48, 48), 60, dtype=torch.uint8), torch.zeros(48, 48, dtype=torch.uint8)
    flat[0][0, ::2] += 1
    moved = match_tones(flat, sample(7, spread=20), Always(1.0))[0].float()
    assert float(moved.flatten(1).std(1).max()) < 12
