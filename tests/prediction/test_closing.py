"""What a run opened is closed after it, however it ended and wherever it was open."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from geoseg.errors import GeosegError
from geoseg.prediction import session
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.session import predict_scene
from geoseg.raster import opening
from geoseg.testing import make_scene
from tests.runs import bright_model


def kept() -> list[str]:
    return [uri for uri, *_ in opening._handles]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(4).integers(0, 60_000, (3, 200, 220), np.uint16)
    return make_scene(tmp_path / "scene.tif", pixels=pixels)


def test_a_run_that_is_refused_leaves_no_scene_open(scene: Path, tmp_path: Path) -> None:
    options = PredictOptions(model=str(bright_model()), max_memory=1000)
    with pytest.raises(GeosegError, match="memory"):
        predict_scene(scene, tmp_path / "out.gpkg", options)
    assert str(scene) not in kept()


@pytest.mark.slow
def test_workers_of_a_cluster_that_runs_on_close_the_scene(scene: Path, tmp_path: Path) -> None:
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        options = PredictOptions(model=str(bright_model()), tile=64, scheduler=cluster.scheduler_address)
        assert predict_scene(scene, tmp_path / "out.gpkg", options).features > 0
        with Client(cluster, set_as_default=False) as client:
            assert list(client.run(kept).values()) == [[], []]


def test_runs_side_by_side_leave_python_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, found = sys.getswitchinterval(), list[float]()
    inside, go = threading.Event(), threading.Event()

    def imported(_name: str) -> None:
        found.append(sys.getswitchinterval())
        inside.set()
        assert go.wait(60)

    monkeypatch.setattr(session, "import_module", imported)
    threads = [threading.Thread(target=session.load_writers) for _ in range(2)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    time.sleep(0.1)  # it is inside by now, if it may be
    assert len(found) == 1
    go.set()
    for thread in threads:
        thread.join()
    assert found == [pytest.approx(0.0005)] * 2
    assert sys.getswitchinterval() == usual
