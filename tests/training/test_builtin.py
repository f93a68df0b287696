"""The model that ships: small, the same in both files, honest about itself, and of use."""

import numpy as np
import pytest
import torch
from scenery import render_world

from geoseg.backends.architectures import load
from geoseg.backends.export import INPUT
from geoseg.models.bundle import ONNX, find_model
from geoseg.training.data.ground import PictureGround
from geoseg.training.validate import answers, score, total

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle():
    return find_model("buildings")


@pytest.fixture(scope="module")
def network(bundle):
    return load(bundle.path)


@pytest.fixture(scope="module")
def worlds():
    """Scenes of seeds that it was not trained on."""
    made = [render_world(seed, 512, 512, 0.3) for seed in (900_001, 900_002, 900_003)]
    return [PictureGround("synthetic", "w", (0.3, 0.3), world.rgb, world.labels) for world in made]


def test_it_is_small(bundle):
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) < 20_000_000


@pytest.mark.parametrize("size", [(1, 256, 256), (2, 320, 192)])
def test_onnx_and_safetensors_are_one_model(bundle, network, size):
    openvino = pytest.importorskip("openvino")
    batch, rows, cols = size
    image = torch.rand(batch, 3, rows, cols, generator=torch.Generator().manual_seed(0)) * 2 - 1
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(bundle.files[ONNX]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    with torch.inference_mode():
        expected = network(image).numpy()
    np.testing.assert_allclose(compiled({INPUT: image.numpy()})[0], expected, atol=1e-3, rtol=0)


def test_card_tells_terms_and_accuracy(bundle):
    properties = bundle.document.properties
    assert len(properties.training_data) > 10
    assert all(
        "tier" in (row.note or "") or row.name.startswith(("synthetic", "weights of"))
        for row in properties.training_data
    )
    assert "not commercially clean" in (properties.model_extra or {})["description"]
    metrics = {row.metric for row in properties.accuracy}
    assert {"pixel IoU", "object F1 at IoU 0.5", "false features per km²"} <= metrics
    kept_apart = ("never trained on", "held out of this run")
    assert all(row.how.startswith(kept_apart) for row in properties.accuracy)


def test_it_finds_buildings_in_rendered_scenes(bundle, network, worlds):
    card = bundle.card
    found = (
        score(answer, card.rule, card.resolution_m, objects=False)
        for answer in answers(network, worlds, card.resolution_m, card.activation)
    )
    assert total(found, card.rule).iou > 0.6
