"""Small islands go to the class with the longest border: as a plain search finds them, in any block."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.grid import Axis, TileGrid, classify
from geoseg.vector.islands import IslandRule, sieve
from tests.vector.fields import Field, fields

rules = st.builds(IslandRule, st.sampled_from([0.0, 2.0, 5.5, 12.0]), st.sampled_from([0.0, 3.0, 9.0]))


def labels_of(field: Field) -> NDArray[np.int64]:
    return np.where(field.valid, classify(field.values, field.rule).astype(int), -1)


def searched(labels: NDArray[np.int64], rule: IslandRule) -> NDArray[np.int64]:
    """Return the sieved labels, island by island."""
    result, framed = labels.copy(), np.pad(labels, 1, constant_values=-1)
    for label in np.unique(labels[labels >= 0]):
        number, _ = ndimage.label(labels == label)
        for island, box in enumerate(ndimage.find_objects(number), 1):
            inside = number == island
            least = rule.smallest if label else rule.smallest_hole
            if inside.sum() >= least or max(one.stop - one.start for one in box) > rule.reach:
                continue
            border = np.zeros(256, int)
            for row, col in zip(*np.nonzero(inside), strict=True):
                for there in (
                    framed[row, col + 1],
                    framed[row + 2, col + 1],
                    framed[row + 1, col],
                    framed[row + 1, col + 2],
                ):
                    border[there] += there not in (-1, label)
            result[inside] = border.argmax()
    return result


@settings(max_examples=150)
@given(fields(max_side=24, channels=(2, 4)), rules)
def test_islands_are_what_a_plain_search_finds(field: Field, rule: IslandRule) -> None:
    done = sieve(field.cut(field.window), field.valid.shape, field.rule, rule)
    after = labels_of(Field(done.values, field.valid, field.rule))
    assert np.array_equal(after, searched(labels_of(field), rule))


@settings(max_examples=60)
@given(fields(max_side=60, channels=(2, 4)), rules)
def test_blocks_agree(field: Field, rule: IslandRule) -> None:
    height, width = field.valid.shape
    whole = sieve(field.cut(field.window), (height, width), field.rule, rule).values
    tiles = TileGrid(Axis(height, 32, 0), Axis(width, 32, 0), 1, margin=max(rule.reach, 1))
    for index in tiles.blocks():
        block, region = field.cut(tiles.field(index)), tiles.region(index)
        part = sieve(block, (height, width), field.rule, rule, tiles.margin)
        stop = min(height, region.row_stop + 1), min(width, region.col_stop + 1)
        rows, cols = slice(region.row, stop[0]), slice(region.col, stop[1])
        here = slice(rows.start - block.window.row, rows.stop - block.window.row)
        there = slice(cols.start - block.window.col, cols.stop - block.window.col)
        assert np.array_equal(part.values[:, here, there], whole[:, rows, cols])
