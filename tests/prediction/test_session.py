"""A session opens model and scheduler once, whatever the number of scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoseg.backends import select
from geoseg.errors import GeosegError, InvalidOption
from geoseg.prediction import schedulers
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.session import Session, predict_scene
from geoseg.testing import make_scene
from tests.runs import bright_model


@pytest.fixture
def scenes(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(2)
    sizes = [(150, 180), (90, 200), (60, 70)]
    return [
        make_scene(tmp_path / f"{number}.tif", pixels=random.integers(0, 256, (3, *size), np.uint8))
        for number, size in enumerate(sizes)
    ]


def options(**more: Any) -> PredictOptions:
    return PredictOptions(model=str(bright_model()), overwrite=True, **more)


def counted(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> list[object]:
    calls: list[object] = []
    function = getattr(place, name)

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return function(*arguments, **named)

    monkeypatch.setattr(place, name, call)
    return calls


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_many_scenes_are_run_as_each_alone(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    for scene in scenes:
        predict_scene(scene, one / f"{scene.stem}.geojsonl", options())
    chosen = counted(monkeypatch, select, "choose_predictor")
    connected = counted(monkeypatch, schedulers, "connect")
    with Session(options(workers=workers)) as session:
        for scene in scenes:
            assert session.predict(scene, many / f"{scene.stem}.geojsonl").features > 0
    assert len(chosen) == 1
    assert len(connected) == (0 if workers is None else 1)
    assert files(many) == files(one)


def test_a_scene_that_fails_leaves_the_session_usable(scenes: list[Path], tmp_path: Path) -> None:
    with Session(options()) as session:
        with pytest.raises(GeosegError, match=r"missing\.tif"):
            session.predict(tmp_path / "missing.tif", tmp_path / "a.gpkg")
        own = options(threshold=0.9)
        strict = session.predict(scenes[0], tmp_path / "b.gpkg", own)
        assert strict.plan.rule.threshold == 0.9
        assert session.predict(scenes[0], tmp_path / "b.gpkg").plan.rule.threshold != 0.9


def test_another_model_needs_another_session(scenes: list[Path], tmp_path: Path) -> None:
    with Session(options()) as session, pytest.raises(InvalidOption, match="precision f32"):
        session.predict(scenes[0], tmp_path / "a.gpkg", options(precision="f32"))
