"""The page: pictures of tiles, and all parts put together by a template that escapes everything."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.inputs import Compared
from geoseg.evaluation.report import charts
from geoseg.evaluation.report.plots import Plot
from geoseg.evaluation.result import Evaluation, WorstTile
from geoseg.files import replacing

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL.Image import Image

Color = tuple[int, int, int]

LARGEST = 400
"""Pixels of the longer side of a picture: sharp at the width that four in a row have on a screen."""

RIGHT, HIT, MISSED, FALSE, CONFUSED, UNKNOWN, UNKNOWN_LINE = range(7)
"""Values of `difference`: rightly nothing, found, missed, invented, the wrong class, no truth (hatched)."""

DIFFERENCE_COLORS: Mapping[int, Color] = {
    HIT: (176, 186, 196),
    MISSED: (0, 114, 178),
    FALSE: (230, 159, 0),
    CONFUSED: (204, 121, 167),
    UNKNOWN: (224, 224, 220),
    UNKNOWN_LINE: (140, 140, 136),
}
"""Errors in the colours of Okabe and Ito (2008), which colour-blind readers tell apart and which differ
in lightness on paper too; what is right is grey, what is rightly nothing is transparent."""

_HATCH = 8
_Pixel = TypeVar("_Pixel", bound=np.generic)


def difference(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], known: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return what is right and what is wrong at each pixel.

    Parameters
    ----------
    truth, prediction : ndarray of uint8, shape (rows, cols)
        Class ids; 0 is the background.
    known : ndarray of bool, shape (rows, cols)
        False: there is no truth, or no prediction, to compare.

    Returns
    -------
    ndarray of uint8, shape (rows, cols)
        `RIGHT` … `UNKNOWN`.
    """
    result = np.full(truth.shape, RIGHT, np.uint8)
    result[(truth != 0) & (truth == prediction)] = HIT
    result[(truth != 0) & (prediction == 0)] = MISSED
    result[(truth == 0) & (prediction != 0)] = FALSE
    result[(truth != 0) & (prediction != 0) & (truth != prediction)] = CONFUSED
    result[~known] = UNKNOWN
    return result


def scene_picture(scene: NDArray[np.uint8]) -> str:
    """Return a scene of shape (3 or 1, rows, cols) as a JPEG in a data URI, averaged where it is large."""
    from PIL import Image

    colors = np.broadcast_to(scene, (3, *scene.shape[1:]))
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(colors, 0, 2)))
    size = _shown(image.height, image.width)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BOX)
    return _data_uri(image, "jpeg", quality=82, optimize=True)


def class_picture(classes: NDArray[np.uint8], known: NDArray[np.bool_], colors: Mapping[int, Color]) -> str:
    """Return class ids as a PNG in a data URI: the background is transparent, unknown pixels hatched.

    Parameters
    ----------
    classes : ndarray of uint8, shape (rows, cols)
        Class ids; 0 is the background.
    known : ndarray of bool, shape (rows, cols)
        False pixels are hatched, whatever their class.
    colors : mapping of int to (red, green, blue)
        Of the classes; one that is missing is black.
    """
    values = _thin(classes)
    known = _thin(known)
    # Class ids reach 255: they are numbered anew, so that two entries are left for the hatching.
    present = [int(value) for value in np.unique(values[known]) if value][:253]
    codes = np.zeros(256, np.uint8)
    codes[present] = np.arange(len(present)) + 1
    indices = codes[values]
    fill, stroke = len(present) + 1, len(present) + 2
    indices[~known] = _hatched(values.shape, fill, stroke)[~known]
    palette = [(255, 255, 255), *(colors.get(value, (0, 0, 0)) for value in present)]
    palette += [DIFFERENCE_COLORS[UNKNOWN], DIFFERENCE_COLORS[UNKNOWN_LINE]]
    return _palette_png(indices, palette)


def difference_picture(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], known: NDArray[np.bool_]
) -> str:
    """Return `difference` as a PNG in a data URI, in `DIFFERENCE_COLORS`."""
    indices = difference(_thin(truth), _thin(prediction), _thin(known))
    unknown = indices == UNKNOWN
    indices[unknown] = _hatched(indices.shape, UNKNOWN, UNKNOWN_LINE)[unknown]
    return _palette_png(indices, [(255, 255, 255), *(DIFFERENCE_COLORS[k] for k in range(1, 7))])


def _shown(height: int, width: int) -> tuple[int, int]:
    """Return (width, height) of the picture of a tile: a whole fraction of it, so that all four fit."""
    step = _step(height, width)
    return -(-width // step), -(-height // step)


def _step(height: int, width: int) -> int:
    return max(1, -(-max(height, width) // LARGEST))


def _thin(array: NDArray[_Pixel]) -> NDArray[_Pixel]:
    """Keep the pixel in the middle of each cell: a class has no average."""
    step = _step(*array.shape)
    rows, cols = (np.minimum(np.arange(0, side, step) + step // 2, side - 1) for side in array.shape)
    return array[np.ix_(rows, cols)]


def _hatched(shape: tuple[int, int], fill: int, stroke: int) -> NDArray[np.uint8]:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.where((rows + cols) % _HATCH < 2, stroke, fill).astype(np.uint8)


def _palette_png(indices: NDArray[np.uint8], palette: list[Color]) -> str:
    from PIL import Image

    image = Image.fromarray(indices)
    image.putpalette([value for color in palette for value in color])
    return _data_uri(image, "png", optimize=True, transparency=0)


def _data_uri(image: Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


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
            difference=DIFFERENCE_COLORS,
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


def _view(evaluation: Evaluation, tile: WorstTile, layers: Compared, colors: Mapping[int, Color]) -> TileView:
    return TileView(
        tile,
        charts.center(evaluation, tile),
        "" if layers.scene is None else scene_picture(layers.scene),
        class_picture(layers.truth, layers.known, colors),
        class_picture(layers.prediction, layers.known, colors),
        difference_picture(layers.truth, layers.prediction, layers.known),
        coarse=max(layers.truth.shape) < LARGEST // 2,
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
