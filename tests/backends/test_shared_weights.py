"""ONNX files whose weights lie in the safetensors beside them: the same bits out of every runtime."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from safetensors.torch import load_file, save_file

from geoseg.backends import architectures
from geoseg.backends.export import INPUT, export_onnx
from geoseg.backends.families import make_config
from geoseg.backends.hardware import cpu_features
from geoseg.backends.quantize import quantize
from geoseg.backends.select import load_predictor
from geoseg.cli import run
from geoseg.errors import InvalidModel
from geoseg.models.bundle import CONFIG, INT8, ONNX, WEIGHTS, find_model, save_bundle
from geoseg.models.card_json import make_document
from tests.backends.conftest import SIGMOID, SPEC

pytestmark = pytest.mark.slow

NETWORKS = {"convolutions": ("unet", "test_efficientnet"), "linear layers": ("segformer", "mit_b0")}
TILE = 64


@pytest.fixture(scope="module", params=NETWORKS)
def made(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"), *NETWORKS[request.param])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("small"), *NETWORKS["convolutions"])


def make(folder, family, encoder, seed=1) -> SimpleNamespace:
    """Write weights, an ONNX file that refers to them, and `alone.onnx` that holds its own."""
    torch.manual_seed(seed)
    config = make_config(family, encoder, 3, 1)
    network = architectures.build(config)
    architectures.round_to_half(network)
    architectures.save(network, config, folder)
    export_onnx(network, folder / ONNX, 3, TILE, weights=folder / WEIGHTS)
    export_onnx(network, folder / "alone.onnx", 3, TILE)
    files = {name: folder / name for name in (WEIGHTS, CONFIG, ONNX)}
    return SimpleNamespace(folder=folder, network=network, files=files, alone=folder / "alone.onnx")


def save(made, folder):
    document = make_document("tiny", SPEC, SIGMOID, tile=TILE, overlap=16)
    return save_bundle(folder, document, made.files).path


def shift(path: Path, by: int) -> None:
    """Move all tensors of a safetensors file by some bytes."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = data[8:begin] + b" " * by
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[begin:])


def alter(path: Path, name: str) -> None:
    """Change one number of a tensor; the file keeps its length."""
    tensors = load_file(path)
    tensors[name].view(-1)[0] += 1
    save_file(tensors, path)


def tensors(path: Path, folder: Path | None = None) -> dict[str, np.ndarray]:
    return {
        tensor.name: numpy_helper.to_array(tensor, str(folder or path.parent))
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
    }


def referred(path: Path) -> dict[str, dict[str, str]]:
    return {
        tensor.name: {pair.key: pair.value for pair in tensor.external_data}
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }


def openvino_logits(path, image, precision):
    openvino = pytest.importorskip("openvino")
    if precision == "bf16" and "bf16" not in cpu_features():
        pytest.skip("this CPU does not compute in bf16")
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(path), "CPU", settings)(image)[0].copy()


def onnxruntime_logits(path, image, _precision):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {INPUT: image})[0]


RUNTIMES = pytest.mark.parametrize(
    ("logits", "precision"),
    [(openvino_logits, "f32"), (openvino_logits, "bf16"), (onnxruntime_logits, "f32")],
)
IMAGE = np.random.default_rng(2).uniform(-1, 1, (1, 3, 96, 64)).astype(np.float32)


@RUNTIMES
def test_every_runtime_gives_the_same_bits(made, logits, precision):
    expected = logits(made.alone, IMAGE, precision)
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(logits(made.files[ONNX], IMAGE, precision), expected)


@RUNTIMES
@pytest.mark.parametrize("by", [1, 2, 7])
def test_tensors_may_begin_at_any_byte(small, by, logits, precision, tmp_path):
    shutil.copy(small.files[WEIGHTS], tmp_path)
    shift(tmp_path / WEIGHTS, by)
    export_onnx(small.network, tmp_path / ONNX, 3, TILE, weights=tmp_path / WEIGHTS)
    offsets = {int(place["offset"]) % 8 for place in referred(tmp_path / ONNX).values()}
    assert {at % 2 for at in offsets} == {by % 2}
    expected = logits(small.alone, IMAGE, precision)
    np.testing.assert_array_equal(logits(tmp_path / ONNX, IMAGE, precision), expected)


