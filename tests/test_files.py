from __future__ import annotations

import errno
import itertools
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from geoseg.errors import NoSpaceLeft, UnreadableScene, UnwritableOutput
from geoseg.files import check_writable, fingerprint, replacing


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "out.gpkg"
    with replacing(target) as path:
        assert path.suffix == ".gpkg"
        path.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_a_failure_everything_is_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out.gpkg"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as path:
        path.write_text("new")
        path.with_name(path.name + "-journal").write_text("left by SQLite")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "out.gpkg"
    target.write_text("old")
    with pytest.raises(UnwritableOutput, match="exists already"), replacing(target, overwrite=False):
        pass
    assert target.read_text() == "old"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.gpkg"
    with pytest.raises(UnwritableOutput, match="exists already"), replacing(target, overwrite=False) as path:
        path.write_text("new")
        target.write_text("somebody else's")
    assert target.read_text() == "somebody else's"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for number in (1, 2):
        with replacing(target) as path:
            path.mkdir()
            (path / f"file{number}").write_text("x")
    assert [path.name for path in target.iterdir()] == ["file2"]
    assert list(tmp_path.iterdir()) == [target]


def test_names_as_long_as_the_system_takes_them_work(tmp_path: Path) -> None:
    target = tmp_path / ("a" * 250 + ".gpkg")
    with replacing(target) as path:
        path.write_text("x")
    assert target.exists()


def test_a_missing_folder_is_made_when_it_is_written_to(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "folder" / "out.gpkg"
    check_writable(target, overwrite=False)
    assert not list(tmp_path.iterdir())
    with replacing(target) as path:
        path.write_text("x")
    assert target.read_text() == "x"
    with pytest.raises(UnwritableOutput, match=r"out\.gpkg is not a folder"):
        check_writable(target / "out.gpkg", overwrite=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnwritableOutput, match="not writable"):
        check_writable(tmp_path / "out.gpkg", overwrite=True)


def test_a_fingerprint_tells_versions_of_a_file_apart(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    path.write_bytes(b"a" * 5000)
    os.utime(path, ns=(1, 1))
    first = fingerprint(path, sample=100)
    assert fingerprint(path, sample=100) == first
    path.write_bytes(b"a" * 4999 + b"b")
    os.utime(path, ns=(1, 1))
    assert fingerprint(path, sample=100) != first


def test_a_copy_of_a_file_that_is_read_whole_has_its_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "chip.png"
    path.write_bytes(bytes(range(200)))
    first = fingerprint(path, sample=100)
    os.utime(path, ns=(1, 1))
    assert fingerprint(path, sample=100) == first
    assert fingerprint(path, sample=99) != first
    path.write_bytes(bytes(range(150)) + b"!" + bytes(range(151, 200)))
    assert fingerprint(path, sample=100) != first


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "out.gpkg"
    script = (
        "import os, pathlib, sys\n"
        "from geoseg.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as path:\n"
        "    path.write_text('half'); path.with_name(path.name + '-journal').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(target) as mine, replacing(target) as other:
        assert mine != other
        mine.write_text("whole")
        other.write_text("whole")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".fgb", ".shp", ".parquet"])
def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    script = (
        "import os, pathlib, sys\n"
        "from geoseg.values import ClassInfo, LayerSchema\n"
        "from geoseg.vector.sink import VectorSink\n"
        "schema = LayerSchema('a', 'EPSG:32633', (ClassInfo(1, 'b', (1, 2, 3)),))\n"
        "with VectorSink(pathlib.Path(sys.argv[1]), schema, overwrite=False):\n"
        "    print('begun', flush=True)\n"
        "    {}\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", script.format("input()"), target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert running.stdout is not None
    running.stdout.readline()
    others = set(tmp_path.iterdir())
    assert others
    subprocess.run(
        [sys.executable, "-c", script.format("os.kill(os.getpid(), 9)"), target],
        check=False,
        stdout=subprocess.DEVNULL,
    )
    assert others < set(tmp_path.iterdir())
    subprocess.run(
        [sys.executable, "-c", script.format("pass"), target], check=True, stdout=subprocess.DEVNULL
    )
    assert {one for one in tmp_path.iterdir() if one.name.startswith(".")} == others
    running.communicate(b"\n")
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_what_stood_beside_the_old_file_does_not_corrupt_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "out.gpkg"
    target.write_text("old")
    for sidecar in ("-wal", "-shm", ".aux.xml", ".msk"):
        target.with_name(target.name + sidecar).write_text("of the old file")
    with pytest.raises(UnwritableOutput), replacing(target, overwrite=False):
        pass
    assert len(list(tmp_path.iterdir())) == 5
    with replacing(target) as path:
        path.write_text("new")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what a handle is open on is asked of /proc")
def test_only_what_is_written_is_synced_not_all_that_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large neighbour.tif").write_bytes(b"x")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "weights").write_bytes(b"x")
    assert synced == [str(temporary / "weights"), str(temporary), str(tmp_path)]


def chained(*errors: BaseException) -> BaseException:
    """Return the first error, caused by the second, caused by the third …"""
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left in "),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the quota of disk space is used up in "),
        (OSError(errno.EFBIG, "File too large"), "files may not grow any further in "),
        (sqlite3.OperationalError("database or disk is full"), "no space left in "),
        (RuntimeError("Error in FWrite(): No space left on device"), "no space left in "),
        (chained(RuntimeError("batch"), OSError(errno.ENOSPC, "?")), "no space left in "),
        (chained(UnwritableOutput("cannot be written"), OSError(errno.EDQUOT, "?")), "the quota of disk "),
    ],
)
def test_a_full_disk_is_told_as_such(tmp_path: Path, error: Exception, reason: str) -> None:
    target = tmp_path / "out.gpkg"
    with pytest.raises(NoSpaceLeft) as caught, replacing(target) as path:
        path.write_text("half")
        raise error
    folder = tmp_path.absolute()
    assert str(caught.value).startswith(f"{target}: {reason}")
    assert str(folder) in str(caught.value)
    assert caught.value.__cause__ is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("batch"),
        OSError(errno.EIO, "Input/output error"),
        UnwritableOutput("no"),
        chained(UnreadableScene("scene.tif: no space left on device"), OSError(errno.ENOSPC, "?")),
    ],
)
def test_what_is_no_full_disk_stays_as_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, replacing(tmp_path / "out.gpkg") as path:
        path.write_text("half")
        raise error
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_an_error_without_a_reason_is_tried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    error = RuntimeError("Cannot find OGR field")
    with pytest.raises(NoSpaceLeft, match="quota") as caught, replacing(tmp_path / "out.shp") as path:
        path.write_text("half")
        monkeypatch.setattr(os, "fsync", full)
        raise error
    assert caught.value.__cause__ is error
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_only_when_synced_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpaceLeft), replacing(tmp_path / "out.gpkg") as path:
        path.write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnwritableOutput, match="cannot be written: File name too long"):
        check_writable(tmp_path / f"{300 * 'a'}.gpkg", overwrite=False)
