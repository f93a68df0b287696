from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from geoseg.errors import InvalidModel
from geoseg.models.onnx_file import external_files
from tests.models.onnx_graphs import external, outside_in, save, write_pointwise

PLACES = ["initializer", "attribute", "subgraph", "sparse"]


def test_a_file_of_its_own_has_none(tmp_path: Path) -> None:
    assert external_files(write_pointwise(tmp_path / "m.onnx")) == ()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "location", ["../../etc/passwd", "/etc/passwd", "sub/w.data", "..", "..\\w", "", "."]
)
def test_weights_outside_the_folder_are_refused(tmp_path: Path, place: str, location: str) -> None:
    path = save(outside_in(place, location), tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match="outside its own folder"):
        external_files(path)


@pytest.mark.parametrize("place", PLACES)
def test_weights_beside_the_file_are_found(tmp_path: Path, place: str) -> None:
    path = save(outside_in(place, "m.data"), tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match=r"its weights are in m\.data, which is not beside it"):
        external_files(path)
    (tmp_path / "m.data").write_bytes(b"\0" * 4)
    assert external_files(path) == ("m.data",)


def test_functions_are_searched(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["y"], value=external("/etc/passwd"))
    function = helper.make_function("own", "F", [], ["y"], [node], [helper.make_opsetid("", 17)])
    graph = outside_in("initializer", "m.data")
    (tmp_path / "m.data").write_bytes(b"\0" * 4)
    path = save(graph, tmp_path / "m.onnx", functions=[function])
    with pytest.raises(InvalidModel, match="outside its own folder"):
        external_files(path)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_one_line_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "m.onnx"
    path.write_bytes(content)
    try:
        external_files(path)
    except InvalidModel as error:
        assert "\n" not in str(error)  # noqa: PT017


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_file_ends_in_one_line_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    path = write_pointwise(tmp_path_factory.mktemp("any") / "m.onnx")
    content = bytearray(path.read_bytes())
    content[at % len(content)] = value
    path.write_bytes(content)
    try:
        external_files(path)
    except InvalidModel as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_nesting_has_an_end(tmp_path: Path) -> None:
    inner = b""
    for _ in range(200):  # graph → node → attribute → graph …
        for number in (6, 5, 1):
            inner = bytes([number << 3 | 2]) + varint(len(inner)) + inner
    (tmp_path / "m.onnx").write_bytes(bytes([7 << 3 | 2]) + varint(len(inner)) + inner)
    with pytest.raises(InvalidModel, match="nested too deeply"):
        external_files(tmp_path / "m.onnx")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
