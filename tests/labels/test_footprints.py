"""Polygons in windows: the same pixel through any window, and houses that stay apart."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import shapes

from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import Footprints, gaps_between

places = st.integers(-80, 800).map(lambda steps: steps / 16)
sides = st.integers(8, 320).map(lambda steps: steps / 16)
boxes = st.lists(st.tuples(places, places, sides, sides), max_size=8)


def footprints(corners, ids=None, pixel_m=(1.0, 1.0), gap_m=0.0) -> Footprints:
    polygons = np.array([shapely.box(x, y, x + w, y + h) for x, y, w, h in corners], object)
    ids = np.ones(len(polygons), np.uint8) if ids is None else np.array(ids, np.uint8)
    return Footprints(polygons, ids, pixel_m, gap_m)


def components(labels) -> int:
    return len(list(shapes(labels, mask=labels == 1, connectivity=8)))


@settings(max_examples=40)
@given(
    boxes,
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([0, 2]),
)
def test_a_window_is_a_part_of_the_whole(corners, row, col, height, width, gap_m):
    labels = footprints(corners, gap_m=gap_m)
    whole = labels.burn((0, 0, 60, 60), (60, 60))
    part = labels.burn((col, row, col + width, row + height), (height, width))
    assert np.array_equal(part, whole[row : row + height, col : col + width])


@settings(max_examples=40)
@given(boxes)
def test_a_pixel_is_what_its_centre_lies_in(corners):
    labels = footprints(corners)
    burnt = labels.burn((0, 0, 40, 40), (80, 80))
    x, y = np.meshgrid(np.arange(80) / 2 + 0.25, np.arange(80) / 2 + 0.25)
    near = shapely.union_all(shapely.boundary(labels.polygons)).buffer(1e-9)
    clear = ~shapely.contains_xy(near, x, y)
    expected = np.zeros((80, 80), bool)
    for polygon in labels.polygons:
        expected |= shapely.contains_xy(polygon, x, y)
    assert np.array_equal(burnt[clear] == 1, expected[clear])


def test_metres_of_pixels_that_are_not_square():
    labels = footprints([(1.0, 4.0, 2.0, 4.0)], pixel_m=(0.5, 2.0))
    burnt = labels.burn((0, 0, 10, 5), (5, 10))
    assert np.argwhere(burnt == 1).min(0).tolist() == [2, 2]
    assert np.argwhere(burnt == 1).max(0).tolist() == [3, 5]
    assert labels.spots.tolist() == [[4.0, 3.0]]


def test_unknown_polygons_win_and_are_no_objects():
    labels = footprints([(0, 0, 4, 4), (2, 0, 4, 4)], ids=[IGNORE, 1])
    assert labels.burn((0, 0, 6, 1), (1, 6)).tolist() == [[255, 255, 255, 255, 1, 1]]
    assert len(labels.spots) == 1


@settings(max_examples=40)
@given(st.floats(0.05, 0.6), st.floats(-0.3, 0.45), st.floats(0, 3), st.floats(-0.4, 0.4))
def test_near_houses_are_never_connected(resolution, apart, shift, lean):
    one = shapely.Polygon([(0, 0), (9, 0), (9 + lean, 10), (0, 10)])
    two = shapely.Polygon([(9 + apart, shift), (20, shift), (20, 12), (9 + apart + lean, 12)])
    gap = max(0.5, 2**0.5 * 24 / round(24 / resolution))  # no narrower than the diagonal of a pixel
    labels = Footprints(np.array([one, two]), np.ones(2, np.uint8), (1.0, 1.0), gap)
    side = round(24 / resolution)
    assert components(labels.burn((-2, -2, 22, 22), (side, side))) == 2
    # The strip is no wider than it must be: beyond it, houses are as they were.
    bare = Footprints(labels.polygons, labels.ids, (1.0, 1.0)).burn((-2, -2, 22, 22), (side, side))
    taken = np.count_nonzero(bare) - np.count_nonzero(labels.burn((-2, -2, 22, 22), (side, side)))
    assert taken * resolution**2 <= (gap + 0.8 + 4 * resolution) * 13


def test_distant_houses_and_other_classes_are_left_alone():
    apart = [(0, 0, 5, 5), (5.6, 0, 5, 5)]
    assert len(gaps_between(footprints(apart).polygons, np.ones(2, np.uint8), 0.5)) == 0
    touching = footprints([(0, 0, 5, 5), (5, 0, 5, 5)])
    assert len(gaps_between(touching.polygons, np.array([1, 2], np.uint8), 0.5)) == 0
    assert len(gaps_between(touching.polygons, np.ones(2, np.uint8), 0.5)) == 1
    assert len(gaps_between(touching.polygons, np.ones(2, np.uint8), 0.0)) == 0


@settings(max_examples=25)
@given(st.floats(0, 0.4))
def test_an_object_drawn_twice_is_not_wiped_out(shift):
    labels = footprints([(5, 5, 10, 10), (5 + shift, 5, 10, 10)], gap_m=0.9)
    single = footprints([(5, 5, 10, 10)])
    assert (labels.burn((0, 0, 30, 30), (60, 60)) >= single.burn((0, 0, 30, 30), (60, 60))).all()
