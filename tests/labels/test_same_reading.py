"""Training and evaluation read the same labels alike."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from geoseg.errors import InvalidOption
from geoseg.testing import make_scene
from geoseg.training.data.read import read_data
from geoseg.training.data.spec import DataSpec, Draws, SceneSpec, ValidationSpec
from geoseg.training.defaults import make_content
from geoseg.training.options import TrainOptions
from tests.evaluation.files import boxes, burned, class_map, compare, polygons

SIZE = (240, 220)
HOUSES = ((10, 10, 40, 40), (100, 60, 60, 50), (180, 150, 30, 50))


def test_the_same_classes_are_found_in_the_same_attribute(tmp_path) -> None:
    kinds = ["House ", "house", "Shed"]
    labels = polygons(tmp_path / "a.gpkg", boxes(*HOUSES), kind=kinds)
    scene = make_scene(tmp_path / "a.tif", size=SIZE)
    options = TrainOptions(scene=scene, labels=labels, class_attribute="kind")
    trained = [one["name"] for one in make_content(options)["data"]["classes"]]
    found = polygons(tmp_path / "found.gpkg", boxes(*HOUSES), class_name=["house", "house", "shed"])
    evaluated = compare(labels, found, class_attribute="kind", resolution=0.3)
    assert [name.casefold() for name in trained] == [info.name for info in evaluated.classes]
    assert evaluated.pixels.mean_iou.value == 1
    assert evaluated.objects[0].truth == 2
    empty = polygons(tmp_path / "b.gpkg", boxes(*HOUSES), kind=["house", "", None])
    with pytest.raises(InvalidOption, match=r"'null' is no class \(2 features have no value\)"):
        compare(empty, labels, class_attribute="kind")
    with pytest.raises(InvalidOption, match=r"'null' is no class \(2 features have no value\)"):
        spec = SceneSpec(scene="a.tif", labels="b.gpkg", class_attribute="kind")
        classes = [{"id": 1, "name": "HOUSE", "color": (1, 2, 3)}]
        data = DataSpec(scenes=(spec,), classes=classes)
        read_data(data, ValidationSpec(scenes=("a",)), Draws(crop=32), tmp_path)


def test_a_picture_is_no_truth(tmp_path) -> None:
    picture = make_scene(tmp_path / "rgb.tif", pixels=np.stack([burned(SIZE, *HOUSES)] * 3))
    found = class_map(tmp_path / "map.tif", burned(SIZE, *HOUSES))
    for truth, prediction in ((picture, found), (found, picture)):
        with pytest.raises(InvalidOption, match="has 3 bands, which is a picture"):
            compare(truth, prediction)
    make_scene(tmp_path / "a.tif", size=SIZE)
    data = DataSpec(scenes=(SceneSpec(scene="a.tif", labels="rgb.tif"),))
    with pytest.raises(InvalidOption, match="has 3 bands, which is a picture"):
        read_data(data, ValidationSpec(scenes=("a",)), Draws(crop=32), tmp_path)


def test_a_dissolved_truth_counts_its_parts(tmp_path) -> None:
    whole = np.array([shapely.MultiPolygon(boxes(*HOUSES).tolist())], object)
    truth = polygons(tmp_path / "truth.gpkg", whole)
    found = polygons(tmp_path / "found.gpkg", boxes(*HOUSES[:2]))
    result = compare(truth, found, scene=make_scene(tmp_path / "s.tif", size=SIZE))
    (score,) = result.objects
    assert (score.truth, score.matched) == (3, 2)
    assert any("1 features consist of several polygons (3 in all)" in note for note in result.notes)
