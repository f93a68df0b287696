from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.assessment.int8 import LabelledTile, compare_precisions
from geoseg.testing import PointwisePredictor
from geoseg.values import CERTAIN, ClassRule

RULE = ClassRule((1,), 0.5)


class Fixed:
    """Gives one map, whatever it sees."""

    device = "cpu"
    normalizes = False

    def __init__(self, values: NDArray[np.bool_], name: str = "fixed") -> None:
        self.name = name
        self._values = np.where(values, CERTAIN, 0).astype(np.uint16)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        return np.broadcast_to(self._values, (len(batch), 1, *self._values.shape)).copy()


def tile(truth: NDArray[np.bool_], known: NDArray[np.bool_] | None = None, place: str = "") -> LabelledTile:
    everywhere = np.ones(truth.shape, bool) if known is None else known
    pixels = truth[None].astype(np.float32)
    return LabelledTile(pixels, truth.astype(np.uint8), everywhere, place)


@given(st.integers(0, 2**32 - 1))
def test_figures_are_those_of_the_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, one, two, known = random.random((4, 8, 9)) < 0.6
    truth[0, 0] = known[0, 0] = True
    reports = compare_precisions({"f32": Fixed(one), "int8": Fixed(two)}, RULE, [tile(truth, known)])
    iou = [((found & truth)[known].sum() / (found | truth)[known].sum()) for found in (one, two)]
    assert [report.iou for report in reports.values()] == pytest.approx(iou)
    assert reports["int8"].loss_iou_points == pytest.approx(100 * (iou[0] - iou[1]))
    assert reports["int8"].changed == pytest.approx((one != two)[known].mean())
    first = reports["f32"]
    assert (first.loss_iou_points, first.changed) == (0, 0)


def test_places_count_the_same_whatever_their_size_and_the_worst_is_told() -> None:
    truth = np.zeros((4, 10), bool)
    truth[:, :5] = True
    half = np.zeros((4, 10), bool)
    half[:2, :5] = True
    good, bad = Fixed(truth), Fixed(half)

    class Varying(Fixed):
        def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
            return (bad if batch[0, 0, 0, 9] else good)(batch)

    marked = tile(truth, place="small")
    marked.pixels[0, 0, 9] = 1
    tiles = [*[tile(truth, place="large")] * 3, marked]
    found = compare_precisions({"f32": good, "int8": Varying(truth)}, RULE, tiles)["int8"]
    assert found.iou == pytest.approx((1 + 0.5) / 2)
    assert found.loss_iou_points == pytest.approx(25)
    assert found.worst_iou_points == pytest.approx(50)


def test_places_without_objects_have_no_iou_but_count_as_changed() -> None:
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    found = compare_precisions({"f32": Fixed(empty), "int8": Fixed(full)}, RULE, [tile(empty)])["int8"]
    assert math.isnan(found.iou)
    assert math.isnan(found.loss_iou_points)
    assert found.changed == 1


def test_classes_of_several_channels_are_averaged() -> None:
    rule = ClassRule((0, 1, 2), 0.3)
    pixels = np.zeros((3, 2, 4), np.float32)
    classes = np.array([[0, 0, 1, 1], [2, 2, 2, 2]], np.uint8)
    for channel in range(3):
        pixels[channel][classes == channel] = 1
    truth = classes.copy()
    truth[0, 0] = 1  # one of three pixels of class 1 is missed
    labelled = LabelledTile(pixels, truth, np.ones((2, 4), bool))
    found = compare_precisions({"f32": PointwisePredictor(3)}, rule, [labelled])["f32"]
    assert found.iou == pytest.approx((2 / 3 + 1) / 2)


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        compare_precisions({"f32": PointwisePredictor()}, RULE, [])
