"""Speeds by clocks of the tests: no stopwatch decides a test."""

from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.assessment import compare
from geoseg.assessment.compare import SECONDS, TURNS, WORTH, advise, best_turns, measure_speeds
from geoseg.models.bundle import find_model
from tests.models.onnx_graphs import write_pointwise

SOME = st.lists(st.floats(0.01, 10), min_size=1, max_size=5)


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


@given(SOME, SOME)
def test_the_best_turn_of_each_counts(one: list[float], two: list[float]) -> None:
    clock = Clock()
    found = best_turns({"f32": clock.takes(cycle(one)), "int8": clock.takes(cycle(two))}, clock)
    for name, seconds in (("f32", one), ("int8", two)):
        assert min(seconds) - 1e-6 <= found[name] <= max(seconds[:TURNS]) + 1e-6


def test_precisions_take_turns_for_a_while_and_some_turns_at_least() -> None:
    for seconds in (0.1, 0.25, 3.0):
        clock, order = Clock(), list[str]()

        def turn(name: str, clock: Clock = clock, order: list[str] = order, took: float = seconds) -> None:
            order.append(name)
            clock.now += took

        best_turns({name: lambda name=name, turn=turn: turn(name) for name in ("a", "b")}, clock)  # type: ignore[misc]
        assert len(order) >= 2 * TURNS
        assert order[:4] == ["a", "b", "a", "b"]
        assert clock.now <= max(SECONDS, 2 * TURNS * seconds) + 2 * seconds


@given(
    st.dictionaries(st.sampled_from(["f32", "bf16", "int8"]), st.floats(0.1, 100), min_size=1),
    st.sampled_from(["f32", "bf16", "int8"]),
)
def test_advice_names_the_option_only_where_it_pays(speeds: dict[str, float], taken: str) -> None:
    line = advise(speeds, taken, "so")
    fastest = max(speeds.values())
    assert line.startswith(f"{taken} is the default (so)")
    assert ("--precision" in line) == (taken not in speeds or fastest >= WORTH * speeds[taken])
    assert f"--precision {taken}" not in line


def test_each_precision_that_runs_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SECONDS", 0.0)
    found = measure_speeds(find_model(str(write_pointwise(tmp_path / "m.onnx"))))
    assert {"f32"} <= set(found) <= {"f32", "bf16"}
    assert all(value > 0 for value in found.values())
