"""Promise 2: polygons as if traced on the whole scene at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import contourpy
import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes

from geoseg.grid import classify
from geoseg.testing import ReferencePredictor, assert_same_polygons
from tests.plans import Outcome, make_test_plan, run_to_arrays
from tests.promises.test_1_seamless import picture
from tests.vector.fields import corners

sizes = st.integers(1, 80)


def run(
    shape: tuple[int, int], seed: int, block: int, outline: Literal["smooth", "pixel"], **more: Any
) -> Outcome:
    plan = make_test_plan(shape, block=block, outline=outline, **more)
    return run_to_arrays(
        plan,
        picture(shape, seed, holes=more.get("channels", 1) > 1),
        ReferencePredictor(more.get("channels", 1)),
    )


@settings(max_examples=60)
@given(st.tuples(sizes, sizes), st.integers(0, 1000), st.integers(1, 4), st.sampled_from([1, 3]))
@example((29, 3), 0, 1, 3)  # three classes meet on a straight edge
def test_pixel_outlines_are_those_of_the_whole_class_map(
    shape: tuple[int, int], seed: int, block: int, channels: int
) -> None:
    outcome = run(shape, seed, block, "pixel", channels=channels)
    rule = make_test_plan(shape, channels=channels).rule
    classes = np.where(outcome.valid, classify(outcome.values, rule), 0).astype(np.uint8)
    for label in set(np.unique(classes)) - {0}:
        whole = [
            shapely.make_valid(shapely.geometry.shape(geometry))
            for geometry, _ in shapes(classes, mask=classes == label, connectivity=4)
        ]
        # Ours have vertices where three meet besides: a coverage needs them on both sides.
        ours = [corners(piece.polygon) for piece in outcome.pieces if piece.label == label]
        assert_same_polygons([(label, polygon) for polygon in ours], [(label, polygon) for polygon in whole])


@settings(max_examples=60)
@given(st.tuples(sizes, sizes), st.integers(0, 1000), st.integers(1, 4))
def test_smooth_outlines_are_the_contour_of_the_whole(shape: tuple[int, int], seed: int, block: int) -> None:
    outcome = run(shape, seed, block, "smooth")
    level = make_test_plan(shape).rule.level
    padded = np.pad(outcome.values[0].astype(float), 1, mode="edge")
    rows, cols = np.arange(-1, shape[0] + 1) + 0.5, np.arange(-1, shape[1] + 1) + 0.5
    contours = contourpy.contour_generator(cols, rows, padded, fill_type="OuterOffset", quad_as_tri=False)
    points, offsets = contours.filled(level, CEILING)
    whole = shapely.union_all(
        [
            shapely.Polygon(ring[o[0] : o[1]], [ring[a:b] for a, b in pairwise(o[1:])])
            for ring, o in zip(points, offsets, strict=True)
        ]
    )
    expected = shapely.intersection(whole, shapely.box(0, 0, shape[1], shape[0]))
    ours = shapely.union_all([piece.polygon for piece in outcome.pieces])
    assert shapely.symmetric_difference(ours, expected).area < 1e-6
    assert len(outcome.pieces) == sum(part.area > 1e-9 for part in shapely.get_parts(expected))


CEILING = 1e9


@settings(max_examples=40)
@given(st.tuples(sizes, sizes), st.integers(0, 1000), st.integers(1, 4))
def test_evidence_is_that_of_the_whole_raster(shape: tuple[int, int], seed: int, block: int) -> None:
    outcome = run(shape, seed, block, "pixel")
    for piece in outcome.pieces:
        inside = rasterize([piece.polygon], shape).astype(bool)
        assert piece.evidence.pixels == inside.sum()
        assert piece.evidence.probability_sum == outcome.values[0][inside].sum(dtype=np.int64)
        assert piece.evidence.first_pixel == np.flatnonzero(inside)[0]
        edge = inside[0].any() or inside[-1].any() or inside[:, 0].any() or inside[:, -1].any()
        assert piece.evidence.touches_edge == edge


@pytest.mark.parametrize("outline", ["smooth", "pixel"])
def test_a_scene_that_is_all_building_is_its_own_outline(outline: Literal["smooth", "pixel"]) -> None:
    from geoseg.testing import PointwisePredictor
    from tests.plans import ArrayReader

    plan = make_test_plan((70, 50), block=1, outline=outline)
    reader = ArrayReader(np.ones((1, 70, 50), np.float32), np.ones((70, 50), bool))
    (piece,) = run_to_arrays(plan, reader, PointwisePredictor()).pieces
    assert (
        shapely.simplify(piece.polygon, 0).normalize().equals_exact(shapely.box(0, 0, 50, 70).normalize(), 0)
    )
