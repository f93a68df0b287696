"""Augmentation changes the picture and never the labels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.training.augment import augment, photograph

pytestmark = pytest.mark.slow

seeds = st.integers(0, 10_000)


def sample(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    row, col = rng.integers(0, 20, 2)
    mask[row : row + 10, col : col + 12] = 1
    mask[:2, :5] = 255
    return torch.stack([(mask == 1) * 180 + 40] * 3).to(torch.uint8), mask


@given(seeds)
def test_labels_are_kept_and_stay_on_their_pixels(seed):
    pixels, mask = sample(seed)
    changed, labels = augment(pixels, mask, np.random.default_rng(seed))
    assert changed.shape == pixels.shape
    assert changed.dtype == torch.uint8
    assert torch.equal(labels.flatten().sort().values, mask.flatten().sort().values)
    brightness = changed.float().mean(0)
    assert brightness[labels == 1].mean() > brightness[labels != 1].mean() + 15


@given(seeds)
def test_same_chance_same_sample(seed):
    first, second = (augment(*sample(seed), np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_all_eight_views_occur():
    pixels, mask = sample(3)
    views = {augment(pixels, mask, np.random.default_rng(seed))[1].numpy().tobytes() for seed in range(120)}
    assert len(views) == 8


def test_pictures_vary_but_do_not_drift():
    pixels = torch.full((3, 32, 32), 120, dtype=torch.uint8)
    means = np.array(
        [photograph(pixels, np.random.default_rng(seed)).float().mean().item() for seed in range(300)]
    )
    assert means.std() > 10
    assert abs(np.median(means) - 120) < 10
    assert means.min() > 20
    assert means.max() < 235


@given(seeds)
def test_input_is_not_changed(seed):
    pixels, mask = sample(seed)
    before = pixels.clone(), mask.clone()
    augment(pixels, mask, np.random.default_rng(seed))
    assert torch.equal(pixels, before[0])
    assert torch.equal(mask, before[1])


@given(seeds, st.sampled_from([1, 2, 4, 7]))
def test_any_number_of_bands(seed, bands):
    pixels, mask = sample(seed)
    many = pixels[:1].expand(bands, -1, -1).contiguous()
    changed, labels = augment(many, mask, np.random.default_rng(seed))
    assert changed.shape == many.shape
    assert changed.dtype == torch.uint8
    assert changed.float().mean(0)[labels == 1].mean() > changed.float().mean(0)[labels != 1].mean() + 15
