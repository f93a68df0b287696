"""``geoseg train``: from scenes with footprints, or a recipe, to a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from geoseg.cli.events import EventLines, progress_option

if TYPE_CHECKING:
    from geoseg.training.recipe import Recipe

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path)

_OVERRIDES: dict[str, tuple[str, Any, str]] = {
    "arch": ("model.arch", str, "unet, unet++, fcn, pspnet, deeplabv3, deeplabv3+, hrnet, fpn or segformer."),
    "encoder": ("model.encoder", str, "Any encoder of timm; by default one that suits --arch."),
    "weights": ("model.weights", click.Choice(["imagenet"]), "First weights of the encoder."),
    "loss": ("loss.name", str, "Terms joined by +: ce (or bce), dice, focal, lovasz.  [default: ce+dice]"),
    "optimizer": ("optimization.optimizer", str, "adamw, adam, radam, nadam or sgd.  [default: adamw]"),
    "learning_rate": ("optimization.learning_rate", float, "Peak of the schedule.  [default: 0.001]"),
    "batch": ("optimization.batch", int, "Samples a step.  [default: 16]"),
    "steps": ("optimization.steps", int, "Steps of the schedule.  [default: 2000]"),
    "minutes": ("optimization.minutes", float, "End the schedule after this training time."),
    "device": ("optimization.device", str, "auto: all GPUs, else the CPU; cpu; cuda."),
    "crop": ("draws.crop", int, "Side of a sample in pixels.  [default: 256]"),
    "seed": ("seed", int, "Fixes all chance.  [default: 0]"),
    "name": ("name", str, "Name of the model.  [default: that of its folder]"),
}
"""Flag: (key of the recipe, type, help). They also change what a recipe says."""


def _override_options(command: F) -> F:
    for flag, (_, kind, text) in reversed(_OVERRIDES.items()):
        command = click.option(f"--{flag.replace('_', '-')}", type=kind, help=text)(command)
    return command


@click.command()
@click.argument("recipe", required=False, type=_FILE, metavar="[RECIPE.yaml]")
@click.option(
    "--scene", "scenes", multiple=True, metavar="FILE", help="A scene to train on; may be repeated."
)
@click.option(
    "--labels",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="Polygons or mask of each --scene, in their order.",
)
@click.option(
    "--chips",
    multiple=True,
    type=_FILE,
    metavar="FOLDER|CSV",
    help="Chips: images/ and masks/, or an index.csv.",
)
@click.option(
    "--out", "-o", type=_FILE, metavar="FOLDER", help="Model folder to write; missing folders are made."
)
@click.option("--class-attribute", metavar="NAME", help="Attribute of the polygons that holds their class.")
@click.option(
    "--class", "classes", multiple=True, metavar="NAME", help="A class; by default all, or building."
)
@click.option(
    "--labelled-area", type=_FILE, metavar="FILE", help="Areas within which the labels are complete."
)
@click.option("--labels-layer", metavar="NAME", help="Layer of --labels, where several hold polygons.")
@click.option(
    "--labelled-area-layer", metavar="NAME", help="Layer of --labelled-area, where several hold polygons."
)
@click.option(
    "--bands",
    metavar="NAMES",
    help="Bands that the model takes, by name; with their numbers in the scenes where colours do not tell: "
    "red=4,green=3,blue=2.  [default: red,green,blue]",
)
@click.option(
    "--chip-pixel",
    "chip_pixel_m",
    type=click.FloatRange(min=0, min_open=True),
    metavar="METRES",
    help="Ground size of a pixel of --chips that are not georeferenced.",
)
@click.option(
    "--hold-out",
    "held_out",
    multiple=True,
    metavar="NAME",
    help="A scene, or pattern of chips, to validate on; by default a fifth of every scene, in squares.",
)
@click.option(
    "--resolution",
    "resolution_m",
    type=click.FloatRange(min=0, min_open=True),
    metavar="METRES",
    help="Ground size of a pixel that the model works at.  [default: that of --start or of the scenes]",
)
@click.option(
    "--start",
    multiple=True,
    metavar="MODEL",
    help="Go on from this model (name or folder): fine-tune it. Repeated: from the mean of their weights.",
)
@_override_options
@click.option(
    "--resume/--no-resume", default=True, help="Go on where the last run stopped.  [default: resume]"
)
@click.option("--overwrite", is_flag=True, help="Replace a model that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the measured figures on stdout.")
@progress_option
@click.option("--quiet", "-q", is_flag=True, help="No progress and no summary.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the whole traceback of an error.")
def train(
    recipe: Path | None,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
    **flags: Any,
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
    command goes on where a stopped run was. Then: geoseg predict scene.tif --model models/mine …
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    from geoseg.training import require_packages

    require_packages()
    checked = _recipe(recipe, out, flags)
    return train_by(
        checked, resume=resume, overwrite=overwrite, as_json=as_json, quiet=quiet, progress=progress
    )


def train_by(
    checked: Recipe, *, resume: bool, overwrite: bool, as_json: bool, quiet: bool, progress: str = "auto"
) -> int:
    """Train what a recipe says and return the exit code."""
    from geoseg.cli.training_progress import TrainingDisplay
    from geoseg.training import require_packages

    require_packages()
    from geoseg.training.run import is_first_process, train_model

    quiet = quiet or not is_first_process()
    shown = EventLines() if progress == "json" and not quiet else TrainingDisplay(checked, quiet=quiet)
    with shown as display:
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


def _recipe(path: Path | None, out: Path | None, flags: dict[str, Any]) -> Recipe:
    """Make the recipe that file and flags together say."""
    from geoseg.recipefiles import place_of
    from geoseg.training.recipe import make_recipe, read_recipe
    from geoseg.training.request import Request, make_content, parse_named_bands

    overrides = {flag: flags.pop(flag) for flag in _OVERRIDES}
    start = flags.pop("start")
    bands, numbers = parse_named_bands(flags.pop("bands"))
    content = make_content(
        Request(bands=bands, band_numbers=numbers, **flags),
        None if path is None else read_recipe(path),
        start[0] if start else None,
    )
    if out is not None:
        content["out"] = str(out.absolute())
    if "out" not in content:
        raise click.UsageError("Missing option '--out': the model folder to write.")
    if start:  # in place of what the recipe says training begins with
        section = content.get("model")
        if isinstance(section, dict):
            content["model"] = {key: value for key, value in section.items() if key != "weights"}
        _put(content, "model.start", start)
    for flag, value in overrides.items():
        if value is not None:
            _put(content, _OVERRIDES[flag][0], value)
    return make_recipe(content, "options" if path is None else partial(place_of, path))


def _put(content: dict[str, Any], key: str, value: object) -> None:
    """Set a key such as ``optimization.steps``; a section that is none is left for the check to refuse."""
    section, _, name = key.rpartition(".")
    if not section:
        content[name] = value
        return
    present = content.get(section) or {}
    if isinstance(present, dict):
        content[section] = present | {name: value}
