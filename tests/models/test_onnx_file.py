import contextlib
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from geoseg.errors import InvalidModel
from geoseg.models.bundle import find_model
from geoseg.models.onnx_file import External, external_files
from tests.models.onnx_graphs import external, model_bytes, outside_in, pointwise_bytes, save

PLACES = ["initializer", "attribute", "subgraph", "sparse"]
POINTWISE = pointwise_bytes()


def test_a_file_of_its_own_has_none() -> None:
    assert external_files(POINTWISE) == {}


@pytest.mark.parametrize("place", PLACES)
def test_external_weights_are_found_wherever_they_hide(place: str) -> None:
    assert list(external_files(model_bytes(outside_in(place, "m.data")))) == ["m.data"]


PLACE = st.tuples(st.sampled_from(["a.data", "b.data"]), st.integers(0, 1 << 40), st.integers(0, 1 << 40))


@given(st.lists(PLACE, max_size=6))
def test_a_file_must_reach_to_the_end_of_its_last_tensor(places: list[tuple[str, int, int]]) -> None:
    tensors = [referring(location=name, offset=at, length=size) for name, at, size in places]
    found = external_files(graph_bytes(tensors))
    assert {name: external.size for name, external in found.items()} == {
        name: max(at + size for other, at, size in places if other == name) for name, _, _ in places
    }


def test_keys_may_be_missing_or_come_twice() -> None:
    one = referring(location="a", checksum="AB")
    two = referring(offset=7, length=5, location="b", checksum="")
    two.external_data.add(key="location", value="a")
    two.external_data.add(key="length", value="9")
    found = external_files(graph_bytes([one, two]))
    assert found == {"a": External(16, frozenset({"ab"})), "b": External(16)}


@pytest.mark.parametrize("value", ["-1", "1e3", "", "x", "1" * 30])
def test_places_that_are_no_numbers_are_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    path = tmp_path / "m.onnx"
    path.write_bytes(graph_bytes([referring(location="a", offset=value, length=4)]))
    with pytest.raises(InvalidModel, match=r"m\.onnx: is no ONNX file: a tensor lies at"):
        find_model(str(path))


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


def test_other_weights_beside_a_file_make_another_model(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(POINTWISE)
    path, data = tmp_path / "m.onnx", tmp_path / "m.data"
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=0)
    before = find_model(str(path)).card.digest
    data.write_bytes(bytes(data.stat().st_size))  # no checksum is named, and the file has its length
    assert find_model(str(path)).card.digest != before


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


def referring(**entries: object) -> TensorProto:
    """Return a tensor that lies in another file, with these keys."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def graph_bytes(tensors: list[TensorProto]) -> bytes:
    return model_bytes(helper.make_graph([], "g", [], [], tensors))


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
