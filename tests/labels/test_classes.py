"""How a word names a class: the same for training and evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.labels.classes import UNKNOWN, ClassTable, translate

TABLE = ClassTable.named({1: "Building", 3: "road"})


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        *((word, 1) for word in ("Building", "building", " BUILDING\t", "1", 1, 1.0, np.float32(1))),
        *((word, 3) for word in ("road", "Road ", 3, "3")),
        *((word, 0) for word in ("background", "Background ", 0, "0", 0.0)),
        *((word, UNKNOWN) for word in ("ignore", " IGNORE")),
        *((word, None) for word in ("", "  ", None, float("nan"), "null", 2, 1.5, "roads")),
    ],
)
def test_blanks_and_case_do_not_count(value: object, meaning: int | None) -> None:
    assert TABLE.find(value) == meaning


def test_a_name_as_it_is_written_comes_first_then_any_case_then_the_id() -> None:
    table = ClassTable.named({1: "a", 2: "A", 3: "1", 4: "background"})
    assert [table.find(word) for word in ("a", "A", "1", 4, "background", 0)] == [1, 2, 3, 4, 4, 0]


@given(st.lists(st.sampled_from(["road", "Road", " road", "ROAD ", "", " ", None, "house", "2", 2.0])))
def test_no_spelling_makes_a_second_class(values: list[object]) -> None:
    table, added = ClassTable(()).extended(values)
    assert len({name.casefold() for name in added}) == len(added) == len(table.classes)
    known = [value for value in values if str(value or "").strip()]
    assert (table.look_up(known, "truth") > 0).all()


def test_what_names_no_class_gets_one_line_with_the_nearest() -> None:
    with pytest.raises(InvalidOption, match=r"a: 'raod' is no class; did you mean 'road'\?$"):
        TABLE.look_up(["road", "raod"], "a")
    with pytest.raises(InvalidOption, match=r"a: 'null' is no class \(2 features have no value\); there are"):
        TABLE.look_up(["", None, "road"], "a")
    with pytest.raises(InvalidOption, match=r"say what it means: --values raod=CLASS"):
        TABLE.look_up(["raod"], "a", advice="--values")
    given_ = TABLE.meanings({"RAOD": "road", "null": "ignore"}, "--values")
    assert TABLE.look_up(["raod", None, " Raod"], "a", given_).tolist() == [3, UNKNOWN, 3]


def test_an_id_stands_for_its_class_unless_another_value_is_named_for_it() -> None:
    assert TABLE.numbers({}, "x") == {0: 0, 1: 1, 3: 3}
    assert TABLE.numbers({255: "building", 127: "ignore"}, "x") == {0: 0, 3: 3, 255: 1, 127: UNKNOWN}
    with pytest.raises(InvalidOption, match="whole numbers"):
        TABLE.numbers({"a": "road"}, "x")


@given(st.sampled_from(["uint8", "int16", "float32"]), st.lists(st.sampled_from([0, 1, 7, 255])))
def test_values_of_any_type_are_translated_alike(dtype: str, values: list[int]) -> None:
    meanings = {0: 0, 1: 4, 255: UNKNOWN}
    array = np.array(values, dtype)
    if 7 in values:
        with pytest.raises(ValueError, match=r"^7$"):
            translate(array, meanings)
    else:
        assert translate(array, meanings).tolist() == [meanings[value] for value in values]
