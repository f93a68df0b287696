"""Flags become a recipe: defaults from the scenes, what is held out, what contradicts itself."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from geoseg.errors import InvalidOption, UnreadableScene
from geoseg.testing import make_scene
from geoseg.training.recipe import make_recipe
from geoseg.training.request import Request, make_content, parse_named_bands, scene_names


def scene_of(path, pixel_m=0.5, size=100, crs="EPSG:32632"):
    return make_scene(
        path,
        pixels=np.zeros((3, size, size), np.uint8),
        transform=(pixel_m, 0, 500000, 0, -pixel_m, 5000000),
        crs=crs,
    )


@pytest.fixture
def scenes(tmp_path):
    return tuple(str(scene_of(tmp_path / f"{name}.tif", m)) for name, m in (("a", 0.2986), ("b", 0.5)))


def recipe_of(request, start=None):
    return make_recipe(make_content(request, None, start) | {"out": "model"}, "options")


def request_of(scenes, **more):
    return Request(scenes=scenes, labels=tuple(Path(f"{scene}.gpkg") for scene in scenes), **more)


def test_the_coarsest_scene_sets_the_resolution_unless_it_is_given(scenes):
    assert recipe_of(request_of(scenes)).draws.resolution_m == 0.5
    assert recipe_of(request_of(scenes[:1])).draws.resolution_m == 0.3
    draws = recipe_of(request_of(scenes, resolution_m=0.4)).draws
    assert (draws.resolution_m, draws.smallest_m, draws.largest_m) == pytest.approx((0.4, 0.4 / 1.5, 0.6))
    assert recipe_of(request_of(scenes), "buildings").draws.resolution_m == 0.3


def test_degrees_are_ground_too(tmp_path):
    path = scene_of(tmp_path / "d.tif", 5e-6, crs="EPSG:4326")
    with pytest.raises(InvalidOption):  # at 5 million degrees north there is no ground
        recipe_of(request_of((str(path),)))
    path = make_scene(
        tmp_path / "e.tif",
        pixels=np.zeros((3, 100, 100), np.uint8),
        transform=(5e-6, 0, 11, 0, -5e-6, 46),
        crs="EPSG:4326",
    )
    assert recipe_of(request_of((str(path),))).draws.resolution_m == pytest.approx(0.56)


def test_squares_of_every_scene_are_held_out_by_default(scenes):
    blocks = recipe_of(request_of(scenes)).validation.blocks
    assert blocks.side_m == pytest.approx(0.2986 * 100 / 5, rel=1e-3)
    assert 0 < blocks.guard_m <= blocks.side_m / 10


def test_a_named_scene_is_held_out_whole(scenes):
    validation = recipe_of(request_of(scenes, held_out=("b",))).validation
    assert (validation.scenes, validation.blocks) == (("b",), None)


def test_patterns_of_chips_are_places(scenes, tmp_path):
    request = Request(chips=(tmp_path / "x", tmp_path / "y"), held_out=("old_*", "new_*"), resolution_m=0.3)
    places = recipe_of(request).validation.places
    assert [(place.name, place.holds("x", "old_1"), place.holds("y", "new_1")) for place in places] == [
        ("old_*", True, False),
        ("new_*", False, True),
    ]
    both = recipe_of(request_of(scenes, chips=(tmp_path / "x",)))
    assert both.validation.blocks is not None, "scenes give ground to validate on"


def test_chips_come_from_folders_or_an_index(tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / "index.csv").touch()
    (tmp_path / "without").mkdir()
    request = Request(
        chips=(tmp_path / "with", tmp_path / "without", tmp_path / "my.csv"),
        held_out=("a*",),
        resolution_m=1,
        chip_pixel_m=0.5,
    )
    first, second, third = recipe_of(request).data.chips
    assert first.index == tmp_path / "with" / "index.csv"
    assert (second.images, second.masks) == (tmp_path / "without" / "images", tmp_path / "without" / "masks")
    assert (second.source, second.gsd_m) == ("without", 0.5)
    assert first.gsd_m is third.gsd_m is None  # an index says it itself
    assert third.index == tmp_path / "my.csv"


def test_classes_are_named_or_found_in_the_attribute(scenes, tmp_path):
    assert [spec.name for spec in recipe_of(request_of(scenes)).data.classes] == ["building"]
    named = recipe_of(request_of(scenes, classes=("road", "roof"))).data.classes
    assert [(spec.id, spec.name) for spec in named] == [(1, "road"), (2, "roof")]
    for scene, kinds in zip(scenes, (["roof", None], ["pool", "roof"]), strict=True):
        boxes = [shapely.box(500000, 4999990, 500005, 4999999)] * 2
        gpd.GeoDataFrame({"kind": kinds}, geometry=boxes, crs="EPSG:32632").to_file(f"{scene}.gpkg")
    found = recipe_of(request_of(scenes, class_attribute="kind")).data
    assert [spec.name for spec in found.classes] == ["pool", "roof"]
    assert len({spec.color for spec in found.classes}) == 2
    assert found.scenes[1].class_attribute == "kind"


def test_what_says_nothing_is_no_class(scenes):
    for scene, kinds in zip(scenes, (["roof", "ignore"], ["Background", "roof"]), strict=True):
        boxes = [shapely.box(500000, 4999990, 500005, 4999999)] * 2
        gpd.GeoDataFrame({"kind": kinds}, geometry=boxes, crs="EPSG:32632").to_file(f"{scene}.gpkg")
    found = recipe_of(request_of(scenes, class_attribute="kind")).data
    assert [spec.name for spec in found.classes] == ["roof"]
    gpd.GeoDataFrame({"kind": ["ignore"] * 2}, geometry=boxes, crs="EPSG:32632").to_file(f"{scenes[0]}.gpkg")
    with pytest.raises(InvalidOption, match="--class-attribute kind: names no class"):
        recipe_of(request_of(scenes[:1], class_attribute="kind"))


def test_of_several_layers_of_labels_one_is_to_be_chosen(scenes):
    box = shapely.box(500000, 4999990, 500005, 4999999)
    for name in ("houses", "sheds"):
        frame = gpd.GeoDataFrame({"kind": [name]}, geometry=[box], crs="EPSG:32632")
        frame.to_file(f"{scenes[0]}.gpkg", layer=name)
    with pytest.raises(InvalidOption, match=r"polygons \(houses, sheds\); choose one: --labels-layer NAME"):
        recipe_of(request_of(scenes[:1], class_attribute="kind"))
    found = recipe_of(request_of(scenes[:1], class_attribute="kind", labels_layer="sheds")).data
    assert [spec.name for spec in found.classes] == ["sheds"]
    assert found.scenes[0].labels_layer == "sheds"


def test_a_mask_has_no_attribute(scenes):
    request = Request(scenes=scenes[:1], labels=(Path(scenes[0]),), class_attribute="kind")
    with pytest.raises(InvalidOption, match=r"--class-attribute is for polygons, and .*a.tif is a mask"):
        recipe_of(request)


def test_scenes_of_one_name_are_told_apart_by_their_folders(tmp_path):
    paths = []
    for folder in ("x/d1", "y/d1", "d2"):
        (tmp_path / folder).mkdir(parents=True)
        paths.append(str(scene_of(tmp_path / folder / "scene.tif")))
    paths.append(str(scene_of(tmp_path / "other.tif")))
    names = ["x/d1/scene", "y/d1/scene", "d2/scene", "other"]
    assert scene_names(paths) == names
    recipe = recipe_of(request_of(tuple(paths), held_out=("d2/scene",)))
    assert [scene.title for scene in recipe.data.scenes] == names
    assert recipe.validation.scenes == ("d2/scene",)
    assert scene_names(["https://h/a/s.tif", "b.tif"]) == ["s", "b"]


def test_bands_are_named_and_may_be_numbered(scenes):
    assert parse_named_bands(None) == parse_named_bands(" , ") == ((), ())
    assert parse_named_bands("nir, red") == (("nir", "red"), ())
    names, numbers = parse_named_bands("red=4, green = 3,blue=2")
    assert (names, numbers) == (("red", "green", "blue"), (4, 3, 2))
    data = recipe_of(request_of(scenes, bands=names, band_numbers=numbers)).data
    assert data.bands == names
    assert [scene.bands for scene in data.scenes] == [numbers] * 2
    assert recipe_of(request_of(scenes)).data.scenes[0].bands is None


@pytest.mark.parametrize("text", ["3,2,1", "red=4,green", "red=0", "red=x", "=3", "4=red"])
def test_bands_that_are_no_names_are_refused(text):
    with pytest.raises(InvalidOption, match=r"--bands .* takes names, such as red,green,blue"):
        parse_named_bands(text)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(), "nothing to train on"),
        (Request(scenes=("a.tif",)), "1 --scene and 0 --labels"),
        (Request(chips=(Path("x"),), resolution_m=0.3), "--hold-out"),
        (Request(chips=(Path("x"),), held_out=("a",)), "--resolution"),
    ],
)
def test_what_is_missing_is_said(request_, words):
    with pytest.raises(InvalidOption, match=words):
        make_content(request_, None, None)


def test_a_misspelt_scene_is_not_trained_on(scenes):
    with pytest.raises(InvalidOption, match="--hold-out c: no scene is called so; there are a, b"):
        make_content(request_of(scenes, held_out=("c",)), None, None)


def test_scenes_that_cannot_be_read_or_placed(tmp_path):
    with pytest.raises(UnreadableScene, match=r"none\.tif"):
        make_content(request_of((str(tmp_path / "none.tif"),)), None, None)
    bare = make_scene(tmp_path / "bare.tif", pixels=np.zeros((3, 9, 9), np.uint8), crs=None)
    with pytest.raises(InvalidOption, match="give it a CRS"):
        make_content(request_of((str(bare),)), None, None)


def test_a_recipe_and_data_flags_exclude_each_other(scenes):
    assert make_content(Request(), {"seed": 3}, None) == {"seed": 3}
    with pytest.raises(InvalidOption, match="either a recipe"):
        make_content(request_of(scenes), {"seed": 3}, None)
