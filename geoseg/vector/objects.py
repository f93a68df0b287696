"""Views of objects: what tiles see of them, what several views show together, and their outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.grid import Tile
from geoseg.values import HALF, ClassRule, ProbabilityBlock, Window
from geoseg.vector.pieces import Evidence, Piece
from geoseg.vector.trace import Outline, trace

INSIDE = 0.8
"""Share of an object inside another from which on it lies within it, or is a cut view of it."""

_SNAP = 2.0**20
"""Parts of a pixel that vertices are rounded to: neighbours traced in windows of their own share theirs."""


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """An object as one tile sees it."""

    label: int
    score: int
    """`label`, `score`: Class id; 65535 is certain."""
    window: Window
    """Where the arrays lie in the grid."""
    values: NDArray[np.uint8]
    """uint8, shape (rows, cols). Probability that a pixel is part of the object, 255 is certain."""
    valid: NDArray[np.bool_]
    """bool, shape (rows, cols). Pixels that hold data."""


@dataclass(frozen=True, eq=False, slots=True)
class TileObjects:
    """What one tile sees."""

    tile: Tile
    seen: tuple[Seen, ...]


def part_of(seen: Seen, window: Window) -> NDArray[np.bool_]:
    """Return which pixels of a window, inside its own, are part of what is seen."""
    return np.asarray(seen.values[window.within(seen.window)] >= HALF)


def united(parts: Sequence[Seen]) -> Seen:
    """Return what several views show together: the highest of their probabilities, the highest score.

    >>> left = Seen(1, 9, Window(0, 0, 1, 2), np.array([[9, 200]], np.uint8), np.ones((1, 2), bool))
    >>> right = Seen(1, 7, Window(0, 1, 1, 2), np.array([[250, 8]], np.uint8), np.ones((1, 2), bool))
    >>> united([left, right]).values
    array([[  9, 250,   8]], dtype=uint8)
    """
    window = Window.around(*(part.window for part in parts))
    values, valid = np.zeros(window.shape, np.uint8), np.ones(window.shape, bool)
    for part in parts:
        place = part.window.within(window)
        values[place] = np.maximum(values[place], part.values)
        valid[place] &= part.valid
    return Seen(parts[0].label, max(part.score for part in parts), window, values, valid)


def without_overlaps(one: Seen, others: Sequence[Seen]) -> Seen:
    """Return an object without the pixels that others take from it where they overlap.

    What lies within another takes its pixels from it; of others that overlap the one with the higher score
    does, of equals the one that comes first.
    """
    values = one.values.copy()
    for other in others:
        both = one.window.intersection(other.window)
        if both.height * both.width and _wins(other, one, both):
            part = values[both.within(one.window)]
            np.minimum(part, 255 - other.values[both.within(other.window)], out=part)
    return Seen(one.label, one.score, one.window, values, one.valid)


def _wins(one: Seen, two: Seen, both: Window) -> bool:
    """Tell whether the pixels that two objects share go to the first."""
    common = np.count_nonzero(part_of(one, both) & part_of(two, both))
    sizes = [np.count_nonzero(each.values >= HALF) for each in (one, two)]
    within = common >= INSIDE * min(sizes) and sizes[0] != sizes[1]
    ranks = [
        (-size if within else 0, each.score, _first(each))
        for size, each in zip(sizes, (one, two), strict=True)
    ]
    return ranks[0] > ranks[1]


def _first(seen: Seen) -> tuple[int | bytes, ...]:
    window = seen.window
    return -window.row, -window.col, -window.height, -window.width, -seen.label, seen.values.tobytes()


def traced(seen: Seen, grid: Window, outline: Outline) -> Piece | None:
    """Trace an object; the largest of its parts stands for it. None where nothing of it is left."""
    inner = seen.window
    window = Window(inner.row - 1, inner.col - 1, inner.height + 2, inner.width + 2).intersection(grid)
    values, valid = np.zeros((1, *window.shape), np.uint16), np.ones(window.shape, bool)
    place = inner.within(window)
    values[0][place], valid[place] = seen.values.astype(np.uint16) * 257, seen.valid
    alone = Window(0, 0, *window.shape)
    rule = ClassRule((seen.label,), 0.5)
    found = trace(ProbabilityBlock(alone, values, valid), alone, alone.shape, rule, outline).whole
    if not found:
        return None
    piece = max(found, key=lambda one: (one.evidence.pixels, -one.evidence.first_pixel))
    row, col = divmod(piece.evidence.first_pixel, window.width)
    evidence = Evidence(
        piece.evidence.pixels,
        piece.evidence.pixels * seen.score,
        (row + window.row) * grid.width + col + window.col,
        piece.evidence.touches_edge,
        piece.evidence.touches_nodata,
    )
    offset = np.array([window.col, window.row])
    polygon = shapely.transform(piece.polygon, lambda points: np.round((points + offset) * _SNAP) / _SNAP)
    return Piece(seen.label, polygon, evidence)
