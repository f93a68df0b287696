"""What is seen of a run while it goes on: events, logs, pictures of validation tiles."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import lightning
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from geoseg.files import replacing
from geoseg.labels.classes import IGNORE
from geoseg.training.schedule import Schedule, done_share
from geoseg.training.task import SegmentationTask


@dataclass(frozen=True, slots=True)
class Began:
    """Training begins: steps of the schedule, the step it goes on from, notes for the user."""

    steps: int
    step: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done.

    Parameters
    ----------
    step : int
        Steps done.
    share : float
        How much of the schedule is over, 0 to 1.
    seconds : float
        Time spent in training.
    loss : float
        Mean of the last 20 steps, without those that had no finite loss; NaN if none had.
    """

    step: int
    share: float
    seconds: float
    loss: float


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


class Watch(lightning.Callback):  # type: ignore[misc]  # lightning is not followed
    """Reports every step as an event and as a row of ``training.csv``, and to TensorBoard."""

    def __init__(self, folder: Path, schedule: Schedule, on_event: Callable[[Event], None]) -> None:
        self._table, self._schedule, self._on_event = folder / "training.csv", schedule, on_event
        self._recent: list[float] = []

    def on_train_start(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        """Forget steps that will be done again."""
        if trainer.is_global_zero:
            keep_rows(self._table, trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: object,
        *_: object,
    ) -> None:
        """Tell of a step."""
        assert isinstance(module, SegmentationTask)
        loss = float(outputs["loss"]) if isinstance(outputs, Mapping) else float("nan")
        step, seconds = trainer.global_step, self._schedule.seconds
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        if trainer.is_global_zero:
            append_row(self._table, {"step": step, "seconds": seconds, "rate": rate, "loss": loss})
        module.log_dict({"loss": loss, "rate": rate})
        self._recent = [*self._recent[-19:], loss]
        finite = [value for value in self._recent if math.isfinite(value)]
        share = done_share(module.options, step, seconds)
        self._on_event(Stepped(step, share, seconds, fmean(finite) if finite else math.nan))


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
