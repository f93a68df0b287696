"""``geoseg review`` and ``geoseg serve``: polygons and scenes looked at in the browser."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.cli.events import progress_option, steps
from geoseg.cli.options import debug_option, json_option, options_of, out_option, quiet_option
from geoseg.prediction.options import PredictOptions
from geoseg.review import ReviewOptions
from geoseg.serve import ServeOptions

if TYPE_CHECKING:
    from geoseg.serve.app import Map


@click.command()
@click.argument("layer_file", type=click.Path(path_type=Path), metavar="LAYER")
@click.option("--scene", "-s", metavar="SCENE", help="Imagery to show below the polygons.")
@click.option(
    "--apply",
    "verdicts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Verdicts saved from a page, CSV or GeoJSON: write LAYER without the polygons found wrong.",
)
@out_option("Page to write, .html; with --apply the layer: .gpkg, .fgb, .parquet, .geojson or .geojsonl.")
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
    """Make a page to check the polygons of LAYER by eye, or apply the verdicts of one.

    The page needs no network. It keeps the verdicts in the browser until you save them as a file: for
    --apply, and for geoseg train --verdicts.

    \b
    Examples:
      geoseg review buildings.gpkg --scene scene.tif --out review.html
      geoseg review buildings.gpkg --scene scene.tif --out sample.html --sample 200
      geoseg review buildings.gpkg --apply buildings.review.csv --out checked.gpkg
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    if (scene is None) == (verdicts is None):
        raise click.UsageError("give --scene to make a page, or --apply to use the verdicts of one")
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


_ELSEWHERE = {"aoi", "aoi_layer", "bbox", "raster", "raster_content", "raster_resolution", "workers"}
_ELSEWHERE |= {"scheduler", "resume", "overwrite", "crs", "max_object"}


@click.command()
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE…")
@options_of(ServeOptions)
@options_of(PredictOptions, without=_ELSEWHERE)
@quiet_option
@debug_option
def serve(scenes: tuple[str, ...], quiet: bool, **options: Any) -> None:
    """Show SCENE… on a map in the browser, with live predictions of what is in view.

    Only this machine can reach the map, and it shows only what is named here. Needs geoseg[serve].

    \b
    Examples:
      geoseg serve scene.tif
      geoseg serve north.tif south.tif --model models/mine --layer buildings.gpkg
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    given = {name: options.pop(name) for name in ServeOptions.model_fields}
    chosen, predicted = ServeOptions(**given), PredictOptions(**options)
    from geoseg.serve.run import serve as run

    # Not for the terminal of a server; and rasterio's own silencing fails where several threads warp.
    warnings.simplefilter("ignore")

    def started(opened: Map, address: str) -> None:
        if quiet:
            return
        for scene in opened.scenes.values():
            for warning in scene.decision.remarks.warnings:
                click.echo(f"geoseg: warning: {scene.plan.scene.name}: {warning}", err=True)
        click.echo(
            f"geoseg: {', '.join([*opened.scenes, *opened.layers])} at {address} (Ctrl-C ends it)", err=True
        )

    run(scenes, predicted, chosen, started)
