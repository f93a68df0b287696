"""An imperfect detector: views of one object differ from tile to tile."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.grid import Axis, TileGrid
from geoseg.values import CERTAIN, Window
from geoseg.vector.objects import Seen, TileObjects
from geoseg.vector.pieces import Piece
from geoseg.vector.unite import Uniter

GRID = TileGrid(Axis(32, 32, 0), Axis(52, 32, 12), 1, "hann", 1)
"""Two tiles, of columns 0 … 32 and 20 … 52: objects with a centre up to 26 are the first one's.

What reaches columns 30 and 31 is cut by the first, 20 and 21 by the second.
"""
View = tuple[int, int, int, int, int] | tuple[int, int, int, int, int, int]
"""Rows, columns, score; class, else 1."""


def seen(view: View) -> Seen:
    top, bottom, left, right, score, label = (*view, 1)[:6]
    window = Window(top, left, bottom - top, right - left)
    ones = np.ones(window.shape, bool)
    return Seen(label, score, window, np.uint8(255) * ones, ones)


def unite(
    grid: TileGrid, views: Sequence[Sequence[View]], order: Sequence[int] = (), some: int = 1
) -> list[Piece]:
    """Add what tiles see in an order, some tiles at a time."""
    tiles = [
        TileObjects(grid.tile(*divmod(number, len(grid.cols))), tuple(seen(view) for view in found))
        for number, found in enumerate(views)
    ]
    uniter, pieces = Uniter(grid, "pixel"), list[Piece]()
    order = order or range(len(tiles))
    for start in range(0, len(order), some):
        pieces += uniter.add([tiles[number] for number in order[start : start + some]])
    uniter.finish()
    return pieces


def known(pieces: Sequence[Piece]) -> set[View]:
    """Return the bounds, score and class of each."""
    found = [(*piece.polygon.bounds, piece.evidence.confidence * CERTAIN, piece.label) for piece in pieces]
    return {(round(top), round(bottom), round(left), round(right), round(score), label)
            for left, top, right, bottom, score, label in found}  # fmt: skip


ONE, TWO, BOTH = (4, 15, 22, 29, 7), (15, 24, 22, 29, 7), (4, 24, 22, 29, 7)
"""Two that touch, and the two as one; both tiles see them whole, their centre is the first one's."""
EAST_ONE, EAST_TWO, EAST_BOTH = ((*view[:2], 23, 30, view[4]) for view in (ONE, TWO, BOTH))
"""The same where their centre is the second one's."""


CASES: dict[str, tuple[list[View], list[View], list[View]]] = {
    # Of views that differ, the one whose tile has the centre stays, whatever it scores ...
    "shifted": ([(4, 15, 22, 29, 7)], [(5, 15, 22, 29, 9)], [(4, 15, 22, 29, 7)]),
    "shifted east": ([(4, 15, 23, 30, 9)], [(5, 15, 24, 30, 7)], [(5, 15, 24, 30, 7)]),
    # ... where both have it the higher score, of equal ones the first.
    "both own it": ([(4, 15, 22, 29, 7)], [(4, 15, 23, 30, 9)], [(4, 15, 23, 30, 9)]),
    "both, a tie": ([(4, 15, 22, 29, 9)], [(4, 15, 23, 30, 9)], [(4, 15, 22, 29, 9)]),
    "none owns it": ([(4, 15, 23, 30, 8)], [(4, 15, 22, 29, 9)], [(4, 15, 22, 29, 9)]),
    "none, a tie": ([(4, 15, 23, 30, 9)], [(4, 15, 22, 29, 9)], [(4, 15, 23, 30, 9)]),
    "missed by its own tile": ([], [ONE], []),
    "missed by another tile": ([ONE], [], [ONE]),
    # Cut views give way.
    "cut and whole": ([(4, 15, 22, 32, 9)], [(4, 15, 22, 40, 7)], [(4, 15, 22, 40, 7)]),
    "cut, by IoS": ([(4, 9, 22, 32, 9)], [(4, 15, 22, 40, 7)], [(4, 15, 22, 40, 7)]),
    "cut by both": ([(4, 15, 9, 32, 9)], [(4, 15, 20, 45, 7)], [(4, 15, 9, 45, 9)]),
    "two that both cut": (
        [(4, 15, 9, 32, 9)],
        [(20, 28, 20, 45, 7)],
        [(4, 15, 9, 32, 9), (20, 28, 20, 45, 7)],
    ),
    "apart": ([(4, 15, 9, 20, 9)], [(4, 15, 32, 40, 7)], [(4, 15, 9, 20, 9), (4, 15, 32, 40, 7)]),
    # One tile tells apart what another does not: the one that has the centre is right ...
    "split by another": ([BOTH], [ONE, TWO], [BOTH]),
    "split by its own": ([EAST_BOTH], [EAST_ONE, EAST_TWO], [EAST_ONE, EAST_TWO]),
    "merged by another": ([ONE, TWO], [BOTH], [ONE, TWO]),
    "merged by its own": ([EAST_ONE, EAST_TWO], [EAST_BOTH], [EAST_BOTH]),
    # ... also on what the other sees in addition.
    "nested, missed by its own tile": ([BOTH], [BOTH, (9, 13, 24, 27, 8)], [BOTH]),
    "half of it seen by another": ([BOTH], [ONE], [BOTH]),
    # Classes do not know of each other.
    "classes": (
        [(4, 15, 22, 29, 7, 1)],
        [(15, 24, 23, 30, 9, 2)],
        [(4, 15, 22, 29, 7, 1), (15, 24, 23, 30, 9, 2)],
    ),
    "class in class": (
        [(4, 15, 22, 29, 7, 1)],
        [(4, 10, 22, 30, 9, 2)],
        [(10, 15, 22, 29, 7, 1), (4, 10, 22, 30, 9, 2)],
    ),
    "cut, of another class": (
        [(4, 15, 22, 32, 7, 1)],
        [(4, 15, 22, 45, 9, 2)],
        [(4, 15, 22, 32, 7, 1), (4, 15, 32, 45, 9, 2)],
    ),
    # What one tile tells apart stays: touching, nested, overlapping.
    "touching": ([ONE, TWO], [ONE, TWO], [ONE, TWO]),
    "nested": ([BOTH, (9, 13, 24, 27, 5)], [(*BOTH[:4], 9), (9, 13, 24, 27, 8)], [BOTH, (9, 13, 24, 27, 5)]),
    "overlapping": ([BOTH, (6, 24, 22, 29, 9)], [], [(4, 6, 22, 29, 7), (6, 24, 22, 29, 9)]),
    "ground": ([(4, 15, 2, 9, 7), (4, 15, 6, 13, 9)], [], [(4, 15, 2, 6, 7), (4, 15, 6, 13, 9)]),
    "ground, a tie": ([(4, 15, 2, 9, 9), (4, 15, 6, 13, 9)], [], [(4, 15, 2, 9, 9), (4, 15, 9, 13, 9)]),
}
"""What the first tile sees, what the second sees, and what comes out."""


