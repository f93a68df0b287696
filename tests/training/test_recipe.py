"""Recipes: what is accepted, where paths point, how a mistake is named, what makes a run another run."""

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_jsonable_python

from geoseg.errors import InvalidOption
from geoseg.training.recipe import Recipe, make_recipe, read_recipe

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
SHIPPED = PIPELINES / "train_buildings.yaml"
LEAST = {"out": "model", "data": {"chips": [{"index": "index.csv"}]}, "validation": {"scenes": ["a"]}}


def keys_below(section, path=()):
    """Yield the path of every section of a recipe, and the keys that it has there."""
    from geoseg.training.recipe import section_in

    yield path, sorted(section.model_fields)
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            many = "tuple" in str(field.annotation)
            yield from keys_below(inner, (*path, name, 0) if many else (*path, name))


SECTIONS = list(keys_below(Recipe))


def with_key(path, key):
    """Return a recipe with one key more at a path; sections on the way are made if they are missing."""
    content = deepcopy(LEAST)
    place = content
    for part in path:
        if isinstance(part, int):
            place.extend([{}] if not place else [])
            place = place[part]
        else:
            many = path[path.index(part) + 1 : path.index(part) + 2] == (0,)
            place[part] = place.get(part) or ([] if many else {})
            place = place[part]
    place[key] = 1
    return content


def test_shipped_recipe_is_valid():
    recipe = make_recipe(read_recipe(SHIPPED), SHIPPED.name)
    assert recipe.name == "buildings"
    assert len(recipe.validation.places) >= 6
    assert recipe.base == SHIPPED.parent
    assert recipe.out.parent.parent == SHIPPED.parents[1]


@pytest.mark.parametrize(("name", "tiers"), [("a", ("A",)), ("ab", ("A", "B"))])
def test_variants_differ_from_the_shipped_recipe_in_what_they_train_on(name, tiers):
    path = PIPELINES / f"train_buildings_{name}.yaml"
    recipe, shipped = (make_recipe(read_recipe(file), file.name) for file in (path, SHIPPED))
    assert (recipe.data.tiers, recipe.name, recipe.out.name) == (
        tiers,
        f"buildings-{name}",
        f"buildings-{name}",
    )
    free = {"name": True, "out": True, "data": {"tiers"}, "card": {"description"}}
    assert recipe.model_dump(exclude=free) == shipped.model_dump(exclude=free)


@given(st.data())
def test_a_misspelt_key_gets_the_nearest_one_at_every_depth(data):
    path, keys = data.draw(st.sampled_from(SECTIONS))
    key = data.draw(st.sampled_from(keys))
    at = data.draw(st.integers(0, len(key)))
    wrong = key[:at] + "x" + key[at:]
    with pytest.raises(InvalidOption) as caught:
        make_recipe(with_key(path, wrong), "r.yaml")
    where = ".".join(map(str, (*path, wrong)))
    assert str(caught.value) == f"r.yaml: {where}: no such key; did you mean {key!r}?"


@pytest.mark.parametrize("path", [path for path, _ in SECTIONS if path and 0 not in path])
def test_a_strange_key_gets_the_list(path):
    with pytest.raises(InvalidOption, match=r"no such key; there are "):
        make_recipe(with_key(path, "qqqqqqqq"), "r.yaml")


@pytest.mark.parametrize(
    ("section", "key", "value", "named"),
    [
        ("draws", "crop", 100, "draws.crop: "),
        ("draws", "negative_share", 1.0, "draws.negative_share: "),
        ("draws", "smallest_m", 5, "draws: needs smallest_m <= resolution_m"),
        ("optimization", "steps", -1, "optimization.steps: "),
        ("optimization", "learning_rate", ".inf", "optimization.learning_rate: "),
        ("optimization", "precision", "int4", "optimization.precision: "),
        ("optimization", "steps", "many", "optimization.steps: "),
        (None, "validation", {}, "validation: hold out"),
        (None, "data", {}, "data: give at least one scene"),
        (None, "draws", 5, "draws: "),
        (None, "model", "unet", "model: "),
        (None, 7, 1, "7: "),
    ],
)
def test_mistakes_are_named_in_one_line(recipe_path, recipe_dict, section, key, value, named):
    (recipe_dict[section] if section else recipe_dict)[key] = value
    recipe_path.write_text(yaml.safe_dump(recipe_dict))
    with pytest.raises(InvalidOption) as caught:
        make_recipe(read_recipe(recipe_path), "recipe.yaml")
    assert str(caught.value).startswith(f"recipe.yaml: {named}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["a: [", "!!python/object/apply:os.getcwd []", "- 1", "", "\x00", "[" * 1000]
)
def test_what_is_no_recipe_is_refused(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=r"recipe\.yaml"):
        read_recipe(path)


def test_a_recipe_changes_the_one_that_it_extends_key_by_key(recipe_path, recipe_dict):
    (recipe_path.parent / "b").mkdir()
    child = recipe_path.parent / "b" / "child.yaml"
    change = {"extends": f"../{recipe_path.name}", "out": "mine", "loss": {"gap_weight": 7.0}}
    child.write_text(yaml.safe_dump(change | {"data": {"bands": ["red"]}}))
    parent, recipe = (make_recipe(read_recipe(path), path.name) for path in (recipe_path, child))
    assert recipe.out == child.parent / "mine"
    assert recipe.base == recipe_path.parent  # the data of the other recipe lie where they lay
    assert (recipe.loss.gap_weight, recipe.data.bands) == (7.0, ("red",))
    changed = {"out": True, "name": True, "loss": {"gap_weight"}, "data": {"bands"}}
    assert recipe.model_dump(exclude=changed) == parent.model_dump(exclude=changed)


def test_a_recipe_that_extends_nothing_has_paths_beside_itself(recipe_path):
    text = recipe_path.read_text()
    recipe_path.write_text(text + "\nextends:\n")
    assert read_recipe(recipe_path)["base"] == str(recipe_path.parent)


def test_a_recipe_that_extends_may_have_its_own_data(recipe_path):
    (recipe_path.parent / "b").mkdir()
    child = recipe_path.parent / "b" / "child.yaml"
    child.write_text(yaml.safe_dump({"extends": f"../{recipe_path.name}", "base": "."}))
    assert make_recipe(read_recipe(child), "child.yaml").base == child.parent


@pytest.mark.parametrize(
    ("extends", "named"),
    [("a.yaml", "extends itself"), ("b.yaml", "extends itself"), (3, "name of a recipe")],
)
def test_what_cannot_be_extended(tmp_path, extends, named):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"extends": extends}))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"extends": "a.yaml"}))
    with pytest.raises(InvalidOption, match=named):
        read_recipe(tmp_path / "a.yaml")


