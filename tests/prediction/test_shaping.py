"""Features come out complete, in order and the same, on any number of threads and in any batches."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import pandas
import pytest
import shapely
from geopandas import GeoDataFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import InvalidOption, UnwritableOutput
from geoseg.prediction import shaping
from geoseg.prediction.resources import Resources
from geoseg.prediction.shaping import Shaper
from geoseg.testing import assert_same_polygons
from geoseg.vector import shape
from geoseg.vector.pieces import Evidence, Piece
from tests.plans import make_test_plan

PLAN = make_test_plan((40, 400))


@dataclass
class Sink:
    tables: list[GeoDataFrame] = field(default_factory=list)
    threads: set[threading.Thread] = field(default_factory=set)

    def write(self, features: GeoDataFrame) -> None:
        self.tables.append(features)
        self.threads.add(threading.current_thread())


def squares(count: int) -> list[Piece]:
    return [
        Piece(1, shapely.box(8 * i, 2, 8 * i + 2 + i % 5, 9), Evidence(10, 10 * 40_000, i, False, False))
        for i in range(count)
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 60), st.integers(1, 4))
def test_threads_and_batches_change_nothing(steps: list[int], vertices: int, threads: int) -> None:
    pieces, sink = squares(sum(steps)), Sink()
    with pytest.MonkeyPatch.context() as patch, Shaper(PLAN, sink, threads) as shaper:
        patch.setattr(shaping, "VERTICES", vertices)
        left = list(pieces)
        for step in steps:
            shaper.add(left[:step])
            del left[:step]
        shaper.finish()
    assert shaper.features == len(pieces)
    assert sink.threads <= {threading.current_thread()}
    if not pieces:
        assert sink.tables == []
        return
    whole = shape.finish(pieces, PLAN.grid, PLAN.shape_rules, PLAN.schema)
    found = pandas.concat(sink.tables, ignore_index=True)
    assert_same_polygons(found, whole)
    assert found.drop(columns="geometry").equals(whole.drop(columns="geometry"))
    assert shaper.area_m2 == pytest.approx(whole["area_m2"].sum())


def test_no_more_batches_are_held_than_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shaping, "VERTICES", 5)  # a batch a square
    running, most, go_on = [], [], threading.Semaphore(0)

    def slow(*arguments: object) -> GeoDataFrame:
        running.append(1)
        most.append(len(running))
        assert go_on.acquire(timeout=30)
        running.pop()
        return real(*arguments)  # type: ignore[arg-type]

    real = shape.finish
    monkeypatch.setattr(shape, "finish", slow)
    sink, pieces = Sink(), squares(9)
    with Shaper(PLAN, sink, 2) as shaper:
        shaper.add(pieces[:2])
        assert not sink.tables
        for _ in pieces:
            go_on.release()
        shaper.add(pieces[2:])
        assert 7 <= sum(map(len, sink.tables)) <= 9
        shaper.finish()
    assert max(most) <= 2
    assert [int(table["id"].iloc[0]) for table in sink.tables] == list(range(9))


def test_what_fails_while_shaping_is_told() -> None:
    plan = replace(PLAN, crs="EPSG:2163", grid=replace(PLAN.grid, crs=None))
    with pytest.raises(InvalidOption, match="--crs"), Shaper(plan, Sink()) as shaper:
        shaper.add(squares(3))
        shaper.finish()


def test_what_fails_while_writing_is_told_and_ends_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shaping, "VERTICES", 5)

    class Full(Sink):
        def write(self, features: GeoDataFrame) -> None:
            raise UnwritableOutput("disk full")

    with pytest.raises(UnwritableOutput, match="disk full"), Shaper(PLAN, Full(), 3) as shaper:
        shaper.add(squares(30))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geoseg-shape")]


def test_a_quarter_of_the_threads_shape_and_always_one() -> None:
    assert Resources(threads=1, in_flight=2, batch=1).shapers == 1
    assert Resources(threads=3, in_flight=4, batch=1).shapers == 1
    assert Resources(threads=8, in_flight=9, batch=16, device="cuda").shapers == 2
    assert Resources(threads=4, in_flight=9, batch=1, workers=4).shapers == 4
