"""The loss: closed forms, what it ignores, what it weighs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.training.losses import GAP_WEIGHT, gaps, segmentation_loss


def test_perfect_answer_costs_nothing():
    mask = torch.zeros(2, 16, 16, dtype=torch.uint8)
    mask[:, 4:9, 4:9] = 255
    logits = torch.where(mask[:, None] == 255, 40.0, -40.0)
    assert segmentation_loss(logits, mask).item() == pytest.approx(0, abs=1e-6)


def test_closed_form_without_gaps():
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[:, :, :8] = 255
    loss = segmentation_loss(torch.zeros(1, 1, 16, 16), mask)
    dice = (2 * 0.5 * 128 + 1) / (0.5 * 256 + 128 + 1)
    assert loss.item() == pytest.approx(math.log(2) + 1 - dice, rel=1e-5)


@given(st.integers(0, 1000))
def test_unknown_pixels_have_no_influence(seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor([0, 127, 255], dtype=torch.uint8)[
        torch.randint(0, 3, (2, 12, 12), generator=generator)
    ]
    logits = torch.randn(2, 1, 12, 12, generator=generator, requires_grad=True)
    segmentation_loss(logits, mask).backward()
    unknown = (mask == 127)[:, None]
    assert bool((logits.grad[unknown] == 0).all())
    assert bool((logits.grad[~unknown] != 0).all())


def test_all_unknown_is_finite_and_has_no_gradient():
    logits = torch.randn(1, 1, 8, 8, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 8, 8), 127, dtype=torch.uint8))
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool((logits.grad == 0).all())


def test_better_answers_cost_less():
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[:, 4:12, 4:12] = 255
    target = (mask == 255).float()[:, None] * 2 - 1
    losses = [segmentation_loss(target * strength, mask).item() for strength in (-2, 0, 1, 4)]
    assert losses == sorted(losses, reverse=True)


def test_gap_between_neighbours_is_found_and_open_ground_is_not():
    target = torch.zeros(1, 1, 32, 32)
    target[..., 8:24, 4:14] = 1
    target[..., 8:24, 17:28] = 1
    found = gaps(target)[0, 0]
    assert bool((found[12:20, 14:17] == 1).all())
    assert found[:, 29:].sum() == found[:, :3].sum() == found[:4].sum() == 0
    assert bool((found * target[0, 0] == 0).all())
    assert GAP_WEIGHT > 1
