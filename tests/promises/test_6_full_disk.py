"""A full disk: one line that says where, nothing half-written, and the same command goes on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from geoseg.backends.quantize import quantize
from geoseg.backends.regions import BOX_SIDE
from geoseg.errors import NoSpaceLeft, UnwritableOutput
from geoseg.models.bundle import BOXES, load_folder, save_bundle
from geoseg.testing import make_scene
from tests.runs import BRIGHT, DARK, bright_model, object_model

SUFFIXES = (".gpkg", ".fgb", ".parquet", ".geojson", ".geojsonl", ".shp")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """A run whose outputs take more than 20 kB each."""
    pixels = np.random.default_rng(0).integers(10, 60, (3, 300, 300), np.uint8)
    pixels[:, np.arange(300) % 15 < 7] = np.where(np.arange(300) % 15 < 7, BRIGHT, DARK)
    scene = make_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels=pixels)
    return ("predict", scene, "--model", bright_model(), "--min-area", 0, "--quiet")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 kB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def geoseg(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def before() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "geoseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_line(small_disk: Path, suffix: str, command: tuple[object, ...]) -> None:
    out = small_disk / f"out{suffix}"
    done = geoseg(*command, "--out", out)
    assert_one_line(done, f"{out}: no space left in {small_disk}; make room there")
    assert os.listdir(small_disk) == []


def test_a_full_disk_for_the_raster_is_one_line(
    small_disk: Path, tmp_path: Path, command: tuple[object, ...]
) -> None:
    raster, out = small_disk / "out.tif", tmp_path / "out.gpkg"
    done = geoseg(*command, "--out", out, "--raster", raster)
    assert_one_line(
        done, f"{raster}: no space left in {small_disk}", "are kept: the same command resumes from them"
    )
    assert not out.exists()
    again = geoseg(*command, "--out", out)
    assert again.returncode == 0, again.stderr


def test_a_limit_on_files_is_one_line(tmp_path: Path, command: tuple[object, ...]) -> None:
    out = tmp_path / "out.geojson"
    done = geoseg(*command, "--out", out, limit=20_000)
    assert_one_line(done, f"{out}: files may not grow any further in {tmp_path}")
    assert not out.exists()


def test_a_full_disk_while_a_bundle_is_published_is_one_line(small_disk: Path) -> None:
    bundle, out = load_folder(object_model()), small_disk / "model"
    with pytest.raises(NoSpaceLeft, match=f"{out}: no space left in {small_disk}; make room there"):
        save_bundle(out, bundle.document, bundle.files)
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("full", ["folder", "temporary"])
def test_a_full_disk_while_a_bundle_is_quantized_is_one_line(
    full: str, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if full == "folder":
        out = small_disk
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    regions = np.random.default_rng(5).normal(size=(2, BOX_SIDE, BOX_SIDE, 32)).astype(np.float32)
    words = f"no space left in {out}" if full == "folder" else f"{small_disk}/.*; make room, or set TMPDIR"
    with pytest.raises(UnwritableOutput, match=words) as caught:
        quantize(object_model() / BOXES, regions, out / "boxes.xml", pictures=False)
    assert "\n" not in str(caught.value)
    assert os.listdir(out) == os.listdir(small_disk) == []
