"""The folder of a run: whose it is, how far the run has come, and what is said where it cannot be written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geoseg.errors import GeosegError, NoSpaceLeft, OutOfDeviceMemory, UnwritableOutput
from geoseg.files import fingerprint, replacing
from geoseg.training.data.chips import chip_rows
from geoseg.training.data.spec import DataSpec
from geoseg.training.logs import read_rows
from geoseg.training.recipe import Recipe

CHECKPOINT = "last.ckpt"
IDENTITY = "run.json"

_locks = set[int]()


def _let_go() -> None:
    """Close the locks in a process that was forked: it may live a while longer than a run that is killed."""
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def is_first_process() -> bool:
    """Return whether this process writes: with several GPUs, the command line runs once for each of them.

    By what PyTorch Lightning looks at in the processes that it starts.
    """
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
    return next((os.environ[name] for name in names if name in os.environ), "0") == "0"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run's folder, where the system can; a kill leaves no lock behind.

    Raises
    ------
    UnwritableOutput
        If one is running in it.
    """
    busy = False
    with contextlib.ExitStack() as stack:
        # Windows has no such locks; what else is wrong with the folder is told by `claim`.
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
            _locks.add(handle)
            stack.callback(os.close, handle)
            stack.callback(_locks.discard, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = True
        if busy:
            raise UnwritableOutput(
                f"{folder}: another training is running in it; wait for its end, or give another --out"
            )
        yield


def claim(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the run's folder, or take the one that is there if it is this recipe's.

    Parameters
    ----------
    folder : Path
        Of the run.
    recipe : Recipe
        Whose run it is.
    resume : bool
        False removes what a run has left there.

    Raises
    ------
    UnwritableOutput
        If it is no folder of a run, or holds checkpoints of another recipe's or of other data, or cannot
        be made.
    """
    identity = folder / IDENTITY
    ours = {"recipe": recipe.digest, "data": data_state(recipe.data, recipe.base)}
    if folder.exists() and not identity.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnwritableOutput(
            f"{folder}: is no folder of a training run; remove it, or choose another --out"
        )
    with writing(folder):
        begun = (folder / CHECKPOINT).exists()
        if folder.exists() and not (resume and begun):  # without a checkpoint there is nothing to lose
            for path in folder.iterdir():  # the folder itself stays: it is what `alone` has locked
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        if not identity.exists():
            with replacing(identity) as path:
                path.write_text(json.dumps(ours, indent=1) + "\n", encoding="utf-8")
    if other := _difference(_identity(identity), ours):
        raise UnwritableOutput(f"{folder}: {other}; give --no-resume to start anew, or another --out")


def steps_done(folder: Path) -> int:
    """Return the steps that the last checkpoint stands for.

    Raises
    ------
    UnwritableOutput
        If the checkpoint cannot be read.
    """
    import torch

    checkpoint = folder / CHECKPOINT
    if not checkpoint.exists():
        return 0
    try:
        return int(torch.load(checkpoint, weights_only=True, map_location="meta")["global_step"])
    except Exception as error:  # zip, unpickling and key errors of several libraries
        raise UnwritableOutput(
            f"{checkpoint}: is damaged or not of this version; give --no-resume to start anew"
        ) from error


def last_validation(folder: Path) -> int:
    """Return the step of the last validation; -1 if there was none."""
    rows = read_rows(folder / "validation.csv")
    return int(rows[-1]["step"]) if rows else -1


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in one line what a full disk or a full device means for a run.

    Raises
    ------
    UnwritableOutput
        In place of an error of the operating system.
    OutOfDeviceMemory
        In place of that of PyTorch.
    """
    import torch

    try:
        yield
    except NoSpaceLeft as error:
        raise NoSpaceLeft(f"{error}; the same command resumes") from error
    except GeosegError:
        raise
    except OSError as error:
        raise UnwritableOutput(
            f"{folder}: cannot be written: {error.strerror or error}; once it can, the same command resumes"
        ) from error
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(
            "the device's memory is too small for a batch; give a smaller --batch or --crop"
        ) from error


def _identity(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _difference(found: dict[str, Any], ours: dict[str, Any]) -> str | None:
    """Return in what a run differs from ours, for people; None: in nothing."""
    if found.get("recipe") != ours["recipe"]:
        return "holds a run of another recipe"
    before, now = found.get("data"), ours["data"]
    if not isinstance(before, dict):
        return "does not say on what data its run began"
    changed = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
    return f"{changed[0]} has changed since its run began" if changed else None


def data_state(data: DataSpec, base: Path) -> dict[str, str]:
    """Return `geoseg.files.fingerprint` of each file of a recipe's data; URLs are left out.

    Parameters
    ----------
    data : DataSpec
        Of a recipe.
    base : Path
        Folder that its paths are relative to, and those of the result.

    Raises
    ------
    UnreadableScene, InvalidOption
        If an index of chips cannot be read.
    """
    paths = {path for path in _files_of(data, base) if path.is_file()}
    return {os.path.relpath(path, base): fingerprint(path) for path in sorted(paths)}


def _files_of(data: DataSpec, base: Path) -> Iterator[Path]:
    for scene in data.scenes:
        paths = (scene.scene, scene.labels, scene.labelled_area, scene.verdicts)
        yield from (base / path for path in paths if path is not None)
    for chips in data.chips:
        yield from (base / path for path in (chips.index, *chips.labels.values()) if path is not None)
        for row in chip_rows(chips, base):
            yield from (row.image, row.mask)
