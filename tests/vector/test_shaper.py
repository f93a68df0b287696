"""Features come out complete, in order and the same, in any batches."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas
import pytest
import shapely
from geopandas import GeoDataFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.testing import assert_same_polygons
from geoseg.vector import features, shaper
from geoseg.vector.pieces import Evidence, Piece
from tests.plans import make_test_plan

PLAN = make_test_plan((40, 400))


@dataclass
class Sink:
    tables: list[GeoDataFrame] = field(default_factory=list)

    def write(self, features: GeoDataFrame) -> None:
        self.tables.append(features)


def squares(count: int) -> list[Piece]:
    return [
        Piece(1, shapely.box(8 * i, 2, 8 * i + 2 + i % 5, 9), Evidence(10, 10 * 40_000, i, False, False))
        for i in range(count)
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 60))
def test_batches_change_nothing(steps: list[int], vertices: int) -> None:
    pieces, sink = squares(sum(steps)), Sink()
    collector = shaper.Shaper(PLAN.grid, PLAN.shape_rules, PLAN.schema, sink)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shaper, "VERTICES", vertices)
        left = list(pieces)
        for step in steps:
            collector.add(left[:step])
            del left[:step]
        collector.flush()
    assert collector.features == len(pieces)
    if not pieces:
        assert sink.tables == []
        return
    # What waits and all that comes with what fills the batch; a square has five vertices.
    assert max(map(len, sink.tables)) <= vertices // 5 + max(steps)
    whole = features.finish(pieces, PLAN.grid, PLAN.shape_rules, PLAN.schema)
    found = pandas.concat(sink.tables, ignore_index=True)
    assert_same_polygons(found, whole)
    assert found.drop(columns="geometry").equals(whole.drop(columns="geometry"))
    assert collector.area_m2 == pytest.approx(whole["area_m2"].sum())
