"""``geoseg review``: polygons looked at one by one, and what was said of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from geoseg.cli.events import progress_option, steps
from geoseg.cli.options import debug_option, json_option, options_of, out_option, quiet_option
from geoseg.review.options import ReviewOptions


@click.command()
@click.argument("layer_file", type=click.Path(path_type=Path), metavar="LAYER")
@click.option("--scene", "-s", metavar="SCENE", help="What the polygons are of: their picture.")
@click.option(
    "--apply",
    "verdicts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Verdicts that a page has exported, CSV or GeoJSON: leave out of LAYER what was found wrong.",
)
@out_option("The page, .html; with --apply the layer: .gpkg, .fgb, .parquet, .geojson or .geojsonl.")
@options_of(ReviewOptions)
@json_option
@progress_option
@quiet_option
@debug_option
def review(
    layer_file: Path,
    scene: str | None,
    verdicts: Path | None,
    out: Path,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Make a page that walks through the polygons of LAYER: right, wrong, unsure, or to be redrawn.

    The page needs no network and keeps what was said in the browser; it exports a file for --apply, and for
    geoseg train --verdicts.

    \b
    Examples:
      geoseg review buildings.gpkg --scene scene.tif --out review.html
      geoseg review buildings.gpkg --scene scene.tif --out sample.html --sample 200
      geoseg review buildings.gpkg --apply buildings.review.csv --out checked.gpkg
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    if (scene is None) == (verdicts is None):
        raise click.UsageError("takes --scene to make a page, or --apply to use what one has exported")
    chosen = ReviewOptions(**options)
    report: Any
    with steps("applying" if verdicts else "making pictures", quiet=quiet) as display:
        if verdicts is not None:
            from geoseg.review.apply import apply_verdicts

            report = apply_verdicts(verdicts, layer_file, out, chosen, display)
        else:
            from geoseg.review.page import write_review

            report = write_review(layer_file, str(scene), out, chosen, display)
    display.summarize(report, report.lines)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
