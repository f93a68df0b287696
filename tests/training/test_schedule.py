"""The learning rate over steps and time."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from geoseg.training.callbacks import Schedule, cycles_done, done_share, rate_share
from geoseg.training.recipe import Optimization
from geoseg.training.task import make_optimizer

pytestmark = pytest.mark.slow

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


def test_the_rate_ends_at_the_final_one():
    options = Optimization(steps=1000, warmup_steps=50, final_rate=0.2)
    assert rate_share(options, 1000, 0) == pytest.approx(0.2)
    assert rate_share(options, 500, 0) == pytest.approx(0.6)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 2400))
@example(49, 1, 1)
def test_cycles_are_alike(cycles, length, step):
    several = Optimization(steps=cycles * length, cycles=cycles, warmup_steps=1, final_rate=0.1)
    one = Optimization(steps=length, warmup_steps=1, final_rate=0.1)
    step = min(step, cycles * length - 1)
    assert rate_share(several, step, 0) == pytest.approx(rate_share(one, step % length, 0))
    assert cycles_done(several, step, 0) == step // length
    assert rate_share(several, cycles * length, 0) == pytest.approx(0.1)
    assert cycles_done(several, cycles * length, 0) == cycles


def test_the_encoder_gets_its_share_of_the_rate():
    network = torch.nn.ModuleDict({"encoder": torch.nn.Conv2d(1, 1, 1), "head": torch.nn.Conv2d(1, 1, 1)})
    optimizer = make_optimizer(network, Optimization(learning_rate=1.0, encoder_rate=0.25, final_rate=0.5))
    trainer = SimpleNamespace(optimizers=[optimizer], global_step=10**6)
    Schedule(Optimization(learning_rate=1.0, final_rate=0.5)).on_train_batch_start(trainer, None)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    assert [rates[id(value)] for value in network["encoder"].parameters()] == [0.125, 0.125]
    assert [rates[id(value)] for value in network["head"].parameters()] == [0.5, 0.5]
