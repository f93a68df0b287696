"""ONNX export: every runtime answers as torch does."""

import numpy as np
import onnx
import pytest
import torch

from geoseg.backends.architectures import build, round_to_half
from geoseg.backends.export import INPUT, OUTPUT, export_onnx
from geoseg.errors import UnwritableOutput

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip("onnxruntime")
SIZES = [(1, 64, 64), (3, 96, 160)]


def network(name="Unet", **arguments):
    torch.manual_seed(1)
    module = build({"_model_class": name, "encoder_name": "tu-test_efficientnet", **arguments})
    for layer in module.modules():
        # Norms as after training: with statistics that are not 0 and 1.
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    round_to_half(module)
    return module


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    module, path = network(classes=2, in_channels=4), tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(module, path, bands=4, tile=64)
    return module, path


def picture(batch, rows, cols, bands=4):
    return torch.rand(batch, bands, rows, cols, generator=torch.Generator().manual_seed(rows)) * 2 - 1


def logits(module, image):
    with torch.inference_mode():
        return module(image).numpy()


@pytest.mark.parametrize("size", SIZES)
def test_onnxruntime_agrees_at_any_size(exported, size):
    module, path = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run([OUTPUT], {INPUT: picture(*size).numpy()})[0]
    np.testing.assert_allclose(found, logits(module, picture(*size)), atol=1e-3, rtol=0)
    assert np.ptp(found) > 0.1


@pytest.mark.parametrize("size", SIZES)
def test_openvino_agrees_at_any_size(exported, size):
    openvino = pytest.importorskip("openvino")
    module, path = exported
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(picture(*size).numpy())[OUTPUT]
    np.testing.assert_allclose(found, logits(module, picture(*size)), atol=1e-3, rtol=0)


def test_interface_is_what_the_runtimes_expect(exported):
    graph = onnx.load(exported[1]).graph
    assert [value.name for value in graph.input] == [INPUT]
    assert [value.name for value in graph.output] == [OUTPUT]
    kinds = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert kinds == [onnx.TensorProto.FLOAT] * 2
    sizes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in graph.input
    ]
    assert sizes == [["batch", 4, "rows", "cols"]]


def test_weights_are_stored_in_half_precision(exported):
    module, path = exported
    numbers = sum(value.numel() for value in module.parameters())
    assert path.stat().st_size < 2.6 * numbers
    assert not list(path.parent.glob("*.data"))


def test_weights_that_half_precision_cannot_hold_are_kept(tmp_path):
    module = torch.nn.Conv2d(3, 64, 3, padding=1)
    torch.nn.init.uniform_(module.weight, 0.1, 0.2)
    export_onnx(module, tmp_path / "a.onnx", bands=3, tile=64)
    stored = {tensor.data_type for tensor in onnx.load(tmp_path / "a.onnx").graph.initializer}
    assert stored == {onnx.TensorProto.FLOAT}


def test_training_mode_is_given_back(tmp_path):
    module = network().train()
    export_onnx(module, tmp_path / "a.onnx", bands=3, tile=64)
    assert module.training
    module.eval()
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    image = picture(1, 64, 64, bands=3)
    np.testing.assert_allclose(session.run(None, {INPUT: image.numpy()})[0], logits(module, image), atol=1e-3)


def test_what_is_no_folder_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "no").touch()
    with pytest.raises(UnwritableOutput, match="is not a folder"):
        export_onnx(network(), tmp_path / "no" / "model.onnx", bands=3, tile=64)
    assert [*tmp_path.iterdir()] == [tmp_path / "no"]
