from __future__ import annotations

import builtins
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.assessment import int8 as module
from geoseg.assessment.int8 import LabelledTile, ship_int8
from geoseg.backends import select
from geoseg.backends.hardware import LOSS_LIMIT, cpu_features
from geoseg.backends.openvino import OpenVinoPredictor
from geoseg.backends.quantize import quantize
from geoseg.errors import InvalidModel, InvalidOption, MissingExtra
from geoseg.models.bundle import INT8, ONNX, WEIGHTS, Bundle, save_bundle
from geoseg.models.card import Head
from geoseg.models.card_json import make_document
from geoseg.values import CERTAIN
from tests.backends.conftest import SIGMOID, SPEC, TILE
from tests.models.onnx_graphs import write_pointwise

pytestmark = pytest.mark.slow

Tiles = NDArray[np.float32]


def blocks(seed: int, count: int = 6, size: int = 64) -> Tiles:
    """Tiles of flat rectangles, ``(count, 3, size, size)``, in −1 … 1."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(-1, 1, (count, 3, size // 8, size // 8))
    return np.kron(coarse, np.ones((8, 8))).astype(np.float32)


def labelled(tiles: Tiles, onnx: Path, head: Head) -> list[LabelledTile]:
    """Tiles whose truth is what the network says in float32, known where it is sure."""
    values = OpenVinoPredictor(onnx, head.activation, precision="f32")(tiles)
    probability = values[:, 0] / CERTAIN
    truth, known = (probability > 0.5).astype(np.uint8), abs(probability - 0.5) > 0.1
    return [LabelledTile(*tile) for tile in zip(tiles, truth, known, strict=True)]


@pytest.fixture(scope="module")
def quantized(binary: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / INT8[0]
    quantize(binary.files[ONNX], blocks(1), path)
    return path


def weights(path: Path) -> list[NDArray[np.int8]]:
    import openvino

    model = openvino.Core().read_model(str(path))
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    return [node.data for node in constants if node.get_element_type() == openvino.Type.i8]


def test_weights_are_bytes_that_no_cpu_overflows_on(quantized: Path, binary: Bundle) -> None:
    found = weights(quantized)
    assert len(found) > 10  # the encoder's convolutions at least
    assert max(int(np.abs(array.astype(int)).max()) for array in found) in range(32, 65)
    assert quantized.with_suffix(".bin").stat().st_size < binary.files[WEIGHTS].stat().st_size


def test_the_first_convolution_alone_stays_in_float(quantized: Path, binary: Bundle) -> None:
    import openvino

    network = openvino.Core().read_model(str(binary.files[ONNX]))
    shapes = [
        list(node.input(1).get_shape())
        for node in network.get_ordered_ops()
        if node.get_type_name() == "Convolution"
    ]
    counted = [shape for shape in (list(array.shape) for array in weights(quantized)) if len(shape) == 4]
    assert sorted(counted) == sorted(shapes[1:])


def test_the_same_tiles_give_the_same_files(quantized: Path, binary: Bundle, tmp_path: Path) -> None:
    again = tmp_path / INT8[0]
    quantize(binary.files[ONNX], iter(blocks(1)), again)
    assert again.read_bytes() == quantized.read_bytes()
    assert again.with_suffix(".bin").read_bytes() == quantized.with_suffix(".bin").read_bytes()
    other = tmp_path / "other.xml"
    quantize(binary.files[ONNX], blocks(2), other)
    assert other.with_suffix(".bin").read_bytes() != quantized.with_suffix(".bin").read_bytes()


@pytest.mark.parametrize("shape", [(64, 64), (96, 64), (128, 160)])
def test_tiles_of_any_size_are_taken_and_the_answer_is_that_of_the_network(
    quantized: Path, binary: Bundle, shape: tuple[int, int]
) -> None:
    tiles = np.ascontiguousarray(blocks(3, 2, 160)[:, :, : shape[0], : shape[1]])
    exact = OpenVinoPredictor(binary.files[ONNX], "sigmoid", precision="f32")(tiles)
    small = OpenVinoPredictor(quantized, "sigmoid", precision="int8")(tiles)
    assert small.shape == exact.shape
    # Random weights are the hard case: a network that was trained loses 100 times less.
    assert np.corrcoef(small.ravel(), exact.ravel())[0, 1] > 0.7


def test_only_the_bare_network_is_quantized(tmp_path: Path) -> None:
    head = Head(SIGMOID.classes, (1,), "probability")
    onnx = write_pointwise(tmp_path / "m.onnx", end="Sigmoid")
    verdict = ship_int8(onnx, head, blocks(1), [], tmp_path, where="nowhere")
    assert not verdict.ship
    assert "it must end in logits" in verdict.reason
    assert not (tmp_path / INT8[0]).exists()


def test_a_good_int8_is_shipped_with_its_loss_and_runs_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "int8" not in cpu_features():
        pytest.skip("this CPU does not compute in INT8")
    monkeypatch.setattr(select, "cpu_features", lambda: cpu_features() - {"amx"} | {"vnni"})
    onnx = write_pointwise(tmp_path / "m.onnx")
    truth = labelled(blocks(9, 12), onnx, SIGMOID)
    verdict = ship_int8(onnx, SIGMOID, blocks(1), truth, tmp_path, where="12 tiles of blocks")
    assert verdict.ship, verdict.reason
    assert {"f32", "int8"} <= set(verdict.reports)
    loss = verdict.reports["int8"].loss_iou_points
    assert verdict.reports["f32"].iou == 1
    assert 0 <= loss <= LOSS_LIMIT
    document = make_document("tiny", SPEC, SIGMOID, tile=TILE, overlap=16, extra=verdict.properties)
    bundle = save_bundle(tmp_path / "bundle", document, {ONNX: onnx, **verdict.files})
    assert bundle.document.properties.int8_loss is not None
    assert bundle.document.properties.int8_loss.value == round(loss, 3)
    recipe = select.choose_predictor(bundle, device="cpu")
    assert recipe.name.startswith("openvino int8")
    assert "IoU points from f32 by the card" in recipe.reason
    direct = OpenVinoPredictor(bundle.files[INT8[0]], "sigmoid", precision="int8")
    np.testing.assert_array_equal(recipe.load()(blocks(4)), direct(blocks(4)))


@pytest.mark.parametrize("better", [False, True])
def test_an_int8_that_is_another_network_is_not_shipped_better_or_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    import openvino

    def swap(onnx: Path, _: object, path: Path) -> None:
        """Write a network that gives the opposite."""
        model = openvino.Core().read_model(str(onnx))
        output = openvino.opset13.negative(model.outputs[0].get_node().input_value(0))
        openvino.save_model(openvino.Model([output], model.get_parameters()), str(path))

    monkeypatch.setattr(module, "quantize", swap)
    onnx = write_pointwise(tmp_path / "m.onnx")
    truth = labelled(blocks(9), onnx, SIGMOID)
    if better:  # what is said to be true is what the other network gives
        truth = [replace(tile, truth=1 - tile.truth) for tile in truth]
    verdict = ship_int8(onnx, SIGMOID, blocks(1), truth, tmp_path, where="6 tiles of blocks")
    assert not verdict.ship
    assert not verdict.files
    assert not verdict.properties
    assert "more than 0.5 from f32, not shipped" in verdict.reason
    loss = verdict.reports["int8"].loss_iou_points
    assert loss < -50 if better else loss > 50


def test_a_loss_that_could_not_be_measured_is_no_small_loss(tmp_path: Path) -> None:
    onnx = write_pointwise(tmp_path / "m.onnx")
    empty = [LabelledTile(tile, np.zeros((64, 64), np.uint8), np.ones((64, 64), bool)) for tile in blocks(9)]
    assert not ship_int8(onnx, SIGMOID, blocks(1), empty, tmp_path, where="empty ground").ship


def test_what_cannot_be_quantized_is_one_line(tmp_path: Path) -> None:
    onnx = write_pointwise(tmp_path / "m.onnx")
    target = tmp_path / INT8[0]
    with pytest.raises(InvalidOption, match="needs calibration tiles"):
        quantize(onnx, [], target)
    with pytest.raises(InvalidOption, match="all of one shape"):
        quantize(onnx, [blocks(1)[0], blocks(1, 1, 32)[0]], target)
    with pytest.raises(InvalidModel, match=r"m\.onnx: cannot be quantized") as caught:
        quantize(onnx, [np.zeros((5, 64, 64), np.float32)], target)
    assert "\n" not in str(caught.value)
    (tmp_path / "bad.onnx").write_bytes(b"hello")
    with pytest.raises(InvalidModel, match=r"bad\.onnx: cannot be quantized"):
        quantize(tmp_path / "bad.onnx", blocks(1), target)
    assert not target.exists()


def test_without_nncf_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name == "nncf":
            raise ImportError("No module named 'nncf'", name="nncf")
        return usual(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'geoseg\[train\]'"):
        quantize(write_pointwise(tmp_path / "m.onnx"), blocks(1), tmp_path / INT8[0])


def test_nothing_is_printed_and_nothing_reported(tmp_path: Path) -> None:
    onnx = write_pointwise(tmp_path / "m.onnx")
    code = f"""
import numpy, os
from pathlib import Path
from geoseg.backends.quantize import quantize
quantize(Path({str(onnx)!r}), numpy.random.default_rng(0).random((2, 3, 64, 64), "float32"),
         Path({str(tmp_path / INT8[0])!r}))
from nncf.telemetry import telemetry
assert "Mock" in type(telemetry).__name__, type(telemetry)
assert "NNCF_CI" not in os.environ
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
