"""``geoseg run``: what a recipe says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from geoseg.cli.events import events, progress_option
from geoseg.cli.options import debug_option, json_option, quiet_option


@click.command()
@click.argument("recipe", required=False, type=click.Path(path_type=Path), metavar="RECIPE.yaml")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe, such as predict.min_area=20. Repeat for several.",
)
@click.option("--example", metavar="NAME", help="Write an example, NAME.yaml, with the files that it needs.")
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@json_option
@progress_option
@quiet_option
@debug_option
def run(
    recipe: Path | None, changes: tuple[str, ...], example: str | None, *, quiet: bool, **told: bool
) -> int:
    """Run RECIPE.yaml: its kind names a command, its keys are the options of that command.

    The whole recipe, with all changes, is saved beside the result as NAME.recipe.yaml.

    \b
    Examples:
      geoseg run --example buildings
      geoseg run buildings.yaml
      geoseg run buildings.yaml --set predict.min_area=20 --set out=large.gpkg
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    if example is not None:
        if recipe is not None or changes:
            raise click.UsageError("--example writes a recipe; run it afterwards")
        return _write_example(example, overwrite=told["overwrite"], quiet=quiet)
    if recipe is None:
        raise click.UsageError("Missing argument 'RECIPE.yaml'; --example NAME writes one.")
    lines = events(quiet=quiet)
    from geoseg.recipes import load

    loaded = load(recipe, changes)
    loaded.make_folder()
    code = _KINDS[loaded.recipe.kind](loaded.recipe, quiet=quiet, **told)
    saved = loaded.save()
    if saved is not None and lines is None:
        click.echo(f"recipe     {saved}", err=True)
    return code


def _write_example(name: str, *, overwrite: bool, quiet: bool) -> int:
    from geoseg.recipes import write_example

    written = write_example(name, Path(), overwrite=overwrite)
    if not quiet:
        click.echo(f"wrote      {', '.join(map(str, written))}", err=True)
        click.echo(f"run it     geoseg run {written[0]}", err=True)
    return 0


def _predict(recipe: Any, *, overwrite: bool, **told: Any) -> int:
    from geoseg.cli.scene import predict_file

    options = recipe.predict.model_copy(update={"overwrite": True}) if overwrite else recipe.predict
    return predict_file(recipe.scene, recipe.out, options, **told)


def _evaluate(recipe: Any, **told: Any) -> int:
    from geoseg.cli.evaluate import evaluate_files
    from geoseg.evaluation import NOT_FOR_RUNS

    places = recipe.model_dump(include={"prediction", "probability", "scene", "report", "write"})
    options = recipe.evaluate.model_dump() | recipe.predict.model_dump(exclude=set(NOT_FOR_RUNS))
    return evaluate_files(recipe.predict.model_fields_set, recipe.truth, **places, **options, **told)


def _batch(recipe: Any, *, overwrite: bool, quiet: bool, as_json: bool) -> int:
    from geoseg.cli.batch import merge_results, run_scenes

    run = recipe.batch.model_copy(update={"redo": True}) if overwrite else recipe.batch
    places = recipe.sources, recipe.out
    lines = events(quiet=quiet)
    code = run_scenes(
        *places,
        recipe.merge.prediction(recipe.predict),
        run,
        recipe.select,
        lines,
        as_json=as_json,
    )
    return max(code, merge_results(recipe.out, recipe.merge, recipe.predict.model, run, lines))


def _diff(recipe: Any, *, overwrite: bool, quiet: bool, as_json: bool) -> int:
    from geoseg.cli.layers import diff_files
    from geoseg.cli.scene import predict_file
    from geoseg.labels.polygons import is_vector

    replacing = {"overwrite": True} if overwrite else {}
    options = recipe.predict.model_copy(update=replacing)
    layers: dict[str, Path] = {}
    code = 0
    for name in ("old", "new"):
        source, layer = getattr(recipe, name), recipe.out.with_name(f"{recipe.out.stem}.{name}.gpkg")
        if is_vector(source):
            layer = Path(source)
        else:
            code = max(code, predict_file(source, layer, options, as_json=False, quiet=quiet))
        layers[name] = layer
    chosen = recipe.diff.model_copy(update=replacing)
    diff_files(layers["old"], layers["new"], recipe.out, chosen, as_json=as_json, quiet=quiet)
    return code


def _train(recipe: Any, **told: Any) -> int:
    from geoseg.cli.train import train_by

    return train_by(recipe, resume=True, **told)


_KINDS: Mapping[str, Callable[..., int]] = {
    "predict": _predict,
    "evaluate": _evaluate,
    "batch": _batch,
    "diff": _diff,
    "train": _train,
}
