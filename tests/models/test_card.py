import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidModel
from geoseg.models.card import Head, card_of
from geoseg.models.card_json import make_document, parse_document, read_document, to_json
from geoseg.models.inputs import InputSpec
from geoseg.values import ClassInfo, ClassRule
from tests.runs import HOW

RGB = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BUILDING = Head((ClassInfo(1, "building", (228, 87, 46)),), (1,), "sigmoid", 0.4)
LAND = Head((ClassInfo(1, "road", (1, 2, 3)), ClassInfo(7, "water", (4, 5, 6))), (0, 1, 7), "softmax", 0.2)
MEASURED = {
    "geoseg:training_data": [{"name": "synthetic", "licence": "CC0-1.0", "note": "2000 scenes"}],
    "geoseg:accuracy": [{"metric": "F1", "value": 0.9, "where": "validation", "how": "IoU 0.5"}],
    "geoseg:resolution_range_m": [0.2, 0.6],
    "description": "Footprints of buildings",
}


def example() -> dict[str, Any]:
    document = make_document(
        "buildings", RGB, BUILDING, tile=512, overlap=128, resolution_m=0.3, extra=MEASURED
    )
    loaded: dict[str, Any] = json.loads(to_json(document))
    return loaded


def test_the_view_is_what_was_written() -> None:
    card = card_of(parse_document(json.dumps(example()), "model.json"), {})
    assert card.name == "buildings"
    assert card.inputs == replace(RGB, scale=1.0, mean=(127.5,) * 3, std=(127.5,) * 3)
    assert (card.classes, card.channels, card.activation) == (BUILDING.classes, (1,), "sigmoid")
    assert (card.tile, card.overlap, card.fixed_tile) == (512, 128, False)
    assert (card.resolution_m, card.resolution_range) == (0.3, (0.2, 0.6))
    assert card.rule == ClassRule((1,), 0.4)


def test_several_classes_keep_their_channels() -> None:
    document = make_document("land", RGB, LAND, tile=256, overlap=64)
    card = card_of(parse_document(to_json(document), "x"), {})
    assert Head(card.classes, card.channels, card.activation, card.threshold) == LAND


def test_json_round_trip_keeps_every_field_and_those_of_other_extensions() -> None:
    item = example() | {"collection": "models", "links": [{"rel": "self", "href": "./model.json"}]}
    item["properties"]["eo:cloud_cover"] = 3
    assert json.loads(to_json(parse_document(json.dumps(item), "x"))) == item


def test_what_mlm_demands_is_there() -> None:
    item = example()
    required = {"mlm:name", "mlm:architecture", "mlm:framework", "mlm:tasks", "mlm:input", "mlm:output"}
    assert required <= set(item["properties"])
    assert item["geometry"] is None
    assert item["type"] == "Feature"


