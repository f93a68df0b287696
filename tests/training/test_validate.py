"""Scores of answers: closed forms on made-up masks."""

import math

import numpy as np
import pytest
import torch

from geoseg.training.samples import BUILDING, UNKNOWN, Chip
from geoseg.training.validate import Answer, Score, answers, best_threshold, outlines, score, total


def answer(probability, mask) -> Answer:
    return Answer(np.asarray(probability, np.float32), np.asarray(mask, np.uint8))


@pytest.fixture
def houses() -> Answer:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:8, 2:8] = mask[12:18, 2:8] = BUILDING
    mask[:, 15:] = UNKNOWN
    probability = np.zeros((20, 20), np.float32)
    probability[2:8, 2:8] = 0.9
    probability[12:14, 10:12] = 0.8
    probability[5:9, 16:19] = 0.99
    return answer(probability, mask)


def test_score_counts_pixels_objects_and_ground(houses):
    found = score(houses, 0.5, 0.3)
    assert (found.pixels.true_positives, found.pixels.false_positives) == (36, 4)
    assert found.pixels.false_negatives == 36
    assert (found.objects.true_positives, found.objects.false_positives) == (1, 1)
    assert found.objects.false_negatives == 1
    assert found.area_m2 == pytest.approx(300 * 0.09)
    assert found.false_per_km2 == pytest.approx(1e6 / 27)
    assert found.false_share == pytest.approx(4 / 300)


def test_small_predictions_can_be_left_out(houses):
    assert score(houses, 0.5, 0.3, min_area_m2=0.5).objects.false_positives == 0


def test_scores_add_up(houses):
    one = score(houses, 0.5, 0.3)
    both = total([one, one])
    assert both.objects.true_positives == 2
    assert both.area_m2 == 2 * one.area_m2
    assert total([]) == Score()
    assert math.isnan(Score().false_per_km2)


def test_outlines_are_components_with_their_holes():
    mask = np.zeros((12, 12), bool)
    mask[1:6, 1:6] = True
    mask[3, 3] = False
    mask[6, 6] = True
    shapes = outlines(mask)
    assert sorted(shape.area for shape in shapes) == [1, 24]
    assert len(outlines(np.zeros((4, 4), bool))) == 0


def test_best_threshold_is_found():
    mask = np.zeros((1, 10), np.uint8)
    mask[:, :5] = BUILDING
    found = answer([[0.9, 0.8, 0.7, 0.6, 0.45, 0.35, 0.2, 0.1, 0.1, 0.1]], mask)
    empty = answer(np.ones((1, 10)), np.zeros((1, 10)))
    assert best_threshold({"a": [found], "b": [empty]}, [0.3, 0.4, 0.5, 0.65], 0.3) == 0.4


@pytest.mark.parametrize(("rows", "cols", "gsd_m"), [(50, 70, 0.3), (64, 64, 0.15), (40, 33, 0.6)])
def test_answers_have_the_size_of_the_ground(rows, cols, gsd_m):
    class Red(torch.nn.Module):
        def forward(self, image):
            assert image.shape[2] % 32 == image.shape[3] % 32 == 0
            return image[:, :1] * 50

    pixels = torch.zeros(3, rows, cols, dtype=torch.uint8)
    pixels[0, : rows // 2] = 255
    mask = torch.zeros(rows, cols, dtype=torch.uint8)
    (found,) = answers(Red(), [Chip("a", "a", gsd_m, pixels, mask)], 0.3)
    size = round(rows * gsd_m / 0.3), round(cols * gsd_m / 0.3)
    assert found.probability.shape == found.mask.shape == size
    half = size[0] // 2
    assert (found.probability[: half - 2] > 0.99).all()
    assert (found.probability[half + 2 :] < 0.01).all()


def test_answers_leave_the_network_in_its_mode():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.BatchNorm2d(1)).train()
    chip = Chip(
        "a", "a", 0.3, torch.zeros(3, 40, 40, dtype=torch.uint8), torch.zeros(40, 40, dtype=torch.uint8)
    )
    list(answers(network, [chip], 0.3))
    assert network.training
    assert network[1].num_batches_tracked.item() == 0
