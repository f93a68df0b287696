"""The losses: closed forms, what they ignore, what they weigh."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.training.losses import gaps, make_loss, outlines
from geoseg.training.recipe import LOSSES

pytestmark = pytest.mark.slow

NAMES = ["ce", "dice", "focal", "lovasz", "ce+dice", "bce+lovasz"]


def random_case(seed: int, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([0, 1, 255] if channels == 1 else [0, *range(1, channels), 255], dtype=torch.uint8)
    labels = ids[torch.randint(0, len(ids), (2, 12, 12), generator=generator)]
    return torch.randn(2, channels, 12, 12, generator=generator, requires_grad=True), labels


def sure(labels: torch.Tensor, channels: int, strength: float) -> torch.Tensor:
    known = torch.where(labels == 255, 0, labels).long()
    if channels == 1:
        return (known[:, None].float() * 2 - 1) * strength
    return torch.nn.functional.one_hot(known, channels).permute(0, 3, 1, 2).float() * 2 * strength - strength


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_perfect_answer_costs_nothing(name, channels):
    _, labels = random_case(1, channels)
    assert make_loss(name)(sure(labels, channels, 60.0), labels).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
@given(seed=st.integers(0, 1000))
def test_unknown_pixels_have_no_influence(name, channels, seed):
    logits, labels = random_case(seed, channels)
    make_loss(name, gap_weight=3.0, outline_weight=0.5)(logits, labels).backward()
    unknown = (labels == 255)[:, None].expand_as(logits)
    assert bool((logits.grad[unknown] == 0).all())
    assert bool((logits.grad[~unknown] != 0).any())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_all_unknown_is_finite_and_has_no_gradient(name, channels):
    logits = torch.randn(1, channels, 8, 8, requires_grad=True)
    loss = make_loss(name)(logits, torch.full((1, 8, 8), 255, dtype=torch.uint8))
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool((logits.grad == 0).all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_better_answers_cost_less(name, channels):
    _, labels = random_case(4, channels)
    loss = make_loss(name)
    costs = [loss(sure(labels, channels, strength), labels).item() for strength in (-2, 0.5, 2, 4)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1] + 0.1


def test_closed_form_of_cross_entropy_and_dice():
    labels = torch.zeros(1, 16, 16, dtype=torch.uint8)
    labels[:, :, :8] = 1
    dice = (2 * 0.5 * 128 + 2) / (0.5 * 256 + 128 + 2)  # one pixel in the intersection, two in the sum
    loss = make_loss("ce+dice")(torch.zeros(1, 1, 16, 16), labels)
    assert loss.item() == pytest.approx(math.log(2) + 1 - dice, rel=1e-5)
    entropy = make_loss("ce")(torch.zeros(1, 4, 16, 16), labels)
    assert entropy.item() == pytest.approx(math.log(4), rel=1e-5)


def test_terms_add_up():
    logits, labels = random_case(9, 3)
    parts = [make_loss(name)(logits, labels).item() for name in ("ce", "dice", "lovasz")]
    assert make_loss("ce+dice+lovasz")(logits, labels).item() == pytest.approx(sum(parts), rel=1e-6)


def test_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidOption, match=r"dise.*dice"):
        make_loss("ce+dise")


def two_houses() -> torch.Tensor:
    objects = torch.zeros(1, 1, 32, 32)
    objects[..., 8:24, 4:14] = 1
    objects[..., 8:24, 17:28] = 1
    return objects


def test_gap_between_neighbours_is_found_and_open_ground_is_not():
    found = gaps(two_houses())[0, 0]
    assert bool((found[12:20, 14:17] == 1).all())
    assert found[:, 29:].sum() == found[:, :3].sum() == found[:4].sum() == 0
    assert bool((found * two_houses()[0, 0] == 0).all())


def test_outlines_are_both_sides_of_an_edge():
    found = outlines(two_houses())[0, 0]
    assert bool((found[15, 3:5] == 1).all())
    assert found[15, 2] == found[15, 5] == 0


@pytest.mark.parametrize(("gap", "outline"), [(5.0, 1.0), (1.0, 0.1)])
def test_weights_change_what_an_error_there_costs(gap, outline):
    labels = two_houses()[:, 0].to(torch.uint8)
    closed = sure(labels, 1, 8.0)
    closed[..., 8:24, 14:17] = 8.0  # the gap is called a house
    plain, weighted = make_loss("ce"), make_loss("ce", gap_weight=gap, outline_weight=outline)
    if gap > 1:
        assert weighted(closed, labels) > plain(closed, labels) * 2
    else:
        edge = sure(labels, 1, 8.0)
        edge[..., 8:24, 3] = 8.0
        assert weighted(edge, labels) < plain(edge, labels) * 0.5


def test_the_recipe_knows_the_terms_of_a_loss() -> None:
    for name in LOSSES:
        assert callable(make_loss(name))
