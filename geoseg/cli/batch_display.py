"""What a user sees of an archive: progress with a line a worker, the summary, the status."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from geoseg.cli.progress import LINE_SECONDS, Display, duration

if TYPE_CHECKING:
    from geoseg.archive.cluster import Noted
    from geoseg.archive.coordinator import Progressed
    from geoseg.archive.facts import Looked
    from geoseg.archive.merge import Merged
    from geoseg.archive.preview import Preview, ScenePreview
    from geoseg.archive.run import Summary

SHOWN = 20
"""Workers, or scenes that failed, that are shown one by one."""

STATES = ("done", "partial", "running", "pending", "failed", "quarantined")


class BatchDisplay(Display):
    """How far a run over an archive is; call it with what it tells."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._begun = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from geoseg.archive.cluster import KEPT

        super().__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt) and self._begun and not self._quiet:
            click.echo(f"geoseg: {KEPT}", err=True)

    def __call__(self, told: Progressed | Looked | Noted) -> None:
        """Show how far the run is, and what each worker does."""
        from geoseg.archive.cluster import Noted
        from geoseg.archive.facts import Looked

        if isinstance(told, Noted):
            if not self._quiet:
                click.echo(f"geoseg: {told.text}", err=True)
            return
        self._begun = not isinstance(told, Looked)
        if self._live:
            self._show(lines_of(told))
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            click.echo(f"geoseg: {lines_of(told)[0]}", err=True)

    def _show(self, lines: list[str]) -> None:
        from rich.console import Console
        from rich.live import Live

        if self._bar is None:
            self._bar = Live(console=Console(stderr=True), transient=True, refresh_per_second=2)
            self._bar.start()
        self._bar.update("\n".join(line.replace("[", "\\[") for line in lines))


def lines_of(told: Progressed | Looked) -> list[str]:
    """Return how far a run is, and what each worker does."""
    from geoseg.archive.facts import Looked

    if isinstance(told, Looked):
        return [f"{told.done:,}/{told.total:,} scenes looked at"]
    speed = told.pixels / 1e6 / max(told.seconds, 1e-9)
    left = told.seconds * (told.scenes_total / max(told.scenes, 1) - 1)
    about = f", about {duration(left)} left" if told.scenes else ""
    failed = f", {told.failed} not whole" if told.failed else ""
    more = len(told.doing) - SHOWN
    return [
        f"{told.scenes:,}/{told.scenes_total:,} scenes, {speed:.1f} MPix/s{about}{failed}",
        *(f"  {worker}  {doing or 'idle'}" for worker, doing in told.doing[:SHOWN]),
        *([f"  and {more} more workers"] if more > 0 else []),
    ]


def summarize(summary: Summary, out: Path) -> None:
    """Print what was done, one fact a line, on stderr."""
    states = ", ".join(f"{summary.counts[state]:,} {state}" for state in STATES if summary.counts.get(state))
    before = f" ({summary.before:,} of them before this run)" if summary.before else ""
    click.echo(f"scenes     {states}{before}", err=True)
    if summary.left_out:
        click.echo(f"left out   {', '.join(f'{n:,} {why}' for why, n in summary.left_out.items())}", err=True)
    click.echo(f"results    {out}", err=True)
    _print_troubles([(one.name, one.state, one.reason) for one in summary.troubles], err=True)


def summarize_merged(merged: Merged) -> None:
    """Print what merging came to, one fact a line, on stderr."""
    states = ", ".join(f"{merged.states[state]:,} {state}" for state in STATES if merged.states.get(state))
    of = f" of {merged.before:,}" if merged.before != merged.features else ""
    click.echo(f"merged     {states}", err=True)
    click.echo(f"features   {merged.features:,}{of}, in {merged.files:,} files", err=True)
    if merged.without:
        click.echo(f"without    {merged.without:,} scenes that have no result", err=True)
    if merged.states["partial"]:
        click.echo(
            f"in part    {merged.states['partial']:,} scenes lack tiles that could not be read", err=True
        )
    click.echo(f"dataset    {merged.dataset}", err=True)
    click.echo(f"catalogue  {merged.catalogue / 'collection.json'}", err=True)


