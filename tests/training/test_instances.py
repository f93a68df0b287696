"""Each polygon is one object to a Mask R-CNN, however polygons lie."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import OBJECT, Footprints
from geoseg.testing import make_scene
from geoseg.training.augment import paste
from geoseg.training.data.ground import read_mirrored
from geoseg.training.data.read import read_data
from geoseg.training.data.sampler import Sampler
from geoseg.training.instances import numbered, objects_of
from geoseg.training.recipe import make_recipe, read_recipe
from geoseg.training.run import train_model
from geoseg.training.task import Numbered
from geoseg.values import Window

pytestmark = pytest.mark.slow

CROSSING = (
    (1, (10, 10, 40, 40)),  # holds two others
    (1, (14, 14, 20, 20)),
    (2, (26, 16, 34, 22)),
    (1, (50, 10, 70, 30)),  # shares more than half of the smaller with the next
    (1, (56, 10, 72, 24)),
    (1, (10, 60, 70, 68)),  # crossed by another class
    (2, (30, 50, 36, 80)),
    (1, (80, 40, 88, 60)),  # touch
    (1, (88, 40, 94, 60)),
)


def drawn(boxes, side=100):
    """Return the polygons of (class, box) as they are drawn, smaller over larger, and where each is seen."""
    order = sorted(range(len(boxes)), key=lambda number: -shapely.box(*boxes[number][1]).area)
    seen = np.zeros((side, side), int)
    for number in order:
        left, top, right, bottom = boxes[number][1]
        seen[top:bottom, left:right] = number + 1
    polygons = np.array([shapely.box(*box) for _, box in boxes], object)
    ids = np.array([label for label, _ in boxes], np.uint8)
    return Footprints(polygons, ids, (1.0, 1.0), objects=True), seen


def check(labels, boxes, seen):
    masks, kinds = objects_of(labels)
    there = [number for number in range(1, len(boxes) + 1) if (seen == number).sum() >= 4]
    assert len(masks) == len(there)
    for mask, kind in zip(masks, kinds, strict=True):
        (number,) = set(seen[mask == 1].tolist())
        there.remove(number)
        assert kind == boxes[number - 1][0]
        assert np.array_equal(mask == 1, seen == number)
    assert not there


def test_polygons_that_overlap_touch_or_are_nested_are_each_an_object():
    labels, seen = drawn(CROSSING)
    check(labels.burn((0, 0, 100, 100), (100, 100)), CROSSING, seen)


corner = st.integers(0, 80)
side = st.integers(2, 40)
box = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def area(one):
    left, top, right, bottom = one[1]
    return (right - left) * (bottom - top)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 3), box), max_size=8, unique_by=area),
    st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
def test_a_window_holds_the_objects_of_the_whole(boxes, start):
    """Each object is one in any window, even if others leave only parts of it."""
    shapes = [shapely.box(*one) for _, one in boxes]
    for first, (label, _) in enumerate(boxes):
        for second in range(first):  # one object drawn twice is another test's
            if boxes[second][0] == label:
                union = shapes[first].union(shapes[second]).area
                if shapes[first].intersection(shapes[second]).area > union / 2:
                    return
    labels, seen = drawn(boxes, 120)
    row, col = start
    part = labels.burn((col, row, col + 60, row + 60), (60, 60))
    check(part, boxes, seen[row : row + 60, col : col + 60])


def test_an_object_drawn_twice_is_one():
    twice = Footprints(
        np.array([shapely.box(0, 0, 20, 20), shapely.box(1, 1, 21, 21)]), np.ones(2, np.uint8), (1.0, 1.0),
        objects=True,
    )  # fmt: skip
    masks, _ = objects_of(twice.burn((0, 0, 30, 30), (30, 30)))
    assert masks.sum(axis=(1, 2)).tolist() == [20 * 20 + 20 * 20 - 19 * 19]


def test_in_masks_of_classes_an_object_is_what_is_connected():
    labels = np.zeros((9, 12), np.uint8)
    labels[:4, :4], labels[:4, 6:], labels[6:, :9], labels[6:, 9:] = 1, 1, 2, IGNORE
    masks, kinds = objects_of(labels)
    assert masks.sum(axis=(1, 2)).tolist() == [16, 24, 27]
    assert kinds.tolist() == [1, 1, 2]
    mixed = labels.astype(np.int32)
    mixed[:4, :2] += 7 * OBJECT  # pasted over ground whose labels are a mask
    assert sorted(objects_of(mixed)[0].sum(axis=(1, 2)).tolist()) == [8, 8, 24, 27]


def test_images_at_the_edge_are_objects_of_their_own():
    labels, _ = drawn([(1, (10, 10, 20, 20)), (1, (0, 20, 8, 30))])

    def read(window):
        pixels = np.zeros((3, *window.shape), np.uint8)
        box = (window.col, window.row, window.col_stop, window.row_stop)
        return pixels, labels.burn(box, window.shape)

    _, mirrored = read_mirrored(read, Window(-30, -30, 80, 80), (100, 100))
    masks, _ = objects_of(mirrored)
    # The first is seen four times; the second, cut by the edge, four times (its edge is not repeated).
    assert sorted(masks.sum(axis=(1, 2)).tolist()) == [70, 70, 80, 80, *[100] * 4]


def test_pasted_objects_keep_apart_from_those_that_are_there():
    labels, _ = drawn([(1, (10, 10, 30, 30)), (1, (40, 40, 60, 60))])
    donor, _ = drawn([(2, (70, 70, 90, 90)), (2, (74, 74, 84, 84))])
    burnt = [torch.from_numpy(one.burn((0, 0, 100, 100), (100, 100))) for one in (labels, donor)]
    samples = [(torch.full((3, 100, 100), 50, dtype=torch.uint8), one) for one in burnt]
    _, merged = paste(*samples, np.random.default_rng(1))
    masks, kinds = objects_of(merged.numpy())
    assert sorted(kinds.tolist()) == [1, 1, 2, 2]
    assert masks.sum() >= 300


@pytest.fixture
def recipe(tmp_path):
    """A scene whose objects overlap, cross and lie within each other, each in a grey of its own."""
    _, seen = drawn(CROSSING, 128)
    pixels = np.repeat((seen * 20)[None], 3, axis=0).astype(np.uint8)
    pixels[:, -1, -1] = 255
    scene = make_scene(
        tmp_path / "scene.tif", pixels=pixels, transform=(1, 0, 500000, 0, -1, 5000000), crs="EPSG:32632"
    )
    names = {1: "tree", 2: "car"}
    places = [
        shapely.box(500000 + left, 5000000 - bottom, 500000 + right, 5000000 - top)
        for _, (left, top, right, bottom) in CROSSING
    ]
    frame = gpd.GeoDataFrame({"kind": [names[n] for n, _ in CROSSING]}, geometry=places, crs="EPSG:32632")
    frame.to_file(tmp_path / "labels.gpkg")
    held = make_scene(
        tmp_path / "held.tif", pixels=pixels, transform=(1, 0, 600000, 0, -1, 5000000), crs="EPSG:32632"
    )
    frame.translate(100000).to_frame("geometry").assign(kind=frame["kind"]).to_file(tmp_path / "held.gpkg")
    recipe = {
        "name": "objects",
        "seed": 1,
        "out": "model",
        "data": {
            "scenes": [
                {"scene": str(where), "labels": f"{name}.gpkg", "class_attribute": "kind"}
                for where, name in ((scene, "labels"), (held, "held"))
            ],
            "classes": [
                {"id": 9, "name": "car", "color": [1, 2, 3]},
                {"id": 4, "name": "tree", "color": [4, 5, 6]},
            ],
        },
        "model": {"arch": "maskrcnn", "encoder": "test_efficientnet"},
        "draws": {
            "crop": 96, "resolution_m": 1, "smallest_m": 1, "largest_m": 1, "spread": 0.01, "turned_share": 0,
        },
        "optimization": {"batch": 2, "steps": 2, "epoch": 1, "validate_every": 2, "warmup_steps": 1},
        "validation": {"scenes": ["held"]},
        "card": {"int8": False, "tile": 64},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return make_recipe(read_recipe(tmp_path / "recipe.yaml"), "recipe.yaml")


def test_drawn_samples_hold_each_polygon_once(recipe):
    split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    draw = Numbered(Sampler(numbered(split.training), recipe.draws).draw, [9, 4])
    rng = np.random.default_rng(0)
    met = set()
    for _ in range(20):
        pixels, labels = draw(rng)
        masks, kinds = objects_of(labels.numpy())
        greys = [set(pixels[0].numpy()[mask == 1].tolist()) for mask in masks]
        assert all(len(one) == 1 for one in greys), "an object is of one polygon"
        numbers = [one.pop() // 20 for one in greys]
        assert len(set(numbers)) == len(numbers), "a polygon is one object"
        assert [{1: 2, 2: 1}[CROSSING[number - 1][0]] for number in numbers] == kinds.tolist()
        met |= set(numbers)
    assert met == set(range(1, len(CROSSING) + 1))


def test_turned_samples_keep_their_objects(recipe):
    split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    turned = recipe.draws.model_copy(update={"turned_share": 1.0, "crop": 72})
    draw, rng = Sampler(numbered(split.training), turned).draw, np.random.default_rng(0)
    for _ in range(10):
        labels = draw(rng)[1].numpy()
        numbers = np.unique(labels[labels > IGNORE])
        assert set((numbers % OBJECT).tolist()) <= {9, 4}
        assert len(set((numbers // OBJECT).tolist())) == len(numbers), "an object has one class"
        assert 1 <= len(objects_of(labels)[0]) <= 3 * len(CROSSING)


def test_several_classes_are_learnt_and_published(recipe):
    card = train_model(recipe).card
    assert card.task == "instance"
    assert [(one.id, one.name) for one in card.classes] == [(9, "car"), (4, "tree")]
    assert card.instances is not None
    assert 40 <= card.instances.largest_m <= 60
