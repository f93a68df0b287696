"""Plots as values: where every line, bar and tick lies, in the units of an SVG view box.

A template draws them (``plots.svg.j2``) and leaves colours to the page's style sheet, so that they
follow the light or dark scheme. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 400, 280
"""Of the view box of a plot; on a phone it is about as many CSS pixels wide."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 388, 14, 232
_FOOT = 46
"""Height of the counts under a plot, where there are some."""

_LABEL = 75
"""Room that the label of a mark needs."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its place in the view box and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A polyline."""

    name: str
    """For the legend."""
    style: str
    """Class of the style sheet: ``first`` … ``fourth`` or ``guide``."""
    paths: tuple[str, ...]
    """``points`` of one polyline each; a missing value parts them."""
    dots: tuple[tuple[float, float, str], ...] = ()
    """Marked points with what is shown on hovering; empty: none are marked."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle from (x, y); `text` is shown on hovering, `label` written above it."""

    x: float
    y: float
    width: float
    height: float
    style: str
    text: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line through the plot, with a label beside it at height `y`."""

    x: float
    label: str
    style: str
    anchor: str
    y: float


@dataclass(frozen=True, slots=True)
class Plot:
    """All that a template needs to draw one plot."""

    key: str
    """Unique on the page, for ids."""
    title: str
    description: str
    """`title`, `description`: What is shown; the description says in words what the picture says."""
    x_title: str
    y_title: str
    """`x_title`, `y_title`: Of the axes."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    """`x_ticks`, `y_ticks`: Labelled; lines of the grid are drawn at `y_ticks`."""
    lines: tuple[Line, ...] = ()
    """`lines`, `bars`, `marks`: See `Line`, `Bar`, `Mark`."""
    bars: tuple[Bar, ...] = ()
    bar_keys: tuple[tuple[str, str], ...] = ()
    """What the legend says of the bars."""
    marks: tuple[Mark, ...] = ()
    foot: tuple[Bar, ...] = ()
    """Counts under the plot, on the same horizontal axis."""
    foot_title: str = ""
    """What they count."""

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the axes."""
        return _LEFT, _TOP, _RIGHT, _BOTTOM

    @property
    def is_empty(self) -> bool:
        """Nothing is drawn but, at most, lines that guide the eye."""
        drawn = [line for line in self.lines if line.style != "guide" and (line.paths or line.dots)]
        return not drawn and not self.bars

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the view box."""
        return WIDTH, HEIGHT + (_FOOT if self.foot else 0)


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map of values to the view box: ``low`` to ``start``, ``high`` to ``stop``."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Return the place of a value, rounded to a tenth of a unit."""
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.stop - self.start), 1)


def horizontal(low: float = 0.0, high: float = 1.0) -> Scale:
    """Return the scale of the horizontal axis."""
    return Scale(low, high, _LEFT, _RIGHT)


def vertical() -> Scale:
    """Return the scale of the vertical axis, upwards from 0 to 1."""
    return Scale(0.0, 1.0, _BOTTOM, _TOP)


def ticks(scale: Scale, values: Sequence[float]) -> tuple[Tick, ...]:
    """Return ticks at values, labelled with the decimals that the values need."""
    digits = max((len(f"{value:.6f}".rstrip("0").partition(".")[2]) for value in values), default=0)
    return tuple(Tick(scale(value), f"{value:.{digits}f}") for value in values)


FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Ticks of an axis from 0 to 1."""


def line(
    name: str,
    style: str,
    points: Sequence[tuple[float, float]],
    *,
    x: Scale,
    y: Scale,
    texts: Sequence[str] = (),
) -> Line:
    """Return a line through points; a point that is not finite parts it.

    Parameters
    ----------
    name, style
        See `Line`.
    points : sequence of (float, float)
        Values, not places.
    x, y : Scale
        Of the axes.
    texts : sequence of str
        One for each point that is to be marked; empty: mark only points that no line reaches.
    """
    placed = [(x(a), y(b)) if math.isfinite(a) and math.isfinite(b) else None for a, b in points]
    runs = list(_runs(placed))
    paths = tuple(" ".join(f"{a:g},{b:g}" for a, b in run) for run in runs if len(run) > 1)
    if texts:
        dots = [(*place, text) for place, text in zip(placed, texts, strict=True) if place]
    else:
        dots = [(*run[0], name) for run in runs if len(run) == 1]
    return Line(name, style, paths, tuple(dots))


def marks_of(values: Sequence[tuple[float, str, str]], *, x: Scale) -> tuple[Mark, ...]:
    """Return a vertical line at each (value, label, style); the labels do not meet.

    A label stands on the side of its line that is away from the others, unless it would leave the
    plot there; each is a line of text higher than the one before it.
    """
    middle = sum(value for value, _, _ in values) / max(len(values), 1)
    marks = []
    for row, (value, label, style) in enumerate(values):
        at = x(value)
        room_left, room_right = at - _LEFT > _LABEL, _RIGHT - at > _LABEL
        after = room_right if value >= middle else not room_left
        marks.append(Mark(at, label, style, "start" if after else "end", _BOTTOM - 8 - 16 * row))
    return tuple(marks)


def bars_of(
    groups: Sequence[Sequence[tuple[float, str, str]]], *, y: Scale, x: Scale
) -> tuple[tuple[Bar, ...], tuple[float, ...]]:
    """Return bars in groups side by side, and the middle of each group.

    Parameters
    ----------
    groups : sequence of sequences of (value, style, text)
        A value that is not finite leaves its place empty, with the text.
    y : Scale
        Of the values.
    x : Scale
        Of the axis, for its ends.
    """
    step = (x.stop - x.start) / max(len(groups), 1)
    bars, middles = [], []
    for number, group in enumerate(groups):
        middles.append(round(x.start + (number + 0.5) * step, 1))
        width = min(0.8 * step / max(len(group), 1), 34)
        first = middles[-1] - width * len(group) / 2
        for place, (value, style, text) in enumerate(group):
            top = y(value) if math.isfinite(value) else y.start
            left = round(first + place * width, 1)
            label = f"{value:.2f}" if math.isfinite(value) else "–"
            bars.append(Bar(left, top, round(width - 2, 1), round(y.start - top, 1), style, text, label))
    return tuple(bars), tuple(middles)


def foot_bars(
    edges: Sequence[float], counts: Sequence[int], texts: Sequence[str], *, x: Scale
) -> tuple[Bar, ...]:
    """Return counts as bars under a plot, their height on a logarithmic scale.

    Pixels of high confidence are a thousand times as many as those in between: on a linear scale
    the latter would have no height.

    Parameters
    ----------
    edges : sequence of float, n + 1
        Of the bins, on the axis `x`.
    counts : sequence of int, n
        An empty bin has no bar.
    texts : sequence of str, n
        Shown on hovering.
    """
    base = HEIGHT + _FOOT - 4
    top = math.log10(max([*counts, 1]) + 1)
    bars = []
    for low, high, number, text in zip(edges, edges[1:], counts, texts, strict=False):
        if number:
            height = round(max(1.0, (_FOOT - 20) * math.log10(number + 1) / top), 1)
            left, width = x(low) + 1, max(1.0, x(high) - x(low) - 2)
            bars.append(Bar(round(left, 1), round(base - height, 1), round(width, 1), height, "count", text))
    return tuple(bars)


def _runs(
    places: Sequence[tuple[float, float] | None],
) -> Iterator[list[tuple[float, float]]]:
    run: list[tuple[float, float]] = []
    for place in places:
        if place is not None:
            run.append(place)
        elif run:
            yield run
            run = []
    if run:
        yield run