@pytest.mark.parametrize(
    ("scaling", "mean", "std"),
    [
        ([{"type": "min-max", "minimum": 10, "maximum": 60}], (10.0,) * 3, (50.0,) * 3),
        ([{"type": "scale", "value": 255}], (0.0,) * 3, (255.0,) * 3),
        ([{"type": "offset", "value": 5}], (5.0,) * 3, (1.0,) * 3),
        (None, (0.0,) * 3, (1.0,) * 3),
    ],
)
def test_value_scaling(scaling: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    item = example()
    item["properties"]["mlm:input"][0]["value_scaling"] = scaling
    inputs = card_of(parse_document(json.dumps(item), "x"), {}).inputs
    assert (inputs.scale, inputs.mean, inputs.std) == (1.0, mean, std)


def test_a_background_may_be_listed_beside_the_only_class() -> None:
    item = example()
    item["properties"]["mlm:output"][0]["classification:classes"].insert(0, {"value": 0, "name": "none"})
    assert card_of(parse_document(json.dumps(item), "x"), {}).channels == (1,)


def test_the_digest_follows_weights_and_whatever_fixes_the_output() -> None:
    document = make_document("a1", RGB, BUILDING, tile=512, overlap=128)
    base = card_of(document, {"model.onnx": "00"})
    assert card_of(document, {"model.onnx": "00"}).digest == base.digest
    others = [
        card_of(document, {"model.onnx": "01"}),
        card_of(
            make_document("a1", RGB, replace(BUILDING, threshold=0.5), tile=512, overlap=128),
            {"model.onnx": "00"},
        ),
        card_of(
            make_document("a1", replace(RGB, mean=(0.4, 0.5, 0.5)), BUILDING, tile=512, overlap=128),
            {"model.onnx": "00"},
        ),
        card_of(make_document("a1", RGB, BUILDING, tile=256, overlap=128), {"model.onnx": "00"}),
        card_of(
            make_document("a1", RGB, BUILDING, tile=512, overlap=128, extra={"geoseg:min_area_m2": 12.0}),
            {"model.onnx": "00"},
        ),
        *(
            card_of(
                make_document("a1", RGB, BUILDING, tile=512, overlap=128, extra=extra), {"model.onnx": "00"}
            )
            for extra in (
                {"geoseg:min_confidence": 0.8},
                {"geoseg:confidence": {"slope": 2.4, "intercept": -4.7}},
                {"geoseg:split": {"gate": 0.2, "smallest_m2": 30.0, "margin_m": 10.0}},
                {"geoseg:split": {"gate": 0.1, "smallest_m2": 30.0, "margin_m": 10.0}},
            )
        ),
    ]
    assert len({card.digest for card in [base, *others]}) == 10
    assert [card.min_area_m2 for card in (base, others[4])] == [None, 12.0]
    assert [card.min_confidence for card in (base, others[5])] == [None, 0.8]
    assert [card.confidence and card.confidence.slope for card in (base, others[6])] == [None, 2.4]
    assert [card.split and card.split.gate for card in (base, *others[7:])] == [None, 0.2, 0.1]
    described = make_document("a1", RGB, BUILDING, tile=512, overlap=128, extra={"description": "x"})
    assert card_of(described, {"model.onnx": "00"}).digest == base.digest


def put(*path: str | int) -> Callable[[Any], Callable[[dict[str, Any]], None]]:
    def with_value(value: Any) -> Callable[[dict[str, Any]], None]:
        def change(item: Any) -> None:
            for key in path[:-1]:
                item = item[key]
            item[path[-1]] = value

        return change

    return with_value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("properties", "geoseg:tile")(100), "geoseg:tile: must be a multiple of 32 and at least 64"),
        (put("properties", "geoseg:tile")(32), "geoseg:tile: must be a multiple of 32 and at least 64"),
        (put("properties", "geoseg:tile")("512"), "geoseg:tile: Input should be a valid integer"),
        (put("properties", "geoseg:tyle")(512), "geoseg:tyle: is no field that geoseg knows"),
        (
            put("properties", "geoseg:overlap")(257),
            "geoseg:overlap: must be at most half of geoseg:tile, 256",
        ),
        (put("properties", "geoseg:threshold")(1.0), "geoseg:threshold: Input should be less than 1"),
        (put("properties", "geoseg:version")(2), "geoseg:version: 2 is not a version"),
        (put("properties", "geoseg:activation")("relu"), "geoseg:activation: Input should be 'sigmoid'"),
        (put("properties", "geoseg:resolution_m")(0), "geoseg:resolution_m: Input should be greater than 0"),
        (
            put("properties", "geoseg:resolution_range_m")([2, 1]),
            "geoseg:resolution_range_m: must be [finest",
        ),
        (put("properties", "geoseg:training_data")([{"name": "x"}]), "geoseg:training_data.0.licence: Field"),
        (put("properties", "mlm:name")("../x"), "mlm:name: String should match"),
        (put("properties", "mlm:tasks")(["detection"]), "mlm:tasks: has no semantic-segmentation"),
        (put("properties", "mlm:input")([]), "mlm:input: "),
        (put("properties", "mlm:input", 0, "bands")(["red"]), "mlm:input.0: its shape has 3 channels"),
        (
            put("properties", "mlm:input", 0, "input", "shape")([1, 3]),
            "mlm:input.0.input.shape.2: Field required",
        ),
        (
            put("properties", "mlm:input", 0, "input", "dim_order")(["batch", "height", "width", "channel"]),
            "mlm:input.0.input.dim_order.1: Input should be 'channel' or 'class'",
        ),
        (
            put("properties", "mlm:input", 0, "value_scaling")([{"type": "z-score"}] * 2),
            "mlm:input.0: value_scaling must have 1 or 3 entries",
        ),
        (
            put("properties", "mlm:input", 0, "value_scaling")(
                [{"type": "min-max", "minimum": 1, "maximum": 1}]
            ),
            "mlm:input.0: value_scaling must not divide",
        ),
        (put("properties", "bands", 0, "data_type")("int7"), "bands.0.data_type: Input should be 'uint8'"),
        (
            put("properties", "mlm:output", 0, "classification:classes")([{"value": 0, "name": "x"}]),
            "mlm:output.0: needs a class",
        ),
        (
            put("properties", "mlm:output", 0, "classification:classes")([{"value": 1, "name": "x"}] * 2),
            "mlm:output.0: two classes",
        ),
        (put("stac_extensions")([]), "stac_extensions: must name the MLM extension"),
        (
            put("stac_extensions")(["https://crim-ca.github.io/mlm-extension/v2.0.0/schema.json"]),
            "stac_extensions: must name the MLM extension once, in a version 1.x",
        ),
        (put("stac_version")("2.0.0"), "stac_version: String should match"),
        (put("assets")({"a": {}}), "assets.a.href: Field required"),
        (
            lambda item: item["properties"].update(
                {"mlm:tasks": ["instance-segmentation"], "geoseg:instances": HOW.model_dump(mode="json")}
            ),
            "geoseg:instances.labels: must be the values of all classes, [1]",
        ),
    ],
)
def test_one_line_names_file_and_field(change: Any, message: str) -> None:
    item = example()
    change(item)
    with pytest.raises(InvalidModel) as caught:
        parse_document(json.dumps(item), "model.json")
    text = str(caught.value)
    assert text.startswith(f"model.json: {message}")
    assert "\n" not in text


