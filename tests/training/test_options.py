"""Flags become a recipe: defaults from the scenes, what is held out, what contradicts itself."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from geoseg.errors import InvalidOption, UnreadableScene
from geoseg.testing import make_scene
from geoseg.training.defaults import make_content, recipe_of, scene_names
from geoseg.training.options import TrainOptions, parse_named_bands


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


def recipe(options):
    return recipe_of(options, out="model")


def options_of(scenes, **more):
    return TrainOptions(scene=scenes, labels=[f"{scene}.gpkg" for scene in scenes], **more)


def test_the_coarsest_scene_sets_the_resolution_unless_it_is_given(scenes):
    assert recipe(options_of(scenes)).draws.resolution_m == 0.5
    assert recipe(options_of(scenes[:1])).draws.resolution_m == 0.3
    draws = recipe(options_of(scenes, resolution=0.4)).draws
    assert (draws.resolution_m, draws.smallest_m, draws.largest_m) == pytest.approx((0.4, 0.4 / 1.5, 0.6))
    assert recipe(options_of(scenes, start="buildings")).draws.resolution_m == 0.3


def test_degrees_are_ground_too(tmp_path):
    path = scene_of(tmp_path / "d.tif", 5e-6, crs="EPSG:4326")
    with pytest.raises(InvalidOption):  # at 5 million degrees north there is no ground
        recipe(options_of((str(path),)))
    path = make_scene(
        tmp_path / "e.tif",
        pixels=np.zeros((3, 100, 100), np.uint8),
        transform=(5e-6, 0, 11, 0, -5e-6, 46),
        crs="EPSG:4326",
    )
    assert recipe(options_of((str(path),))).draws.resolution_m == pytest.approx(0.56)


def test_squares_of_every_scene_are_held_out_by_default(scenes):
    blocks = recipe(options_of(scenes)).validation.blocks
    assert blocks.side_m == pytest.approx(0.2986 * 100 / 5, rel=1e-3)
    assert 0 < blocks.guard_m <= blocks.side_m / 10


def test_a_named_scene_is_held_out_whole(scenes):
    validation = recipe(options_of(scenes, hold_out=("b",))).validation
    assert (validation.scenes, validation.blocks) == (("b",), None)


def test_patterns_of_chips_are_places(scenes, tmp_path):
    options = TrainOptions(
        chips=(tmp_path / "x", tmp_path / "y"), hold_out=("old_*", "new_*"), resolution=0.3
    )
    places = recipe(options).validation.places
    assert [(place.name, place.holds("x", "old_1"), place.holds("y", "new_1")) for place in places] == [
        ("old_*", True, False),
        ("new_*", False, True),
    ]
    both = recipe(options_of(scenes, chips=(tmp_path / "x",)))
    assert both.validation.blocks is not None, "scenes give ground to validate on"


def test_chips_come_from_folders_or_an_index(tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / "index.csv").touch()
    (tmp_path / "without").mkdir()
    options = TrainOptions(
        chips=(tmp_path / "with", tmp_path / "without", tmp_path / "my.csv"),
        hold_out=("a*",),
        resolution=1,
        chip_pixel=0.5,
    )
    first, second, third = recipe(options).data.chips
    assert first.index == tmp_path / "with" / "index.csv"
    assert (second.images, second.masks) == (tmp_path / "without" / "images", tmp_path / "without" / "masks")
    assert (second.source, second.gsd_m) == ("without", 0.5)
    assert first.gsd_m is third.gsd_m is None  # an index says it itself
    assert third.index == tmp_path / "my.csv"


def test_classes_are_named_or_found_in_the_attribute(scenes, tmp_path):
    assert [spec.name for spec in recipe(options_of(scenes)).data.classes] == ["building"]
    named = recipe(options_of(scenes, class_=("road", "roof"))).data.classes
    assert [(spec.id, spec.name) for spec in named] == [(1, "road"), (2, "roof")]
    for scene, kinds in zip(scenes, (["roof", None], ["pool", "roof"]), strict=True):
        boxes = [shapely.box(500000, 4999990, 500005, 4999999)] * 2
        gpd.GeoDataFrame({"kind": kinds}, geometry=boxes, crs="EPSG:32632").to_file(f"{scene}.gpkg")
    found = recipe(options_of(scenes, class_attribute="kind")).data
    assert [spec.name for spec in found.classes] == ["pool", "roof"]
    assert len({spec.color for spec in found.classes}) == 2
    assert found.scenes[1].class_attribute == "kind"


def test_what_says_nothing_is_no_class(scenes):
    for scene, kinds in zip(scenes, (["roof", "ignore"], ["Background", "roof"]), strict=True):
        boxes = [shapely.box(500000, 4999990, 500005, 4999999)] * 2
        gpd.GeoDataFrame({"kind": kinds}, geometry=boxes, crs="EPSG:32632").to_file(f"{scene}.gpkg")
    found = recipe(options_of(scenes, class_attribute="kind")).data
    assert [spec.name for spec in found.classes] == ["roof"]
    gpd.GeoDataFrame({"kind": ["ignore"] * 2}, geometry=boxes, crs="EPSG:32632").to_file(f"{scenes[0]}.gpkg")
    with pytest.raises(InvalidOption, match="--class-attribute kind: names no class"):
        recipe(options_of(scenes[:1], class_attribute="kind"))


def test_of_several_layers_of_labels_one_is_to_be_chosen(scenes):
    box = shapely.box(500000, 4999990, 500005, 4999999)
    for name in ("houses", "sheds"):
        frame = gpd.GeoDataFrame({"kind": [name]}, geometry=[box], crs="EPSG:32632")
        frame.to_file(f"{scenes[0]}.gpkg", layer=name)
    with pytest.raises(InvalidOption, match=r"polygons \(houses, sheds\); choose one: --labels-layer NAME"):
        recipe(options_of(scenes[:1], class_attribute="kind"))
    found = recipe(options_of(scenes[:1], class_attribute="kind", labels_layer="sheds")).data
    assert [spec.name for spec in found.classes] == ["sheds"]
    assert found.scenes[0].labels_layer == "sheds"


def test_a_mask_has_no_attribute(scenes):
    options = TrainOptions(scene=scenes[:1], labels=(Path(scenes[0]),), class_attribute="kind")
    with pytest.raises(InvalidOption, match=r"--class-attribute is for polygons, and .*a.tif is a mask"):
        recipe(options)


def test_scenes_of_one_name_are_told_apart_by_their_folders(tmp_path):
    paths = []
    for folder in ("x/d1", "y/d1", "d2"):
        (tmp_path / folder).mkdir(parents=True)
        paths.append(str(scene_of(tmp_path / folder / "scene.tif")))
    paths.append(str(scene_of(tmp_path / "other.tif")))
    names = ["x/d1/scene", "y/d1/scene", "d2/scene", "other"]
    assert scene_names(paths) == names
    made = recipe(options_of(tuple(paths), hold_out=("d2/scene",)))
    assert [scene.title for scene in made.data.scenes] == names
    assert made.validation.scenes == ("d2/scene",)
    assert scene_names(["https://h/a/s.tif", "b.tif"]) == ["s", "b"]


def test_bands_are_named_and_may_be_numbered(scenes):
    assert parse_named_bands(None) is parse_named_bands(" , ") is None
    assert parse_named_bands("nir, red") == parse_named_bands(["nir", "red"]) == (("nir", "red"), ())
    data = recipe(options_of(scenes, bands="red=4, green = 3,blue=2")).data
    assert data.bands == ("red", "green", "blue")
    assert [scene.bands for scene in data.scenes] == [(4, 3, 2)] * 2
    assert recipe(options_of(scenes)).data.scenes[0].bands is None


@pytest.mark.parametrize("text", ["3,2,1", "red=4,green", "red=0", "red=x", "=3", "4=red"])
def test_bands_that_are_no_names_are_refused(text):
    with pytest.raises(InvalidOption, match=r"--bands takes names, such as red,green,blue.* not '"):
        TrainOptions(bands=text)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "nothing to train on"),
        ({"scene": "a.tif"}, "1 --scene and 0 --labels"),
        ({"chips": "x", "resolution": 0.3}, "--hold-out"),
        ({"chips": "x", "hold_out": "a"}, "--resolution"),
        (
            {"chips": "x", "hold_out": ("a", "a"), "resolution": 1},
            "--hold-out: validation: two",
        ),
        ({"class_": ("a", "A")}, "--class a is given twice"),
        ({"class_": " "}, "--class "),
        ({"chip_pixel": "0"}, "--chip-pixel must be more than 0, not '0'"),
        ({"resolution": float("nan")}, "--resolution must be "),
        ({"learning_rate": "fast"}, "--learning-rate must be a number, not 'fast'"),
        ({"crop": 33}, "--crop must be a multiple of 32, not 33"),
        ({"encoder": "resnet19"}, "--encoder resnet19: no such encoder; did you mean 'resnet18'"),
        ({"arch": "unett"}, "--arch unett: no such architecture; did you mean 'unet'"),
        ({"loss": "ce+dise"}, "--loss 'dise' is no term of a loss; did you mean 'dice'"),
        ({"name": "häuser"}, "--name 'häuser' cannot be the name of a model"),
        ({"step": 5}, "--step: no such option; did you mean --steps"),
        ({"start": "a", "weights": "imagenet"}, "--start and --weights both say"),
    ],
)
def test_what_is_wrong_names_the_option(values, words):
    with pytest.raises(InvalidOption, match=words):
        recipe(TrainOptions(**values))


def test_options_change_a_recipe_and_errors_of_the_recipe_name_its_key(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("data: {chips: [{index: a.csv}]}\nvalidation: {blocks: {}}\nmodel: {encoder: resnet18}\n")
    made = recipe_of(TrainOptions(crop="64", steps=0, encoder="resnet34"), path, tmp_path / "model")
    assert (made.draws.crop, made.optimization.steps, made.model.encoder) == (64, 0, "resnet34")
    with pytest.raises(InvalidOption, match="--out is missing"):
        recipe_of(TrainOptions(), path)
    path.write_text(path.read_text().replace("resnet18", "resnet19"))
    with pytest.raises(InvalidOption, match=r"r\.yaml, line 3: model\.encoder: resnet19: no such encoder"):
        recipe_of(TrainOptions(), path, tmp_path / "model")


def test_a_misspelt_scene_is_not_trained_on(scenes):
    with pytest.raises(InvalidOption, match="--hold-out c: no scene is called so; there are a, b"):
        make_content(options_of(scenes, hold_out=("c",)))


def test_scenes_that_cannot_be_read_or_placed(tmp_path):
    with pytest.raises(UnreadableScene, match=r"none\.tif"):
        make_content(options_of((str(tmp_path / "none.tif"),)))
    bare = make_scene(tmp_path / "bare.tif", pixels=np.zeros((3, 9, 9), np.uint8), crs=None)
    with pytest.raises(InvalidOption, match="give it a CRS"):
        make_content(options_of((str(bare),)))


def test_a_recipe_and_data_flags_exclude_each_other(scenes):
    assert make_content(TrainOptions(), {"seed": 3}) == {"seed": 3}
    with pytest.raises(InvalidOption, match="either a recipe"):
        make_content(options_of(scenes), {"seed": 3})
