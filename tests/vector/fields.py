"""Probability fields to trace, and ways to trace them in one go or in parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.values import ClassRule, ProbabilityBlock, Window
from geoseg.vector.pieces import Joiner, Piece
from geoseg.vector.samples import Cuts
from geoseg.vector.trace import Outline, trace


@dataclass(frozen=True)
class Field:
    values: NDArray[np.uint16]
    valid: NDArray[np.bool_]
    rule: ClassRule
    cuts: Cuts | None = None

    @property
    def window(self) -> Window:
        return Window(0, 0, *self.valid.shape)

    def cut(self, window: Window) -> ProbabilityBlock:
        rows, cols = window.within(self.window)
        return ProbabilityBlock(window, self.values[:, rows, cols], self.valid[rows, cols])


def building(probability: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> Field:
    """One channel with class 1 from one half."""
    values = np.round(np.clip(probability, 0, 1) * 65535).astype(np.uint16)[None]
    return Field(values, np.ones(values.shape[1:], bool) if valid is None else valid, ClassRule((1,), 0.5))


def whole(field: Field, outline: Outline) -> list[Piece]:
    joiner = Joiner(field.valid.shape)
    pieces = joiner.add(
        trace(field.cut(field.window), field.window, field.valid.shape, field.rule, outline, field.cuts)
    )
    joiner.finish()
    return pieces


def streamed(
    field: Field, outline: Outline, rows: Iterable[int], cols: Iterable[int], order: int | None = None
) -> list[Piece]:
    """Trace the regions between cuts, row by row or in a random order."""
    height, width = field.valid.shape
    regions = [
        Window(top, left, bottom - top, right - left)
        for top, bottom in pairwise([0, *rows, height])
        for left, right in pairwise([0, *cols, width])
    ]
    if order is not None:
        np.random.default_rng(order).shuffle(regions)
    joiner = Joiner((height, width))
    pieces = []
    for region in regions:
        around = Window(region.row - 1, region.col - 1, region.height + 3, region.width + 3)
        block = field.cut(around.intersection(field.window))
        pieces += joiner.add(trace(block, region, (height, width), field.rule, outline, field.cuts))
    joiner.finish()
    return pieces


def corners(polygon: shapely.Polygon) -> shapely.Polygon:
    """Return a polygon without the vertices on its straight edges."""

    def bent(ring: shapely.LinearRing) -> NDArray[np.float64]:
        points = shapely.get_coordinates(ring)[:-1]
        (x, y), (u, v) = (points - np.roll(points, 1, 0)).T, (np.roll(points, -1, 0) - points).T
        return points[x * v != y * u]

    return shapely.Polygon(bent(polygon.exterior), list(map(bent, polygon.interiors)))


@st.composite
def fields(draw: st.DrawFn, *, max_side: int = 40, channels: tuple[int, int] = (1, 4)) -> Field:
    """Draw noise: continuous or with few values (ties), percolating or smooth, with holes of nodata."""
    height, width = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    count = draw(st.integers(*channels))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.sampled_from([1, 2, 3, 65535]))
    values = rng.integers(0, steps + 1, (count, height, width)) * (65535 // steps)
    if draw(st.booleans()):
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
        values = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) // 9
    valid = rng.random((height, width)) < draw(st.sampled_from([1.0, 1.0, 0.9, 0.5]))
    ids = draw(st.permutations(range(5)))[:count] if count > 1 else [draw(st.integers(1, 255))]
    rule = ClassRule(tuple(ids), draw(st.sampled_from([0.5, 0.3, 1e-5])))
    return Field(np.where(valid, values, 0).astype(np.uint16), valid, rule)


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[int]:
    """Draw where an axis is cut."""
    if length < 2:
        return []
    return sorted(draw(st.sets(st.integers(1, length - 1), max_size=4)))
