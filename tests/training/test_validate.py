"""Scores of answers: closed forms on made-up ground, and ground answered whole."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.labels.classes import IGNORE
from geoseg.metrics import Confusion
from geoseg.training import validate
from geoseg.training.data.ground import PictureGround
from geoseg.training.validate import (
    Answer,
    Reading,
    Score,
    answers,
    best_reading,
    merit,
    outlines,
    score,
    sweep,
    total,
)
from geoseg.values import CERTAIN, ClassRule
from geoseg.vector.split import SplitRule

pytestmark = pytest.mark.slow

RULE = ClassRule((1,), 0.5)


class Red(torch.nn.Module):
    """Says building where the first band is bright; each pixel alone."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(9.0))
        self.sides = []

    def forward(self, image):
        self.sides.append(image.shape[2:])
        return image[:, :1] * self.gain


def answer(probability, labels):
    values = np.round(np.asarray(probability) * CERTAIN).astype(np.uint16)
    labels = np.asarray(labels, np.uint8)
    return Answer(np.zeros((3, *labels.shape), np.uint8), values.reshape(-1, *labels.shape), labels)


def ground(labels, gsd_m=0.3):
    labels = np.asarray(labels, np.uint8)
    pixels = np.where(labels == 1, 255, 0).astype(np.uint8)[None].repeat(3, 0)
    return PictureGround("a", "a", (gsd_m, gsd_m), pixels, labels)


@pytest.fixture
def houses():
    labels = np.zeros((20, 20), np.uint8)
    labels[2:8, 2:8] = labels[12:18, 2:8] = 1
    labels[:, 15:] = IGNORE
    probability = np.zeros((20, 20))
    probability[2:8, 2:8] = 0.9
    probability[12:14, 10:12] = 0.8
    probability[5:9, 16:19] = 0.99
    return answer(probability, labels)


def test_score_counts_pixels_objects_and_ground(houses):
    found = score(houses, RULE, 0.3)
    (pixels,), (objects,) = found.pixels, found.objects
    assert (pixels.true_positives, pixels.false_positives, pixels.false_negatives) == (36, 4, 36)
    assert (objects.true_positives, objects.false_positives, objects.false_negatives) == (1, 1, 1)
    assert found.iou == 36 / 76
    assert found.f1 == 0.5
    assert found.area_m2 == pytest.approx(300 * 0.09)
    assert found.false_per_km2 == pytest.approx(1e6 / 27)
    assert found.false_share == pytest.approx(4 / 300)


def test_small_predictions_can_be_left_out(houses):
    assert score(houses, RULE, 0.3, min_area_m2=0.5).objects[0].false_positives == 0
    assert score(houses, RULE, 0.3, objects=False).objects == (Confusion(),)


def test_touching_objects_and_confidence_count_as_predict_writes_them():
    labels, probability = np.zeros((20, 44), np.uint8), np.full((20, 44), 0.05)
    labels[2:18, 2:20] = labels[2:18, 24:42] = 1
    probability[2:18, 2:42] = 0.6
    probability[2:18, 2:20] = probability[2:18, 24:42] = 0.95
    row = answer(probability, labels)
    assert score(row, RULE, 0.3).objects[0] == Confusion(0, 1, 2, 0)
    assert score(row, Reading(RULE, SplitRule(0.2, 40)), 0.3).objects[0] == Confusion(2, 0, 0, 0)
    assert score(row, Reading(RULE, None, 0.95), 0.3).objects[0] == Confusion(0, 0, 2, 0)


def test_scores_add_up(houses):
    one = score(houses, RULE, 0.3)
    both = total([one, one], RULE)
    assert both.objects[0].true_positives == 2
    assert both.area_m2 == 2 * one.area_m2
    nothing = total([], RULE)
    assert math.isnan(nothing.false_per_km2)
    assert math.isnan(nothing.false_share)
    assert not nothing.built


def test_classes_that_are_not_there_are_left_out_of_the_mean():
    rule = ClassRule((0, 3, 7, 9), 1 / CERTAIN)
    labels = np.array([[3, 3, 7, 0]])
    values = np.zeros((4, 1, 4))
    values[[1, 1, 2, 3], 0, [0, 1, 2, 3]] = 1
    found = score(answer(values, labels), rule, 1.0, objects=False)
    assert found.iou == 1, "class 9 is nowhere"
    assert found.false_share == 0.25


