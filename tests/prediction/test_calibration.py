"""The remembered pace: kept between processes, corrected by runs, and never a reason to fail."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.backends.base import ReferencePredictor
from geoseg.errors import UnwritableOutput
from geoseg.prediction.blocks import Tally
from geoseg.prediction.calibration import keep, measure_pace, recall, remember, tile_pixels
from geoseg.prediction.forecast import START_SECONDS, Pace
from geoseg.prediction.plan import Plan
from geoseg.prediction.reading import Failure
from geoseg.prediction.report import RunReport
from geoseg.prediction.resources import Resources
from geoseg.values import Window
from tests.plans import make_test_plan
from tests.runs import REPOSITORY

HERE = Resources(threads=2, in_flight=3, batch=4)
PACE = Pace(1.5, 0.25, 1e-7, 3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "geoseg" / "pace"


@pytest.fixture
def plan() -> Plan:
    return make_test_plan((200, 300))


def report(plan: Plan, seconds: float, inferred: int = 20, **changes: object) -> RunReport:
    done = RunReport(plan, 0, None, Tally(inferred), (), seconds=seconds)
    return dataclasses.replace(done, **changes)  # type: ignore[arg-type]


def kept_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_was_kept_is_recalled(folder: Path, plan: Plan) -> None:
    assert recall(plan, HERE) is None
    keep(plan, HERE, PACE)
    assert recall(plan, HERE) == PACE
    assert json.loads(kept_file(folder).read_text())["machine"]["model"] == plan.model_digest


def test_another_model_backend_tile_batch_or_machine_has_a_pace_of_its_own(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(plan, HERE, PACE)
    others = [
        (dataclasses.replace(plan, model_digest="1" * 64), HERE),
        (dataclasses.replace(plan, precision="other"), HERE),
        (make_test_plan((200, 300), tile=32), HERE),
        (plan, dataclasses.replace(HERE, batch=1)),
        (plan, dataclasses.replace(HERE, workers=2)),
    ]
    assert [recall(other, resources) for other, resources in others] == [None] * len(others)
    assert recall(make_test_plan((900, 40)), HERE) == PACE  # of any scene
    monkeypatch.setattr("geoseg.prediction.calibration.platform.node", lambda: "elsewhere")
    assert recall(plan, HERE) is None
    assert len(list(folder.iterdir())) == 1


def test_the_pace_of_a_cluster_is_not_kept(folder: Path, plan: Plan) -> None:
    there = dataclasses.replace(HERE, scheduler="tcp://127.0.0.1:8786")
    keep(plan, there, PACE)
    assert recall(plan, there) is None
    assert not folder.exists()


@pytest.mark.parametrize(
    "pace",
    [
        {},
        {"start": 1, "tile": 0, "pixel": 0, "runs": 0},
        {"start": 1, "tile": "soon", "pixel": 0, "runs": 0},
        {"start": 1, "tile": float("nan"), "pixel": 0, "runs": 0},
        {"start": 1, "tile": 1, "pixel": 1e308, "runs": 0},
        {"start": 10**400, "tile": 1, "pixel": 0, "runs": 0},
        {"start": 1, "tile": 1, "pixel": 0, "runs": float("inf")},
        {"start": 1, "tile": [1], "pixel": 0, "runs": 0},
        [1, 2, 3],
        None,
    ],
)
def test_numbers_that_are_no_pace_are_not_believed(folder: Path, plan: Plan, pace: object) -> None:
    keep(plan, HERE, PACE)
    content = json.loads(kept_file(folder).read_text())
    kept_file(folder).write_text(json.dumps(content | {"pace": pace}))
    assert recall(plan, HERE) is None
    remember(report(plan, 10.0), HERE)
    assert recall(plan, HERE) is not None


@settings(max_examples=25)
@given(st.binary(max_size=60) | st.integers(0, 200))
def test_a_damaged_or_truncated_file_is_as_good_as_none(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes | int
) -> None:
    plan = make_test_plan((200, 300))
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(place))
        keep(plan, HERE, PACE)
        path = kept_file(place / "geoseg" / "pace")
        path.write_bytes(path.read_bytes()[:damage] if isinstance(damage, int) else damage)
        assert recall(plan, HERE) is None
        keep(plan, HERE, PACE)
        assert recall(plan, HERE) == PACE


def test_what_another_machine_left_under_the_name_is_not_believed(folder: Path, plan: Plan) -> None:
    keep(plan, HERE, PACE)
    content = json.loads(kept_file(folder).read_text())
    content["machine"]["host"] = "elsewhere"
    kept_file(folder).write_text(json.dumps(content))
    assert recall(plan, HERE) is None


@pytest.mark.parametrize("obstacle", ["file", "folder", "link"])
def test_a_cache_that_cannot_be_used_is_done_without(folder: Path, plan: Plan, obstacle: str) -> None:
    keep(plan, HERE, PACE)
    path = kept_file(folder)
    path.unlink()
    if obstacle == "folder":  # where the file should be
        path.mkdir()
        (path / "full").touch()
    elif obstacle == "link":  # that leads nowhere
        folder.rmdir()
        folder.symlink_to(folder.with_name("gone") / "away")
    else:  # where the folder should be
        folder.rmdir()
        folder.touch()
    keep(plan, HERE, PACE)
    remember(report(plan, 10.0), HERE)
    assert (recall(plan, HERE) is not None) == (obstacle == "folder")  # which is replaced


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UnwritableOutput("read-only")])
def test_a_full_or_read_only_disk_is_no_error(
    folder: Path, plan: Plan, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_path: Path) -> NoReturn:
        raise error

    keep(plan, HERE, PACE)
    monkeypatch.setattr("geoseg.notes.replacing", failing)
    remember(report(plan, 1000.0), HERE)
    assert recall(plan, HERE) == PACE
    assert folder.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is writable to root")
def test_a_cache_without_permission_is_done_without(folder: Path, plan: Plan) -> None:
    keep(plan, HERE, PACE)
    folder.chmod(0o500)
    try:
        remember(report(plan, 1000.0), HERE)
        assert recall(plan, HERE) == PACE
        kept_file(folder).chmod(0)
        assert recall(plan, HERE) is None
    finally:
        folder.chmod(0o700)


def test_a_user_without_a_home_has_no_cache(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", homeless)
    keep(plan, HERE, PACE)
    assert recall(plan, HERE) is None


_OTHER = """
from geoseg.prediction.calibration import keep, recall
from geoseg.prediction.forecast import Pace
from geoseg.prediction.resources import Resources
from tests.plans import make_test_plan

