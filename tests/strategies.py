"""Hypothesis strategies that several rooms share."""

from __future__ import annotations

from hypothesis import strategies as st

from geoseg.grid import Axis, Taper, TileGrid

tapers: st.SearchStrategy[Taper] = st.sampled_from(("hann", "linear", "flat"))


@st.composite
def axes(draw: st.DrawFn, max_n: int = 200) -> Axis:
    size = draw(st.integers(8, 40))
    overlap = draw(st.integers(0, size // 2))
    return Axis(draw(st.integers(1, max_n)), size, overlap, draw(befores(size - overlap)))


def befores(stride: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(0, stride - 1)


@st.composite
def tile_grids(draw: st.DrawFn, max_n: int = 90) -> TileGrid:
    size = draw(st.integers(8, 24))
    overlap = draw(st.integers(0, size // 2))
    rows, cols = (
        Axis(draw(st.integers(1, max_n)), size, overlap, draw(befores(size - overlap))) for _ in range(2)
    )
    margin = draw(st.integers(1, min(4, (size - overlap - 1) // 2)))
    return TileGrid(rows, cols, draw(st.integers(1, 4)), draw(tapers), margin)
