"""One run at a time holds an archive, and whoever lost it puts nothing in place."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from geoseg.archive.lease import Holder, Lease, LeaseHeld
from geoseg.errors import NoSpaceLeft


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease.json"


def write(path: Path, holder: Holder) -> None:
    path.write_text(json.dumps(asdict(holder)))


def ended() -> Holder:
    """A process of this machine that has ended."""
    script = "from geoseg.archive.lease import *; print(json.dumps(asdict(Holder.here())))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return Holder(**json.loads(done.stdout))


def test_a_lease_is_one_file_for_one_holder(path: Path) -> None:
    with Lease(path) as lease:
        lease.check()
        with pytest.raises(LeaseHeld, match="is being worked by process"), Lease(path):
            pass
        lease.check()
    assert not path.exists()
    with Lease(path):
        pass


def test_a_run_of_this_machine_that_ended_is_followed(path: Path) -> None:
    write(path, ended())
    with Lease(path) as lease:
        lease.check()


def test_what_a_killed_process_would_have_renamed_is_removed(path: Path) -> None:
    left, living = (path.with_name(f".{path.name}-{end}") for end in ("0123", "4567"))
    write(left, ended())
    write(living, Holder.here())
    with Lease(path):
        assert not left.exists()
        assert living.exists()


def test_a_number_that_another_process_has_by_now_is_of_no_use(path: Path) -> None:
    write(path, replace(Holder.here(), started=1.0))
    with Lease(path) as lease:
        lease.check()


def test_a_run_of_another_machine_is_left_alone_unless_asked(path: Path) -> None:
    write(path, replace(ended(), host="elsewhere"))
    with pytest.raises(LeaseHeld, match=r"elsewhere.*--take-over"), Lease(path):
        pass
    with Lease(path, take_over=True) as lease:
        lease.check()


@pytest.mark.parametrize("content", ["", '{"host": "he', "\0"])
def test_a_lease_that_was_cut_off_is_followed(path: Path, content: str) -> None:
    path.write_text(content)
    os.utime(path, (time.time() - 60,) * 2)
    with Lease(path) as lease:
        lease.check()


def test_a_full_disk_leaves_no_lease(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpaceLeft, match="no space left"), Lease(path):
        pass
    assert not list(path.parent.iterdir())


def test_who_holds_it_is_told_where_the_disk_is_full_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.files._found_full", lambda _: errno.ENOSPC)
    told = f"by process {os.getpid()} on {platform.node()}, last"
    with Lease(path), pytest.raises(LeaseHeld, match=re.escape(told)), Lease(path):
        pass


def test_without_hard_links_it_is_one_file_for_one_holder_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Lease(path), pytest.raises(LeaseHeld), Lease(path):
        pass
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("content", ["{}", '{"host": 1}', "[]"])
def test_a_lease_that_says_nothing_is_left_alone_unless_asked(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(LeaseHeld, match="somebody"), Lease(path):
        pass
    with Lease(path, take_over=True) as lease:
        lease.check()


def test_whoever_lost_it_finds_out_and_takes_nothing_away(path: Path) -> None:
    with Lease(path) as first, Lease(path, take_over=True) as second:
        with pytest.raises(LeaseHeld, match="taken over"):
            first.check()
        second.check()
        first.__exit__(None, None, None)
        second.check()
    assert not path.exists()