def show_status(folder: Path, *, as_json: bool) -> int:
    """Print the status of an archive, and return the exit code: 1 where scenes are not whole."""
    from geoseg.archive.manifest import read_status

    statuses = read_status(folder)
    scenes = [scene for status in statuses for scene in status["scenes"]]
    troubles = [scene for scene in scenes if scene["state"] in ("failed", "partial", "quarantined")]
    if as_json:
        for scene in scenes:
            click.echo(json.dumps(scene))
        return 1 if troubles else 0
    for line in status_lines(statuses):
        click.echo(line)
    _print_troubles([(one["name"], one["state"], one["reason"]) for one in troubles], err=False)
    return 1 if troubles else 0


def status_lines(statuses: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the status of an archive, or of each of its shards, a line a state."""
    lines = []
    for status in statuses:
        ago = duration(max(0.0, time.time() - status["written"]))
        lines.append(f"{'running' if status['running'] else 'not running'}, as of {ago} ago")
        total = sum(status["states"].values())
        counts = {state: status["states"].get(state, 0) for state in STATES}
        lines += [f"{state:<12}{count:>9,}" for state, count in counts.items() if count]
        lines.append(f"{'scenes':<12}{total:>9,}")
    return lines


def show_preview(seen: Preview, *, as_json: bool) -> int:
    """Print what a run would do, and return its exit code."""
    if as_json:
        for scene in seen.scenes:
            click.echo(json.dumps(scene.as_json()))
    else:
        for line in preview_lines(seen):
            click.echo(line)
    if seen.refused:
        return 2
    return 1 if any(scene.state == "unreadable" for scene in seen.scenes) else 0


def preview_lines(seen: Preview) -> list[str]:
    """Return what a run would do: a line a fact, then those scenes that are not simply new or done."""
    doing = ("todo", "redo")
    todo = [scene for scene in seen.scenes if scene.state in doing]
    groups = Counter((one.state, f" ({one.why})" if one.state in doing else "") for one in seen.scenes)
    left_out = "".join(f", {count:,} left out as {why}" for why, count in seen.left_out.items())
    lines = [
        f"scenes     {len(seen.scenes):,}, {_megapixels(seen.scenes)}{left_out}",
        *(f"{state:<11}{count:,}{why}" for (state, why), count in groups.items()),
        f"to do      {len(todo):,}, {_megapixels(todo)}",
    ]
    if todo:
        took = "unknown" if seen.seconds is None else f"about {duration(seen.seconds)} on this machine"
        size = "less than 0.1 MB" if seen.size < 1e5 else f"about {seen.size / 1e6:,.1f} MB"
        lines += [f"time       {took}", f"disk       {size}"]
    if seen.refused:
        lines.append(f"REFUSED    {seen.refused}")
    told = [scene for scene in seen.scenes if scene.state not in ("todo", "done")]
    lines += [f"{scene.state:<11}{scene.entry.name}: {scene.why}" for scene in told[:SHOWN]]
    more = len(told) - SHOWN
    return [*lines, *([f"and {more:,} more (--json lists all)"] if more > 0 else [])]


def _megapixels(scenes: Iterable[ScenePreview]) -> str:
    return f"{sum(scene.pixels for scene in scenes) / 1e6:,.1f} MPix"


def _print_troubles(troubles: list[tuple[str, str, str]], *, err: bool) -> None:
    for name, state, reason in troubles[:SHOWN]:
        click.echo(f"{state:<12}{name}: {reason}", err=err)
    if len(troubles) > SHOWN:
        click.echo(f"and {len(troubles) - SHOWN} more (--status DIR --json lists all)", err=err)