def test_every_tensor_is_the_one_of_the_file_that_stands_alone(made):
    found, expected = tensors(made.files[ONNX]), tensors(made.alone)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_large_weights_are_not_stored_twice(made):
    large = {name for name, values in tensors(made.alone).items() if values.nbytes >= 512}
    halves = {name for name, values in tensors(made.alone).items() if values.dtype == np.float16}
    assert {name for name in halves if name in large} <= set(referred(made.files[ONNX]))
    saved = made.alone.stat().st_size - made.files[ONNX].stat().st_size
    stored = sum(values.nbytes for name, values in tensors(made.alone).items() if name in halves & large)
    assert saved > 0.9 * stored


def test_what_differs_by_a_byte_is_stored(small, tmp_path):
    name = max(tensors(small.alone).items(), key=lambda pair: pair[1].nbytes)[0].removesuffix(".half")
    shutil.copy(small.files[WEIGHTS], tmp_path)
    alter(tmp_path / WEIGHTS, name)
    export_onnx(small.network, tmp_path / ONNX, 3, TILE, weights=tmp_path / WEIGHTS)
    assert set(referred(small.files[ONNX])) - set(referred(tmp_path / ONNX)) == {f"{name}.half"}
    for key, values in tensors(small.alone).items():
        np.testing.assert_array_equal(tensors(tmp_path / ONNX)[key], values, err_msg=key)


@pytest.mark.parametrize("content", [b"", b"no safetensors", None])
def test_weights_that_cannot_be_read_are_refused(small, content, tmp_path):
    weights = tmp_path / WEIGHTS
    if content is not None:
        weights.write_bytes(content)
    with pytest.raises(InvalidModel, match=r"model\.safetensors: cannot be read as safetensors"):
        export_onnx(small.network, tmp_path / ONNX, 3, TILE, weights=weights)
    assert not (tmp_path / ONNX).exists()


def test_int8_is_the_same_file(small, tmp_path):
    pytest.importorskip("nncf")
    tiles = np.random.default_rng(3).uniform(-1, 1, (4, 3, TILE, TILE)).astype(np.float32)
    for name, path in (("alone", small.alone), ("beside", small.files[ONNX])):
        (tmp_path / name).mkdir()
        quantize(path, tiles, tmp_path / name / INT8[0])
    for name in INT8:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "beside" / name).read_bytes()


def test_a_folder_is_saved_checked_and_run(small, tmp_path, capsys):
    folder = save(small, tmp_path / "bundle")
    tile = IMAGE[:, :, :TILE, :TILE]
    predict = {
        name: load_predictor(find_model(str(folder)), backend=name, device="cpu", precision="f32")
        for name in ("openvino", "onnx", "pytorch")
    }
    for name in ("onnx", "pytorch"):
        np.testing.assert_allclose(predict[name](tile), predict["openvino"](tile).astype(float), atol=70)
    with pytest.raises(InvalidModel, match="give its folder"):
        find_model(str(folder / ONNX))
    assert run(["models", "check", str(folder)]) == 0, capsys.readouterr()


def cut(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def exchange(path: Path, other: Path) -> None:
    shutil.copy(other, path)


def remove(path: Path, _other: Path) -> None:
    path.unlink()


DAMAGES = pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"model\.safetensors: has \d+ bytes, .*onnx needs \d+; it is cut off or another file"),
        (exchange, r"model\.safetensors: is not the file that .*onnx was written with \(checksum\)"),
        (remove, r"onnx: its weights are in model\.safetensors, which is not beside it"),
    ],
)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Weights of the same network from another training: a file of the same length."""
    return make(tmp_path_factory.mktemp("other"), *NETWORKS["convolutions"], seed=9).files[WEIGHTS]


@DAMAGES
def test_a_folder_with_other_weights_is_refused(small, other, damage, message, tmp_path):
    folder = save(small, tmp_path / "bundle")
    assert (folder / WEIGHTS).stat().st_size == other.stat().st_size
    damage(folder / WEIGHTS, other)
    with pytest.raises(InvalidModel, match=message) as caught:
        find_model(str(folder))
    assert "\n" not in str(caught.value)


@DAMAGES
def test_a_bare_file_with_other_weights_is_refused(small, other, damage, message, tmp_path):
    shutil.copy(small.files[WEIGHTS], tmp_path)
    bare = shutil.copy(small.files[ONNX], tmp_path / "bare.onnx")
    assert find_model(str(bare)).card.digest != find_model(str(small.alone)).card.digest
    damage(tmp_path / WEIGHTS, other)
    with pytest.raises(InvalidModel, match=message) as caught:
        find_model(str(bare))  # although it was fine a moment ago
    assert "\n" not in str(caught.value)
