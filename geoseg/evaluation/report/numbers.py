"""How figures are written for people: sensible digits, and a dash with a reason where there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geoseg.evaluation.scores import Figure

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


def _fixed(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}".replace(",", NARROW_SPACE)
    zero = f"{0:.{digits}f}"
    return zero if text == f"-{zero}" else text
