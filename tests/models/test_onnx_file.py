import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from geoseg.errors import InvalidModel
from geoseg.models.bundle import find_model
from geoseg.models.onnx_file import external_files
from tests.models.onnx_graphs import external, model_bytes, outside_in, pointwise_bytes, save

PLACES = ["initializer", "attribute", "subgraph", "sparse"]
POINTWISE = pointwise_bytes()


def test_a_file_of_its_own_has_none() -> None:
    assert external_files(POINTWISE) == {}


@pytest.mark.parametrize("place", PLACES)
def test_external_weights_are_found_wherever_they_hide(place: str) -> None:
    assert list(external_files(model_bytes(outside_in(place, "m.data")))) == ["m.data"]


def test_functions_are_searched() -> None:
    node = helper.make_node("Constant", [], ["y"], value=external("/etc/passwd"))
    function = helper.make_function("own", "F", [], ["y"], [node], [helper.make_opsetid("", 17)])
    data = model_bytes(outside_in("initializer", "m.data"), functions=[function])
    assert list(external_files(data)) == ["/etc/passwd", "m.data"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "location", ["../../etc/passwd", "/etc/passwd", "sub/w.data", "..", "..\\w", "", "."]
)
def test_weights_outside_the_folder_are_refused(tmp_path: Path, place: str, location: str) -> None:
    path = save(outside_in(place, location), tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match="outside its own folder"):
        find_model(str(path))


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    path = save(outside_in("initializer", "m.data"), tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match=r"its weights are in m\.data, which is not beside it"):
        find_model(str(path))


@given(st.binary(max_size=300) | st.integers(0, len(POINTWISE)).map(lambda size: POINTWISE[:size]))
def test_other_bytes_raise_a_value_error_or_nothing(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        external_files(data)


@given(st.integers(0, len(POINTWISE) - 1), st.integers(0, 255))
def test_a_damaged_byte_raises_a_value_error_or_nothing(at: int, value: int) -> None:
    with contextlib.suppress(ValueError):
        external_files(POINTWISE[:at] + bytes([value]) + POINTWISE[at + 1 :])


def test_nesting_has_an_end() -> None:
    inner = b""
    for _ in range(200):  # graph, in an attribute, of a node, of a graph …
        for number in (6, 5, 1):
            inner = field(number, inner)
    with pytest.raises(ValueError, match="nested too deeply"):
        external_files(field(7, inner))


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
