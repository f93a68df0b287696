"""Recipe files: what they say together, what is taken from the environment, where a key stands."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.recipefiles import below, expand, merged, parse_change, place_of, read_layers

CONTENT = st.recursive(
    st.integers(0, 9), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
)
MAPPING = st.dictionaries(st.sampled_from("abc"), CONTENT, max_size=3)


@given(MAPPING, MAPPING)
def test_what_is_said_last_holds_and_nothing_is_changed_in_place(one, two):
    before = yaml.safe_dump([one, two])
    assert merged([merged([one, two]), two]) == merged([one, two])
    assert merged([one, {}]) == merged([{}, one]) == one
    assert yaml.safe_dump([one, two]) == before


def test_variables_are_taken_from_the_environment_at_any_depth(monkeypatch):
    monkeypatch.setenv("PLACE", "/maps")
    assert expand({"a": ["${PLACE}/x", 1], "b": "$PLACE ${PLACE}${PLACE}"}) == {
        "a": ["/maps/x", 1],
        "b": "$PLACE /maps/maps",
    }
    with pytest.raises(InvalidOption, match=r"^\$\{NOWHERE\}: the environment has no such variable"):
        expand("${NOWHERE}/x")


def test_a_variable_that_is_an_absolute_path_stays_in_front(monkeypatch):
    monkeypatch.setenv("WHOLE", "/maps")
    monkeypatch.setenv("PART", "maps")
    assert below(Path("/a"), "${WHOLE}/x") == "${WHOLE}/x"
    assert below(Path("/a"), "${PART}/x") == "/a/${PART}/x"
    assert below(Path("/a"), "../x") == "/x"


@pytest.mark.parametrize("text", ["", "a", "=1", "a..b=1", ".=1", "a=[1"])
def test_changes_that_are_none(text):
    with pytest.raises(InvalidOption, match=r"^--set "):
        parse_change(text)


def test_values_of_changes_are_yaml():
    assert parse_change("a.b=[1, x]") == {"a": {"b": [1, "x"]}}
    assert parse_change("a=b=c") == {"a": "b=c"}
    assert parse_change("since=2024-05-01") == {"since": "2024-05-01"}


def test_the_line_of_a_key_is_that_of_the_file_that_says_it_last(tmp_path):
    parent, child = tmp_path / "parent.yaml", tmp_path / "child.yaml"
    parent.write_text("a:\n  b: 1\n  c:\n    - x: 1\n    - y: 2\n")
    child.write_text("# nothing\nextends: parent.yaml\na:\n\n  b: 2\n")
    assert place_of(child, ["a", "b"]) == f"{child}, line 5"
    assert place_of(child, ["a", "b", "float"]) == f"{child}, line 5"
    assert place_of(child, ["a", "c", 1, "y"]) == f"{parent}, line 5"
    assert place_of(child, ["z"]) == str(child)
    assert place_of(child, ["a", "b"], ["a.b=3", "a.c=4"]) == "--set a.b=3"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: a is given twice"),
        ("a: {b: 1, b: 2}\n", "line 1: b is given twice"),
        ("a: &a [*a]\n", "keys and values"),
        ("- 1", "top level"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
        ("a: " + "[" * 1000, "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_what_is_no_recipe(tmp_path, text, reason):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InvalidOption) as caught:
        read_layers(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_aliases_that_repeat_one_another_end(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(InvalidOption, match="keys and values: not a recipe"):
        read_layers(path)
