"""Recipes: what is accepted, and how a mistake is named."""

from pathlib import Path

import pytest
import yaml

from geoseg.errors import InvalidOption
from geoseg.training.recipe import Place, read_recipe

SHIPPED = Path(__file__).resolve().parents[2] / "pipelines/train_buildings.yaml"


def test_shipped_recipe_is_valid():
    recipe = read_recipe(SHIPPED)
    assert recipe.name == "buildings"
    assert recipe.data.is_absolute()
    assert len(recipe.validation) >= 6


def test_paths_are_relative_to_the_recipe(recipe_path):
    recipe = read_recipe(recipe_path)
    assert recipe.data.resolve() == recipe_path.parent
    assert recipe.output == recipe_path.parent / "run"


@pytest.mark.parametrize(
    ("section", "key", "value", "named"),
    [
        (None, "colour", 1, "colour"),
        ("draws", "crops", 256, "draws.crops"),
        ("draws", "crop", 100, "draws.crop"),
        ("draws", "negative_share", 1.0, "draws.negative_share"),
        ("optimization", "steps", 0, "optimization.steps"),
        ("optimization", "precision", "float16", "optimization.precision"),
        (None, "validation", [], "validation"),
        (None, "pretrained", "imagenet", "pretrained"),
    ],
)
def test_mistakes_are_named_in_one_line(recipe_path, recipe_dict, section, key, value, named):
    (recipe_dict[section] if section else recipe_dict)[key] = value
    recipe_path.write_text(yaml.safe_dump(recipe_dict))
    with pytest.raises(InvalidOption) as caught:
        read_recipe(recipe_path)
    assert f"recipe.yaml: {named}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "!!python/object/apply:os.getcwd []", "- 1", ""])
def test_what_is_no_recipe_is_refused(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=r"recipe\.yaml"):
        read_recipe(path)


def test_missing_file(tmp_path):
    with pytest.raises(InvalidOption, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")


def test_place_takes_chips_by_source_and_name():
    place = Place(name="east", source="town", stems=("t_1?_*", "t_20"))
    assert place.holds("town", "t_12_x")
    assert place.holds("town", "t_20")
    assert not place.holds("town", "t_2_x")
    assert not place.holds("city", "t_12_x")
