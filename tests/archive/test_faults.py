"""What may go wrong with an archive is one line, and what was finished stays."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import pytest

from geoseg.archive.cluster import check_places
from geoseg.archive.places import Places
from geoseg.errors import InvalidOption
from geoseg.testing import make_scene
from tests.archive.clusters import ended, start_batch, wait_until_begun
from tests.archive.conftest import Batch
from tests.runs import picture


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(12):
        make_scene(folder / f"s{number}.tif", pixels=picture((10, 20, 30, 40)))
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 120 kB of its own: room for a manifest and a few results."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def one_line(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("geoseg: error")]
    assert "Traceback" not in err
    return line


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_finished(scenes: Path, small_disk: Path, batch: Batch) -> None:
    out = small_disk / "out"
    _, err = ended(start_batch(scenes, "--out", out, "--workers", "1"), 2)
    line = one_line(err)
    assert "no space left" in line
    assert str(out) in line
    assert "the same command resumes" in line
    for path in out.glob("*.parquet"):
        assert len(geopandas.read_parquet(path)) == 1
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert batch(scenes, "--out", out)[0] == 0


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_a_second_one_is_refused(
    scenes: Path, tmp_path: Path, batch: Batch
) -> None:
    out = tmp_path / "out"
    first = start_batch(scenes, "--out", out, "--workers", "1")
    wait_until_begun(first, out)
    code, _, err = batch(scenes, "--out", out, "--workers", "1")
    assert code == 2
    assert f"is being worked by process {first.pid}" in one_line(err)
    first.send_signal(signal.SIGINT)
    _, err = ended(first, 130)
    assert all(err.splitlines()), "an empty line"
    assert err.endswith("geoseg: interrupted\n")
    assert not list(out.glob("lease*"))
    code, results, _ = batch(scenes, "--out", out, "--json")
    assert (code, len(results.splitlines())) == (0, 12)
    assert not list(out.glob(".run-*"))


class Workers:
    """Stands for a client: one worker sees all, the other not that."""

    def __init__(self, unseen: Path) -> None:
        self.unseen = str(unseen)

    def run(self, function: Any, places: Places, text: str, folders: tuple[str, ...]) -> dict[str, Any]:
        there = function(places, text, folders)
        return {"tcp://one": there, "tcp://two": tuple(f for f in folders if f == self.unseen)}


def test_a_worker_that_does_not_see_a_folder_is_named(scenes: Path, tmp_path: Path) -> None:
    places = Places(tmp_path, None, ".run-1", ".parquet")
    places.token.parent.mkdir()
    places.token.write_text("mine")
    found = [str(scenes / "s0.tif"), "https://host/a.tif"]
    check_places(Workers(tmp_path / "other"), places, "mine", found)
    with pytest.raises(InvalidOption, match=f"worker tcp://two: does not see {scenes}"):
        check_places(Workers(scenes), places, "mine", found)
    with pytest.raises(InvalidOption, match=f"worker tcp://one: does not see {tmp_path}"):
        check_places(Workers(tmp_path / "other"), places, "another's", found)
