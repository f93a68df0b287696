"""``geoseg models list|show|check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from geoseg.errors import InvalidModel, InvalidOption

if TYPE_CHECKING:
    from geoseg.assessment.compare import BackendReport
    from geoseg.assessment.context import Context
    from geoseg.models.bundle import Bundle


@click.group()
def models() -> None:
    """Look at models: those that ship with geoseg, folders, ONNX files."""


@models.command("list")
def list_models() -> None:
    """List the models that ship with geoseg."""
    from geoseg.models.bundle import builtin_models, load_folder

    bundles = [load_folder(folder) for folder in builtin_models().values()]
    header = ("name", "classes", "resolution", "size", "threshold", "measured")
    _table([header, *map(_summary, bundles)])


@models.command()
@click.argument("model", metavar="NAME|FOLDER|FILE.onnx")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
def show(model: str, as_json: bool) -> None:
    """Show a model's card."""
    from geoseg.models.bundle import find_model
    from geoseg.models.card_json import to_json

    bundle = find_model(model)
    if as_json:
        click.echo(to_json(bundle.document))
        return
    for title, text in _details(bundle):
        click.echo(f"{title + ':':<15}{text}")


@models.command()
@click.argument("model", metavar="NAME|FOLDER|FILE.onnx")
@click.option("--scene", metavar="FILE", help="Imagery to measure the smallest overlap on.")
@click.option("--write", is_flag=True, help="Write what was measured into the card of a model folder.")
def check(model: str, scene: str | None, write: bool) -> None:
    """Check a model: its card and files, its backends, its speed, its context.

    All backends must give the same result. The speed of OpenVINO is measured in each precision; where
    another one than the rule's is faster here, the option to type is named. The effective receptive field
    is measured, and with --scene the smallest overlap at which tiles leave no trace; not of models that
    find objects, whose tiles overlap by the largest of them. Exits with code 2 if anything is wrong.
    """
    from geoseg.models.bundle import CARD, amend_card, find_amendable, find_model

    bundle = find_amendable(model) if write else find_model(model)
    objects = bundle.card.instances
    if objects is not None and (write or scene is not None):
        option = "--write" if write else "--scene"
        raise InvalidOption(f"{option}: {bundle.path} finds objects: no overlap is measured; leave it out")
    _check_backends(bundle)
    for line in _speed_lines(bundle):
        click.echo(line)
    if objects is not None:
        click.echo(f"overlap: by the largest object, {objects.largest_m:g} m")
        return
    context = _measure(bundle, scene)
    for line in _context_lines(context):
        click.echo(line)
    if write:
        amend_card(bundle, context.properties)
        click.echo(f"wrote {bundle.path / CARD}")


def _check_backends(bundle: Bundle) -> None:
    from geoseg.assessment.compare import compare_backends

    click.echo(f"{bundle.path}: card and files are right, digest {bundle.card.digest[:16]}")
    reports = compare_backends(bundle)
    _table([("backend", "device", "largest difference", "verdict"), *map(_verdict, reports)])
    wrong = [report for report in reports if report.problem and not report.missing]
    if wrong:
        raise InvalidModel(f"{bundle.path}: wrong on {wrong[0].backend}: {wrong[0].problem}")
    if all(report.missing for report in reports):
        raise InvalidModel(f"{bundle.path}: runs on none of this machine's backends")


def _speed_lines(bundle: Bundle) -> list[str]:
    from geoseg.assessment.compare import advise, measure_speeds
    from geoseg.backends.select import choose_backend, precision_of

    speeds = measure_speeds(bundle)
    if not speeds:
        return []
    choice = precision_of(bundle, choose_backend(bundle, backend="openvino", device="cpu"))
    figures = ", ".join(f"{name} {speed:.2f} MPix/s" for name, speed in speeds.items())
    return [f"openvino: {figures}", advise(speeds, choice.precision, choice.reason)]


def _measure(bundle: Bundle, scene: str | None) -> Context:
    from geoseg.assessment.context import measure_context
    from geoseg.cli.progress import StepDisplay
    from geoseg.prediction.decide import read_middle

    picture = None if scene is None else read_middle(scene, str(bundle.path), 2 * bundle.card.tile)
    with StepDisplay("measuring how far it looks") as display:
        return measure_context(bundle, picture, on_step=display)


