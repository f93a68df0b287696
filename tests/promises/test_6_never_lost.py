"""Promise 6: a run is never lost. Real processes, really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import pytest

from geoseg.testing import make_scene
from tests.runs import bright_model, heed_interrupts, least_memory, object_model, object_scene, predict

pytestmark = pytest.mark.slow  # processes of their own


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs on 800 × 800 pixels: a second of work and more in small tiles."""
    rows, cols = np.indices((800, 800), dtype=np.float32)
    waves = np.sin(rows / 17) * np.cos(cols / 23) + np.sin((rows + cols) / 61)
    pixels = np.broadcast_to(np.clip(128 + 60 * waves, 0, 255).astype(np.uint8), (3, 800, 800))
    return make_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels=pixels, block=256)


def command(scene: Path, out: Path, model: Path | None = None) -> list[str]:
    model = str(model or bright_model())
    return [
        sys.executable, "-m", "geoseg", "predict", str(scene), "--out", str(out), "--model", model, "--json",
        "--max-memory", least_memory(scene, model=model, batch=1), "--batch", "1",
    ]  # fmt: skip


def start_and_wait_for_records(
    scene: Path, out: Path, records: int, *arguments: str, model: Path | None = None
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*command(scene, out, model), *arguments],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    )
    journal = out.parent / f".{out.name}.geoseg"
    while process.poll() is None and len(list(journal.glob("*.npz"))) < records:
        time.sleep(0.01)
    assert process.poll() is None, "the run was over before it could be killed"
    return process


def features(path: Path) -> set[tuple[object, ...]]:
    table = pyogrio.read_dataframe(path, layer=0).fillna({"deviation_m": -1.0})  # a NaN equals nothing
    return {(*row[:-1], row[-1].normalize().wkb) for row in table.itertuples(index=False)}


@pytest.fixture(scope="module")
def undisturbed(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> set[tuple[object, ...]]:
    out = tmp_path_factory.mktemp("whole") / "out.gpkg"
    done = subprocess.run(command(scene, out), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["features"] > 20
    return features(out)


def test_a_killed_run_goes_on_and_gives_the_same(
    scene: Path, undisturbed: set[tuple[object, ...]], tmp_path: Path
) -> None:
    out = tmp_path / "out.gpkg"
    for records in (2, 4):
        process = start_and_wait_for_records(scene, out, records)
        process.kill()
        process.communicate()
        assert not out.exists()
    done = subprocess.run(command(scene, out), capture_output=True, text=True, check=True)
    assert "resuming where the last run stopped" in done.stderr
    assert features(out) == undisturbed
    assert [path for path in tmp_path.iterdir() if not path.name.endswith(".gpkg")] == []


def test_a_killed_run_that_finds_objects_gives_the_same_file(tmp_path: Path) -> None:
    scene = object_scene(tmp_path / "scene.tif")
    whole, out = tmp_path / "whole.geojsonl", tmp_path / "out.geojsonl"
    subprocess.run(command(scene, whole, object_model()), capture_output=True, check=True)
    process = start_and_wait_for_records(scene, out, 3, model=object_model())
    process.kill()
    process.communicate()
    assert not out.exists()
    done = subprocess.run(command(scene, out, object_model()), capture_output=True, text=True, check=True)
    assert "resuming where the last run stopped" in done.stderr
    assert json.loads(done.stdout)["features"] > 20
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_output_and_says_130(
    number: signal.Signals, scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.gpkg"
    process = start_and_wait_for_records(scene, out, 1)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("geoseg: interrupted")
    assert {path.name for path in tmp_path.iterdir()} <= {".out.gpkg.geoseg"}


def test_ctrl_c_reaches_the_workers_too_and_says_no_more(scene: Path, tmp_path: Path) -> None:
    process = start_and_wait_for_records(
        scene, tmp_path / "out.gpkg", 1, "--workers", "2", "--max-memory", "2GB", "--tile", "64"
    )
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert [line.partition(":")[0] for line in err.split("\n") if line] == ["geoseg"] * 2, err


def test_a_finished_run_leaves_nothing_but_its_output(
    scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = predict(capfd, scene, "--raster", tmp_path / "p.tif", folder=tmp_path)
    assert result.code == 0, result.err
    assert {path.name for path in tmp_path.iterdir()} == {"out.gpkg", "p.tif"}
