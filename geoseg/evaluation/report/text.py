"""Figures and places in words: sensible digits, a dash with a reason where there is none, a CRS by name."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from geoseg.evaluation.result import Evaluation, Figure, WorstTile

DASH = "–"
"""Stands for a figure that has no meaning here."""

NARROW_SPACE = "\u202f"
"""Groups thousands; never broken at the end of a line."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as it is shown.

    Parameters
    ----------
    text : str
        The number with its unit, or `DASH`.
    interval : str
        Its 95 % interval, e.g. ``0.812 to 0.874``; empty where there is none.
    reason : str
        Why there is no number; empty where there is one.
    """

    text: str
    interval: str = ""
    reason: str = ""


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
