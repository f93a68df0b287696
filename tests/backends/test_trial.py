"""Whether INT8 is used where something else is as fast: by clocks and predictors of the tests."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from geoseg.backends.trial import TURNS, Trial, compare_speed
from geoseg.errors import InvalidModel, InvalidOption
from geoseg.models.bundle import Bundle
from geoseg.notes import Note
from geoseg.prediction.journal import Journal
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.survey import survey
from geoseg.testing import make_scene
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
    trial._done.clear()
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


def loading(small: Predictor, usual: Predictor) -> Callable[[str], Predictor]:
    return lambda name: small if name == "int8" else usual


def test_it_is_measured_once_and_noted(bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "compare_speed", lambda *_: 1.5)
    small, usual = Paper(), Paper()
    here = Trial(bundle, "bf16", FACTS)
    assert here.known() is None
    assert here.run(loading(small, usual)) == here.known() == 1.5
    assert small.shapes == usual.shapes
    side = min(trial.TILE, bundle.card.tile)
    assert small.shapes == [(trial.TILES, 3, side, side)]
    (path,) = cache.iterdir()
    content = json.loads(path.read_text())
    assert content["int8"] == 1.5
    assert content["machine"]["model"] == bundle.card.digest
    trial._done.clear()  # as in another process
    assert here.known() == 1.5
    assert Trial(bundle, "f32", FACTS).known() is None
    assert Trial(bundle, "bf16", {**FACTS, "cpu": "another"}).known() is None


def test_of_processes_side_by_side_the_first_note_counts(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Trial(bundle, "bf16", FACTS)

    def meanwhile(*_: object) -> float:
        Note("int8", here._note().facts).write(0.7)
        return 1.5

    monkeypatch.setattr(trial, "compare_speed", meanwhile)
    assert here.run(loading(Paper(), Paper())) == here.known() == 0.7


@pytest.mark.parametrize(
    "noted", ["soon", None, [], {}, -1.0, 0.0, float("nan"), float("inf"), True, 10**400]
)
def test_a_note_that_is_no_gain_is_not_believed(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, noted: object
) -> None:
    monkeypatch.setattr(trial, "compare_speed", lambda *_: 1.5)
    here = Trial(bundle, "bf16", FACTS)
    here.run(loading(Paper(), Paper()))
    (path,) = cache.iterdir()
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"int8": noted}))
    trial._done.clear()
    assert here.known() is None


def test_where_no_note_can_be_kept_a_process_tries_once(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "compare_speed", lambda *_: 1.5)
    (tmp_path / "cache").touch()  # where the folder should be
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = Trial(bundle, "bf16", FACTS)
    here.run(loading(Paper(), Paper()))
    assert here.known() == 1.5


def test_int8_that_does_not_run_is_not_used_and_not_noted(bundle: Bundle, cache: Path) -> None:
    here = Trial(bundle, "bf16", FACTS)
    assert here.run(loading(Paper(InvalidModel("no such kernel")), Paper())) == here.known() == 0.0
    assert not cache.exists()
    trial._done.clear()
    with pytest.raises(InvalidModel, match="not in bf16"):
        here.run(loading(Paper(), Paper(InvalidModel("not in bf16"))))
    assert here.known() is None


@pytest.mark.parametrize(("gain", "precision"), [(3.0, "int8"), (0.5, None), (0.0, None)])
def test_auto_heeds_the_trial(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, gain: float, precision: str | None
) -> None:
    asked: list[Trial] = []

    def run(here: Trial, _load: object) -> float:
        asked.append(here)
        return gain

    monkeypatch.setattr(Trial, "run", run)
    before = select.settle(bundle, device="cpu", say=None)
    assert (before.precision, before.untried, asked) == ("int8", True, [])
    recipe = select.settle(bundle, device="cpu")
    assert (recipe.precision, recipe.untried) == (precision or asked[0].usual, False)
    assert recipe.name.startswith(f"openvino {recipe.precision}")
    told = f"{gain:.2f} times as fast" if gain else "OpenVINO cannot run INT8 here"
    assert told in recipe.reason
    assert asked[0].machine["cpu"]
    for options in ({"precision": "int8"}, {"precision": "f32"}, {"backend": "onnx"}):
        assert not select.settle(bundle, device="cpu", **options).untried  # type: ignore[arg-type]
    assert len(asked) == 1  # what was asked for is not tried


def test_the_choice_does_not_hang_on_how_many_threads_a_run_takes(bundle: Bundle, cache: Path) -> None:
    said: list[str] = []
    for threads in (None, 1, 2):
        select.settle(bundle, device="cpu", threads=threads, say=said.append)
    assert len(said) == len(list(cache.iterdir())) == 1
    assert "trying once whether tiny is faster in INT8 or" in said[0]


def test_where_the_other_precision_fails_int8_is_left_to_itself(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> float:
        raise InvalidModel("not in bf16")

    monkeypatch.setattr(Trial, "run", failing)
    assert select.settle(bundle, device="cpu").precision == "int8"


def test_a_real_trial_gives_a_number_and_the_same_choice_ever_after(bundle: Bundle, cache: Path) -> None:
    said: list[str] = []
    recipe = select.settle(bundle, device="cpu", say=said.append)
    (path,) = cache.iterdir()
    assert json.loads(path.read_text())["int8"] > 0
    trial._done.clear()
    assert select.settle(bundle, device="cpu", say=said.append) == recipe
    assert select.settle(bundle, device="cpu", say=None).reason == recipe.reason
    assert len(said) == 1


@pytest.fixture
def gains(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the next trials will measure; each is taken once."""
    coming: list[float] = []
    monkeypatch.setattr(Trial, "run", lambda here, _load: trial._done.setdefault(here._key(), coming.pop(0)))
    return coming


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return make_scene(tmp_path / "scene.tif", size=(300, 200))


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_a_run_is_planned_in_the_precision_that_won_and_refused_before_a_trial(
    bundle: Bundle, cache: Path, scene: Path, gains: list[float], gain: float
) -> None:
    gains.append(gain)
    model, said = str(bundle.path), list[str]()
    with pytest.raises(InvalidOption, match="at least"):
        survey(scene, PredictOptions(model=model, max_memory=10**7), say=said.append)
    assert said == []
    work, _ = survey(scene, PredictOptions(model=model), say=said.append)
    won = "int8" if gain > 1 else select.settle(bundle, device="cpu", say=None).precision
    assert work.plan.precision.startswith(f"openvino {won}")
    assert work.load().name == work.plan.precision
    assert f"INT8 is {gain:.2f} times" in work.plan.reason or f"{gain:.2f} times as fast" in work.plan.reason
    assert len(said) == 1
    again, _ = survey(scene, PredictOptions(model=model), say=said.append)
    assert (again.plan.digest, len(said)) == (work.plan.digest, 1)


