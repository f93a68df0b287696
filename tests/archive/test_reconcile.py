"""Which of two features is kept, what a coverage's places belong to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.archive.reconcile import Ground, Seen, reconcile, with_edges
from geoseg.archive.unite import own_places

HERE = shapely.box(0, 0, 100, 100)


def ground(name="a", outline=HERE, day="2024-05-01", whole=True):
    return Ground(name, day, outline, 1.0, 1.0, whole, trusted=outline.buffer(-5, join_style="mitre"))


def seen(*features):
    """Features as (polygon, scene) and what differs from the usual."""
    rows = [
        (p, s, {"confidence": 0.9, "id": i, "cut": False, "label": 1} | more)
        for i, (p, s, more) in enumerate(features)
    ]
    column = {
        name: np.array([more[name] for *_, more in rows]) for name in ("confidence", "id", "cut", "label")
    }
    polygons = np.array([p for p, *_ in rows], object)
    return Seen(
        polygons,
        np.array([s for _, s, _ in rows]),
        column["label"],
        column["confidence"],
        column["id"],
        column["cut"],
        np.zeros(len(rows), bool),
    )


HOUSE = shapely.box(40, 40, 50, 50)


@pytest.mark.parametrize(
    ("better", "scenes"),
    [
        ({"confidence": 0.95}, (ground("a"), ground("b"))),
        ({}, (ground("a"), ground("b", HERE.buffer(10)))),
        ({}, (ground("a", day="2023-01-01"), ground("b", day="2023-01-02"))),
        ({}, (ground("c"), ground("b"))),
    ],
    ids=["confidence", "distance", "day", "name"],
)
def test_the_better_one_is_kept_whatever_came_first(better, scenes):
    other = shapely.box(40, 40, 51, 50)
    for turned in (False, True):
        features = [(HOUSE, 0, {"id": 5}), (other, 1, {"id": 1} | better)]
        (found,) = reconcile(seen(*(features[::-1] if turned else features)), scenes, any_date=True)
        assert found.polygon.equals(other)
        assert found.members == (0, 1)
        assert not found.changed


def test_one_of_whole_and_cut_is_the_whole_one():
    scenes = ground("a", shapely.box(0, 0, 45, 100)), ground("b")
    part = (shapely.box(40, 40, 45, 50), 0, {"cut": True, "confidence": 0.99})
    (found,) = reconcile(seen(part, (HOUSE, 1, {})), scenes)
    assert found.polygon.equals(HOUSE)
    assert not found.cut


def test_what_the_other_scene_does_not_show_is_not_lost_with_it():
    scenes = ground("a", shapely.box(0, 0, 80, 100)), ground("b", shapely.box(0, 0, 46, 100))
    block = (shapely.box(40, 40, 80, 50), 0, {"cut": True})
    house = (shapely.box(38, 40, 44, 50), 1, {})
    found = reconcile(seen(block, house), scenes)
    assert np.array([one.polygon.bounds for one in found]) == pytest.approx(
        np.array([(44, 40, 80, 50), (38, 40, 44, 50)])
    )
    assert [one.cut for one in found] == [True, False]


def test_what_the_rim_alone_shows_is_left_out_where_another_scene_of_the_day_lacks_it():
    west, east = (ground(name, shapely.box(x, 0, x + 800, 800)) for name, x in (("w", 0), ("e", 500)))
    beside = [shapely.box(x, 400, x + 10, 410) for x in (520, 640, 780)]  # in e's rim, within both, in w's
    features = (beside[0], 1, {}), (beside[1], 1, {}), (beside[2], 0, {}), (beside[2], 1, {"id": 9})

    def left(*scenes):
        found = reconcile(seen(*features), with_edges(scenes, any_date=True), any_date=True)
        return [(one.polygon.bounds[0], one.best) for one in found]

    assert left(west, east) == [(640, 1), (780, 3)], "the deeper of two"
    ragged = replace(west, whole=False)
    assert left(ragged, east) == [(520, 0), (640, 1), (780, 3)]
    assert left(replace(ragged, shows=lambda polygon: polygon.bounds[0] == 520), east) == [(640, 1), (780, 3)]
    assert left(replace(west, day="2024-05-02"), east) == [(520, 0), (640, 1), (780, 3)]


def test_two_houses_that_overlap_a_little_stay_two():
    other = shapely.box(49, 40, 60, 50)
    found = reconcile(seen((HOUSE, 0, {}), (other, 1, {})), (ground("a"), ground("b")))
    assert [one.members for one in found] == [(0,), (1,)]
    assert shapely.area(shapely.intersection(found[0].polygon, found[1].polygon)) == 0
    assert sum(one.polygon.area for one in found) == pytest.approx(200)


def test_neither_another_class_nor_another_day_nor_one_scene_is_reconciled():
    twice = ((HOUSE, 0, {}), (HOUSE, 1, {}))
    scenes = ground("a"), ground("b")
    assert len(reconcile(seen(*twice), scenes)) == 1
    assert len(reconcile(seen(twice[0], (HOUSE, 1, {"label": 2})), scenes)) == 2
    assert len(reconcile(seen(*twice), (scenes[0], replace(scenes[1], day="")))) == 2
    assert len(reconcile(seen(twice[0], (HOUSE, 0, {})), scenes)) == 2


BOXES = st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(2, 20), st.integers(2, 20))


@given(
    st.lists(st.tuples(BOXES, st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=8),
    st.permutations(range(8)),
    st.permutations(range(3)),
)
def test_nothing_overlaps_and_no_order_counts(rows, order, scenes):
    outlines = [shapely.box(0, 0, 60, 100), shapely.box(40, 0, 100, 60), shapely.box(30, 30, 100, 100)]
    grounds = [ground("abc"[i], outline, whole=False) for i, outline in enumerate(outlines)]
    features = []
    for number, ((x, y, w, h), scene, level) in enumerate(rows):
        polygon = shapely.intersection(shapely.box(x, y, x + w, y + h), outlines[scene])
        taken = shapely.union_all([p for p, s, _ in features if s == scene])
        polygon = shapely.difference(polygon, taken)
        if isinstance(polygon, shapely.Polygon) and polygon.area > 1:
            cut = bool(shapely.distance(polygon, outlines[scene].boundary) == 0)
            features.append((polygon, scene, {"id": number, "cut": cut, "confidence": 0.9 + level / 100}))
    if not features:
        return
    found = reconcile(seen(*features), grounds)
    polygons = np.array([one.polygon for one in found], object)
    assert shapely.is_valid(polygons).all()
    assert shapely.area(shapely.union_all(polygons)) == pytest.approx(shapely.area(polygons).sum(), abs=1e-3)
    shown = shapely.union_all([p for p, *_ in features])
    assert shapely.area(shapely.difference(shapely.union_all(polygons), shown)) < 1e-3
    assert {i for one in found for i in one.members} == set(range(len(features)))
    turned = [features[i] for i in order if i < len(features)]
    moved = [(p, scenes.index(s), more) for p, s, more in turned]
    other = reconcile(seen(*moved), [grounds[s] for s in scenes])
    outlines = [
        sorted(shapely.to_wkb(shapely.normalize(one.polygon)) for one in few) for few in (found, other)
    ]
    assert outlines[0] == outlines[1]


def test_every_place_of_a_coverage_is_of_the_latest_scene_that_shows_it():
    scenes = ground("a", shapely.box(0, 0, 60, 100)), ground("b", shapely.box(40, 0, 100, 100))
    field = (shapely.box(20, 20, 60, 80), 0, {"label": 2, "cut": True})
    lake = (shapely.box(50, 20, 90, 80), 1, {"label": 1})
    first = own_places(seen(field, lake), scenes)
    assert [one.polygon.bounds for one in first] == [(20, 20, 60, 80), (60, 20, 90, 80)]
    later = scenes[0], replace(scenes[1], day="2025-01-01")
    assert [one.polygon.bounds for one in own_places(seen(field, lake), later)] == [
        (20, 20, 60, 80),
        (50, 20, 90, 80),
    ]
    latest = own_places(seen(field, lake), later, any_date=True)
    assert [one.polygon.bounds for one in latest] == [(20, 20, 40, 80), (50, 20, 90, 80)]


def test_where_the_first_scene_has_nodata_another_is_shown():
    scenes = ground("a", whole=False), ground("b")
    one, two = (shapely.box(0, 0, 40, 40), 0, {}), (shapely.box(20, 0, 80, 40), 1, {})
    assert [found.polygon.bounds for found in own_places(seen(one, two), scenes)] == [
        (0, 0, 40, 40),
        (40, 0, 80, 40),
    ]
