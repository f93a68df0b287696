"""The graph on real worker processes, some of which die."""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from geoseg.errors import BackendUnavailable
from geoseg.prediction.cluster import connect
from geoseg.prediction.resources import Resources
from geoseg.prediction.schedulers import run_on_cluster, run_on_threads
from geoseg.prediction.wiring import Work
from geoseg.testing import ReferencePredictor
from tests.plans import ArrayReader, Load, make_test_plan

pytestmark = pytest.mark.slow

SHAPE = (120, 150)


@dataclass(frozen=True)
class Slow(ReferencePredictor):
    """Takes its time, so that there is a time to die."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        time.sleep(0.05)
        return ReferencePredictor.__call__(self, batch)


def test_nothing_is_lost_with_a_worker() -> None:
    pixels = np.random.default_rng(0).random((1, *SHAPE)).astype(np.float32)
    plan = make_test_plan(SHAPE)
    work = Work(plan, ArrayReader(pixels, pixels[0] > 0.05), Load(Slow()), 4)
    whole = [result.raster.values for result in run_on_threads(work, 2, 4) if result.raster]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        parts = []
        for number, result in enumerate(run_on_cluster(work, client, in_flight=5)):
            assert result.raster is not None
            parts.append(result.raster.values)
            if number in {3, 9}:
                os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
    assert len(parts) == len(whole)
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("deaths", [1, 99])
def test_workers_that_die_while_they_start_are_started_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], deaths: int
) -> None:
    preload = tmp_path / "preload.py"
    preload.write_text(
        "import os, pathlib\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "log.write_text((log.read_text() if log.exists() else '') + '.')\n"
        f"if len(log.read_text()) <= {deaths}: os._exit(1)\n"
    )
    monkeypatch.setitem(dask.config.config["distributed"]["worker"], "preload", [str(preload)])
    with (
        pytest.raises(BackendUnavailable, match="did not start") if deaths > 1 else nullcontext(),
        connect(Resources(1, 0, 0, workers=1)) as client,
    ):
        assert client.submit(abs, -1).result() == 1
    assert capfd.readouterr().err == ""