def test_outlines_are_components_with_their_holes():
    mask = np.zeros((12, 12), bool)
    mask[1:6, 1:6] = True
    mask[3, 3] = False
    mask[6, 6] = True
    assert sorted(shape.area for shape in outlines(mask)) == [1, 24]
    assert len(outlines(np.zeros((4, 4), bool))) == 0


def test_the_best_threshold_is_that_of_the_built_places():
    labels = np.array([[1] * 5 + [0] * 5])
    found = answer([[0.9, 0.8, 0.7, 0.6, 0.45, 0.35, 0.2, 0.1, 0.1, 0.1]], labels)
    empty = answer(np.ones((1, 10)), np.zeros((1, 10)))
    rules = [Reading(ClassRule((1,), value)) for value in (0.5, 0.3, 0.4, 0.65)]
    assert best_reading([sweep([found], rules, 0.3), sweep([empty], rules, 0.3)]) == 2
    assert best_reading([sweep([empty], rules, 0.3)]) == 0, "without objects, the first"
    flat = answer([[0.9] * 5 + [0.1] * 5], labels)
    assert best_reading([sweep([flat], rules, 0.3)]) == 0, "of equals, the first"


def test_merit_rewards_objects_and_punishes_false_area():
    built = Score((Confusion(60, 20, 20, 100),), (Confusion(),), 1.0)
    empty = Score((Confusion(0, 10, 0, 90),), (Confusion(),), 1.0)
    unknown = Score((Confusion(),), (Confusion(),), 0.0)
    assert merit([built, empty, unknown]) == pytest.approx(0.6 - 0.1)
    assert merit([empty]) == pytest.approx(-0.1)
    assert merit([unknown]) == 0


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([32, 64]), st.sampled_from([0.3, 0.15, 0.6]))
def test_ground_is_answered_whole_however_it_is_tiled(rows, cols, largest, gsd_m):
    labels = np.zeros((rows, cols), np.uint8)
    labels[: rows // 2] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate, "LARGEST", largest)
        (found,) = answers(Red(), [ground(labels, gsd_m)], 0.3, "sigmoid")
        patch.setattr(validate, "LARGEST", 1024)
        (once,) = answers(Red(), [ground(labels, gsd_m)], 0.3, "sigmoid")
    assert found.labels.shape == tuple(max(1, round(size * gsd_m / 0.3)) for size in (rows, cols))
    for name in ("pixels", "values", "labels"):
        assert np.array_equal(getattr(found, name), getattr(once, name)), name


def test_an_object_across_tiles_is_one(monkeypatch):
    labels = np.zeros((100, 100), np.uint8)
    labels[20:80, 20:80] = 1
    monkeypatch.setattr(validate, "LARGEST", 32)
    (whole,) = answers(Red(), [ground(labels)], 0.3, "sigmoid")
    assert score(whole, RULE, 0.3).objects[0] == Confusion(1, 0, 0, 0)
    monkeypatch.setattr(validate, "WHOLE", 64)
    parts = list(answers(Red(), [ground(labels)], 0.3, "sigmoid"))
    assert len(parts) == 16, "larger ground comes tile by tile"
    assert sum(part.labels.size for part in parts) == labels.size


def test_the_network_sees_no_more_than_the_region_and_its_context():
    """A block of a large scene is not answered in tiles of the scene's size."""

    block = ground(np.zeros((600, 600), np.uint8))
    object.__setattr__(block, "region", validate.Window(10, 300, 40, 30))
    network = Red()
    (found,) = answers(network, [block], 0.3, "sigmoid")
    assert found.labels.shape == (40, 30)
    assert network.sides == [(128, 128)]


def test_answers_leave_the_network_in_its_mode():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.BatchNorm2d(1)).eval()
    list(answers(network, [ground(np.zeros((40, 40)))], 0.3, "sigmoid"))
    assert not network.training
    assert network[1].num_batches_tracked.item() == 0
