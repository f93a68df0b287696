"""``geoseg diff``: what changed between two layers of polygons."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from geoseg.cli.events import progress_option, steps
from geoseg.cli.options import debug_option, json_option, options_of, out_option
from geoseg.vector.diff import DiffOptions


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@out_option("Changes, in the CRS of NEW: .gpkg (with a style), .fgb, .parquet, .geojson or .geojsonl.")
@options_of(DiffOptions)
@json_option
@progress_option
@click.option("--quiet", "-q", is_flag=True, help="No summary.")
@debug_option
def diff(old: Path, new: Path, out: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Tell which polygons of OLD and NEW are the same, changed, split, merged, added or removed.

    \b
    Example:
      geoseg diff buildings_2020.gpkg buildings_2024.gpkg --out changes.gpkg
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    diff_files(old, new, out, DiffOptions(**options), as_json=as_json, quiet=quiet)


def diff_files(old: Path, new: Path, out: Path, options: DiffOptions, *, as_json: bool, quiet: bool) -> None:
    """Compare two layers and say what came of it."""
    with steps("comparing", quiet=quiet) as display:
        from geoseg.vector.diff import diff as run

        report = run(old, new, out, options)
    display.summarize(report, [str(report)])
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
