"""``geoseg evaluate``: a prediction, or a model, against the truth."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.cli.events import events, progress_option, steps
from geoseg.cli.options import debug_option, options_of
from geoseg.errors import InvalidOption
from geoseg.evaluation.options import NOT_FOR_RUNS, EvaluateOptions
from geoseg.options import flag
from geoseg.prediction.options import AUTO, PredictOptions

if TYPE_CHECKING:
    from geoseg.evaluation.inputs import Sources
    from geoseg.models.bundle import Bundle
    from geoseg.prediction.report import Event


@click.command()
@click.argument("truth")
@click.option(
    "--prediction", "-p", metavar="FILE", help="Polygons, a class map or probabilities to evaluate."
)
@click.option(
    "--probability", metavar="FILE.tif", help="Probabilities that belong to predicted polygons or classes."
)
@click.option("--scene", "-s", metavar="SCENE", help="What is predicted: its grid, its nodata, its picture.")
@options_of(EvaluateOptions)
@options_of(PredictOptions, without=NOT_FOR_RUNS)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Also write a page with figures, plots and the worst tiles.",
)
@click.option("--overwrite", is_flag=True, help="Replace a report that exists.")
@click.option(
    "--write",
    is_flag=True,
    help="Write figures and best threshold into the card of --model, a folder of your own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON on stdout.")
@progress_option
@click.option("--quiet", "-q", is_flag=True, help="No progress and no table.")
@debug_option
@click.pass_context
def evaluate(ctx: click.Context, /, truth: str, **options: Any) -> int:
    """Compare a prediction with TRUTH: pixels, objects, outlines, confidence.

    TRUTH is a vector file (polygons) or a raster of class ids. With --prediction that file is
    evaluated; without, a model is run over --scene first, with the options of geoseg predict.

    \b
    Examples:
      geoseg evaluate truth.gpkg --prediction buildings.gpkg --scene scene.tif
      geoseg evaluate mask.tif --prediction map.tif --truth-values 255=1,127=ignore
      geoseg evaluate truth.gpkg --scene scene.tif --model models/mine --report report.html
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    source = click.core.ParameterSource.COMMANDLINE
    return evaluate_files(
        {name for name in options if ctx.get_parameter_source(name) is source}, truth, **options
    )


def evaluate_files(  # noqa: PLR0913 (one parameter an option)
    given: Collection[str],
    /,
    truth: str,
    *,
    prediction: str | None,
    probability: str | None,
    scene: str | None,
    report: Path | None,
    overwrite: bool,
    write: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Do what the command does; `given` names the options that were given, not left to their defaults."""
    lines = events(quiet=quiet)
    from geoseg.cli.evaluation_display import summarize
    from geoseg.evaluation.run import evaluate as compare

    chosen = EvaluateOptions(**{name: options.pop(name) for name in EvaluateOptions.model_fields})
    _check(given, prediction, probability, scene)
    _check_report(report, overwrite)
    bundle = _card_to_write(prediction, options["model"]) if write else None
    code = 0
    with contextlib.ExitStack() as stack:
        if prediction is None:
            assert scene is not None
            sources, code = _run_model(stack, (truth, scene), chosen, PredictOptions(**options), quiet)
        else:
            sources = _files(truth, prediction, probability, scene, options["threshold"])
        with steps("comparing", quiet=quiet) as display:
            evaluation, inputs = compare(sources, chosen, lambda done, total: display(done / total))
        if report is not None:
            from geoseg.evaluation.inputs import tile_layers
            from geoseg.evaluation.report import write_report

            tiles = [tile_layers(inputs, worst.window) for worst in evaluation.worst]
            write_report(evaluation, tiles, report, overwrite=overwrite)
    if bundle is not None:
        from geoseg.evaluation.result import card_properties
        from geoseg.models.bundle import CARD, amend_card

        amend_card(bundle, card_properties(evaluation, bundle.document.properties))
        wrote = bundle.path / CARD
    if lines:
        lines.summarize(evaluation, report=None if report is None else str(report), exit_code=code)
    elif not quiet:
        summarize(evaluation, report)
        if bundle is not None:
            click.echo(f"wrote      {wrote}", err=True)
    if as_json:
        click.echo(json.dumps(evaluation.as_json()))
    return code


def _check(
    given: Collection[str], prediction: str | None, probability: str | None, scene: str | None
) -> None:
    """Refuse what contradicts: nothing to evaluate, or options of a run where nothing is run."""
    if prediction is None:
        if scene is None:
            raise InvalidOption("give the --prediction to evaluate, or the --scene to run a model over")
        if probability is not None:
            raise InvalidOption("--probability belongs to a --prediction; a model makes its own")
        return
    for name in PredictOptions.model_fields:
        if name in given and name not in NOT_FOR_RUNS | {"threshold"}:
            raise InvalidOption(f"{flag(name)} is for running a model; with --prediction nothing is run")


def _card_to_write(prediction: str | None, model: str) -> Bundle:
    from geoseg.models.bundle import find_amendable

    if prediction is not None:
        raise InvalidOption("--write is for a model that is run; with --prediction nothing is run")
    return find_amendable(model)


def _check_report(report: Path | None, overwrite: bool) -> None:
    if report is None:
        return
    from geoseg.files import check_writable

    if report.suffix.lower() not in {".html", ".htm"}:
        raise InvalidOption(f"{report}: --report writes a page; its name must end in .html")
    check_writable(report, overwrite=overwrite)


def _files(
    truth: str,
    prediction: str,
    probability: str | None,
    scene: str | None,
    threshold: str,
) -> Sources:
    from geoseg.evaluation.inputs import Sources

    try:
        level = None if threshold == AUTO else float(threshold)
    except ValueError:
        raise InvalidOption(f"--threshold must be a number or auto, not {threshold!r}") from None
    return Sources(
        truth=truth,
        prediction=prediction,
        probability=probability,
        scene=scene,
        threshold=level,
    )


def _run_model(
    stack: contextlib.ExitStack,
    places: tuple[str, str],
    options: EvaluateOptions,
    predict: PredictOptions,
    quiet: bool,
) -> tuple[Sources, int]:
    from geoseg.cli.progress import ProgressDisplay
    from geoseg.evaluation.inputs import open_truth
    from geoseg.evaluation.run import predicted

    truth, scene = places
    open_truth(truth, options)  # a wrong name is told before the model has run
    with events(quiet=quiet) or ProgressDisplay(quiet=quiet) as display:

        def show(event: Event) -> None:
            display(event)

        sources, report = stack.enter_context(predicted(truth, scene, predict, options, show))
    return sources, report.exit_code
