"""What is seen of a run: events, tables of steps, pictures of validation tiles."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from geoseg.files import replacing
from geoseg.labels.classes import IGNORE


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
