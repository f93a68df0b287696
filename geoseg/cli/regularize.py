"""``geoseg regularize``: straight walls for any layer of polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geoseg.cli.events import EventLines, progress_option
from geoseg.cli.options import debug_option, options_of, out_option, quiet_option
from geoseg.vector.straighten import RegularizeOptions


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@out_option("The same layer: .gpkg, .fgb, .parquet, .geojson or .geojsonl.")
@options_of(RegularizeOptions)
@progress_option
@quiet_option
@debug_option
def regularize(file: Path, out: Path, progress: str, quiet: bool, **options: Any) -> None:
    """Give the polygons of FILE straight walls, right angles and circles, within a bound.

    Attributes are kept; regularized and deviation_m say what happened to each feature.

    \b
    Examples:
      geoseg regularize traced.gpkg --out footprints.gpkg
      geoseg regularize traced.shp --out footprints.parquet --max-deviation 0.5
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    from geoseg.cli.progress import StepDisplay
    from geoseg.vector.straighten import regularize_file

    chosen = RegularizeOptions(**options)
    lines = EventLines() if progress == "json" and not quiet else None
    with lines or StepDisplay("regularizing", quiet=quiet) as display:
        report = regularize_file(file, out, chosen, display)
    if lines:
        lines.summarize(report)
    elif not quiet:
        for note in report.notes:
            click.echo(f"geoseg: note: {note}", err=True)
        click.echo(f"{report.features:,} features, {report.regularized:,} of them regularized", err=True)
        click.echo(f"wrote      {report.file}", err=True)
