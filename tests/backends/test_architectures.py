"""Networks from a config: what is built, what is refused, what a file holds."""

import json

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from geoseg.backends.architectures import ARCHITECTURES, build, compact, load, round_to_half, save
from geoseg.errors import InvalidModel

pytestmark = pytest.mark.slow

TINY = {"_model_class": "Unet", "encoder_name": "tu-test_efficientnet", "decoder_channels": [16, 8, 8, 8, 8]}
RESNET_ONLY = ("pan", "deeplabv3")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("a network was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    torch.manual_seed(0)


@pytest.fixture
def folder(tmp_path):
    """A folder as the library itself writes it."""
    network = smp.Unet("tu-test_efficientnet", encoder_weights=None, decoder_channels=(16, 8, 8, 8, 8))
    network.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_logits_of_the_size_of_its_input(name):
    encoder = "resnet18" if name in RESNET_ONLY else "tu-test_efficientnet"
    network = build({"_model_class": name, "encoder_name": encoder, "classes": 3, "in_channels": 4})
    assert not network.training
    with torch.inference_mode():
        assert network(torch.zeros(1, 4, 128, 160)).shape == (1, 3, 128, 160)


@pytest.mark.parametrize("name", ["Unet", "unet", "UNET", "unet++", "DeepLabV3+", "UnetPlusPlus"])
def test_names_as_people_write_them(name):
    assert build(TINY | {"_model_class": name, "decoder_channels": 64 if "3" in name else [8] * 5})


@pytest.mark.parametrize("extra", ["imagenet", "advprop", None])
def test_encoder_weights_are_never_asked_for(extra):
    assert build({"_model_class": "Unet", "encoder_name": "resnet18", "encoder_weights": extra})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_model_class": None}, "_model_class is missing"),
        ({"_model_class": "os.system"}, "'os.system' is not known"),
        ({"_model_class": "__class__"}, "not known"),
        ({"weights": "x"}, "unknown key 'weights'"),
        ({"encoder_name": "no_such_encoder"}, "cannot be built"),
        ({"encoder_name": "tu-no_such_encoder"}, "cannot be built"),
        ({"encoder_name": 3}, "encoder_name 3 is no name"),
        ({"activation": "sigmoid"}, "activation"),
        ({"aux_params": {"classes": 2}}, "aux_params"),
        ({"classes": 0}, "classes is 0"),
        ({"classes": 10**9}, "classes"),
        ({"in_channels": "3"}, "in_channels"),
        ({"decoder_channels": [8]}, "cannot be built"),
        ({"decoder_channels": [10**9] * 5}, "decoder_channels"),
    ],
)
def test_bad_configs_get_one_line(change, message):
    with pytest.raises(InvalidModel, match=message) as caught:
        build(TINY | change)
    assert "\n" not in str(caught.value)


def test_library_folder_loads_and_answers_alike(folder):
    picture = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = smp.from_pretrained(folder).eval()(picture)
        assert torch.equal(load(folder)(picture), expected)


def test_saved_folder_loads_in_the_library(folder, tmp_path):
    network = load(folder)
    round_to_half(network)
    copy = tmp_path / "copy"
    copy.mkdir()
    save(network, json.loads((folder / "config.json").read_text()), copy)
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(smp.from_pretrained(copy).eval()(picture), network(picture))
        assert torch.equal(load(copy)(picture), network(picture))
    sizes = [(place / "model.safetensors").stat().st_size for place in (folder, copy)]
    assert sizes[1] < 0.6 * sizes[0]
    assert all(value.dtype == torch.float32 for value in load(copy).parameters())


def test_rounding_changes_little_and_only_once():
    network = build(TINY)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    round_to_half(network)
    after = {key: value.clone() for key, value in network.state_dict().items()}
    for key, value in after.items():
        torch.testing.assert_close(value, before[key], rtol=2**-11, atol=1e-7)
    round_to_half(network)
    assert all(torch.equal(value, after[key]) for key, value in network.state_dict().items())


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5))
def test_compact_loses_nothing(values):
    tensor = torch.tensor(values, dtype=torch.float32)
    assert torch.equal(compact(tensor).float(), tensor)


def test_compact_halves_what_fits():
    assert compact(torch.tensor([0.5, -2.0])).dtype == torch.float16
    assert compact(torch.tensor([0.1])).dtype == torch.float32
    assert compact(torch.tensor([3])).dtype == torch.int64


def test_files_that_do_not_fit_are_named(folder):
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    key = min(tensors)
    save_file({name: value for name, value in tensors.items() if name != key}, weights)
    with pytest.raises(InvalidModel, match=rf"model\.safetensors: does not fit .* 1 tensors differ: {key}"):
        load(folder)
    save_file(tensors | {key: torch.zeros(1, 2, 3)}, weights)
    with pytest.raises(InvalidModel, match="1 tensors differ"):
        load(folder)
    weights.write_bytes(b"\x80\x02not tensors")
    with pytest.raises(InvalidModel, match="cannot be read as safetensors"):
        load(folder)
    weights.unlink()
    with pytest.raises(InvalidModel, match="cannot be read as safetensors"):
        load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "3", ""])
def test_config_that_is_no_object(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(InvalidModel, match=r"config\.json"):
        load(folder)
