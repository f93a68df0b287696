import json
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from geoseg.errors import InvalidModel
from geoseg.models.bundle import find_model
from tests.models.onnx_graphs import outside_in, save, write_pointwise

DEEPNESS = {
    "model_type": json.dumps("Segmentor"),
    "class_names": json.dumps({"0": "_background", "1": "building", "2": "road"}),
    "resolution": json.dumps(30.0),
    "tiles_size": json.dumps(256),
    "tiles_overlap": json.dumps(20),
    "seg_thresh": json.dumps(0.3),
    "standardization_mean": json.dumps([0.485, 0.456, 0.406]),
    "standardization_std": json.dumps([0.229, 0.224, 0.225]),
}


def test_deepness_keys_make_the_card(tmp_path: Path) -> None:
    path = write_pointwise(tmp_path / "land cover.onnx", classes=3, end="Softmax", metadata=DEEPNESS)
    card = find_model(str(path)).card
    assert card.name == "land-cover"
    assert card.resolution_m == pytest.approx(0.3)
    assert (card.tile, card.overlap, card.threshold) == (256, 51, 0.3)
    assert card.channels == (0, 1, 2)
    assert [info.name for info in card.classes] == ["building", "road"]
    assert card.activation == "probability"
    assert card.inputs.mean == pytest.approx((0.485 * 255, 0.456 * 255, 0.406 * 255))
    assert card.inputs.std == pytest.approx((0.229 * 255, 0.224 * 255, 0.225 * 255))


def test_without_keys_the_graph_and_a_trial_run_decide(tmp_path: Path) -> None:
    card = find_model(str(write_pointwise(tmp_path / "m.onnx"))).card
    assert (card.tile, card.overlap, card.fixed_tile) == (512, 128, False)
    assert card.resolution_m is None
    assert card.inputs.bands == ("red", "green", "blue")
    assert (card.inputs.mean, card.inputs.std) == ((0.0,) * 3, (255.0,) * 3)
    assert (card.channels, card.activation, card.threshold) == ((1,), "sigmoid", 0.5)


@pytest.mark.parametrize(
    ("classes", "end", "activation"),
    [
        (1, None, "sigmoid"),
        (1, "Sigmoid", "probability"),
        (3, None, "softmax"),
        (3, "Softmax", "probability"),
        (3, "Sigmoid", "probability"),
    ],
)
def test_an_activation_is_never_applied_twice(
    tmp_path: Path, classes: int, end: str | None, activation: str
) -> None:
    card = find_model(str(write_pointwise(tmp_path / "m.onnx", classes=classes, end=end))).card
    assert card.activation == activation


def test_a_fixed_size_is_kept(tmp_path: Path) -> None:
    path = write_pointwise(tmp_path / "m.onnx", shape=(1, 3, 100, 100), metadata={"tiles_size": "512"})
    card = find_model(str(path)).card
    assert (card.tile, card.overlap, card.fixed_tile) == (100, 25, True)


def test_uint8_input_is_fed_as_it_is(tmp_path: Path) -> None:
    card = find_model(str(write_pointwise(tmp_path / "m.onnx", dtype=TensorProto.UINT8))).card
    assert (card.inputs.dtype, card.inputs.mean, card.inputs.std) == ("uint8", (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        (["background", "a", "b"], (0, 1, 2)),
        (["No data", "a", "b"], (0, 1, 2)),
        (["not_plane", "a", "b"], (0, 1, 2)),
        (["water", "a", "b"], (1, 2, 3)),
        (["notary", "a", "b"], (1, 2, 3)),
    ],
)
def test_channel_0_is_background_unless_its_name_says_otherwise(
    tmp_path: Path, names: list[str], channels: tuple[int, ...]
) -> None:
    metadata = {"class_names": str(dict(enumerate(names)))}  # Python's notation, as older exporters wrote
    path = write_pointwise(tmp_path / "m.onnx", classes=3, metadata=metadata)
    card = find_model(str(path)).card
    assert card.channels == channels
    assert [info.name for info in card.classes] == names[1 - channels[0] :]


def test_one_channel_is_named_by_its_class(tmp_path: Path) -> None:
    metadata = {"class_names": json.dumps({"0": "background", "1": "tree"})}
    card = find_model(str(write_pointwise(tmp_path / "m.onnx", metadata=metadata))).card
    assert [(info.id, info.name) for info in card.classes] == [(1, "tree")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": {"model_type": '"Detector"'}}, "is a Detector; geoseg runs segmentation"),
        ({"metadata": {"resolution": '"ten"'}}, "metadata resolution: 'ten' is no number"),
        ({"metadata": {"resolution": "-1"}}, "metadata resolution: -1 is no number of 0 or more"),
        ({"metadata": {"resolution": "__import__('os')"}}, "metadata resolution: cannot be read"),
        ({"metadata": {"standardization_mean": "[1, 2]"}}, "metadata standardization_mean: needs 3 numbers"),
        ({"metadata": {"class_names": '{"a": "b"}'}}, "metadata class_names: must map channel numbers"),
        ({"metadata": {"seg_thresh": "7"}}, "geoseg:threshold: Input should be less than 1"),
        ({"shape": (1, 64, 64, 3), "bands": 64}, "gives|input|run|needs"),
        ({"shape": ("n", "h", "w", 3)}, r"its channels come last \(NHWC\)"),
        ({"shape": ("n", "c", "h", "w")}, "its number of bands is not fixed"),
        ({"shape": (1, 3, 64, 96)}, "takes tiles of 64 × 96; geoseg needs square ones"),
        ({"classes": 3, "end": "ArgMax"}, r"gives class numbers \(int64\), not probabilities"),
        ({"end": "NaN"}, "gives NaN or infinity"),
        ({"end": "Shrink"}, "geoseg needs .* of the tile's size"),
        ({"dtype": TensorProto.INT64}, r"takes tensor\(int64\); geoseg feeds"),
    ],
)
def test_what_cannot_run_is_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write_pointwise(tmp_path / "m.onnx", **options)
    with pytest.raises(InvalidModel, match=message) as caught:
        find_model(str(path))
    assert "\n" not in str(caught.value)


def test_operators_of_unknown_domains_are_one_line(tmp_path: Path) -> None:
    graph = outside_in("initializer", "m.data")
    del graph.initializer[:], graph.node[:]
    graph.node.append(helper.make_node("Steal", ["x"], ["y"], domain="com.evil"))
    path = save(graph, tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match=r"ONNX Runtime cannot read it: .*") as caught:
        find_model(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x07", b"\x3a\x00"])
def test_what_is_no_onnx_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InvalidModel) as caught:
        find_model(str(tmp_path / "m.onnx"))
    assert "\n" not in str(caught.value)


def test_a_replaced_file_is_looked_at_again(tmp_path: Path) -> None:
    path = write_pointwise(tmp_path / "m.onnx")
    first = find_model(str(path)).card
    assert find_model(str(path)).card is first
    write_pointwise(path, end="Sigmoid")
    assert find_model(str(path)).card.activation == "probability"
