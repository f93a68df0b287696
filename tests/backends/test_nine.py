"""Each family from training to polygons: a few steps, saved, loaded, exported, tiled, three runtimes."""

import numpy as np
import pytest
import torch

from geoseg.backends import architectures
from geoseg.backends.base import CERTAIN
from geoseg.backends.export import export_onnx
from geoseg.backends.families import FAMILIES, make_config
from geoseg.backends.select import load_predictor
from geoseg.cli import run
from geoseg.models.bundle import Bundle, save_bundle
from geoseg.models.card import Head
from geoseg.models.card_json import make_document
from geoseg.models.inputs import InputSpec
from geoseg.testing import make_scene
from geoseg.values import ClassInfo, Patch

pytestmark = pytest.mark.slow

TILE, STEPS, SIDE = 64, 6, 160
HEAD = Head((ClassInfo(1, "building", (228, 87, 46)),), (1,), "sigmoid")
BANDS = dict(zip(FAMILIES, [1, 3, 4, 3, 1, 5, 4, 3, 6], strict=True))
ENCODERS = {"hrnet": "hrnet_w18_small", "segformer": "mit_b0"}


def picture(bands, seed):
    """Bright boxes on dark ground with noise, (bands, SIDE, SIDE), and where they are."""
    random = np.random.default_rng(seed)
    truth = np.zeros((SIDE, SIDE), bool)
    for _ in range(8):
        row, col = random.integers(0, SIDE - 40, 2)
        truth[row : row + 40, col : col + 30] = True
    pixels = np.where(truth, 190, 60) + random.normal(0, 15, (bands, SIDE, SIDE))
    return pixels.clip(0, 255).astype(np.uint8), truth


def spec_of(bands):
    names = ("red", "green", "blue") if bands == 3 else tuple(f"band_{n + 1}" for n in range(bands))
    return InputSpec(names, "uint8", 1 / 255, (0.5,) * bands, (0.25,) * bands)


def train(network, bands):
    """Take a few steps; return the losses."""
    pixels, truth = picture(bands, 0)
    prepared = torch.from_numpy(spec_of(bands).prepare(Patch(pixels, np.ones(truth.shape, bool))))
    target = torch.from_numpy(truth.astype(np.float32))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.5  # settled after few steps
    losses = []
    for step in range(STEPS):
        corners = [(32 * (step % 3), 0), (0, 64), (64, 32), (96, 96)]
        batch = torch.stack([prepared[:, r : r + TILE, c : c + TILE] for r, c in corners])
        wanted = torch.stack([target[r : r + TILE, c : c + TILE] for r, c in corners])[:, None]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(batch), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    network.eval()
    return losses


def save(network, config, folder, bands) -> Bundle:
    folder.mkdir()
    architectures.save(network, config, folder)
    export_onnx(network, folder / "model.onnx", bands, TILE)
    document = make_document("tiny", spec_of(bands), HEAD, tile=TILE, overlap=32)
    names = ("config.json", "model.safetensors", "model.onnx")
    return save_bundle(folder.parent / "bundle", document, {name: folder / name for name in names})


@pytest.mark.parametrize("arch", FAMILIES)
def test_each_family_learns_and_runs_everywhere(arch, tmp_path, capfd):
    bands = BANDS[arch]
    torch.manual_seed(0)
    config = make_config(arch, ENCODERS.get(arch, "test_resnet"), bands, 1)
    network = architectures.build(config)
    losses = train(network, bands)
    assert losses[-1] < losses[0]
    bundle = save(network, config, tmp_path / "source", bands)

    pixels, _ = picture(bands, 1)
    tiles = spec_of(bands).prepare(Patch(pixels, np.ones(pixels.shape[1:], bool)))[None, :, :128, :96]
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(tiles.copy()))).numpy()
    assert np.ptp(expected) > 0.02
    for backend in ("pytorch", "openvino", "onnx"):
        predict = load_predictor(bundle, backend=backend, device="cpu", precision="f32")
        np.testing.assert_allclose(predict(tiles) / CERTAIN, expected, atol=1e-3, rtol=0, err_msg=backend)

    scene = make_scene(tmp_path / "scene.tif", pixels=pixels)
    asked = ["--model", str(bundle.path), "--min-area", "0", "--precision", "f32", "--quiet"]
    files = ["--out", str(tmp_path / "out.gpkg"), "--raster", str(tmp_path / "out.tif")]
    assert run(["predict", str(scene), *files, "--raster-content", "probability-float32", *asked]) == 0
    assert_tiled_is_blended(bundle, pixels, tmp_path / "out.tif")


def assert_tiled_is_blended(bundle, pixels, path):
    """The run's raster is what torch gives tile by tile, blended."""
    import rasterio

    from geoseg.assessment.context import tiled

    prepared = bundle.card.inputs.prepare(Patch(pixels, np.ones(pixels.shape[1:], bool)))
    predict = load_predictor(bundle, backend="pytorch", device="cpu")
    with rasterio.open(path) as dataset:
        found = dataset.read()
    np.testing.assert_allclose(found, tiled(predict, prepared, TILE, 32) / CERTAIN, atol=1e-3, rtol=0)
