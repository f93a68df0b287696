"""No two objects overlap, whatever their outlines would like, and nothing but neighbours decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas
import pytest
import shapely
from geopandas import GeoDataFrame
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from geoseg.prediction.plan import Plan
from geoseg.prediction.resources import Resources
from geoseg.prediction.schedulers import Scheduler
from geoseg.prediction.session import feed_sinks
from geoseg.prediction.tasks import TASKS
from geoseg.prediction.wiring import Work
from geoseg.testing import PointwisePredictor
from geoseg.values import ClassInfo, GeoBox, LayerSchema, Window
from geoseg.vector import shaper
from geoseg.vector.features import finish
from geoseg.vector.objects import Seen, traced, without_overlaps
from geoseg.vector.overlaps import INTERIORS_MEET, choose_outlines, near_pairs, overlap, remove_overlaps
from geoseg.vector.reproject import WGS84
from geoseg.vector.shape import ShapeRules
from tests.plans import Load, make_test_plan
from tests.promises.test_1_seamless import picture


def overlapping(polygons: np.ndarray) -> int:
    one, two = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    one, two = one[one < two], two[one < two]
    return int(shapely.relate_pattern(polygons[one], polygons[two], INTERIORS_MEET).sum())


class Sink:
    def __init__(self) -> None:
        self.tables: list[GeoDataFrame] = []

    def write(self, features: GeoDataFrame) -> None:
        self.tables.append(features)


def run(plan: Plan, seed: int, vertices: int) -> GeoDataFrame:
    """Run a plan to features, with batches of so many vertices."""
    sink = Sink()
    reader = picture(plan.grid.shape, seed, holes=True)
    work = Work(plan, reader, Load(PointwisePredictor(1)), 3)
    with pytest.MonkeyPatch.context() as patch, Scheduler() as scheduler:
        patch.setattr(shaper, "VERTICES", vertices)
        with scheduler.results(work, Resources(threads=2, in_flight=3, batch=3)) as stream:
            feed_sinks(plan.layer, TASKS[plan.task].merger(plan), stream, sink)
    if not sink.tables:
        return GeoDataFrame({"id": [], "geometry": []})
    return pandas.concat(sink.tables).sort_index()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    seed=st.integers(0, 1000),
    block=st.integers(1, 4),
    vertices=st.sampled_from([1, 50, 10_000]),
    deviation=st.floats(0.2, 3.0),
    crs=st.sampled_from([None, WGS84, "EPSG:3857"]),
)
def test_features_near_each_other_do_not_overlap_and_blocks_change_nothing(
    shape: tuple[int, int], seed: int, block: int, vertices: int, deviation: float, crs: str | None
) -> None:
    rules = ShapeRules(0.3, 1.0, 0.5, 0.5, deviation)
    plan = replace(make_test_plan(shape, block=block), shape_rules=rules, crs=crs)
    found = run(plan, seed, vertices)
    whole = run(plan.with_blocks(9), seed, 10**9)
    assert found.drop(columns="geometry").equals(whole.drop(columns="geometry"))
    polygons = found.geometry.to_numpy()
    assert (shapely.to_wkb(polygons) == shapely.to_wkb(whole.geometry.to_numpy())).all()
    assert shapely.is_valid(polygons).all()
    assert overlapping(polygons) == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([None, 1.0]), st.booleans())
@example(7, None, False)
@example(29, None, True)
def test_objects_that_were_traced_each_by_itself_do_not_overlap(
    seed: int, deviation: float | None, several: bool
) -> None:
    rng, side = np.random.default_rng(seed), 64
    whole, seen = Window(0, 0, side, side), []
    for number in range(3):
        bumps = 60 * gaussian_filter(rng.normal(size=whole.shape), 5)
        row, col = rng.integers(16, 48, 2)
        inside = 12 + bumps - np.hypot(*np.mgrid[-row : side - row, -col : side - col])
        values = np.clip(128 + inside * rng.uniform(10, 60), 0, 255).astype(np.uint8)
        label, score = 1 + several * number % 2, int(40000 + rng.integers(9000))
        seen.append(Seen(label, score, whole, values, np.ones(whole.shape, bool)))
    pieces = [
        traced(without_overlaps(one, [other for other in seen if other is not one]), whole, "smooth")
        for one in seen
    ]
    classes = tuple(ClassInfo(number, f"class {number}", (1, 2, 3)) for number in (1, 2)[: 1 + several])
    grid = GeoBox(side, side, (1, 0, 0, 0, -1, 0), None)
    layer = LayerSchema("objects", None, classes, objects=True)
    rules = ShapeRules(simplify_m=0.5, max_deviation_m=deviation)
    found = finish([piece for piece in pieces if piece is not None], grid, rules, layer)
    assert overlapping(found.geometry.to_numpy()) == 0


# Outlines cross between two samples of 16 bits, so nothing lies 1e-300 from the scene's edge, as floats may.
places = st.integers(0, 9 << 16).map(lambda number: number / (1 << 16))
boxes = st.lists(st.tuples(places, places, st.floats(0.5, 4), st.floats(0.5, 4)), min_size=1, max_size=12)


def drawn(sides: list[tuple[float, float, float, float]]) -> np.ndarray:
    return np.array([shapely.box(x, y, x + width, y + height) for x, y, width, height in sides])


@given(boxes)
def test_what_overlaps_is_cut_off(sides: list[tuple[float, float, float, float]]) -> None:
    polygons = drawn(sides)
    found = remove_overlaps(polygons, *near_pairs(shapely.bounds(polygons)))
    assert overlapping(found) == 0
    assert shapely.union_all(found).area == pytest.approx(shapely.union_all(polygons).area)


@given(boxes, boxes)
def test_outlines_chosen_do_not_overlap(
    wide: list[tuple[float, float, float, float]], other: list[tuple[float, float, float, float]]
) -> None:
    count = min(len(wide), len(other))
    fine, plain = drawn(wide[:count]), drawn(other[:count])
    traced = np.array([shapely.box(3 * i, 0, 3 * i + 3, 10) for i in range(count)])
    outlines = np.stack([fine, plain, traced])
    pairs = near_pairs(np.tile([0.0, 0.0, 1.0, 1.0], (count, 1)))
    kind = choose_outlines(outlines, *pairs)
    assert overlapping(outlines[kind, np.arange(count)]) == 0
    assert (
        kind[0] < 2 or overlapping(np.append(fine[:1], traced[1:])) or overlapping(np.append(fine[:1], plain))
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(1, 9)), min_size=1, max_size=9))
def test_overlaps_do_not_depend_on_which_of_two_is_finer(squares: list[tuple[int, int, int]]) -> None:
    tooth = np.array([[0, 6], [1, 6], [1, 9], [2, 9]])
    top = (np.arange(20)[:, None, None] * [2, 0] + tooth).reshape(-1, 2)
    comb = shapely.polygons(np.vstack([top, [[40, 9], [40, 0], [0, 0]]]).astype(float))
    others = np.array([shapely.box(x, y, x + side, y + side) for x, y, side in squares])
    combs = np.full(len(others), comb, object)
    wanted = (shapely.area(shapely.intersection(comb, others)) > 0).tolist()
    assert overlap(combs, others).tolist() == wanted
    assert overlap(others, combs).tolist() == wanted
