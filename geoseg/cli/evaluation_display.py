"""What a user sees of an evaluation: the figures as tables, on stderr."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from geoseg.evaluation.result import Evaluation, Figure

_UNDEFINED = "–"
_WIDTH = 132
"""Columns where stderr is no terminal: tables in a log keep their lines whole."""


def summarize(evaluation: Evaluation, report: Path | None) -> None:
    """Print the figures."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else _WIDTH
    console = Console(stderr=True, highlight=False, width=width)
    for line in headline(evaluation):
        console.print(line, markup=False, soft_wrap=True)
    for table in tables(evaluation):
        console.print(table)
    for note in evaluation.notes:
        console.print(f"note       {note}", markup=False, soft_wrap=True)
    if report is not None:
        console.print(f"wrote      {report}", markup=False, soft_wrap=True)


def headline(evaluation: Evaluation) -> list[str]:
    """Return what was compared and the figures over all classes, one fact a line."""
    pixels, grid, spacing = evaluation.pixels, evaluation.grid, evaluation.resolution_m
    size = "" if spacing is None else f" of {spacing[0]:.3g} × {spacing[1]:.3g} m"
    total = pixels.known_pixels + pixels.unknown_pixels
    resampling = evaluation.resampling
    blocks = f"{resampling.blocks} blocks of {resampling.side_m:g} {'px' if spacing is None else 'm'}"
    intervals = (
        f"95 % from {resampling.replicates} resamples of {blocks}"
        if resampling.replicates
        else f"none: {blocks} are too few"
    )
    return [
        f"truth      {evaluation.truth}",
        f"prediction {evaluation.prediction}",
        f"grid       {grid.width} × {grid.height} px{size}; {pixels.known_pixels / total:.1%} known",
        f"intervals  {intervals}",
        f"accuracy   {_show(pixels.accuracy)}   mean IoU {_show(pixels.mean_iou)}",
    ]


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the figures by class."""
    made = [_pixel_table(evaluation), _object_table(evaluation), _size_table(evaluation)]
    made.append(_outline_table(evaluation))
    if evaluation.confidence:
        made.append(_confidence_table(evaluation))
    if evaluation.coco:
        made.append(_coco_table(evaluation))
    return made


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    return table


def _pixel_table(evaluation: Evaluation) -> Table:
    table = _table("Pixels", "class", "IoU", "F1", "precision", "recall")
    for score in evaluation.pixels.classes:
        figures = (score.iou, score.f1, score.precision, score.recall)
        table.add_row(_name(score), *map(_show, figures))
    return table


def _object_table(evaluation: Evaluation) -> Table:
    table = _table(
        "Objects at IoU 0.5",
        "class", "F1", "precision", "recall", "F1 0.5:0.95",
        "true", "predicted", "split", "merged", "false/km²",
    )  # fmt: skip
    for score in evaluation.objects:
        figures = (score.f1, score.precision, score.recall, score.mean_f1)
        counts = (score.truth, score.predicted, score.split, score.merged)
        table.add_row(
            _name(score),
            *map(_show, figures),
            *(f"{count:,}" for count in counts),
            _number(score.false_per_km2.value, ".0f"),
        )
    return table


def _size_table(evaluation: Evaluation) -> Table:
    table = _table("Objects by size", "class", "m²", "true", "predicted", "F1", "precision", "recall")
    for score in evaluation.objects:
        for size in score.sizes:
            reach = (
                f"{size.low_m2:g}–{size.high_m2:g}" if math.isfinite(size.high_m2) else f"{size.low_m2:g}+"
            )
            ratios = (_number(value, ".3f") for value in (size.f1, size.precision, size.recall))
            table.add_row(_name(score), reach, f"{size.truth:,}", f"{size.predicted:,}", *ratios)
    return table


def _outline_table(evaluation: Evaluation) -> Table:
    unit = "px" if evaluation.resolution_m is None else "m"
    table = _table("Outlines", "class", "boundary IoU", "band", "distance", "95th percentile", "pairs")
    for score in evaluation.outlines:
        rows, cols = score.width_px
        pixels = f"{rows} px" if rows == cols else f"{rows} × {cols} px"
        band = f"{score.width_m:g} m, {pixels}" if math.isfinite(score.width_m) else pixels
        table.add_row(
            _name(score),
            _show(score.boundary_iou),
            band,
            f"{_show(score.mean_m, '.2f')} {unit}",
            f"{_number(score.p95_m.value, '.2f')} {unit}",
            f"{score.pairs:,}",
        )
    return table


def _confidence_table(evaluation: Evaluation) -> Table:
    table = _table("Confidence", "class", "calibration error", "Brier", "best threshold", "its IoU", "used")
    for score in evaluation.confidence:
        table.add_row(
            _name(score),
            _show(score.calibration_error),
            _number(score.brier, ".3f"),
            _number(score.best.threshold, ".3f"),
            _number(score.best.iou, ".3f"),
            _number(score.used, ".3g"),
        )
    return table


def _coco_table(evaluation: Evaluation) -> Table:
    sizes = ("small", "medium", "large")
    table = _table("COCO", "class", "AP", "AP50", "AP75", *sizes, "AR", *sizes)
    for score in evaluation.coco:
        figures = (score.ap, score.ap50, score.ap75, *score.ap_by_size, score.ar, *score.ar_by_size)
        table.add_row(_name(score), *(_number(value, ".3f") for value in figures))
    return table


def _name(score: Any) -> str:
    from rich.markup import escape

    return escape(str(score.info.name))


def _show(figure: Figure, digits: str = ".3f") -> str:
    if not math.isfinite(figure.value):
        return _UNDEFINED
    if not math.isfinite(figure.low):
        return format(figure.value, digits)
    return f"{figure.value:{digits}} ({figure.low:{digits}}–{figure.high:{digits}})"


def _number(value: float, digits: str) -> str:
    return format(value, digits) if math.isfinite(value) else _UNDEFINED
