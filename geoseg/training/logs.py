"""What a run leaves to look at: tables of its steps, and pictures of validation tiles."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from geoseg.files import replacing
from geoseg.labels.classes import IGNORE


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
