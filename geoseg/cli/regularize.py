"""``geoseg regularize``: straight walls for any layer of polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geoseg.cli.events import progress_option, steps
from geoseg.cli.options import debug_option, options_of, out_option, quiet_option
from geoseg.vector.straighten import RegularizeOptions


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@out_option("The same layer: .gpkg, .fgb, .parquet, .geojson or .geojsonl.")
@options_of(RegularizeOptions)
@progress_option
@quiet_option
@debug_option
def regularize(file: Path, out: Path, quiet: bool, **options: Any) -> None:
    """Give the polygons of FILE straight walls, right angles and circles, within a bound.

    Attributes are kept; regularized and deviation_m say what happened to each feature.

    \b
    Examples:
      geoseg regularize traced.gpkg --out footprints.gpkg
      geoseg regularize traced.shp --out footprints.parquet --max-deviation 0.5
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    chosen = RegularizeOptions(**options)
    with steps("regularizing", quiet=quiet) as display:
        from geoseg.vector.straighten import regularize_file

        report = regularize_file(file, out, chosen, display)
    notes = [f"geoseg: note: {note}" for note in report.notes]
    done = f"{report.features:,} features, {report.regularized:,} of them regularized"
    display.summarize(report, [*notes, done, f"wrote      {report.file}"])
