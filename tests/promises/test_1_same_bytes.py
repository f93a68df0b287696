"""Promise 1: the same command gives the same bytes, whenever and on however many threads or processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
from rasterio.windows import Window

from tests.runs import REPOSITORY, least_memory, object_model, object_scene, predict

pytestmark = pytest.mark.slow

FILES = ("buildings.geojsonl", "buildings.fgb", "buildings.parquet")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the sample that takes several tiles."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    with rasterio.open(REPOSITORY / "sample_data" / "scene.tif") as sample:
        profile = sample.profile | {"width": 900, "height": 900}
        with rasterio.open(path, "w", **profile) as part:
            part.write(sample.read(window=Window(300, 300, 900, 900)))
    return path


@pytest.fixture(scope="module")
def first(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("runs") / "first"
    files = run(scene, folder, FILES[0], cache=folder / "cache")
    assert set(files) == {FILES[0], "map.tif"}
    assert len(files[FILES[0]].splitlines()) > 20
    return files


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the first of several runs fills, for the others."""
    return tmp_path_factory.mktemp("cache")


def run(
    scene: Path, folder: Path, out: str, *options: str, cache: Path, cores: int | None = None
) -> dict[str, bytes]:
    """Run the default model over the scene in a process of its own, and return what it wrote."""
    folder.mkdir()

    def limit() -> None:
        if cores is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    command = [
        sys.executable, "-m", "geoseg", "predict", str(scene), "--out", out, "--raster", "map.tif",
        "--quiet", *options,
    ]  # fmt: skip
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    subprocess.run(command, check=True, cwd=folder, env=env, preexec_fn=limit)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_second_run_writes_the_same_bytes_whatever_is_known_of_the_first(
    scene: Path, first: dict[str, bytes], warm: Path, tmp_path: Path
) -> None:
    assert run(scene, tmp_path / "nothing known", FILES[0], cache=tmp_path / "empty") == first
    for out in FILES[1:]:
        again = [run(scene, tmp_path / f"{out}{number}", out, cache=warm) for number in range(2)]
        assert again[0] == again[1]
        assert set(again[0]) == {out, "map.tif"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
def test_threads_processes_batches_and_memory_change_no_byte(
    scene: Path, first: dict[str, bytes], warm: Path, tmp_path: Path
) -> None:
    assert run(scene, tmp_path / "one core", FILES[0], cores=1, cache=tmp_path / "empty") == first
    for name, *options in (
        ("one process", "--workers", "1"),
        ("two processes", "--workers", "2"),
        ("tile by tile", "--batch", "1", "--max-memory", "900MB"),
    ):
        assert run(scene, tmp_path / name, FILES[0], *options, cache=warm) == first, name
    least = ("--workers", "2", "--max-memory", least_memory(scene, workers=2, raster="map.tif"))
    assert run(scene, tmp_path / "small blocks", FILES[0], *least, cache=warm) == first


def test_objects_are_the_same_bytes_on_any_threads_processes_batches_and_blocks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scene, model = object_scene(tmp_path / "scene.tif"), str(object_model())
    files = set[bytes]()
    for number, options in enumerate(
        (
            (),
            ("--batch", "5", "--workers", "2"),
            ("--batch", "1", "--max-memory", least_memory(scene, model=model, batch=1, raster="m.tif")),
        )
    ):
        done = predict(
            capfd, scene, "--model", model, "--raster", tmp_path / f"{number}.tif", *options,
            out=f"{number}.geojsonl",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert done.summary["features"] > 20
        files.add(done.path.read_bytes() + done.path.with_suffix(".tif").read_bytes())
    assert len(files) == 1
