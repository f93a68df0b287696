"""``geoseg models list|show|check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from geoseg.errors import InvalidModel

if TYPE_CHECKING:
    from geoseg.backends.compare import BackendReport
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
    from geoseg.models.card import to_json

    bundle = find_model(model)
    if as_json:
        click.echo(to_json(bundle.document))
        return
    for title, text in _details(bundle):
        click.echo(f"{title + ':':<15}{text}")


@models.command()
@click.argument("model", metavar="NAME|FOLDER|FILE.onnx")
def check(model: str) -> None:
    """Check a model's card and files, and that all backends agree on a test tile.

    Exits with code 2 if anything is wrong.
    """
    from geoseg.backends.compare import compare_backends
    from geoseg.models.bundle import find_model

    bundle = find_model(model)
    click.echo(f"{bundle.path}: card and files are right, digest {bundle.card.digest[:16]}")
    reports = compare_backends(bundle)
    _table([("backend", "device", "largest difference", "verdict"), *map(_verdict, reports)])
    wrong = [report for report in reports if report.problem and not report.missing]
    if wrong:
        raise InvalidModel(f"{bundle.path}: wrong on {wrong[0].backend}: {wrong[0].problem}")
    if all(report.missing for report in reports):
        raise InvalidModel(f"{bundle.path}: runs on none of this machine's backends")


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


def _verdict(report: BackendReport) -> tuple[str, ...]:
    if not report.name:
        return report.backend, report.device, "-", report.problem
    figures = f"{report.difference:.5f}, {report.moved:.3%} change sides"
    return report.name, report.device, figures, report.problem or "agrees"


def _metres(resolution: float | None) -> str:
    return "the scene's" if resolution is None else f"{resolution:g} m"


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
