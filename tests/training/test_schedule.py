"""The learning rate over steps and time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.training.recipe import Optimization
from geoseg.training.schedule import done_share, rate_share

OPTIONS = Optimization(steps=1000, minutes=10, warmup_steps=50)


@given(st.integers(0, 2000), st.floats(0, 1200))
def test_shares_stay_between_0_and_1(step, seconds):
    assert 0 <= rate_share(OPTIONS, step, seconds) <= 1
    assert 0 <= done_share(OPTIONS, step, seconds) <= 1


@given(st.integers(50, 999), st.floats(0, 600))
def test_rate_falls_with_steps_and_with_time(step, seconds):
    now = rate_share(OPTIONS, step, seconds)
    assert rate_share(OPTIONS, step + 1, seconds) <= now
    assert rate_share(OPTIONS, step, seconds + 1) <= now


def test_corners():
    assert rate_share(OPTIONS, 0, 0) == pytest.approx(1 / 50)
    assert rate_share(OPTIONS, 500, 0) == rate_share(OPTIONS, 60, 300) == pytest.approx(0.5)
    assert rate_share(OPTIONS, 1000, 0) == rate_share(OPTIONS, 60, 600) == pytest.approx(0)


@given(st.integers(0, 999), st.floats(0, 1e9))
def test_without_a_time_limit_only_steps_count(step, seconds):
    assert done_share(Optimization(steps=1000), step, seconds) == step / 1000
