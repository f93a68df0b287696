"""``geoseg batch``: many scenes to polygons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from geoseg.archive.options import NOT_FOR_MANY, BatchOptions, MergeOptions, SelectOptions
from geoseg.cli.events import EventLines, events, progress_option
from geoseg.cli.options import debug_option, options_of, quiet_option
from geoseg.prediction.options import PredictOptions


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
    or a STAC file; of the last three also a URL. The same command goes on where it was stopped, and does
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
    from geoseg.cli.batch_display import show_status

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
        from geoseg.cli.batch_display import BatchDisplay, show_preview

        with lines or BatchDisplay(quiet=quiet) as display:
            seen = preview(sources, out, chosen, run, select, on_event=display)
        return show_preview(seen, as_json=as_json)
    code = 0
    if sources:
        code = run_scenes(sources, out, chosen, run, select, lines, as_json=as_json, quiet=quiet)
    return max(code, merge_results(out, merging, chosen.model, run, lines, quiet=quiet))


def run_scenes(
    sources: Sequence[str],
    out: Path,
    options: PredictOptions,
    run: BatchOptions,
    select: SelectOptions,
    lines: EventLines | None,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Do the scenes of an archive, show how it goes, and return the exit code."""
    from geoseg.archive.run import run_batch
    from geoseg.cli.batch_display import BatchDisplay, summarize

    with lines or BatchDisplay(quiet=quiet) as display:
        summary = run_batch(sources, out, options, run, select, on_event=display)
    if lines:
        lines.summarize(summary)
    elif not quiet:
        summarize(summary, out)
    if as_json:
        for result in summary.results:
            click.echo(json.dumps(result.as_json()))
    return summary.exit_code


def merge_results(
    out: Path, options: MergeOptions, model: str, run: BatchOptions, lines: EventLines | None, *, quiet: bool
) -> int:
    """Merge the results of an archive if that is asked for, say what came of it, and return the exit code."""
    if not options.merge:
        return 0
    from geoseg.archive.merge import merge
    from geoseg.cli.batch_display import summarize_merged
    from geoseg.cli.progress import StepDisplay

    if lines:
        lines.share = "merged"
    with lines or StepDisplay("merging", quiet=quiet) as steps:
        merged = merge(out, options, model, steps, take_over=run.take_over)
    if lines:
        lines.summarize(merged)
    elif not quiet:
        summarize_merged(merged)
    return merged.exit_code
