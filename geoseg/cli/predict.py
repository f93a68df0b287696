"""``geoseg predict``: one scene to polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from geoseg.cli.events import events, progress_option
from geoseg.cli.options import debug_option, json_option, one_scene, options_of, out_option, quiet_option
from geoseg.prediction.options import PredictOptions


@click.command()
@one_scene
@out_option(
    "Polygons: .gpkg, .fgb, .parquet, .geojson, .geojsonl, .shp or .pmtiles; missing folders are made."
)
@options_of(PredictOptions)
@json_option
@progress_option
@quiet_option
@debug_option
def predict(scene: str, out: Path, as_json: bool, quiet: bool, **options: Any) -> int:
    """Segment SCENE and write georeferenced polygons.

    SCENE is a GeoTIFF or one of the other rasters of plain pixels that GDAL reads: a file, or a URL that you
    trust.

    \b
    Examples:
      geoseg predict scene.tif --out buildings.gpkg
      geoseg predict scene.tif --out roofs.parquet --aoi district.gpkg --threshold 0.4
      geoseg predict scene.tif --out land.gpkg --model models/mine --raster land.tif
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    chosen = PredictOptions(**options)
    return predict_file(scene, out, chosen, as_json=as_json, quiet=quiet)


def predict_file(scene: str, out: Path, options: PredictOptions, *, as_json: bool, quiet: bool) -> int:
    """Predict one scene, show how it goes, and return the exit code."""
    lines = events(quiet=quiet)
    from geoseg.cli.progress import ProgressDisplay
    from geoseg.prediction.session import predict_scene

    with lines or ProgressDisplay(quiet=quiet) as display:
        report = predict_scene(scene, out, options, on_event=display)
    if not quiet:
        display.summarize(report)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    return report.exit_code
