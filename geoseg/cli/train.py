"""``geoseg train``: from scenes with footprints, or a recipe, to a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.cli.events import events, progress_option
from geoseg.cli.options import debug_option, options_of, quiet_option
from geoseg.training.defaults import recipe_of
from geoseg.training.options import TrainOptions

if TYPE_CHECKING:
    from geoseg.training.recipe import Recipe

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("recipe", required=False, type=_FILE, metavar="[RECIPE.yaml]")
@options_of(TrainOptions)
@click.option(
    "--out", "-o", type=_FILE, metavar="FOLDER", help="Model folder to write; missing folders are made."
)
@click.option(
    "--resume/--no-resume", default=True, help="Resume where the last run stopped.  [default: resume]"
)
@click.option("--overwrite", is_flag=True, help="Replace a model that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the measured figures on stdout.")
@progress_option
@quiet_option
@debug_option
def train(
    recipe: Path | None,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Train a model on your own scenes and footprints, or on what RECIPE.yaml says.

    \b
    Examples:
      geoseg train --scene a.tif --labels a.gpkg --out models/mine
      geoseg train --scene a.tif --labels a.gpkg --scene b.tif --labels b.gpkg \\
                   --hold-out b --start buildings --minutes 30 --out models/mine
      geoseg train --scene land.tif --labels land.gpkg --class-attribute kind --arch hrnet --out models/land
      geoseg train pipelines/train_buildings.yaml

    The run's checkpoints, logs and pictures lie beside the model, in FOLDER.training; the same
    command resumes a stopped run. Then: geoseg predict scene.tif --model models/mine …
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    from geoseg.training import require_packages

    require_packages()
    checked = recipe_of(TrainOptions(**options), recipe, out)
    return train_by(checked, resume=resume, overwrite=overwrite, as_json=as_json, quiet=quiet)


def train_by(checked: Recipe, *, resume: bool, overwrite: bool, as_json: bool, quiet: bool) -> int:
    """Train what a recipe says and return the exit code."""
    from geoseg.cli.training_progress import TrainingDisplay
    from geoseg.training import require_packages

    require_packages()
    from geoseg.training.run import is_first_process, train_model

    quiet = quiet or not is_first_process()
    with events(quiet=quiet) or TrainingDisplay(checked, quiet=quiet) as display:
        bundle = train_model(checked, resume=resume, overwrite=overwrite, on_event=display)
    figures = bundle.document.properties.accuracy
    if not quiet:
        display.summarize(bundle)
    if as_json:
        summary = {
            "model": str(bundle.path),
            "digest": bundle.card.digest,
            "threshold": bundle.card.threshold,
        }
        click.echo(json.dumps(summary | {"accuracy": [figure.model_dump() for figure in figures]}))
    return 0
