"""Objects of a class told apart by cuts: tracing them, and where cuts are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.grid import Axis, TileGrid, classify
from geoseg.testing import assert_same_polygons
from geoseg.vector.pieces import Evidence, Piece
from geoseg.vector.rings import components
from geoseg.vector.samples import Cuts
from geoseg.vector.split import SplitRule, find_cuts
from geoseg.vector.trace import Outline
from tests.vector.fields import Field, building, cuts, fields, streamed, whole

outlines = st.sampled_from(["smooth", "pixel"])


@st.composite
def cut_fields(draw: st.DrawFn, *, max_side: int = 30) -> Field:
    """Draw a field with cuts anywhere: most go round nothing, end blindly, or run into the edge."""
    field = draw(fields(max_side=max_side, channels=(1, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    marked = rng.random((2, *field.valid.shape)) < draw(st.sampled_from([0.02, 0.2, 0.6, 1.0]))
    below, row, col = np.nonzero(marked)
    return replace(field, cuts=Cuts(row, col, below > 0))


def parts(field: Field) -> NDArray[np.int64]:
    """Return the part that every pixel lies in, 0 for none."""
    labels = np.where(field.valid, classify(field.values, field.rule), 0).astype(int)
    height, width = labels.shape
    apart = np.zeros((2, height, width), bool)
    if field.cuts is not None:
        apart[field.cuts.below.astype(int), field.cuts.row, field.cuts.col] = True
    index = np.arange(labels.size).reshape(labels.shape)
    right = (labels[:, 1:] == labels[:, :-1]) & ~apart[0, :, :-1]
    down = (labels[1:] == labels[:-1]) & ~apart[1, :-1]
    one = np.concatenate([index[:, :-1][right], index[:-1][down]])
    two = np.concatenate([index[:, 1:][right], index[1:][down]])
    return np.where(labels > 0, components(labels.size, (one, two)).reshape(labels.shape) + 1, 0)


def evidence(pieces: list[Piece]) -> list[tuple[int, Evidence]]:
    return sorted(((p.label, p.evidence) for p in pieces), key=lambda pair: pair[1].first_pixel)


@settings(max_examples=300)
@given(st.data(), cut_fields(), outlines)
def test_parts_join_across_seams_whatever_the_cuts(
    data: st.DataObject, field: Field, outline: Outline
) -> None:
    rows, cols = data.draw(cuts(field.valid.shape[0])), data.draw(cuts(field.valid.shape[1]))
    order = data.draw(st.none() | st.integers(0, 99))
    pieces, at_once = streamed(field, outline, rows, cols, order), whole(field, outline)
    assert_same_polygons(pieces, at_once)
    assert evidence(pieces) == evidence(at_once)


@settings(max_examples=200)
@given(cut_fields())
def test_parts_are_what_is_connected_in_spite_of_the_cuts(field: Field) -> None:
    number = parts(field)
    rows, cols = np.mgrid[: number.shape[0], : number.shape[1]]
    pieces = whole(field, "pixel")
    assert len(pieces) == len(np.unique(number[number > 0]))
    for piece in pieces:
        inside = shapely.contains_xy(piece.polygon, cols + 0.5, rows + 0.5)
        assert len(np.unique(number[inside])) == 1
        assert piece.evidence.pixels == inside.sum() == (number == number[inside][0]).sum()
        assert piece.polygon.area == inside.sum()


@settings(max_examples=200)
@given(cut_fields(), outlines)
def test_parts_are_valid_and_share_their_walls(field: Field, outline: Outline) -> None:
    polygons = np.array([piece.polygon for piece in whole(field, outline)], dtype=object)
    assert all(shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON)
    assert shapely.is_valid(polygons).all()
    if outline == "smooth":
        assert shapely.coverage_is_valid(polygons)


def test_a_cut_within_an_object_leaves_no_trace_of_a_slit() -> None:
    ring = np.ones((9, 9))
    ring[3:6, 3:6] = 0
    field = replace(building(ring), cuts=Cuts(np.arange(3), np.full(3, 4), np.zeros(3, bool)))
    (cut,) = whole(field, "pixel")
    assert cut.polygon.equals(whole(building(ring), "pixel")[0].polygon)
    assert len(cut.polygon.interiors) == 1


def street(houses: int, between: float, *, gap: int = 4, side: int = 12) -> NDArray[np.float64]:
    """Houses of a probability near 1 in a row, the pixels between them of a lower one."""
    row = np.full((side + 8, houses * (side + gap) + 8), 0.1)
    row[4:-4, 4:-4] = between
    for house in range(houses):
        left = 4 + gap // 2 + house * (side + gap)
        row[4:-4, left : left + side] = 0.95
    return row


def split(
    field: Field, rule: SplitRule, tile: int = 128, block: int = 1, tiles: TileGrid | None = None
) -> tuple[Field, set[tuple[int, ...]]]:
    """Return the field with the cuts that are found in all blocks together."""
    height, width = field.valid.shape
    tiles = tiles or TileGrid(Axis(height, tile, 8), Axis(width, tile, 8), block, margin=(tile - 9) // 2)
    found = set()
    for index in tiles.blocks():
        cuts = find_cuts(field.cut(tiles.field(index)), tiles.region(index), tiles, field.rule, rule)
        if cuts is not None:
            found |= set(zip(cuts.row.tolist(), cuts.col.tolist(), cuts.below.tolist(), strict=True))
    row, col, below = np.array(sorted(found), int).reshape(-1, 3).T
    return replace(field, cuts=Cuts(row, col, below > 0)), found


@pytest.mark.parametrize(
    ("between", "gate", "smallest", "objects"),
    [(0.6, 0.2, 50, 5), (0.9, 0.2, 50, 1), (0.6, 0.5, 50, 1), (0.6, 0.2, 300, 1), (0.3, 0.2, 50, 5)],
)
def test_houses_are_told_apart_by_the_probability_between_them(
    between: float, gate: float, smallest: float, objects: int
) -> None:
    for turn in range(4):
        field = building(np.rot90(street(5, between), turn))
        cut, _ = split(field, SplitRule(gate, smallest))
        pieces = whole(cut, "smooth")
        assert len(pieces) == objects
        assert sum(p.polygon.area for p in pieces) == pytest.approx(
            sum(p.polygon.area for p in whole(field, "smooth")), rel=0.01
        )


def test_classes_are_split_each_for_itself() -> None:
    one = street(3, 0.6)
    values = np.stack([one, 1 - one]) * 65535
    field = replace(building(one), values=values.astype(np.uint16))
    cut, found = split(replace(field, rule=type(field.rule)((2, 5), 0.5)), SplitRule(0.2, 50))
    assert found
    assert sorted(piece.label for piece in whole(cut, "pixel")) == [2, 2, 2, 5]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_an_object_larger_than_any_block_is_split_the_same_by_all(seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [street(12, 0.65) + rng.normal(0, 0.02, (20, 200)) for _ in range(5)]
    town = np.vstack(rows)[:, : int(rng.integers(150, 200))]
    town[:, 90:94] = 0.8  # a street of houses across all others
    field, rule = building(town), SplitRule(0.1, 40)
    expected, found = split(field, rule, tile=32, block=1)
    assert split(field, rule, tile=32, block=block)[1] == found
    pieces = whole(expected, "smooth")
    assert_same_polygons(streamed(expected, "smooth", [13, 60], [40, 41, 120]), pieces)
    assert len(pieces) > 30
    assert shapely.coverage_is_valid([piece.polygon for piece in pieces])


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 60))
def test_crops_whose_tiles_start_alike_are_split_alike(seed: int, top: int, left: int) -> None:
    town = np.vstack([street(12, 0.65)] * 6) + np.random.default_rng(seed).normal(0, 0.05, (120, 200))

    def cuts_from(row: int, col: int) -> set[tuple[int, ...]]:
        field = building(town[row:, col:])
        rows, cols = (
            Axis(n, 32, 8, before % 24) for n, before in zip(field.valid.shape, (row, col), strict=True)
        )
        _, found = split(field, SplitRule(0.1, 40), tiles=TileGrid(rows, cols, 2, margin=11))
        return {(i + row, j + col, below) for i, j, below in found if min(i, j) > 24}

    expected = {cut for cut in cuts_from(0, 0) if cut[0] > top + 24 and cut[1] > left + 24}
    assert cuts_from(top, left) == expected
