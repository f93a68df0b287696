"""Whether INT8 is used where something else is as fast: by clocks and predictors of the tests."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.backends import select, trial
from geoseg.backends.base import Predictor
from geoseg.backends.precision import GAIN, Choice, weigh
from geoseg.backends.trial import TURNS, compare_speed, int8_gain
from geoseg.errors import InvalidModel
from geoseg.models.bundle import Bundle
from tests.backends.test_predictors import with_int8

FACTS: dict[str, object] = {"cpu": "of paper", "cores": 2}
USUAL = "INT8 is 0.80 times as fast here"


class Clock:
    """Seconds that pass only where the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: Iterator[float]) -> Callable[[], None]:
        def turn() -> None:
            self.now += next(seconds)

        return turn


class Paper:
    """A predictor that does nothing, or fails; counts what it is asked."""

    name, device, normalizes = "paper", "cpu", True

    def __init__(self, error: Exception | None = None) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.error = error

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        self.shapes.append(batch.shape)
        if self.error:
            raise self.error
        return np.zeros(batch.shape, np.uint16)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "geoseg" / "int8"


@pytest.fixture
def bundle(binary: Bundle, tmp_path: Path) -> Bundle:
    return with_int8(binary, tmp_path, 0.1)


def endless(values: list[float]) -> Iterator[float]:
    while True:
        yield from values


@given(
    st.lists(st.floats(0.01, 10), min_size=1, max_size=5),
    st.lists(st.floats(0.01, 10), min_size=1, max_size=5),
)
def test_what_disturbs_a_turn_is_not_counted(usual: list[float], small: list[float]) -> None:
    clock = Clock()
    gain = compare_speed(clock.takes(endless(usual)), clock.takes(endless(small)), clock)
    turns = max(TURNS, len(usual), len(small))
    assert min(usual) / max(small) <= gain * (1 + 1e-6)
    assert gain <= max(usual[:turns]) / min(small) * (1 + 1e-6)
    disturbed = Clock()
    # Nine of ten turns take up to eleven times as long: the best of each is what it was.
    noise = [0.0, *(value * 10 for value in usual)]
    first = disturbed.takes(endless([1.0 + extra for extra in noise]))
    second = disturbed.takes(endless([0.5]))
    assert compare_speed(first, second, disturbed) == pytest.approx(2.0)


def test_both_take_turns_for_a_while_and_some_turns_at_least() -> None:
    for seconds, turns in ((0.1, 5), (0.25, TURNS), (3.0, TURNS)):
        clock, order = Clock(), []

        def turn(name: str, clock: Clock = clock, order: list[str] = order, took: float = seconds) -> None:
            order.append(name)
            clock.now += took

        compare_speed(lambda turn=turn: turn("usual"), lambda turn=turn: turn("small"), clock)  # type: ignore[misc]
        assert len(order) >= 2 * turns
        assert order[:4] == ["usual", "small", "usual", "small"]
        assert clock.now <= max(trial.SECONDS, 2 * TURNS * seconds) + 2 * seconds


def test_turns_that_take_no_time_at_all_are_no_error() -> None:
    ticks = endless([0.0] * 10 + [trial.SECONDS])
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += next(ticks)
        return now

    assert math.isfinite(compare_speed(lambda: None, lambda: None, clock))


@pytest.mark.parametrize(
    ("gain", "precision", "reason"),
    [
        (GAIN, "int8", "1.10 times as fast as bf16 here; it loses 0.1 IoU points by the card"),
        (2.666, "int8", "2.67 times as fast as bf16 here; it loses 0.1 IoU points by the card"),
        (0.8, "bf16", USUAL),
        (1.04, "bf16", "INT8 is 1.04 times as fast here"),
        (0.0, "bf16", "OpenVINO cannot run INT8 here"),
    ],
)
def test_int8_has_to_be_faster(gain: float, precision: str, reason: str) -> None:
    choice = Choice("int8", "it loses 0.1 IoU points by the card", "bf16")
    assert weigh(choice, gain) == Choice(precision, reason)  # type: ignore[arg-type]
    settled = Choice("f32", "as asked for")
    assert weigh(settled, gain) is settled


