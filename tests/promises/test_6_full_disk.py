"""A full disk: one line that says where, nothing half-written, and the same command goes on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCENE = Path(__file__).resolve().parents[2] / "sample_data" / "scene.tif"
SUFFIXES = (".gpkg", ".fgb", ".parquet", ".geojson", ".geojsonl", ".shp")

pytestmark = pytest.mark.slow


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
def test_a_full_disk_is_one_line(small_disk: Path, suffix: str) -> None:
    out = small_disk / f"out{suffix}"
    done = geoseg("predict", SCENE, "--out", out, "--precision", "f32", "--quiet")
    assert_one_line(done, f"{out}: no space left in {small_disk}; make room there")
    assert os.listdir(small_disk) == []


def test_a_full_disk_for_the_raster_is_one_line(small_disk: Path, tmp_path: Path) -> None:
    raster = small_disk / "out.tif"
    command = ("predict", SCENE, "--out", tmp_path / "out.gpkg", "--raster", raster, "--precision", "f32")
    done = geoseg(*command, "--quiet")
    assert_one_line(
        done, f"{raster}: no space left in {small_disk}", "are kept: the same command resumes from them"
    )
    assert not (tmp_path / "out.gpkg").exists()
    again = geoseg("predict", SCENE, "--out", tmp_path / "out.gpkg", "--precision", "f32", "--quiet")
    assert again.returncode == 0, again.stderr


def test_a_limit_on_files_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out.geojson"
    done = geoseg("predict", SCENE, "--out", out, "--precision", "f32", "--quiet", limit=20_000)
    assert_one_line(done, f"{out}: files may not grow any further in {tmp_path}")
    assert not out.exists()
