"""The figures of an evaluation as words and as plots. Pure functions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from geoseg.evaluation.report.plots import (
    FIFTHS,
    Plot,
    Tick,
    bars_of,
    foot_bars,
    horizontal,
    line,
    marks_of,
    ticks,
    vertical,
)
from geoseg.evaluation.result import ConfidenceScore, Evaluation, Figure, ObjectScore, SizeScore, WorstTile


def reliability_plot(score: ConfidenceScore, key: str) -> Plot:
    """Return the share of pixels that are of the class over the probability that they were given.

    After DeGroot and Fienberg (1983); the pixels of each bin are counted under the plot.
    """
    x, y = horizontal(), vertical()
    filled = [part for part in score.bins if part.pixels]
    texts = [
        f"said {part.mean_probability:.3f}, true {part.true_share:.3f}, {count(part.pixels)} pixels"
        for part in filled
    ]
    points = [(part.mean_probability, part.true_share) for part in filled]
    error = figure(score.calibration_error)
    return Plot(
        key,
        "Reliability",
        "Share of the pixels that are of the class over the probability given to them, by bins. "
        f"On the diagonal probabilities can be taken at their word. Expected calibration error {error.text}.",
        "probability given",
        "share that is true",
        ticks(x, FIFTHS),
        ticks(y, FIFTHS),
        lines=(
            line("perfectly calibrated", "guide", [(0, 0), (1, 1)], x=x, y=y),
            line("this prediction", "first", points, x=x, y=y, texts=texts),
        ),
        foot=foot_bars(
            [part.low for part in score.bins] + [part.high for part in score.bins[-1:]],
            [part.pixels for part in score.bins],
            [f"{part.low:.1f} to {part.high:.1f}: {count(part.pixels)} pixels" for part in score.bins],
            x=x,
        ),
        foot_title="pixels in each bin (logarithmic)",
    )


def threshold_plot(score: ConfidenceScore, key: str) -> Plot:
    """Return IoU, precision and recall over the threshold, with the best and the used one."""
    x, y = horizontal(), vertical()
    names = (("IoU", "first", "iou"), ("precision", "second", "precision"), ("recall", "third", "recall"))
    marks: list[tuple[float, str, str]] = []
    words = "No threshold can be called best: the class does not occur."
    if math.isfinite(score.best.threshold):
        marks.append((score.best.threshold, f"best {score.best.threshold:.3f}", "first"))
        words = f"The best IoU, {score.best.iou:.3f}, is reached at {score.best.threshold:.3f}."
    if math.isfinite(score.used):
        marks.append((score.used, f"used {score.used:.3f}", "guide"))
    return Plot(
        key,
        "Choice of the threshold",
        f"IoU, precision and recall of pixels over the threshold of probability. {words}",
        "threshold",
        "score",
        ticks(x, FIFTHS),
        ticks(y, FIFTHS),
        lines=tuple(
            line(name, style, [(part.threshold, getattr(part, field)) for part in score.curve], x=x, y=y)
            for name, style, field in names
        ),
        marks=marks_of(marks, x=x),
    )


def strictness_plot(score: ObjectScore, key: str) -> Plot:
    """Return F1, precision and recall of objects over the IoU from which a pair counts."""
    x, y = horizontal(0.475, 0.975), vertical()
    names = (("F1", "first", "f1"), ("precision", "second", "precision"), ("recall", "third", "recall"))
    mean = figure(score.mean_f1)
    texts = [f"F1 {part.f1:.3f} at IoU {part.iou:.2f}" for part in score.by_iou]
    return Plot(
        key,
        "How exact are the objects?",
        "F1, precision and recall of objects over the IoU from which a pair counts as found. "
        f"F1 is {figure(score.f1).text} at 0.5; its mean over all thresholds is {mean.text}.",
        "IoU from which an object counts as found",
        "score",
        ticks(x, (0.5, 0.6, 0.7, 0.8, 0.9)),
        ticks(y, FIFTHS),
        lines=tuple(
            line(
                name,
                style,
                [(part.iou, getattr(part, field)) for part in score.by_iou],
                x=x,
                y=y,
                texts=texts if field == "f1" else (),
            )
            for name, style, field in names
        ),
    )


def size_plot(score: ObjectScore, key: str) -> Plot:
    """Return recall and precision of objects as bars, a group for each class of size."""
    x, y = horizontal(), vertical()
    groups = [
        [
            (size.recall, "first", f"recall {figure(size.recall).text}: {size.found} of {size.truth} found"),
            (
                size.precision,
                "second",
                f"precision {figure(size.precision).text}: {size.right} of {size.predicted} right",
            ),
        ]
        for size in score.sizes
    ]
    bars, middles = bars_of(groups, x=x, y=y)
    words = (
        f"{size_range(size)} m²: recall {figure(size.recall).text}, precision {figure(size.precision).text}"
        for size in score.sizes
    )
    return Plot(
        key,
        "By size",
        "Recall (found true objects) and precision (right predicted objects) at IoU 0.5 by size: "
        f"{'; '.join(words)}.",
        "area of the object, m²",
        "score",
        tuple(Tick(at, size_range(size)) for at, size in zip(middles, score.sizes, strict=True)),
        ticks(y, FIFTHS),
        bars=bars,
        bar_keys=(("first", "recall"), ("second", "precision")),
    )


def size_range(size: SizeScore) -> str:
    """Return the range of areas in square metres as text, without the unit."""
    if not math.isfinite(size.high_m2):
        return f"≥ {short(size.low_m2)}"
    if size.low_m2 <= 0:
        return f"< {short(size.high_m2)}"
    return f"{short(size.low_m2)}–{short(size.high_m2)}"


DASH = "–"
"""Stands for a figure that has no meaning here."""

NARROW_SPACE = "\u202f"
"""Groups thousands; never broken at the end of a line."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as it is shown."""

    text: str
    """The number with its unit, or `DASH`."""
    interval: str = ""
    """Its 95 % interval, e.g. ``0.812 to 0.874``; empty where there is none."""
    reason: str = ""
    """Why there is no number; empty where there is one."""


