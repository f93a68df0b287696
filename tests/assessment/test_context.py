"""Receptive fields and overlaps of networks whose answer is known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.assessment import context
from geoseg.assessment.context import TOLERANCE, Agreement, Context, measure_context, tiled
from geoseg.assessment.reach import (
    depends_on_extent,
    distances,
    field_by_disturbing,
    field_by_gradient,
    module_depends,
)
from geoseg.backends.architectures import build, save
from geoseg.backends.base import quantize
from geoseg.backends.export import AdaptivePool, export_onnx
from geoseg.backends.families import FAMILIES, make_config
from geoseg.errors import InvalidOption
from geoseg.models.bundle import find_model, save_bundle
from geoseg.models.card_json import amended, make_document
from geoseg.testing import PointwisePredictor, ReferencePredictor
from geoseg.values import Patch
from tests.backends.conftest import SIGMOID, SPEC, TILE

pytestmark = pytest.mark.slow


def box(radius, bands=3):
    """A network that averages a square round each pixel."""
    layer = torch.nn.Conv2d(bands, 1, 2 * radius + 1, padding=radius)
    torch.nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    torch.nn.init.zeros_(layer.bias)
    return torch.nn.Sequential(layer).eval().requires_grad_(False)


@dataclass(frozen=True)
class BoxPredictor:
    radius: int
    name: str = "box f32"
    device: str = "cpu"
    normalizes: bool = False

    def __call__(self, batch):
        with torch.inference_mode():
            return quantize(box(self.radius)(torch.from_numpy(batch.copy())).numpy())


def bundle_of(module, folder, tile=TILE):
    export_onnx(module, folder / "model.onnx", 3, tile)
    document = make_document("tiny", SPEC, replace(SIGMOID, activation="probability"), tile=tile, overlap=16)
    return save_bundle(folder / "bundle", document, {"model.onnx": folder / "model.onnx"})


@pytest.mark.parametrize("radius", [0, 3, 20])
def test_the_field_of_a_box_is_the_box(radius):
    tiles = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)
    field = field_by_gradient(box(radius), tiles)
    assert field.radii[1] == radius
    assert field.by_gradient


@pytest.mark.parametrize(("radius", "edge"), [(0, 15), (3, 15), (20, 31)])
def test_disturbing_finds_the_box_too(radius, edge):
    tiles = 0.5 + np.random.default_rng(0).normal(0, 0.5, size=(4, 3, 96, 96)).astype(np.float32)
    field = field_by_disturbing(BoxPredictor(radius), tiles)
    assert field.radii[1] == edge
    assert not field.by_gradient


def test_distances_are_those_of_squares():
    assert distances(3, 1, 1).tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert distances(4, 0, 3)[3, 0] == 3


@given(overlap=st.integers(0, 16), rows=st.integers(32, 80), cols=st.integers(32, 80))
def test_tiles_of_a_pointwise_model_leave_no_trace(overlap, rows, cols):
    pixels = np.random.default_rng(rows).random((1, rows, cols)).astype(np.float32)
    predict = PointwisePredictor()
    assert (tiled(predict, pixels, 32, overlap) == predict(pixels[None])[0]).all()


def test_tiles_of_a_model_that_sees_its_extent_do():
    pixels = np.random.default_rng(0).random((1, 96, 96)).astype(np.float32)
    predict = ReferencePredictor()
    assert (tiled(predict, pixels, 32, 16) != predict(pixels[None])[0]).any()


def measured(*moved, problem=""):
    found = tuple(Agreement(32 * n, 0, 0, 0, share) for n, share in enumerate(moved))
    return Context(256, None, None, found, problem)


def test_the_smallest_overlap_is_good_from_there_on():
    much, little = 2 * TOLERANCE, TOLERANCE
    assert measured(much, little, little).smallest_overlap == 32
    assert measured(little, much, little).smallest_overlap == 64
    assert measured(little, little).smallest_overlap == 0
    assert measured(much, little, much).smallest_overlap is None
    assert measured(little, problem="nothing was found").smallest_overlap is None
    assert measured().smallest_overlap is None


def test_a_local_model_needs_an_overlap_and_gets_it(tmp_path):
    found = measure_context(bundle_of(box(6), tmp_path, 128), scenery(256))
    assert found.depends_on_extent is False
    assert found.smallest_overlap == 32
    assert found.agreements[0].moved > TOLERANCE
    assert found.field.radii == (15, 15)


def scenery(side):
    """Blots of about as much light as dark: what a box calls a class and what not."""
    noise = np.random.default_rng(3).normal(size=(side // 16, side // 16))
    blots = np.where(np.kron(noise, np.ones((16, 16))) > 0, 235, 145).astype(np.uint8)
    return Patch(np.broadcast_to(blots, (3, side, side)), np.ones((side, side), bool))


def test_a_picture_without_a_class_says_nothing(tmp_path):
    bundle = bundle_of(box(1), tmp_path)
    dark = Patch(np.zeros((3, 2 * TILE, 2 * TILE), np.uint8), np.ones((2 * TILE, 2 * TILE), bool))
    found = measure_context(bundle, dark)
    assert found.smallest_overlap is None
    assert "nothing to compare" in found.problem


@pytest.mark.parametrize("shape", [(3, TILE, TILE), (1, 2 * TILE, 2 * TILE)])
def test_a_picture_that_does_not_fit_is_refused(tmp_path, shape):
    with pytest.raises(InvalidOption, match="needs 3 bands and 128 × 128 pixels"):
        measure_context(
            bundle_of(box(1), tmp_path), Patch(np.zeros(shape, np.uint8), np.ones(shape[1:], bool))
        )


def test_steps_end_with_all(tmp_path):
    steps = []
    measure_context(bundle_of(box(1), tmp_path), scenery(2 * TILE), on_step=steps.append)
    assert steps == sorted(steps)
    assert steps[-1] == 1


EXTENT = {"unet": False, "unet++": False, "fcn": False, "hrnet": False}
EXTENT |= dict.fromkeys(["pspnet", "deeplabv3", "deeplabv3+", "fpn", "segformer"], True)


@pytest.mark.parametrize(
    ("arch", "encoder", "depends"),
    [(arch, "mit_b0" if arch == "segformer" else "test_resnet", EXTENT[arch]) for arch in FAMILIES]
    + [
        ("unet", "mobilenetv3_small_050", True),
        ("unet", "convnext_atto", False),
        ("fcn", "convnextv2_atto", True),
    ],
)
def test_what_depends_on_the_extent(tmp_path, arch, encoder, depends):
    network = build(make_config(arch, encoder, 3, 1))
    assert module_depends(network, 3) is depends
    assert depends_on_extent(bundle_of(network, tmp_path)) is depends


def test_weights_alone_tell_too(tmp_path):
    config = make_config("unet", "mobilenetv3_small_050", 3, 1)
    save(build(config), config, tmp_path)
    document = make_document("tiny", SPEC, SIGMOID, tile=TILE, overlap=16)
    files = {name: tmp_path / name for name in ("config.json", "model.safetensors")}
    assert depends_on_extent(save_bundle(tmp_path / "bundle", document, files)) is True


@pytest.mark.parametrize("bins", [(1, 1), (2, 3), (6, 6)])
@pytest.mark.parametrize("size", [(6, 6), (8, 13), (64, 5)])
def test_pooling_by_products_is_pooling(bins, size):
    maps = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(AdaptivePool(bins)(maps), torch.nn.functional.adaptive_avg_pool2d(maps, bins))


def test_the_card_keeps_what_was_measured(tmp_path):
    bundle = bundle_of(box(1), tmp_path)
    found = Context(TILE, None, True, (Agreement(32, 0, 0, 0, 0),))
    document = amended(bundle.document, found.properties)
    assert document.properties.smallest_overlap == 32
    assert document.properties.depends_on_extent is True
    assert document.properties.receptive_field is None
    again = amended(document, replace(found, problem="x").properties)
    assert again.properties.smallest_overlap is None
    assert "geoseg:smallest_overlap" not in again.model_dump(by_alias=True, exclude_unset=True)["properties"]


def test_overlaps_are_multiples_of_the_stride():
    assert context.STEP == 32
    assert find_model("buildings").card.tile % context.STEP == 0
