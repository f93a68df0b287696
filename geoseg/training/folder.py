"""What a run tells and leaves: events; its folder, how far it has come, tables of steps, pictures."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from geoseg.errors import GeosegError, NoSpaceLeft, OutOfDeviceMemory, UnwritableOutput
from geoseg.files import fingerprint, replacing
from geoseg.labels.classes import IGNORE
from geoseg.training.data.chips import chip_rows
from geoseg.training.data.spec import DataSpec
from geoseg.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Began:
    """Training begins: steps of the schedule, the step it resumes at, notes for the user."""

    steps: int
    step: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done."""

    step: int
    """Steps done."""
    share: float
    """How much of the schedule is over, 0 to 1."""
    seconds: float
    """Time spent in training."""
    loss: float
    """Mean of the last 20 steps, without those that had no finite loss; NaN if none had."""


@dataclass(frozen=True, slots=True)
class Validated:
    """The averaged weights were validated: IoU by place, what checkpoints are chosen by, the best so far."""

    step: int
    iou: Mapping[str, float]
    merit: float
    best: float


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that the user should know."""

    text: str


Event: TypeAlias = Began | Stepped | Validated | Noted


def ignore(_event: Event) -> None:
    """Listen to nothing."""


def is_first_process() -> bool:
    """Return whether this process writes: with several GPUs, the command line runs once for each of them.

    By what PyTorch Lightning looks at in the processes that it starts.
    """
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
    return next((os.environ[name] for name in names if name in os.environ), "0") == "0"


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Add a row to a CSV file, with a head if it is the first."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keep_rows(path: Path, step: int) -> None:
    """Drop the rows of later steps: a run that was killed does them again."""
    rows = read_rows(path)
    kept = [row for row in rows if int(row["step"]) <= step]
    if not kept:
        path.unlink(missing_ok=True)
    elif len(kept) < len(rows):
        with replacing(path, overwrite=True) as temporary:
            for row in kept:
                append_row(temporary, row)


_PANEL, _GUTTER = 320, 4


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """A validation tile: pixels uint8 (bands, rows, cols), labels and prediction uint8 (rows, cols)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    found: NDArray[np.uint8]


def draw_sheet(pictures: Sequence[Picture], path: Path) -> None:
    """Write a PNG with a row a tile: scene, truth, prediction, and where they differ.

    Blue is found, orange missed, purple wrongly found (colours of Okabe & Ito that the colour-blind
    tell apart), grey unknown.
    """
    step = _PANEL + _GUTTER
    sheet = Image.new("RGB", (4 * step - _GUTTER, len(pictures) * step - _GUTTER), "white")
    for row, picture in enumerate(pictures):
        for col, panel in enumerate(_panels(picture)):
            image = Image.fromarray(panel)
            image = ImageOps.contain(image, (_PANEL, _PANEL))
            sheet.paste(image, (col * step, row * step))
    with replacing(path, overwrite=True) as temporary:
        sheet.save(temporary, "PNG")


def _panels(picture: Picture) -> tuple[NDArray[np.uint8], ...]:
    bands = picture.pixels[[0, 1, 2] if len(picture.pixels) >= 3 else [0, 0, 0]]
    scene = np.ascontiguousarray(bands.transpose(1, 2, 0))
    known = picture.labels != IGNORE
    truth, found = (picture.labels > 0) & known, picture.found > 0
    difference = (scene // 3 + 150).astype(np.uint8)
    right = (picture.labels == picture.found) & truth
    difference[right] = (0, 114, 178)
    difference[truth & ~right] = (230, 159, 0)
    difference[found & ~truth & known] = (204, 121, 167)
    difference[~known] = 128
    return scene, _overlaid(scene, truth), _overlaid(scene, found), difference


def _overlaid(scene: NDArray[np.uint8], where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    result = scene.copy()
    result[where] = scene[where] // 2 + np.array([114, 43, 23], np.uint8)
    return result


CHECKPOINT = "last.ckpt"
IDENTITY = "run.json"


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
            shutil.rmtree(folder)
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
