from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.models.bundle import INT8, ONNX, Bundle, save_bundle
from geoseg.models.card import Head
from geoseg.models.card_json import make_document
from geoseg.models.inputs import InputSpec
from geoseg.values import ClassInfo

SPEC = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.5,) * 3, (0.5,) * 3)
SIGMOID = Head((ClassInfo(1, "building", (1, 2, 3)),), (1,), "sigmoid")
SOFTMAX = Head((ClassInfo(1, "road", (1, 2, 3)), ClassInfo(2, "water", (4, 5, 6))), (0, 1, 2), "softmax")
TILE = 64


def write_network(folder: Path, head: Head) -> Bundle:
    """Save a small U-Net with random weights and settled batch norms, as safetensors and ONNX."""
    import torch

    from geoseg.backends import architectures, export

    config = {
        "_model_class": "Unet",
        "encoder_name": "tu-tf_efficientnet_lite0",
        "in_channels": 3,
        "classes": len(head.channels),
        "encoder_depth": 3,
        "decoder_channels": [16, 8, 8],
    }
    torch.manual_seed(5)
    network = architectures.build(config)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # statistics that fit, else activations explode
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, 3, TILE, TILE))
    network.eval()
    source = folder / "source"
    source.mkdir(parents=True)
    architectures.save(network, config, source)
    export.export_onnx(network, source / "model.onnx", 3, TILE)
    document = make_document("tiny", SPEC, head, tile=TILE, overlap=16)
    files = {name: source / name for name in ("model.safetensors", "config.json", "model.onnx")}
    return save_bundle(folder / "bundle", document, files)


def with_int8(bundle: Bundle, folder: Path, loss: float | None) -> Bundle:
    """Add a file that stands for INT8 (it is the exact network) and says what it loses."""
    import openvino as runtime

    runtime.save_model(runtime.Core().read_model(str(bundle.files[ONNX])), str(folder / INT8[0]))
    fields = {"geoseg:int8_loss_iou_points": {"value": loss, "where": "here", "how": "so"}}
    extra = fields if loss is not None else {}
    document = make_document("tiny", SPEC, SIGMOID, tile=TILE, overlap=16, extra=extra)
    files = {**bundle.files, **{name: folder / name for name in INT8}}
    return save_bundle(folder / "bundle", document, files)


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_network(tmp_path_factory.mktemp("binary"), SIGMOID)


@pytest.fixture(scope="session")
def land(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_network(tmp_path_factory.mktemp("land"), SOFTMAX)


@pytest.fixture(scope="session")
def tiles() -> NDArray[np.float32]:
    """Five different tiles ``(5, 3, 64, 64)``."""
    return np.random.default_rng(1).normal(0, 1, (5, 3, TILE, TILE)).astype(np.float32)