def ask(bundle: Bundle, predictors: dict[str, Predictor], facts: dict[str, object] = FACTS) -> list[object]:
    said: list[object] = []
    gain = int8_gain(bundle, "bf16", predictors.__getitem__, facts, said.append)
    return [gain, *said]


def test_it_is_measured_once_and_noted(bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "compare_speed", lambda *_: 1.5)
    small, usual = Paper(), Paper()
    gain, said = ask(bundle, {"int8": small, "bf16": usual})
    assert gain == 1.5
    assert "trying once whether tiny is faster in INT8 or bf16" in str(said)
    assert small.shapes == usual.shapes
    assert small.shapes[0][1:] == (3, bundle.card.tile, bundle.card.tile)
    monkeypatch.setattr(trial, "compare_speed", lambda *_: 0.5)
    assert ask(bundle, {}) == [1.5]  # nothing is loaded, or said
    (path,) = cache.iterdir()
    content = json.loads(path.read_text())
    assert content["int8"] == 1.5
    assert content["machine"]["model"] == bundle.card.digest
    elsewhere = ask(bundle, {"int8": small, "bf16": usual}, {**FACTS, "cores": 3})
    assert elsewhere[0] == 0.5


@pytest.mark.parametrize(
    "noted", ["soon", None, [], {}, -1.0, 0.0, float("nan"), float("inf"), True, 10**400]
)
def test_a_note_that_is_no_gain_is_not_believed(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, noted: object
) -> None:
    monkeypatch.setattr(trial, "compare_speed", lambda *_: 1.5)
    predictors: dict[str, Predictor] = {"int8": Paper(), "bf16": Paper()}
    ask(bundle, predictors)
    (path,) = cache.iterdir()
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"int8": noted}))
    monkeypatch.setattr(trial, "compare_speed", lambda *_: 2.5)
    assert ask(bundle, predictors)[0] == 2.5
    assert ask(bundle, {}) == [2.5]


def test_int8_that_does_not_run_is_not_used_and_tried_again(bundle: Bundle, cache: Path) -> None:
    predictors: dict[str, Predictor] = {"int8": Paper(InvalidModel("no such kernel")), "bf16": Paper()}
    assert ask(bundle, predictors)[0] == 0.0
    assert not cache.exists()


@pytest.mark.parametrize(("gain", "precision"), [(3.0, "int8"), (0.5, None), (0.0, None)])
def test_auto_heeds_the_trial(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, gain: float, precision: str | None
) -> None:
    asked: list[str] = []

    def of_paper(_bundle: Bundle, usual: str, _load: object, facts: dict[str, object], _say: object) -> float:
        asked.append(usual)
        assert facts["cpu"]
        return gain

    monkeypatch.setattr(select, "int8_gain", of_paper)
    recipe = select.settle(bundle, device="cpu")
    assert recipe.precision == (precision or asked[0])
    assert recipe.name.startswith(f"openvino {recipe.precision}")
    told = f"{gain:.2f} times as fast" if gain else "OpenVINO cannot run INT8 here"
    assert told in recipe.reason
    select.settle(bundle, device="cpu", precision="int8")  # what was asked for is not tried
    select.settle(bundle, device="cpu", precision="f32")
    select.settle(bundle, backend="onnx", device="cpu")
    assert len(asked) == 1


def test_the_choice_does_not_hang_on_how_many_threads_a_run_takes(bundle: Bundle, cache: Path) -> None:
    said: list[str] = []
    for threads in (None, 1, 2):
        select.settle(bundle, device="cpu", threads=threads, say=said.append)
    assert len(said) == len(list(cache.iterdir())) == 1


def test_where_the_other_precision_fails_int8_is_left_to_itself(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> float:
        raise InvalidModel("not in bf16")

    monkeypatch.setattr(select, "int8_gain", failing)
    assert select.settle(bundle, device="cpu").precision == "int8"


def test_a_real_trial_leaves_nothing_loaded_and_gives_a_number(bundle: Bundle, cache: Path) -> None:
    said: list[str] = []
    recipe = select.settle(bundle, device="cpu", say=said.append)
    assert len(said) == 1
    (path,) = cache.iterdir()
    assert json.loads(path.read_text())["int8"] > 0
    again = select.settle(bundle, device="cpu", say=said.append)
    assert (again, len(said)) == (recipe, 1)