plan, here = make_test_plan((200, 300)), Resources(threads=2, in_flight=3, batch=4)
for i in range(25):
    keep(plan, here, Pace({start}, 0.25 + i, 1e-7, i))
    found = recall(plan, here)
    assert found is not None
    assert found.tile == 0.25 + found.runs
"""


def test_two_processes_never_see_half_a_file(folder: Path, plan: Plan) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _OTHER.format(start=start)], cwd=REPOSITORY)
        for start in (1.0, 2.0)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    found = recall(plan, HERE)
    assert found is not None
    assert found.runs == 24
    assert [path.suffix for path in folder.iterdir()] == [".json"]


def test_a_run_refreshes_what_was_measured(folder: Path, plan: Plan) -> None:
    keep(plan, HERE, Pace(1.0, 0.1, 0.0))
    remember(report(plan, 1.0 + 20 * 0.3), HERE)
    after = recall(plan, HERE)
    assert after is not None
    assert (after.start, after.tile, after.runs) == (1.0, pytest.approx(0.3), 1)
    assert len(list(folder.iterdir())) == 1


def test_the_first_run_is_remembered_though_nothing_was_measured(folder: Path, plan: Plan) -> None:
    remember(report(plan, START_SECONDS + 10), HERE)
    after = recall(plan, HERE)
    assert after is not None
    assert after.seconds(20, 20 * tile_pixels(plan)) == pytest.approx(START_SECONDS + 10)
    assert folder.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks_known": 3},
        {"inferred": 2},
        {"tally": Tally(20, failures=(Failure(Window(0, 0, 16, 16), "broken"),))},
    ],
)
def test_a_run_that_was_cut_short_teaches_nothing(
    folder: Path, plan: Plan, changes: dict[str, object]
) -> None:
    keep(plan, HERE, PACE)
    remember(report(plan, 100.0, **changes), HERE)  # type: ignore[arg-type]
    assert recall(plan, HERE) == PACE
    assert folder.exists()


def test_the_measurement_runs_whole_batches_until_its_time_is_up(plan: Plan) -> None:
    shapes = []

    class Counting(ReferencePredictor):
        def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
            shapes.append(batch.shape)
            return ReferencePredictor.__call__(self, batch)

    pace = measure_pace(Counting(), plan, 4, budget=0.0)
    assert shapes == [(4, 1, 16, 16)] * 2
    assert pace.runs == 0
    assert pace.start >= START_SECONDS
    assert pace.tile > 0