@pytest.mark.parametrize("case", CASES)
def test_views_of_two_tiles(case: str) -> None:
    first, second, expected = CASES[case]
    found = unite(GRID, [first, second])
    assert len(found) == len(expected)
    assert known(found) == {(*view, 1)[:6] for view in expected}
    again = unite(GRID, [first, second], order=[1, 0])
    assert [(p.polygon.wkb, p.evidence) for p in again] == [(p.polygon.wkb, p.evidence) for p in found]


@pytest.mark.parametrize("seers", [(1,), (1, 2), (1, 2, 3)])
def test_what_its_own_tile_misses_needs_two_others(seers: tuple[int, ...]) -> None:
    grid = TileGrid(Axis(52, 32, 12), Axis(52, 32, 12), 1, "hann", 1)
    view = (22, 29, 22, 29, 7, 1)
    found = unite(grid, [[view] if number in seers else [] for number in range(4)])
    assert [known([one]) for one in found] == [{view}] * (len(seers) > 1)


@st.composite
def tilings(draw: st.DrawFn) -> TileGrid:
    rows, cols = (Axis(draw(st.integers(24, 70)), 32, draw(st.integers(4, 16))) for _ in range(2))
    return TileGrid(rows, cols, 1, "hann", 1)


@st.composite
def views_within(draw: st.DrawFn, window: Window) -> View:
    top, left = (draw(st.integers(0, side - 1)) for side in window.shape)
    bottom, right = (
        draw(st.integers(first + 1, min(side, first + 20)))
        for first, side in zip((top, left), window.shape, strict=True)
    )
    score, label = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return (top + window.row, bottom + window.row, left + window.col, right + window.col, score, label)


@settings(max_examples=60)
@given(st.data())
def test_the_order_of_tiles_changes_nothing_and_no_ground_belongs_to_two(data: st.DataObject) -> None:
    grid = data.draw(tilings())
    places = itertools.product(range(len(grid.rows)), range(len(grid.cols)))
    windows = [grid.tile(row, col).window.intersection(grid.window) for row, col in places]
    views = [data.draw(st.lists(views_within(window), max_size=4)) for window in windows]
    found = unite(grid, views)
    order = data.draw(st.permutations(range(len(views))))
    again = unite(grid, views, order, some=data.draw(st.integers(1, len(views))))
    told = [
        sorted((p.label, p.evidence.first_pixel, astuple(p.evidence), p.polygon.wkb) for p in each)
        for each in (found, again)
    ]
    assert told[0] == told[1]
    ground = sum((p.polygon.area for p in found), 0.0)
    assert ground == shapely.union_all([p.polygon for p in found]).area


@settings(max_examples=100)
@given(st.integers(0, 999), st.integers(64, 100), st.integers(64, 100))
def test_of_objects_apart_each_comes_out_once_as_one_tile_sees_it(seed: int, height: int, width: int) -> None:
    """Views are shifted, scored otherwise, and missed unless two tiles alone see something of an object."""
    rng, grid = np.random.default_rng(seed), TileGrid(Axis(height, 48, 20), Axis(width, 48, 20), 1, "hann", 1)
    tiles = [grid.tile(row, col).window for row in range(len(grid.rows)) for col in range(len(grid.cols))]
    views: list[list[View]] = [[] for _ in tiles]
    expected = []
    for top, left in itertools.product(range(2, height - 17, 18), range(2, width - 17, 18)):
        sides, shown, others, safe = tuple(rng.integers(8, 15, 2).tolist()), set[View](), 0, False
        around = Window(top - 2, left - 2, sides[0] + 5, sides[1] + 5)
        for tile, found in zip(tiles, views, strict=True):
            down, across, score, missed = rng.integers((0, 0, 1, 0), (2, 2, 4, 2)).tolist()
            part = Window(top + down, left + across, *sides).intersection(tile)
            alone = around.intersection(tile) == around and not safe
            if min(part.shape) >= 5 and (alone or others < 2 or not missed):
                found.append((part.row, part.row_stop, part.col, part.col_stop, score, 1))
                shown |= {found[-1]} if part.shape == sides else set()
                others, safe = others + 1, safe or alone
        expected.append(shown)
    pieces = unite(grid, views)
    assert len(pieces) == len(expected)
    assert all(len(known(pieces) & shown) == 1 for shown in expected)
