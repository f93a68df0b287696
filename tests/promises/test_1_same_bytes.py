"""Promise 1: the same command gives the same bytes, whenever and on however many threads or processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import REPOSITORY

pytestmark = pytest.mark.slow

FILES = ("buildings.geojsonl", "buildings.fgb", "buildings.parquet")


def run(folder: Path, out: str, *options: str, cores: int | None = None) -> dict[str, bytes]:
    """Run the default model over the sample in a process of its own, and return what it wrote."""
    folder.mkdir()

    def limit() -> None:
        if cores is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    command = [
        sys.executable, "-m", "geoseg", "predict", str(REPOSITORY / "sample_data" / "scene.tif"),
        "--out", out, "--raster", "map.tif", "--quiet", *options,
    ]  # fmt: skip
    # Nothing is known of an earlier run.
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    subprocess.run(command, check=True, cwd=folder, env=env, preexec_fn=limit)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("out", FILES)
def test_a_second_run_writes_the_same_bytes(out: str, tmp_path: Path) -> None:
    first = run(tmp_path / "first", out)
    assert set(first) == {out, "map.tif"}
    assert run(tmp_path / "second", out) == first


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
def test_threads_processes_batches_and_memory_change_no_byte(tmp_path: Path) -> None:
    first = run(tmp_path / "first", FILES[0])
    assert run(tmp_path / "one core", FILES[0], cores=1) == first
    assert run(tmp_path / "one process", FILES[0], "--workers", "1") == first
    assert run(tmp_path / "two processes", FILES[0], "--workers", "2") == first
    assert run(tmp_path / "tile by tile", FILES[0], "--batch", "1", "--max-memory", "900MB") == first
