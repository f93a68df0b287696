"""Tracing in parts and joining them equals tracing the whole scene at once (promise 2)."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.grid import classify
from geoseg.testing import assert_same_polygons
from geoseg.values import Window
from geoseg.vector.pieces import NO_PIXEL, Evidence, Joiner, Piece
from geoseg.vector.trace import Outline, trace
from tests.vector.fields import Field, building, corners, cuts, fields, streamed, whole

outlines = st.sampled_from(["smooth", "pixel"])


def evidence(pieces: list[Piece]) -> list[tuple[int, Evidence]]:
    return sorted(((p.label, p.evidence) for p in pieces), key=lambda pair: pair[1].first_pixel)


@settings(max_examples=300)
@given(st.data(), fields(), outlines)
def test_parts_join_to_the_whole(data: st.DataObject, field: Field, outline: Outline) -> None:
    rows, cols = data.draw(cuts(field.valid.shape[0])), data.draw(cuts(field.valid.shape[1]))
    order = data.draw(st.none() | st.integers(0, 99))
    parts, at_once = streamed(field, outline, rows, cols, order), whole(field, outline)
    assert_same_polygons(parts, at_once)
    assert evidence(parts) == evidence(at_once)


@settings(max_examples=200)
@given(fields())
def test_pixel_outlines_are_those_of_gdal(field: Field) -> None:
    classes = np.where(field.valid, classify(field.values, field.rule), 0).astype(np.uint8)
    shapes = rasterio.features.shapes(classes, mask=classes > 0, connectivity=4)
    expected = [(label, shapely.make_valid(shapely.geometry.shape(shape))) for shape, label in shapes]
    # Ours have vertices where three meet besides: a coverage needs them on both sides.
    found = [(piece.label, corners(piece.polygon)) for piece in whole(field, "pixel")]
    assert_same_polygons(found, expected)


@settings(max_examples=200)
@given(fields(), outlines)
def test_polygons_are_valid_and_disjoint(field: Field, outline: Outline) -> None:
    polygons = np.array([piece.polygon for piece in whole(field, outline)], dtype=object)
    assert all(shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON)
    assert shapely.is_valid(polygons).all()
    one, two = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    apart = one < two
    assert shapely.area(shapely.intersection(polygons[one[apart]], polygons[two[apart]])).sum() < 1e-9


@settings(max_examples=200)
@given(fields(max_side=20), outlines)
def test_evidence_is_that_of_the_pixels_inside(field: Field, outline: Outline) -> None:
    height, width = field.valid.shape
    classes = np.where(field.valid, classify(field.values, field.rule), 0)
    rows, cols = np.mgrid[:height, :width]
    edge = (rows == 0) | (rows == height - 1) | (cols == 0) | (cols == width - 1)
    frame = np.pad(~field.valid, 1)
    near = np.zeros((height, width), bool)
    for i in range(3):
        for j in range(3):
            near |= frame[i : i + height, j : j + width]
    seen = np.zeros((height, width), int)
    for piece in whole(field, outline):
        inside = shapely.contains_xy(piece.polygon, cols + 0.5, rows + 0.5)
        assert (classes[inside] == piece.label).all()
        seen += inside
        assert piece.evidence == Evidence(
            int(inside.sum()),
            int(field.values.max(axis=0)[inside].sum()),
            int((rows * width + cols)[inside].min()),
            bool(edge[inside].any()),
            bool(near[inside].any()),
        )
    assert np.array_equal(seen, classes > 0)


@settings(max_examples=100)
@given(fields(channels=(2, 4)), outlines)
def test_classes_share_their_borders_vertex_by_vertex(field: Field, outline: Outline) -> None:
    polygons = [piece.polygon for piece in whole(field, outline)]
    assert shapely.coverage_is_valid(polygons)


@settings(max_examples=100)
@given(fields(channels=(2, 4)), outlines)
def test_classes_without_background_fill_the_valid_area(field: Field, outline: Outline) -> None:
    rule = type(field.rule)(tuple(i + 1 for i in range(len(field.values))), 1e-5)
    full = Field(np.where(field.valid, np.maximum(field.values, 1), 0).astype(np.uint16), field.valid, rule)
    area = shapely.area([piece.polygon for piece in whole(full, outline)]).sum()
    assert area == pytest.approx(field.valid.sum(), rel=1e-12)


def test_touching_in_a_point_does_not_join() -> None:
    field = building(np.kron([[1, 0], [0, 1]], np.ones((3, 3))))
    for rows, cols in (([], []), ([3], [3]), ([2], [4])):
        assert len(streamed(field, "pixel", rows, cols)) == 2


def test_a_percolating_scene_is_one_polygon_with_holes() -> None:
    probability = np.ones((41, 41))
    probability[1::2, 1::2] = 0
    for outline, cut in (("smooth", [7, 20, 33]), ("pixel", [8, 9, 30])):
        (piece,) = streamed(building(probability), outline, cut, cut)
        assert len(piece.polygon.interiors) == 400
        assert piece.evidence.pixels == 41 * 41 - 400


def test_a_missing_region_is_noticed() -> None:
    field = building(np.ones((8, 8)))
    joiner = Joiner((8, 8))
    assert joiner.add(trace(field.cut(field.window), Window(0, 0, 8, 4), (8, 8), field.rule, "smooth")) == []
    boxes = joiner.open_boxes()
    assert boxes.min() >= -1.5
    assert boxes[:, 2].max() <= 5.5  # what goes on is known to lie left of the seam
    assert boxes[:, 3].max() <= 9.5
    with pytest.raises(RuntimeError, match="region was not added"):
        joiner.finish()


def test_a_block_that_is_too_small_is_refused() -> None:
    field = building(np.ones((8, 8)))
    for region in (Window(0, 0, 4, 4), Window(4, 4, 4, 4)):
        with pytest.raises(ValueError, match="not inside"):
            trace(field.cut(region), region, (8, 8), field.rule, "smooth")


def test_pieces_travel_between_processes() -> None:
    field = building(np.random.default_rng(0).random((20, 20)))
    joiner = Joiner((20, 20))
    found = []
    for region in (Window(0, 0, 9, 20), Window(9, 0, 11, 20)):
        pieces = trace(field.cut(field.window), region, (20, 20), field.rule, "smooth")
        found += joiner.add(pickle.loads(pickle.dumps(pieces)))
    assert_same_polygons(found, whole(field, "smooth"))


bits = st.booleans()
evidences = st.builds(
    Evidence, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9) | st.just(NO_PIXEL), bits, bits
)


@given(evidences, evidences, evidences)
def test_evidence_adds_up_in_any_order(a: Evidence, b: Evidence, c: Evidence) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Evidence() == a
