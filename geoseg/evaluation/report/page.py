"""The page: its parts put together by a template that escapes everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.evaluation.inputs import Compared
from geoseg.evaluation.report import charts, images
from geoseg.evaluation.report.plots import Plot
from geoseg.evaluation.result import Evaluation, WorstTile
from geoseg.files import replacing

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_PICTURES = 12
"""Tiles that are shown; with these a page stays under about a megabyte."""


@dataclass(frozen=True, slots=True)
class TileView:
    """One of the worst tiles as the page shows it."""

    tile: WorstTile
    """Its figures."""
    place: str
    """Coordinates of its centre in the grid's CRS."""
    scene: str
    """Data URI; empty without a scene."""
    truth: str
    prediction: str
    difference: str
    """`truth`, `prediction`, `difference`: Data URIs."""
    coarse: bool
    """The pictures have fewer pixels than they take on a screen: these are to be seen as squares."""


def write_report(
    evaluation: Evaluation, tiles: Sequence[Compared], path: Path, *, overwrite: bool = True
) -> None:
    """Write an evaluation as one self-contained HTML page.

    Style, plots (SVG) and pictures are in the page: it loads nothing, runs no script, and looks the
    same years later. The same evaluation gives the same bytes.

    Parameters
    ----------
    evaluation : Evaluation
        All figures.
    tiles : sequence of Compared
        What lies in each of ``evaluation.worst``, in this order; the first `MOST_PICTURES` are shown.
        Empty: the page has no pictures.
    path : Path
        The page, usually ``*.html``.
    overwrite : bool
        False: an existing file is never replaced.

    Raises
    ------
    UnwritableOutput
        If the folder is missing or not writable, or `path` exists and `overwrite` is False.
    ValueError
        If the number of `tiles` is neither 0 nor that of ``evaluation.worst``.
    """
    page = render(evaluation, tiles)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def render(evaluation: Evaluation, tiles: Sequence[Compared]) -> str:
    """Return the page of `write_report` as text."""
    if tiles and len(tiles) != len(evaluation.worst):
        raise ValueError(f"{len(tiles)} pictures for {len(evaluation.worst)} tiles")
    colors = {info.id: info.color for info in evaluation.classes}
    shown = list(zip(evaluation.worst, tiles, strict=False))[:MOST_PICTURES]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            evaluation=evaluation,
            crs=charts.crs_name(evaluation.grid.crs),
            plots=_plots(evaluation),
            tiles=[_view(evaluation, tile, layers, colors) for tile, layers in shown],
            wrong=lambda pixels: charts.ground(evaluation, pixels),
            difference=images.DIFFERENCE_COLORS,
        )
    )
    # A file name may hold bytes that are no text (surrogates): shown as such, never a broken page.
    return page.encode("utf-8", "replace").decode("utf-8")


def _plots(evaluation: Evaluation) -> dict[str, list[list[Plot]]]:
    """Return the plots of each section, a list for each class."""
    return {
        "objects": [
            [charts.strictness_plot(score, f"strict-{score.info.id}")]
            + ([charts.size_plot(score, f"size-{score.info.id}")] if score.sizes else [])
            for score in evaluation.objects
        ],
        "confidence": [
            [
                charts.reliability_plot(score, f"reliability-{score.info.id}"),
                charts.threshold_plot(score, f"threshold-{score.info.id}"),
            ]
            for score in evaluation.confidence
        ],
    }


def _view(
    evaluation: Evaluation, tile: WorstTile, layers: Compared, colors: Mapping[int, images.Color]
) -> TileView:
    return TileView(
        tile,
        charts.center(evaluation, tile),
        "" if layers.scene is None else images.scene_picture(layers.scene),
        images.class_picture(layers.truth, layers.known, colors),
        images.class_picture(layers.prediction, layers.known, colors),
        images.difference_picture(layers.truth, layers.prediction, layers.known),
        coarse=max(layers.truth.shape) < images.LARGEST // 2,
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = charts.count
    environment.filters["short"] = charts.short
    environment.filters["last_name"] = charts.last_name
    environment.filters["color"] = lambda color: "#{:02x}{:02x}{:02x}".format(*color)
    environment.globals.update(
        figure=charts.figure, share=charts.share, size_range=charts.size_range, style=_style()
    )
    return environment


def _style() -> str:
    from markupsafe import Markup

    return Markup((Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8"))
