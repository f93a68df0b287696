"""Moving what workers have written into its place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from geoseg.archive.scene import Outcome, Places, read_report
from geoseg.files import telling_full_disks


def move_into_place(places: Places, outcome: Outcome) -> bool:
    """Move the files of a result to where they are to be; False where one is neither here nor there.

    What was moved before, by a run that was killed between here and its manifest, counts.
    """
    theirs = replace(places, run=outcome.run)
    for target in places.targets(outcome.name):
        staged = theirs.staged(target)
        try:
            with telling_full_disks(target):
                staged.replace(target)
        except FileNotFoundError:
            if not target.exists():
                return False
    return True


def sync_folders(places: Places, names: Iterable[str]) -> None:
    """Bring the names of results to the disk."""
    for folder in {target.parent for name in names for target in places.targets(name)}:
        with contextlib.suppress(OSError):  # some network file systems cannot
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def forget_reports(places: Places, names: Iterable[str]) -> None:
    """Remove reports that the manifest holds by now."""
    for name in names:
        places.report(name).unlink(missing_ok=True)


def left_behind(places: Places) -> Iterator[Outcome]:
    """Yield what each scene came to that an earlier run finished unheard."""
    for folder in old_runs(places.out, places.run):
        for path in sorted(folder.rglob("*.json")):
            outcome = read_report(path)
            if outcome is not None:
                yield outcome


def old_runs(folder: Path, run: str) -> list[Path]:
    """Return the folders of earlier runs of the same shard."""
    prefix = run[: run.rindex("-") + 1]
    return [
        path
        for path in folder.glob(f"{prefix}*")
        if path.name != run and "-" not in path.name.removeprefix(prefix) and path.is_dir()
    ]


def remove_runs(places: Places, *, own: bool = False) -> None:
    """Remove the folders of earlier runs, or of this one."""
    for root in places.roots:
        for path in [root / places.run] if own else old_runs(root, places.run):
            shutil.rmtree(path, ignore_errors=True)