def test_missing_and_too_large_files(tmp_path):
    with pytest.raises(InvalidOption, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "big.yaml").write_text("a: " + "x" * 1_000_001)
    with pytest.raises(InvalidOption, match="larger than"):
        read_recipe(tmp_path / "big.yaml")


def test_paths_are_relative_to_the_recipe(recipe_path, recipe_dict, monkeypatch, tmp_path_factory):
    (recipe_path.parent / "older").mkdir()
    for start, expected in (("older", str(recipe_path.parent / "older")), ("buildings", "buildings")):
        recipe_dict["model"] = {"start": start}
        recipe_path.write_text(yaml.safe_dump(recipe_dict))
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        recipe = make_recipe(read_recipe(recipe_path), "recipe.yaml")
        assert recipe.base == recipe_path.parent
        assert recipe.out == recipe_path.parent / "model"
        assert recipe.run_folder == recipe_path.parent / "model.training"
        assert recipe.model.start == (expected,)


@pytest.mark.parametrize(
    ("out", "name"), [("aa/bb", "bb"), ("aa/bb/..", "aa"), ("aa/bb/", "bb"), ("../xx", "xx")]
)
def test_a_model_is_called_like_its_folder(recipe_path, recipe_dict, out, name):
    recipe_path.write_text(yaml.safe_dump(recipe_dict | {"out": out, "name": ""}))
    recipe = make_recipe(read_recipe(recipe_path), "recipe.yaml")
    assert (recipe.name, recipe.out.name, recipe.run_folder.name) == (name, name, f"{name}.training")


def test_the_root_is_no_model():
    with pytest.raises(InvalidOption, match="out: / is no folder"):
        make_recipe(LEAST | {"out": "/"}, "r.yaml")


def test_numbers_that_yaml_takes_for_text_are_numbers(recipe_path):
    recipe_path.write_text(recipe_path.read_text().replace("warmup_steps: 2", "learning_rate: 1e-3"))
    assert make_recipe(read_recipe(recipe_path), "r").optimization.learning_rate == 0.001


def test_digest_tells_runs_apart_and_leaves_out_what_changes_no_step(recipe_dict):
    def digest(**changes):
        return make_recipe(recipe_dict | changes, "r").digest

    elsewhere = recipe_dict.get("optimization", {}) | {"device": "cpu", "workers": 3, "pictures_every": 7}
    same = {digest(), digest(name="other"), digest(out="elsewhere"), digest(card={"licence": "MIT"})}
    same.add(digest(optimization=elsewhere))
    assert len(same) == 1
    other = {digest(seed=4), digest(draws={"crop": 64}), digest(loss={"name": "ce"})}
    assert len(other | same) == 4


def keys_of(section, prefix=""):
    """Yield each key of a recipe with its default, as the documentation writes them."""
    from geoseg.training.recipe import section_in

    for name, field in section.model_fields.items():
        inner, many = section_in(field.annotation), "tuple[" in str(field.annotation)
        if inner is None or many:
            value = field.get_default(call_default_factory=True)
            plain = to_jsonable_python(value, fallback=str)
            yield f"{prefix}{name}", "needed" if field.is_required() else f"`{json.dumps(plain)}`"
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}[]." if many else f"{prefix}{name}.")


def test_the_documentation_lists_every_key_with_its_default():
    text = (SHIPPED.parents[1] / "docs" / "train.md").read_text(encoding="utf-8")
    rows = [
        row for row in re.findall(r"^\| `([\w.\[\]]+)` \| (.+?) \| (.+) \|$", text, re.M) if row[1] != "---"
    ]
    assert [row[:2] for row in rows] == list(keys_of(Recipe))


@pytest.mark.parametrize("name", ["2024_roofs", "x", "my model", "häuser", "m_unet++", "a" * 101, "roofs."])
def test_a_name_that_no_model_can_have_is_refused_at_once(name, recipe_dict):
    with pytest.raises(InvalidOption, match=r"cannot be the name of a model.*--name"):
        make_recipe(recipe_dict | {"name": "", "out": f"models/{name}"}, "options")
    assert make_recipe(recipe_dict | {"name": "roofs", "out": f"models/{name}"}, "options").name == "roofs"
