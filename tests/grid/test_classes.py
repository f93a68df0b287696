import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.grid import classify
from geoseg.values import CERTAIN, ClassRule


@given(st.floats(0.001, 0.999), st.integers(0, CERTAIN))
def test_one_channel_is_a_threshold(threshold: float, value: int) -> None:
    rule = ClassRule((3,), threshold)
    expected = 3 if value >= threshold * CERTAIN - 1e-6 else 0
    assert classify(np.full((1, 1, 1), value, np.uint16), rule)[0, 0] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [((10, 5, 5), 0), ((5, 10, 5), 7), ((5, 10, 10), 7), ((5, 5, 10), 9), ((0, 0, 0), 0)],
)
def test_the_first_largest_of_several_wins(values: tuple[int, ...], expected: int) -> None:
    rule = ClassRule((0, 7, 9), 0.5 / CERTAIN)
    assert classify(np.array(values, np.uint16)[:, None, None], rule)[0, 0] == expected


def test_a_winner_below_the_threshold_is_background() -> None:
    values = np.array([20000, 30000], np.uint16)[:, None, None]
    assert classify(values, ClassRule((1, 2), 0.5))[0, 0] == 0
    assert classify(values, ClassRule((1, 2), 0.4))[0, 0] == 2
