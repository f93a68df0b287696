"""``geoseg evaluate``: a prediction, or a model, against the truth, and the figures as tables."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.cli.events import events, progress_option, steps
from geoseg.cli.options import debug_option, options_of
from geoseg.errors import InvalidOption
from geoseg.evaluation import NOT_FOR_RUNS, EvaluateOptions
from geoseg.options import flag
from geoseg.prediction.options import AUTO, PredictOptions

if TYPE_CHECKING:
    from rich.table import Table

    from geoseg.evaluation.inputs import Sources
    from geoseg.evaluation.result import Evaluation, Figure
    from geoseg.models.bundle import Bundle


@click.command()
@click.argument("truth")
@click.option(
    "--prediction", "-p", metavar="FILE", help="Polygons, a class map or probabilities to evaluate."
)
@click.option(
    "--probability", metavar="FILE.tif", help="Probabilities of a prediction that is polygons or a class map."
)
@click.option("--scene", "-s", metavar="SCENE", help="Scene that was predicted: its grid is compared on.")
@options_of(EvaluateOptions)
@options_of(PredictOptions, without=NOT_FOR_RUNS)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page with figures, plots and the worst tiles.",
)
@click.option("--overwrite", is_flag=True, help="Replace a report that exists.")
@click.option(
    "--write",
    is_flag=True,
    help="Write the figures and the best threshold into the card of --model, a folder of yours.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON on stdout.")
@progress_option
@click.option("--quiet", "-q", is_flag=True, help="No progress and no table.")
@debug_option
@click.pass_context
def evaluate(ctx: click.Context, /, truth: str, **options: Any) -> int:
    """Compare a prediction with TRUTH: pixels, objects, outlines, confidence.

    TRUTH is a vector file of polygons or a raster of class ids. Give the --prediction to evaluate; or give
    the --scene, and a model is run over it first, with the options of geoseg predict.

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
    """Run an evaluation; `given` names the options that were not left to their defaults."""
    lines = events(quiet=quiet)
    from geoseg.evaluation.inputs import Sources, tile_layers
    from geoseg.evaluation.run import evaluate as compare

    chosen = EvaluateOptions(**{name: options.pop(name) for name in EvaluateOptions.model_fields})
    _check(given, prediction, probability, scene)
    if report is not None:
        _check_report(report, overwrite)
    bundle = _card_to_write(prediction, options["model"]) if write else None
    code = 0
    with contextlib.ExitStack() as stack:
        if prediction is None:
            assert scene is not None
            sources, code = _run_model(stack, (truth, scene), chosen, PredictOptions(**options), quiet)
        else:
            level = _level(options["threshold"])
            sources = Sources(
                truth=truth, prediction=prediction, probability=probability, scene=scene, threshold=level
            )
        with steps("comparing", quiet=quiet) as display:
            evaluation, inputs = compare(sources, chosen, lambda done, total: display(done / total))
        if report is not None:
            from geoseg.evaluation.report import write_report

            tiles = [tile_layers(inputs, worst.window) for worst in evaluation.worst]
            write_report(evaluation, tiles, report, overwrite=overwrite)
    wrote = [] if report is None else [report]
    if bundle is not None:
        from geoseg.evaluation.result import card_properties
        from geoseg.models.bundle import CARD, amend_card

        amend_card(bundle, card_properties(evaluation, bundle.document.properties))
        wrote.append(bundle.path / CARD)
    if lines:
        lines.summarize(evaluation, report=None if report is None else str(report), exit_code=code)
    else:
        summarize(evaluation, wrote)
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
            raise InvalidOption("a model makes its own probabilities; leave out --probability")
        return
    for name in PredictOptions.model_fields:
        if name in given and name not in NOT_FOR_RUNS | {"threshold"}:
            raise InvalidOption(f"with --prediction no model is run; leave out {flag(name)}")


def _card_to_write(prediction: str | None, model: str) -> Bundle:
    from geoseg.models.bundle import find_amendable

    if prediction is not None:
        raise InvalidOption("with --prediction no model is run; leave out --write")
    return find_amendable(model)


def _check_report(report: Path, overwrite: bool) -> None:
    from geoseg.files import check_writable

    if report.suffix.lower() not in {".html", ".htm"}:
        raise InvalidOption(f"{report}: --report writes a page; its name must end in .html")
    check_writable(report, overwrite=overwrite)


def _level(threshold: Any) -> float | None:
    try:
        return None if threshold == AUTO else float(threshold)
    except ValueError:
        raise InvalidOption(f"--threshold must be a number or auto, not {threshold!r}") from None


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
    with events(quiet=quiet) or ProgressDisplay() as display:
        sources, report = stack.enter_context(predicted(truth, scene, predict, options, display))
    return sources, report.exit_code


_UNDEFINED = "–"
_WIDTH = 132
"""Columns where stderr is no terminal: tables in a log keep their lines whole."""


