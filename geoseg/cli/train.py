"""``geoseg train``: from scenes with footprints, or a recipe, to a model, and what is seen meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from geoseg.cli.events import events, progress_option
from geoseg.cli.options import debug_option, options_of, quiet_option
from geoseg.cli.progress import Display, duration
from geoseg.training.defaults import recipe_of
from geoseg.training.options import TrainOptions

if TYPE_CHECKING:
    from geoseg.models.bundle import Bundle
    from geoseg.training.events import Event, Stepped, Validated
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
    from geoseg.training import require_packages

    require_packages()
    from geoseg.training.run import is_first_process, train_model

    with events(quiet=quiet or not is_first_process()) or TrainingDisplay(checked) as display:
        bundle = train_model(checked, resume=resume, overwrite=overwrite, on_event=display)
    figures = bundle.document.properties.accuracy
    display.summarize(bundle)
    if as_json:
        summary = {
            "model": str(bundle.path),
            "digest": bundle.card.digest,
            "threshold": bundle.card.threshold,
        }
        click.echo(json.dumps(summary | {"accuracy": [figure.model_dump() for figure in figures]}))
    return 0


class TrainingDisplay(Display):
    """How far a training is, and what it has reached."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self._recipe = recipe
        self._first: Stepped | None = None
        self._iou = ""

    def __enter__(self) -> Self:
        self._say(f"reading data for {self._recipe.name}")
        return self

    def __call__(self, event: Event) -> None:
        """Show an event of the run."""
        from geoseg.training.events import Began, Noted, Validated

        if isinstance(event, Began):
            self.kept = "the same command resumes at the last checkpoint"
            for note in event.notes:
                self._say(note)
            if event.step:
                self._say(f"resuming after step {event.step}")
            if self._live:
                self._begin_bar(
                    self._recipe.name, 1.0, "{task.percentage:>3.0f}%", "{task.fields[figures]}", figures=""
                )
        elif isinstance(event, Noted):
            self._end_bar()
            self._say(event.text)
        elif isinstance(event, Validated):
            self._validated(event)
        else:
            self._stepped(event)

    def summarize(self, bundle: Bundle) -> None:
        """Print what was reached, one fact a line."""
        for figure in bundle.document.properties.accuracy:
            click.echo(f"{figure.metric:<28}{figure.value:<8g} {figure.where}", err=True)
        if bundle.card.instances or len(bundle.card.channels) == 1:
            click.echo(f"{'threshold':<28}{bundle.card.threshold:g}", err=True)
        click.echo(f"wrote      {bundle.path}", err=True)
        click.echo(f"run        {self._recipe.run_folder}", err=True)

    def _stepped(self, event: Stepped) -> None:
        self._first = self._first or event
        figures = f"step {event.step}, loss {event.loss:.3f}{self._iou}"
        if self._bar is not None:
            self._bar.update(self._task, completed=event.share, figures=figures)
        self._say_at_times(f"{event.share:.0%}, {figures}{self._left(event)}")

    def _left(self, event: Stepped) -> str:
        assert self._first is not None
        share = event.share - self._first.share
        if share <= 0:
            return ""
        return f", about {duration((event.seconds - self._first.seconds) * (1 - event.share) / share)} left"

    def _validated(self, event: Validated) -> None:
        mean = sum(event.iou.values()) / len(event.iou) if event.iou else float("nan")
        self._iou = f", IoU {mean:.3f}"
        star = " (best)" if event.merit >= event.best else ""
        places = ", ".join(f"{name} {value:.3f}" for name, value in event.iou.items())
        text = f"step {event.step}: IoU {mean:.3f}{star}: {places}"
        if self._bar is not None:
            self._bar.console.print(f"geoseg: {text}", highlight=False, soft_wrap=True)
        else:
            self._say(text)