def _context_lines(context: Context) -> list[str]:
    from geoseg.assessment.context import TOLERANCE

    lines = []
    if context.field is not None:
        near, far = context.field.radii
        how = "gradients" if context.field.by_gradient else "disturbed input"
        lines.append(f"receptive field: 95 % within {near} px, 99.9 % within {far} px ({how})")
    extent = {True: "yes", False: "no", None: "unknown"}[context.depends_on_extent]
    lines.append(f"depends on the tile's extent: {extent}")
    if context.agreements:
        lines.append(f"tiles of {context.tile} px against the whole:")
        header = ("overlap", "largest difference", "99.9 % are below", "mean", "change class")
        rows = [
            (f"{a.overlap}", f"{a.largest:.4f}", f"{a.tail:.4f}", f"{a.mean:.5f}", f"{a.moved:.3%}")
            for a in context.agreements
        ]
        lines += _columns([header, *rows])
    overlap = context.smallest_overlap
    if overlap is not None:
        result = f"{overlap} px; from there on at most {TOLERANCE:.2%} of the pixels change class"
    elif context.problem:
        result = f"unknown: {context.problem}"
    elif context.depends_on_extent:
        result = "none: depends on the extent"
    else:
        result = f"none up to half a tile leaves at most {TOLERANCE:.2%} of the pixels changed"
    return [*lines, f"smallest overlap: {result}"]


def _summary(bundle: Bundle) -> tuple[str, ...]:
    card = bundle.card
    size = sum(path.stat().st_size for path in bundle.files.values())
    measured = [
        f"{figure.metric} {figure.value:g} ({figure.where})" for figure in bundle.document.properties.accuracy
    ]
    return (
        card.name,
        ", ".join(info.name for info in card.classes),
        _metres(card.resolution_m),
        f"{size / 1e6:.1f} MB",
        f"{card.threshold:g}",
        measured[0] if measured else "-",
    )


def _details(bundle: Bundle) -> list[tuple[str, str]]:
    card, properties = bundle.card, bundle.document.properties
    finest, coarsest = card.resolution_range or (None, None)
    seen = f" (trained on {_metres(finest)} to {_metres(coarsest)})" if finest else ""
    lines = [
        ("name", card.name),
        ("description", str((properties.model_extra or {}).get("description", "-"))),
        ("path", str(bundle.path)),
        ("digest", card.digest),
        ("architecture", f"{properties.architecture} ({properties.framework})"),
        ("bands", f"{', '.join(card.inputs.bands)} as {card.inputs.dtype}"),
        ("resolution", _metres(card.resolution_m) + seen),
        ("tile", f"{card.tile} pixels, overlap {card.overlap}{', fixed' if card.fixed_tile else ''}"),
        ("context", _known_context(bundle)),
        ("classes", ", ".join(f"{info.id} {info.name}" for info in card.classes)),
        ("threshold", f"{card.threshold:g} after {card.activation}"),
        ("files", ", ".join(sorted(path.name for path in bundle.files.values()))),
    ]
    lines += [
        ("trained on", f"{source.name} ({source.licence})" + (f": {source.note}" if source.note else ""))
        for source in properties.training_data
    ]
    lines += [
        ("measured", f"{figure.metric} {figure.value:g} on {figure.where}: {figure.how}")
        for figure in properties.accuracy
    ]
    return lines


def _known_context(bundle: Bundle) -> str:
    properties = bundle.document.properties
    parts = []
    if properties.receptive_field:
        parts.append("receptive field {} px (95 %), {} px (99.9 %)".format(*properties.receptive_field))
    if properties.smallest_overlap is not None:
        parts.append(f"smallest overlap {properties.smallest_overlap} px")
    if properties.depends_on_extent:
        parts.append("depends on the tile's extent")
    return "; ".join(parts) or "not measured"


def _verdict(report: BackendReport) -> tuple[str, ...]:
    if not report.name:
        return report.backend, report.device, "-", report.problem
    figures = f"{report.difference:.5f}, {report.moved:.3%} change sides"
    return report.name, report.device, figures, report.problem or "agrees"


def _metres(resolution: float | None) -> str:
    return "the scene's" if resolution is None else f"{resolution:g} m"


def _table(rows: list[tuple[str, ...]]) -> None:
    for line in _columns(rows):
        click.echo(line)


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