def summarize(evaluation: Evaluation, wrote: Sequence[Path]) -> None:
    """Print the figures, and the files that were written."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else _WIDTH
    console = Console(stderr=True, highlight=False, width=width)
    for line in headline(evaluation):
        console.print(line, markup=False, soft_wrap=True)
    for table in tables(evaluation):
        console.print(table)
    for note in evaluation.notes:
        console.print(f"note       {note}", markup=False, soft_wrap=True)
    for path in wrote:
        console.print(f"wrote      {path}", markup=False, soft_wrap=True)


def headline(evaluation: Evaluation) -> list[str]:
    """Return what was compared and the figures over all classes, one fact a line."""
    pixels, grid, spacing = evaluation.pixels, evaluation.grid, evaluation.resolution_m
    size = "" if spacing is None else f" of {spacing[0]:.3g} × {spacing[1]:.3g} m"
    total = pixels.known_pixels + pixels.unknown_pixels
    resampling = evaluation.resampling
    blocks = f"{resampling.blocks} blocks of {resampling.side_m:g} {'px' if spacing is None else 'm'}"
    intervals = (
        f"95 % from {resampling.replicates} resamples of {blocks}"
        if resampling.replicates
        else f"none: {blocks} are too few"
    )
    return [
        f"truth      {evaluation.truth}",
        f"prediction {evaluation.prediction}",
        f"grid       {grid.width} × {grid.height} px{size}; {pixels.known_pixels / total:.1%} known",
        f"intervals  {intervals}",
        f"accuracy   {_show(pixels.accuracy)}   mean IoU {_show(pixels.mean_iou)}",
    ]


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the figures by class."""
    made = [part(evaluation) for part in (_pixel_table, _object_table, _size_table, _outline_table)]
    if evaluation.confidence:
        made.append(_confidence_table(evaluation))
    if evaluation.coco:
        made.append(_coco_table(evaluation))
    return made


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    return table


def _pixel_table(evaluation: Evaluation) -> Table:
    table = _table("Pixels", "class", "IoU", "F1", "precision", "recall")
    for score in evaluation.pixels.classes:
        figures = (score.iou, score.f1, score.precision, score.recall)
        table.add_row(_name(score), *map(_show, figures))
    return table


def _object_table(evaluation: Evaluation) -> Table:
    table = _table(
        "Objects at IoU 0.5",
        "class", "F1", "precision", "recall", "F1 0.5:0.95",
        "true", "predicted", "split", "merged", "false/km²",
    )  # fmt: skip
    for score in evaluation.objects:
        figures = (score.f1, score.precision, score.recall, score.mean_f1)
        counts = (score.truth, score.predicted, score.split, score.merged)
        table.add_row(
            _name(score),
            *map(_show, figures),
            *(f"{count:,}" for count in counts),
            _number(score.false_per_km2.value, ".0f"),
        )
    return table


def _size_table(evaluation: Evaluation) -> Table:
    table = _table("Objects by size", "class", "m²", "true", "predicted", "F1", "precision", "recall")
    for score in evaluation.objects:
        for size in score.sizes:
            high = f"–{size.high_m2:g}" if math.isfinite(size.high_m2) else "+"
            reach = f"{size.low_m2:g}{high}"
            ratios = (_number(value, ".3f") for value in (size.f1, size.precision, size.recall))
            table.add_row(_name(score), reach, f"{size.truth:,}", f"{size.predicted:,}", *ratios)
    return table


def _outline_table(evaluation: Evaluation) -> Table:
    unit = "px" if evaluation.resolution_m is None else "m"
    table = _table("Outlines", "class", "boundary IoU", "band", "distance", "95th percentile", "pairs")
    for score in evaluation.outlines:
        rows, cols = score.width_px
        pixels = f"{rows} px" if rows == cols else f"{rows} × {cols} px"
        band = f"{score.width_m:g} m, {pixels}" if math.isfinite(score.width_m) else pixels
        table.add_row(
            _name(score),
            _show(score.boundary_iou),
            band,
            f"{_show(score.mean_m, '.2f')} {unit}",
            f"{_number(score.p95_m.value, '.2f')} {unit}",
            f"{score.pairs:,}",
        )
    return table


def _confidence_table(evaluation: Evaluation) -> Table:
    table = _table("Confidence", "class", "calibration error", "Brier", "best threshold", "its IoU", "used")
    for score in evaluation.confidence:
        table.add_row(
            _name(score),
            _show(score.calibration_error),
            _number(score.brier, ".3f"),
            _number(score.best.threshold, ".3f"),
            _number(score.best.iou, ".3f"),
            _number(score.used, ".3g"),
        )
    return table


def _coco_table(evaluation: Evaluation) -> Table:
    sizes = ("small", "medium", "large")
    table = _table("COCO", "class", "AP", "AP50", "AP75", *sizes, "AR", *sizes)
    for score in evaluation.coco:
        figures = (score.ap, score.ap50, score.ap75, *score.ap_by_size, score.ar, *score.ar_by_size)
        table.add_row(_name(score), *(_number(value, ".3f") for value in figures))
    return table


def _name(score: Any) -> str:
    from rich.markup import escape

    return escape(str(score.info.name))


def _show(figure: Figure, digits: str = ".3f") -> str:
    if not math.isfinite(figure.value):
        return _UNDEFINED
    if not math.isfinite(figure.low):
        return format(figure.value, digits)
    return f"{figure.value:{digits}} ({figure.low:{digits}}–{figure.high:{digits}})"


def _number(value: float, digits: str) -> str:
    return format(value, digits) if math.isfinite(value) else _UNDEFINED