def figure(
    value: Figure | float, *, digits: int = 3, unit: str = "", reason: str = "nothing to divide by"
) -> Shown:
    """Return a ratio or a measure with a fixed number of decimals.

    Parameters
    ----------
    value : Figure or float
        NaN or infinite: a dash with the `reason`; its interval is shown if both ends are finite.
    digits : int
        Decimals.
    unit : str
        Written after the number, apart by a space that does not break.
    reason : str
        Why the figure may be missing.
    """
    whole = value if isinstance(value, Figure) else Figure(value)
    if not math.isfinite(whole.value):
        return Shown(DASH, reason=reason)
    text = _fixed(whole.value, digits)
    interval = ""
    if math.isfinite(whole.low) and math.isfinite(whole.high):
        interval = f"{_fixed(whole.low, digits)} to {_fixed(whole.high, digits)}"
    return Shown(f"{text}\u00a0{unit}" if unit else text, interval)


def count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}".replace(",", NARROW_SPACE)


def share(part: int, whole: int) -> str:
    """Return a percentage with three significant digits at most; a dash for a share of nothing."""
    if not whole:
        return DASH
    percent = 100 * part / whole
    if 0 < percent < 0.01:
        return "< 0.01 %".replace(" ", "\u00a0")
    digits = 0 if percent in {0, 100} else 2 if percent < 1 else 1
    text = f"{percent:.{digits}f}"
    # Rounding must not claim that something rare never happens.
    return f"{'99.9' if text == '100.0' else text}\u00a0%"


def short(value: float) -> str:
    """Return a length with four significant digits, or all of its whole part, without needless zeros."""
    if not math.isfinite(value):
        return DASH
    text = f"{value:.4g}"
    return f"{value:.0f}" if "e+" in text else text


def crs_name(crs: str | None) -> str:
    """Return a CRS as ``EPSG:32632, WGS 84 / UTM zone 32N``; without a code, its name alone.

    Parameters
    ----------
    crs : str or None
        As in `geoseg.values.GeoBox`; None: pixel coordinates.
    """
    if crs is None:
        return "none: pixel coordinates"
    import pyproj

    system = pyproj.CRS.from_user_input(crs)
    authority = system.to_authority()
    return f"{':'.join(authority)}, {system.name}" if authority else system.name


def last_name(path: str) -> str:
    """Return the last part of a path of any system; a name without parts as it is."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def center(evaluation: Evaluation, tile: WorstTile) -> str:
    """Return the middle of a tile in the grid's CRS, with decimals for a tenth of a pixel.

    Enough to find it with a GIS; a geographic CRS is given as x, y too, in this order.
    """
    a, b, _, d, e, _ = evaluation.grid.transform
    step = max(math.hypot(a, d), math.hypot(b, e))
    digits = min(9, max(0, 1 - math.floor(math.log10(step)))) if step > 0 and math.isfinite(step) else 2
    x, y = tile.center
    return f"x {x:.{digits}f}, y {y:.{digits}f}"


def ground(evaluation: Evaluation, pixels: int) -> str:
    """Return a number of pixels in words, with their ground in square metres if that is known."""
    text = f"{count(pixels)}\u00a0px"
    if evaluation.resolution_m is None or not pixels:
        return text
    across, down = evaluation.resolution_m
    return f"{text} ({figure(pixels * across * down, digits=0, unit='m²').text})"


def _fixed(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}".replace(",", NARROW_SPACE)
    zero = f"{0:.{digits}f}"
    return zero if text == f"-{zero}" else text
