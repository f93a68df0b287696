"""``geoseg batch``: many scenes to polygons; progress with a line a worker, the summary, the status."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.archive.options import NOT_FOR_MANY, BatchOptions, MergeOptions, SelectOptions
from geoseg.cli.events import EventLines, Silent, events, progress_option
from geoseg.cli.options import debug_option, options_of, quiet_option
from geoseg.cli.progress import Display, duration
from geoseg.prediction.options import PredictOptions

if TYPE_CHECKING:
    from geoseg.archive.cluster import Noted
    from geoseg.archive.coordinator import Progressed
    from geoseg.archive.facts import Looked
    from geoseg.archive.merge import Merged
    from geoseg.archive.preview import Preview, ScenePreview
    from geoseg.archive.run import Summary


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the results: a file a scene.",
)
@options_of(SelectOptions, without=("allow_host",))
@click.option(
    "--allow-host",
    multiple=True,
    metavar="HOST",
    help="Host that lists may lead to besides their own; may be repeated.",
)
@options_of(BatchOptions)
@options_of(PredictOptions, without=NOT_FOR_MANY)
@options_of(MergeOptions)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Look at all scenes and show what would be done, how long it takes and why; nothing is done.",
)
@click.option(
    "--status",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Show how far an archive is, and what failed; nothing is done.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line a scene on stdout.")
@progress_option
@quiet_option
@debug_option
def batch(
    sources: tuple[str, ...],
    out: Path | None,
    dry_run: bool,
    status: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Segment the scenes of an archive and write a file of polygons for each.

    SOURCE is a folder, a pattern in quotes, a raster, a list of rasters (text, CSV, an index of footprints)
    or a STAC file; of the last three also a URL. The same command resumes where it was stopped, and does
    nothing twice. With --raster FOLDER, a raster of each scene goes there.

    \b
    Examples:
      geoseg batch scenes/ --out results
      geoseg batch 'archive/**/*.tif' --out results --workers 8
      geoseg batch scenes/ --out results --scheduler tcp://head:8786
      geoseg batch catalog.json --out results --since 2024-05-01 --where "eo:cloud_cover < 10"
      geoseg batch scenes/ --out results --dry-run
      geoseg batch scenes/ --out results --merge --reconcile
      geoseg batch --out results --merge
      geoseg batch --status results
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    if status is not None:
        return show_status(status, as_json=as_json)
    merging = MergeOptions(**{name: options.pop(name) for name in MergeOptions.model_fields})
    if out is None or not (sources or (merging.merge and not dry_run)):
        raise click.UsageError("takes SOURCE... and --out DIR; or --status DIR alone")
    run = BatchOptions(**{name: options.pop(name) for name in BatchOptions.model_fields})
    select = SelectOptions(**{name: options.pop(name) for name in SelectOptions.model_fields})
    chosen = merging.prediction(PredictOptions(**options))
    lines = events(quiet=quiet)
    if dry_run:
        from geoseg.archive.preview import preview

        with lines or BatchDisplay() as display:
            seen = preview(sources, out, chosen, run, select, on_event=display)
        return show_preview(seen, as_json=as_json)
    code = 0
    if sources:
        code = run_scenes(sources, out, chosen, run, select, lines, as_json=as_json)
    return max(code, merge_results(out, merging, chosen.model, run, lines))


def run_scenes(
    sources: Sequence[str],
    out: Path,
    options: PredictOptions,
    run: BatchOptions,
    select: SelectOptions,
    lines: EventLines | Silent | None,
    *,
    as_json: bool,
) -> int:
    """Do the scenes of an archive, show how it goes, and return the exit code."""
    from geoseg.archive.run import run_batch

    with lines or BatchDisplay() as display:
        summary = run_batch(sources, out, options, run, select, on_event=display)
    if lines:
        lines.summarize(summary)
    else:
        summarize(summary, out)
    if isinstance(lines, Silent) and summary.troubles:  # told even so
        lacking = f"{len(summary.troubles):,} of {len(summary.results):,} scenes have no whole result"
        click.echo(f"geoseg: {lacking}; geoseg batch --status {out} tells why", err=True)
    if as_json:
        for result in summary.results:
            click.echo(json.dumps(result.as_json()))
    return summary.exit_code


def merge_results(
    out: Path, options: MergeOptions, model: str, run: BatchOptions, lines: EventLines | Silent | None
) -> int:
    """Merge the results of an archive if that is asked for, say what came of it, and return the exit code."""
    if not options.merge:
        return 0
    from geoseg.archive.merge import merge
    from geoseg.cli.progress import StepDisplay

    if lines:
        lines.share = "merged"
    with lines or StepDisplay("merging") as steps:
        merged = merge(out, options, model, steps, take_over=run.take_over)
    if lines:
        lines.summarize(merged)
    else:
        summarize_merged(merged)
    return merged.exit_code


SHOWN = 20
"""Workers, or scenes that failed, that are shown one by one."""

STATES = ("done", "partial", "running", "pending", "failed", "quarantined")


class BatchDisplay(Display):
    """How far a run over an archive is; call it with what it tells."""

    def __call__(self, told: Progressed | Looked | Noted) -> None:
        """Show how far the run is, and what each worker does."""
        from geoseg.archive.cluster import KEPT, Noted
        from geoseg.archive.facts import Looked

        if isinstance(told, Noted):
            self._say(told.text)
            return
        self.kept = "" if isinstance(told, Looked) else KEPT
        if self._live:
            self._show(lines_of(told))
        self._say_at_times(lines_of(told)[0])

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