@pytest.mark.parametrize(("first", "then"), [(0.5, 3.0), (3.0, 0.5)])
def test_an_interrupted_run_goes_on_in_its_own_precision(
    bundle: Bundle, cache: Path, scene: Path, gains: list[float], first: float, then: float
) -> None:
    out, options = scene.with_name("out.gpkg"), PredictOptions(model=str(bundle.path))
    gains += [first, then]
    begun, _ = survey(scene, options, out)
    journal = Journal.beside(out, begun.plan.digest)
    journal.begin()
    (journal.folder / f"block-0-0-{begun.plan.digest[:16]}.npz").touch()
    trial._done.clear()  # on another machine, or without the cache of the user
    said = list[str]()
    gone_on, _ = survey(scene, options, out, say=said.append)
    assert (gone_on.plan.digest, said) == (begun.plan.digest, [])  # nothing was tried
    # Where nothing is known INT8 is the rule: only the other precision has to be looked for.
    assert ("as the run began" in gone_on.plan.reason) == (first < 1)
    anew, _ = survey(scene, replace(options, resume=False), out, say=said.append)
    assert anew.plan.digest != begun.plan.digest
    known, _ = survey(scene, options, out, say=said.append)  # though the trial says otherwise by now
    assert known.plan.digest == begun.plan.digest


def test_a_model_that_is_too_large_to_be_tried_beside_itself_is_not(
    bundle: Bundle, cache: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geoseg.backends import footprint

    monkeypatch.setattr(footprint, "TRIAL_SHARE", 1e6)
    said = list[str]()
    work, _ = survey(scene, PredictOptions(model=str(bundle.path)), say=said.append)
    assert said == []
    assert work.plan.precision.startswith("openvino int8")
