"""``--progress json``: one line of JSON an event, of the schema that docs/progress.md gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoseg.cli import run
from geoseg.cli.events import _EVENTS, _OUTCOMES, EventLines
from geoseg.testing import make_scene
from geoseg.training.events import Began, Noted, Stepped, Validated
from tests.promises.test_9_bad_input import good_scene
from tests.runs import REPOSITORY, bright_model, predict

DOCS = (REPOSITORY / "docs/progress.md").read_text("utf-8")


def lines(err: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in err.splitlines()]
    assert all(
        set(re.findall(r"`(\w+)`", DOCS)) >= {one["event"], *one} for one in found if one["event"] != "done"
    )
    return found


def test_a_prediction(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = predict(capfd, good_scene(tmp_path), "--progress", "json")
    assert result.code == 0
    told = lines(result.err)
    assert [one["event"] for one in told] == ["started", "began", "progress", "done"]
    assert (told[0]["command"], told[0]["elapsed"]) == ("predict", pytest.approx(0, abs=0.1))
    assert told[1]["total"] == told[2]["done"] == told[2]["total"] == 1
    assert told[2]["unit"] == "blocks"
    assert {key: told[3][key] for key in result.summary} == result.summary
    assert [one["elapsed"] for one in told] == sorted(one["elapsed"] for one in told)


def test_an_error_stays_the_last_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = predict(capfd, tmp_path / "missing.tif", "--progress", "json")
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("geoseg: error: ")


def test_training(capfd: pytest.CaptureFixture[str]) -> None:
    with EventLines() as tell:
        tell(Began(100, 5, ("few data",)))
        tell(Stepped(6, 0.06, 3.0, float("nan")))
        tell(Stepped(7, 0.07, 3.0, 0.5))  # too soon after the last
        tell(Validated(7, {"here": 0.5}, 0.5, 0.5))
        tell(Noted("halved the batch"))
        tell(Stepped(100, 1.0, 30.0, 0.1))
    _, began, first, validated, note, last = lines(capfd.readouterr().err)
    assert (began["total"], began["known"], began["warnings"]) == (100, 5, ["few data"])
    assert (first["step"], first["loss"], first["left"]) == (6, None, 47.0)
    assert (validated["iou"], validated["best"]) == ({"here": 0.5}, True)
    assert note["text"] == "halved the batch"
    assert (last["done"], last["left"]) == (1.0, 0.0)


def test_rasters_and_layers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What `geoseg vectorize`, `regularize` and `evaluate` tell: shares of the whole, then the end."""
    pixels = np.zeros((1, 40, 60), np.uint8)
    pixels[0, 5:25, 10:40] = 1
    raster = make_scene(tmp_path / "map.tif", pixels=pixels)
    traced, straight = tmp_path / "traced.gpkg", tmp_path / "straight.gpkg"
    recipe = tmp_path / "diff.yaml"
    recipe.write_text("kind: diff\nold: traced.gpkg\nnew: straight.gpkg\nout: changes.gpkg\n")
    commands = {
        "features": ["vectorize", str(raster), "--out", str(traced)],
        "regularized": ["regularize", str(traced), "--out", str(straight)],
        "old": ["run", str(recipe)],
        "objects": ["evaluate", str(straight), "--prediction", str(traced), "--scene", str(raster)],
    }
    for key, command in commands.items():
        assert run([*command, "--progress", "json"]) == 0
        began, *shares, done = lines(capfd.readouterr().err)
        assert (began["event"], began["command"]) == ("started", command[0])
        assert done["event"] == "done"
        assert done["exit_code"] == 0
        assert key in done
        if command[0] != "run":  # a difference is told at once
            assert {one["unit"] for one in shares} == {"share"}
            assert (shares[-1]["done"], shares[-1]["total"]) == (1.0, 1.0)


@pytest.mark.slow
def test_an_archive(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["batch", str(good_scene(tmp_path)), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert run([*command, "--model", str(bright_model()), "--progress", "json"]) == 0
    told = lines(capfd.readouterr().err)
    assert {one["unit"] for one in told if one["event"] == "progress"} == {"looks", "scenes"}
    assert told[-1] == {
        "event": "done",
        "states": {"done": 1},
        "before": 0,
        "left_out": {},
        "exit_code": 0,
        "elapsed": told[-1]["elapsed"],
    }


def test_every_event_and_outcome_of_the_rooms_is_told() -> None:
    """They go by the name of their class, so that nothing is imported for it."""
    from geoseg.archive import coordinator, facts, merge, run
    from geoseg.models import bundle
    from geoseg.prediction import report
    from geoseg.training import events

    rooms = (coordinator, facts, report, events, bundle, run, merge)
    missing = {name for name in (*_EVENTS, *_OUTCOMES) if not any(hasattr(room, name) for room in rooms)}
    assert not missing
    told = {kind.__name__ for room in (report, events) for kind in room.Event.__args__}
    assert told <= set(_EVENTS)
