"""Promise 3: under a hard limit a run finishes, or refuses at once and names what it needs.

The limit is a control group's: the kernel kills whoever takes more. Or it is one of addresses, as ``ulimit
-v`` sets: whoever asks for more is given none.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoseg.prediction.resources import ADDRESSES
from geoseg.testing import make_scene
from tests.runs import REPOSITORY, bright_model, object_model

pytestmark = pytest.mark.slow  # processes of their own

GROUPS = Path("/sys/fs/cgroup")
MEGABYTE = 10**6


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of this test's own, without a limit yet."""
    folder = (GROUPS / "memory" if (GROUPS / "memory").is_dir() else GROUPS) / f"geoseg-test-{os.getpid()}"
    try:
        folder.mkdir()
        limit_file(folder).write_text(str(10**10))
    except (OSError, StopIteration):
        if folder.is_dir():
            folder.rmdir()
        pytest.skip("control groups cannot be made here: only root may, outside of most containers")
    yield folder
    end = time.monotonic() + 120
    while (folder / "cgroup.procs").read_text() and time.monotonic() < end:
        time.sleep(0.1)  # helpers of a cluster's processes end a moment after them
    folder.rmdir()


def limit_file(group: Path) -> Path:
    names = ("memory.max", "memory.limit_in_bytes")
    return next(group / name for name in names if (group / name).exists())


def predict_within(
    group: Path, megabytes: int, scene: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    limit_file(group).write_text(str(megabytes * MEGABYTE))
    command = [
        sys.executable, "-m", "geoseg", "predict", str(scene), "--out", str(scene.with_suffix(".gpkg")),
        "--overwrite", "--json", "--quiet", *options,
    ]  # fmt: skip
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(scene.parent / "cache")},  # where nothing is known yet
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
    )


def waves(path: Path, height: int, width: int, bands: int = 3) -> Path:
    rows, cols = np.indices((height, width), dtype=np.float32)
    values = np.sin(rows / 37) * np.cos(cols / 53) + np.sin((rows + cols) / 161)
    pixels = np.broadcast_to(np.clip(128 + 60 * values, 0, 255).astype(np.uint8), (bands, height, width))
    return make_scene(path, pixels=pixels, block=256, compress="deflate")


def sparse_strip(path: Path) -> Path:
    """Write 100 000 x 1000 pixels of which only a few blocks exist."""
    profile = {
        "driver": "GTiff", "count": 3, "dtype": "uint8", "height": 1000, "width": 100_000, "nodata": 0,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True, "compress": "deflate",
        "crs": "EPSG:32633", "transform": rasterio.Affine(0.3, 0, 4e5, 0, -0.3, 5e6),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        for col in range(0, 100_000, 25_600):
            window = rasterio.windows.Window(col, 256, 256, 256)
            target.write(np.random.default_rng(col).integers(1, 255, (3, 256, 256), np.uint8), window=window)
    return path


@pytest.mark.parametrize("kind", ["small", "large", "strip", "sample", "workers", "objects"])
def test_a_run_finishes_within_a_limit_or_names_one_that_does(group: Path, tmp_path: Path, kind: str) -> None:
    match kind:
        case "sample":  # with the model that ships
            scene = tmp_path / "scene.tif"
            scene.write_bytes((REPOSITORY / "sample_data" / "scene.tif").read_bytes())
            options: tuple[str, ...] = ()
        case "workers":  # the limit is for all of them
            scene = waves(tmp_path / "scene.tif", 1500, 1200)
            options = ("--model", str(bright_model()), "--tile", "256", "--workers", "2")
        case "objects":
            scene = waves(tmp_path / "scene.tif", 700, 900, bands=4)
            options = ("--model", str(object_model()), "--tile", "256")
        case _:
            size = {"small": (300, 400), "large": (3500, 3000)}
            path = tmp_path / "scene.tif"
            scene = sparse_strip(path) if kind == "strip" else waves(path, *size[kind])
            options = ("--model", str(bright_model()), "--tile", "256")
    refused = predict_within(group, 200, scene, *options)
    assert refused.returncode == 2, refused.stderr
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    found = re.search(r"needs (\d+)MB", refused.stderr)
    assert found is not None, refused.stderr
    done = predict_within(group, int(found[1]), scene, *options)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert json.loads(done.stdout)["features"] > 0


def test_a_run_finishes_within_a_limit_of_its_addresses(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX limits addresses")
    scene = tmp_path / "scene.tif"
    scene.write_bytes((REPOSITORY / "sample_data" / "scene.tif").read_bytes())

    def predict(megabytes: int) -> subprocess.CompletedProcess[str]:
        size = megabytes * MEGABYTE
        command = [sys.executable, "-m", "geoseg", "predict", "scene.tif", "--out", "out.gpkg", "--overwrite"]
        return subprocess.run(
            [*command, "--json", "--quiet"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path / "cache")},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
        )

    addresses = ADDRESSES // MEGABYTE
    refused = predict(addresses + 200)
    assert refused.returncode == 2, refused.stderr
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    found = re.search(r"needs (\d+)MB of memory, more than the 200MB", refused.stderr)
    assert found is not None, refused.stderr
    for _ in range(2):  # what is compiled and tried in the first run is there in the second
        done = predict(addresses + int(found[1]))
        assert done.returncode == 0, (done.returncode, done.stderr)
        assert json.loads(done.stdout)["features"] > 0
