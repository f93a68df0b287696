"""``geoseg serve``: a map of scenes in the browser."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import click

from geoseg.cli.options import debug_option, options_of, quiet_option
from geoseg.prediction.options import PredictOptions
from geoseg.serve.options import ServeOptions

if TYPE_CHECKING:
    from geoseg.serve.app import Map

_ELSEWHERE = {"aoi", "aoi_layer", "bbox", "raster", "raster_content", "raster_resolution", "workers"}
_ELSEWHERE |= {"scheduler", "resume", "overwrite", "crs", "max_object"}


@click.command()
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE…")
@options_of(ServeOptions)
@options_of(PredictOptions, without=_ELSEWHERE)
@quiet_option
@debug_option
def serve(scenes: tuple[str, ...], quiet: bool, **options: Any) -> None:
    """Show SCENE… on a map in the browser, with predictions computed where one looks.

    Only this machine can reach it, and only the scenes and layers that are named here. Needs geoseg[serve].

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
