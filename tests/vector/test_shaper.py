"""Features come out complete, in order and the same, in any batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas
import pytest
import shapely
from geopandas import GeoDataFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoseg.errors import UnwritableOutput
from geoseg.testing import assert_same_polygons
from geoseg.values import ClassInfo, GeoBox, LayerSchema
from geoseg.vector import order, place, shaper
from geoseg.vector.features import features_of, finish
from geoseg.vector.order import SortedSink
from geoseg.vector.pieces import Evidence, Piece
from geoseg.vector.place import hilbert_keys, place_keys
from geoseg.vector.shape import ShapeRules, find_near, shape
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
    whole = finish(pieces, PLAN.grid, PLAN.shape_rules, PLAN.schema)
    found = pandas.concat(sink.tables, ignore_index=True)
    assert_same_polygons(found, whole)
    assert found.drop(columns="geometry").equals(whole.drop(columns="geometry"))
    assert collector.area_m2 == pytest.approx(whole["area_m2"].sum())


SCHEMA = LayerSchema("layer", "EPSG:32633", (ClassInfo(1, "one", (1, 2, 3)),))
GRID = GeoBox(400, 400, (0.1, 0.0, 500_000.0, 0.0, -0.1, 5_000_000.0), "EPSG:32633")


def features(places: list[tuple[int, int]]) -> GeoDataFrame:
    pieces = [
        Piece(1, shapely.box(col, row, col + 0.5, row + 0.5), Evidence(1, 50_000, 400 * row + col))
        for col, row in places
    ]
    rules = ShapeRules()
    shapes = shape(pieces, GRID, rules, coverage=False)
    return features_of(
        shapes, find_near(shapes, rules.reach), np.ones(len(shapes), bool), (GRID, rules, SCHEMA)
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), unique=True, max_size=60),
    st.integers(1, 9),
    st.randoms(),
)
def test_any_batches_come_out_sorted_with_unique_ids(
    tmp_path: Path, places: list[tuple[int, int]], batch: int, random: object
) -> None:
    table, sink = features(places), Sink()
    shuffled = table.sample(frac=1, random_state=batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "BATCH", 7)
        with SortedSink(sink, SCHEMA, tmp_path) as sorting:
            for begin in range(0, len(shuffled), batch):
                sorting.write(shuffled[begin : begin + batch])
    assert list(tmp_path.iterdir()) == []
    if not places:
        assert sink.tables == []
        return
    found = pandas.concat(sink.tables, ignore_index=True)
    expected = table.rename_axis("first").reset_index().sort_values(["id", "first"], ignore_index=True)
    assert found.geometry.geom_equals(expected.geometry).all()
    assert found["id"].is_unique
    assert found["id"].is_monotonic_increasing
    assert (found["id"] >= expected["id"]).all()
    assert (found["id"] - expected["id"]).max() < len(found)
    assert found.dtypes.astype(str).to_dict() == table.dtypes.astype(str).to_dict()


def test_nothing_is_written_after_an_error_and_nothing_stays(tmp_path: Path) -> None:
    sink = Sink()
    with pytest.raises(KeyboardInterrupt), SortedSink(sink, SCHEMA, tmp_path) as sorting:
        sorting.write(features([(1, 1)]))
        raise KeyboardInterrupt
    assert sink.tables == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(UnwritableOutput, match="put aside"),
        SortedSink(Sink(), SCHEMA, tmp_path / "no" / "folder") as sorting,
    ):
        sorting.write(features([(1, 1)]))


def test_a_folder_that_another_run_removed_is_made_again(tmp_path: Path) -> None:
    sink = Sink()
    with SortedSink(sink, SCHEMA, tmp_path / "removed") as sorting:
        sorting.write(features([(1, 1)]))
    assert [len(table) for table in sink.tables] == [1]


def test_a_layer_without_features_needs_no_folder(tmp_path: Path) -> None:
    sink = Sink()
    with SortedSink(sink, SCHEMA, tmp_path / "no"):
        pass
    assert sink.tables == []


@given(st.integers(1, 6))
def test_the_curve_visits_every_cell_and_moves_by_one(bits: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "ORDER", bits)
        cells = np.indices((1 << bits, 1 << bits)).reshape(2, -1).T
        found = hilbert_keys(cells)
    assert sorted(found) == list(range(len(cells)))
    assert np.abs(np.diff(cells[np.argsort(found)], axis=0)).sum(axis=1).tolist() == [1] * (len(cells) - 1)


def test_a_place_has_the_same_key_on_any_grid_and_crs() -> None:
    inside = shapely.box(40, 40, 44, 44)
    shifted = GeoBox(400, 400, (0.1, 0.0, 500_001.0, 0.0, -0.1, 4_999_998.0), "EPSG:32633")
    moved = shapely.box(30, 20, 34, 24)
    assert place_keys(np.array([inside]), GRID) == place_keys(np.array([moved]), shifted)
    assert (place_keys(np.array([inside, moved]), GRID) < 2**52).all()
    assert len(place_keys(np.empty(0, object), GRID)) == 0
    assert place_keys(np.array([inside]), GeoBox(9, 9, GRID.transform, None))[0] == hilbert_keys(
        np.array([[42, 42]])
    )


@pytest.mark.parametrize(
    "crs", ['LOCAL_CS["site",UNIT["m",1],AXIS["x",EAST],AXIS["y",NORTH]]', "IAU_2015:49910"]
)
def test_where_there_is_no_way_to_the_earth_keys_are_those_of_pixels(crs: str) -> None:
    boxes = np.array([shapely.box(i, 0, i + 1, 1) for i in range(9)])
    grid = GeoBox(9, 9, GRID.transform, crs)
    assert (place_keys(boxes, grid) == place_keys(boxes, GeoBox(9, 9, GRID.transform, None))).all()


def test_beyond_the_domain_of_a_crs_keys_exist() -> None:
    far = GeoBox(9, 9, (0.3, 0.0, 5e8, 0.0, -0.3, 5e8), "EPSG:32632")
    assert place_keys(np.array([shapely.box(0, 0, 1, 1)]), far).tolist() == [0]