@pytest.mark.parametrize(
    "text", ["", "hello", "[]", "null", "[" * 200_000, '{"a":' * 100_000, b"\xff\xfe", '{"type": NaN}']
)
def test_what_is_no_card_is_one_line(text: str | bytes) -> None:
    with pytest.raises(InvalidModel, match=r"^model\.json: ") as caught:
        parse_document(text, "model.json")
    assert len(str(caught.value)) < 500


@given(st.data())
def test_no_damage_to_a_card_escapes_as_another_error(data: st.DataObject) -> None:
    item: Any = example()
    target: Any = item
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        inner = target[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        target = inner
    junk = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=9)
        | st.just([[]])
        | st.just({})
    )
    target[key] = data.draw(junk)
    with contextlib.suppress(InvalidModel):
        card_of(parse_document(json.dumps(item), "model.json"), {})


def test_odd_keys_stay_on_one_printable_line() -> None:
    item = example() | {"assets": {"a\n\x1b[31mb": {}}}
    with pytest.raises(InvalidModel) as caught:
        parse_document(json.dumps(item), "model.json")
    assert str(caught.value).isprintable()


def test_a_card_of_ten_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(example() | {"x": "y" * 10_000_000}))
    with pytest.raises(InvalidModel, match="larger than 1000 kB"):
        read_document(path)


def test_a_fixed_size_is_the_tile() -> None:
    document = make_document("fixed", RGB, BUILDING, tile=500, overlap=100, fixed_tile=True)
    assert card_of(document, {}).fixed_tile
    item = json.loads(to_json(document))
    item["properties"]["geoseg:tile"] = 512
    with pytest.raises(InvalidModel, match="geoseg:tile: must be 500, the fixed size in mlm:input"):
        parse_document(json.dumps(item), "model.json")
