"""``geoseg vectorize``: a raster of classes or probabilities to polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from geoseg.cli.events import progress_option, steps
from geoseg.cli.options import debug_option, json_option, options_of, out_option, quiet_option
from geoseg.prediction.classraster import VectorizeOptions


@click.command()
@click.argument("raster")
@out_option("Polygons; the suffix names the format, as of geoseg predict.")
@options_of(VectorizeOptions)
@json_option
@progress_option
@quiet_option
@debug_option
def vectorize(raster: str, out: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Make polygons of RASTER, a class map or probabilities that any tool has made.

    \b
    Examples:
      geoseg vectorize landcover.tif --out landcover.gpkg --classes 1=forest,2=water
      geoseg vectorize probability.tif --out roofs.gpkg --threshold 0.6 --min-area 12 --regularize
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    chosen = VectorizeOptions(**options)
    with steps("tracing", quiet=quiet) as display:
        from geoseg.cli.progress import duration
        from geoseg.prediction.vectorize import vectorize as run

        report = run(raster, out, chosen, display)
    area = "" if report.area_m2 is None else f", {report.area_m2:,.0f} m²"
    lines = [
        f"{report.features:,} features{area}",
        f"classes    {', '.join(report.classes)}",
        f"time       {duration(report.seconds)}",
        f"wrote      {report.file}",
    ]
    display.summarize(report, lines)
    if as_json:
        click.echo(json.dumps(report.as_json()))
