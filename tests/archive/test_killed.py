"""Runs over an archive that are killed at any instant end as if they had not been: real processes, killed."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

import geoseg
from geoseg.testing import make_scene
from tests.archive.clusters import KILLING, Preload, cluster, ended, start_batch, wait_until_begun
from tests.archive.conftest import Batch
from tests.runs import bright_model, picture

pytestmark = pytest.mark.slow

MEMORY = ("--batch", "1", "--max-memory", "400MB")
"""Of each worker: it leaves 64 blocks to the large scene."""

TWO = ("--workers", "2", "--batch", "1", "--max-memory", "800MB")
"""Two workers of one thread with the same memory each."""

WAYS = 3
"""Blocks that a worker has in hand at a time, at most."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small scenes of many sizes, one of many blocks, and one that is damaged."""
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(8):
        size = (60 + 14 * number, 200 - 10 * number)
        make_scene(folder / f"s{number}.tif", pixels=picture((10, 20, 30, 40 + number), size=size))
    rows, cols = np.indices((1500, 1500), dtype=np.float32)
    waves = np.sin(rows / 17) * np.cos(cols / 23) + np.sin((rows + cols) / 61)
    pixels = np.broadcast_to(np.clip(128 + 60 * waves, 0, 255).astype(np.uint8), (3, 1500, 1500))
    make_scene(folder / "large.tif", pixels=pixels, block=256)
    (folder / "bad.tif").write_bytes(b"II*\0 nothing")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


@pytest.fixture(scope="module")
def whole(scenes: Path, threads: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run gives that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole")
    options = {"min_area": 0, "outline": "pixel", "batch": 1, "max_memory": "400MB"}
    geoseg.batch(scenes, out, model=str(bright_model()), client=threads, **options)
    return contents(out)


def test_the_coordinator_killed_again_and_again(
    scenes: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out, chance, preload = tmp_path / "out", random.Random(1), Preload.write(tmp_path / "preload")
    arguments = (scenes, "--out", out, *TWO)
    finished: dict[str, int] = {}
    kills = 2
    for _ in range(kills):
        process = start_batch(*arguments, preload=preload)
        wait_until_begun(process, out)
        time.sleep(chance.uniform(0.5, 3))
        process.kill()
        process.communicate()
        finished |= {name: time for name, time in written(out).items() if name not in finished}
    ended(start_batch(*arguments, preload=preload), 1)
    assert contents(out) == whole
    assert finished.items() <= written(out).items(), "a finished scene was done again"
    left = {path.name for path in out.iterdir()} - whole.keys()
    assert left == {"manifest.sqlite", "status.json", ".facts.sqlite"}
    again = sum(count - 1 for count in preload.counts.values())
    assert again <= kills * 2 * WAYS, preload.counts.most_common(5)


def test_a_worker_comes_and_one_goes_and_the_scheduler_dies(
    scenes: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out, preload = tmp_path / "out", Preload.write(tmp_path / "preload")
    with cluster(tmp_path / "cluster", 2, preload) as made:
        process = start_batch(scenes, "--out", out, "--scheduler", made.address, *MEMORY, cwd=tmp_path)
        wait_until_begun(process, out, "*.parquet")
        made.join()
        made.kill_worker()
        time.sleep(2)
        assert process.poll() is None, process.communicate()
        made.stop()
        _, err = ended(process, 2)
        (line,) = [line for line in err.splitlines() if "error" in line]
        assert "the cluster was lost" in line
        finished = written(out)
        made.start(1)
        process = start_batch(scenes, "--out", out, "--scheduler", made.address, *MEMORY, cwd=tmp_path)
        ended(process, 1)
    assert contents(out) == whole
    assert finished.items() <= written(out).items(), "a finished scene was done again"
    again = sum(count - 1 for count in preload.counts.values())
    assert again <= 3 * WAYS, preload.counts.most_common(5)


def test_a_scene_that_kills_workers_is_given_up_and_the_rest_is_done(tmp_path: Path, batch: Batch) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    scenes.mkdir()
    for name in ("a", "b", "deadly", "e"):
        make_scene(scenes / f"{name}.tif", pixels=picture((10, 20, 30, 40)))
    preload = Preload.write(tmp_path / "preload", KILLING)
    results, err = ended(start_batch(scenes, "--out", out, "--workers", "2", preload=preload), 1)
    assert {name: result["state"] for name, result in results.items()} == {
        **dict.fromkeys(("a", "b", "e"), "done"),
        "deadly": "quarantined",
    }
    assert "4 workers died of it" in err
    _, again, _ = batch(scenes, "--out", out, "--json")
    assert again.splitlines() == [json.dumps(one) for one in results.values()], "it was tried again unasked"
    assert batch(scenes, "--out", out, "--retry", "failed")[0] == 0
