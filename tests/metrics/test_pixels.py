"""Pixel counts: closed forms, and laws that hold for any two maps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoseg.metrics import Confusion, confusion, confusion_matrix

shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))


@st.composite
def triples(draw):
    shape = draw(shapes)
    return tuple(draw(arrays(bool, shape)) for _ in range(3))


def test_closed_form():
    predicted = np.array([[True, True, True, False, False, True]])
    truth = np.array([[True, True, False, True, False, False]])
    known = np.array([[True, True, True, True, True, False]])
    counts = confusion(predicted, truth, known)
    assert counts == Confusion(2, 1, 1, 1)
    assert (counts.iou, counts.precision, counts.recall, counts.f1) == (2 / 4, 2 / 3, 2 / 3, 4 / 6)


@given(triples())
def test_every_known_pixel_is_counted_once(maps):
    predicted, truth, known = maps
    c = confusion(predicted, truth, known)
    total = c.true_positives + c.false_positives + c.false_negatives + c.true_negatives
    assert total == known.sum()
    assert c.true_positives + c.false_negatives == (truth & known).sum()
    assert c.true_positives + c.false_positives == (predicted & known).sum()


@given(triples())
def test_unknown_pixels_have_no_influence(maps):
    predicted, truth, known = maps
    assert confusion(predicted ^ ~known, truth, known) == confusion(predicted, truth, known)


@given(triples(), st.integers(0, 6))
def test_counts_of_parts_add_up(maps, row):
    predicted, truth, known = maps
    parts = [confusion(*(array[part] for array in maps)) for part in (slice(None, row), slice(row, None))]
    assert parts[0] + parts[1] == confusion(predicted, truth, known)


@given(triples())
def test_swapping_swaps_precision_and_recall(maps):
    forward, backward = confusion(maps[0], maps[1]), confusion(maps[1], maps[0])
    assert forward.iou == backward.iou or math.isnan(forward.iou)
    assert (forward.false_positives, forward.false_negatives) == (
        backward.false_negatives,
        backward.false_positives,
    )


@given(st.tuples(*[st.integers(0, 1000)] * 4))
def test_f1_and_iou_tell_the_same(numbers):
    counts = Confusion(*numbers)
    if math.isnan(counts.iou):
        assert math.isnan(counts.f1)
    else:
        assert counts.f1 == pytest.approx(2 * counts.iou / (1 + counts.iou))


def test_nothing_to_divide_by_is_nan_not_perfect():
    counts = confusion(np.zeros((3, 3), bool), np.zeros((3, 3), bool))
    assert all(math.isnan(value) for value in (counts.iou, counts.precision, counts.recall, counts.f1))


def test_shapes_are_not_broadcast():
    with pytest.raises(ValueError, match="shapes differ"):
        confusion(np.zeros((3, 3), bool), np.zeros((1, 3), bool))


def test_class_ids_are_not_taken_for_yes_and_no():
    with pytest.raises(ValueError, match="must be bool"):
        confusion(np.full((2, 2), 2, np.uint8), np.ones((2, 2), bool))


@pytest.mark.slow
@given(
    st.integers(2, 6).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))
    )
)
def test_the_matrix_of_many_classes_agrees_with_others(drawn):
    import sklearn.metrics

    size, pairs = drawn
    truth, predicted = (np.array([pair[i] for pair in pairs], np.uint8) for i in (0, 1))
    ours = confusion_matrix(truth, predicted, size)
    if pairs:
        theirs = sklearn.metrics.confusion_matrix(truth, predicted, labels=range(size))
        assert (ours == theirs).all()
    assert ours.shape == (size, size)
    assert ours.sum() == len(pairs)
