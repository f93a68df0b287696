"""What a user sees during a run, and the summary after it: all on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from geoseg.prediction.report import Event, Planned, Progress, RunReport

LINE_SECONDS = 10.0
"""Where stderr is no terminal: a line of progress this often."""

PATIENCE = 2.0
"""Seconds before anything is shown of what may be short."""


class Display:
    """Something live on a terminal, lines now and then elsewhere; leaving the ``with`` block ends it."""

    kept = ""
    """What is told of an interruption, once there is something that stays."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()
        if isinstance(error, KeyboardInterrupt) and self.kept:
            self._say(self.kept)

    def _say(self, text: str) -> None:
        click.echo(f"geoseg: {text}", err=True)

    def _say_at_times(self, text: str) -> None:
        """Print how far the work is, where there is no terminal and the last line is some time ago."""
        now = time.monotonic()
        if not self._live and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            self._say(text)

    def _begin_bar(self, title: str, total: float, *columns: str, **fields: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *map(TextColumn, columns),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total, **fields)
        self._bar.start()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class StepDisplay(Display):
    """A bar on a terminal, a line now and then elsewhere; call it with the share that is done."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def __call__(self, done: float) -> None:
        """Show the share that is done, 0 … 1."""
        if self._bar is None and self._live and time.monotonic() - self._start > PATIENCE:
            self._begin_bar(self._title, 1.0)
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        self._say_at_times(f"{self._title}: {done:.0%}")

    def summarize(self, _outcome: object, lines: Sequence[str]) -> None:
        """Print what was done, one fact a line."""
        for line in lines:
            click.echo(line, err=True)


class StatusDisplay(Display):
    """What is being done, turning on a terminal; call it with each step's name."""

    def __call__(self, doing: str) -> None:
        """Show what is being done; elsewhere than on a terminal, only after some time has gone by."""
        if self._live:
            from rich.console import Console

            self._bar = self._bar or Console(stderr=True).status("")
            self._bar.update(doing)
            self._bar.start()
        elif time.monotonic() - self._start > PATIENCE:
            self._say(doing)


class ProgressDisplay(Display):
    """How far a run is, and what it has done."""

    def __call__(self, event: Event) -> None:
        """Show an event of the run."""
        from geoseg.prediction.report import Planned

        if isinstance(event, Planned):
            self._begin(event)
        else:
            self._update(event)

    def _begin(self, planned: Planned) -> None:
        plan, done = planned.plan, planned.blocks_known
        if planned.resumable:
            self.kept = "what was inferred is kept; the same command resumes there"
        if done:
            self._say(f"resuming where the last run stopped ({done} blocks are done)")
        for warning in planned.remarks.warnings:
            self._say(f"warning: {plan.scene.name}: {warning}")
        if self._live:
            rows, cols = plan.tiles.block_shape
            columns = "{task.completed}/{task.total} blocks", "{task.fields[speed]}"
            self._begin_bar(plan.scene.name, rows * cols, *columns, speed="")

    def _update(self, progress: Progress) -> None:
        speed = f"{progress.pixels / 1e6 / max(progress.seconds, 1e-9):.1f} MPix/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.blocks, speed=speed)
        left = progress.seconds * (progress.pixels_total / max(progress.pixels, 1) - 1)
        self._say_at_times(
            f"{progress.blocks}/{progress.blocks_total} blocks, {speed}, about {duration(left)} left"
        )

    def summarize(self, report: RunReport) -> None:
        """Print what was done, one fact a line."""
        for line in summary(report):
            click.echo(line, err=True)


def summary(report: RunReport) -> list[str]:
    """Return the closing summary as lines of text."""
    plan = report.plan
    area = "" if report.area_m2 is None else f", {_area(report.area_m2)}"
    speed = report.pixels / 1e6 / max(report.seconds, 1e-9)
    reason = f" ({report.remarks.reason})" if report.remarks.reason else ""
    scene, size = plan.scene.geobox, report.tally.shrunk_batch
    shrunk = size and f"{size} tile{'s' * (size != 1)}"
    resampled = f" (resampled from {scene.width} × {scene.height})" if plan.grid.shape != scene.shape else ""
    lines = [
        f"{report.features:,} features{area}",
        f"coverage   {report.coverage:.1%} of the scene has a prediction",
        f"model      {plan.model_name} on {plan.precision}{reason}",
        f"grid       {plan.grid.width} × {plan.grid.height} px{resampled}, {_tiles(report)}",
        f"time       {duration(report.seconds)}, {speed:.2f} MPix/s",
        *([] if report.peak_memory is None else [_memory(report, report.peak_memory)]),
        *([] if shrunk is None else [f"batch      shrunk to {shrunk}: more did not fit on the device"]),
        *(f"warning    {text}" for text in report.warnings[len(report.remarks.warnings) :]),
        *(f"wrote      {path}{_zooms(report, path)}" for path in report.files),
    ]
    if plan.stretch is not None:
        pairs = ", ".join(f"{low:g}–{high:g}" for low, high in plan.stretch)
        lines.insert(4, f"stretch    {pairs} to 0–255")
    if report.tally.failures:
        count = len(report.tally.failures)
        lines.append(f"NOT DONE   {count} tile{'s' if count > 1 else ''} could not be read:")
        lines += [
            f"    rows {window.row}–{window.row_stop}, columns {window.col}–{window.col_stop}: {reason}"
            for window, reason in ((failure.window, failure.reason) for failure in report.tally.failures[:5])
        ]
        if count > 5:
            lines.append(f"    and {count - 5} more (--json lists them)")
    return lines


def _tiles(report: RunReport) -> str:
    inferred, skipped = report.tally.inferred, report.tally.skipped
    rest = f", {skipped:,} skipped (no data there, or outside the area)" if skipped else ""
    return f"{inferred:,} {'tile' if inferred == 1 else 'tiles'} inferred{rest}"


def _zooms(report: RunReport, path: str) -> str:
    """Return the zooms of vector tiles."""
    if not path.lower().endswith(".pmtiles"):
        return ""
    from geoseg.vector.sink.ogr import zoom_levels

    smallest, largest = zoom_levels(report.plan.shape_rules.metres_per_pixel)
    return f" (zoom {smallest} to {largest})"


def _memory(report: RunReport, peak: int) -> str:
    whose, planned = "" if report.alone else " in this process", ""
    if report.planned_memory is not None:
        others = "" if report.alone else "with those of its workers here, "
        planned = f" ({others}planned: {megabytes(report.planned_memory)})"
    return f"memory     {megabytes(peak)} at most{whose}{planned}"


def _area(square_metres: float) -> str:
    if square_metres >= 1e6:
        return f"{square_metres / 1e6:,.2f} km²"
    return f"{square_metres:,.0f} m²"


def megabytes(size: int) -> str:
    """Return a size of memory as people say it."""
    return f"{size / 1e6:,.0f} MB"


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
