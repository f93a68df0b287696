"""The families by name: what is made, what is refused, the published heads."""

import json

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from geoseg.backends.architectures import FCN, HRNet, build
from geoseg.backends.families import FAMILIES, encoder_names, find_encoder, find_family, make_config
from geoseg.errors import GeosegError, InvalidModel, InvalidOption

pytestmark = pytest.mark.slow

NINE = {"unet", "unet++", "fcn", "pspnet", "deeplabv3", "deeplabv3+", "hrnet", "fpn", "segformer"}


def test_the_nine_families_of_the_field():
    assert set(FAMILIES) == NINE


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_family_builds_from_json_for_any_bands(arch):
    encoder = "test_resnet" if arch != "hrnet" else None
    bands, classes = [(1, 3), (5, 1)][len(arch) % 2]
    config = json.loads(json.dumps(make_config(arch, encoder, bands, classes)))
    network = build(config)
    with torch.inference_mode():
        assert network(torch.zeros(1, bands, 96, 64)).shape == (1, classes, 96, 64)


@pytest.mark.parametrize(
    ("written", "name"),
    [("UNet", "unet"), ("U-Net++", "unet++"), ("UnetPlusPlus", "unet++"), ("DeepLabV3Plus", "deeplabv3+")],
)
def test_names_as_people_write_them(written, name):
    assert find_family(written) is FAMILIES[name]


@pytest.mark.parametrize(
    ("given", "found"),
    [("resnet18", "tu-resnet18"), ("tu-resnet18", "tu-resnet18"), ("mit_b0", "mit_b0")],
)
def test_encoders_of_timm_get_their_prefix(given, found):
    assert find_encoder(given) == found


def test_the_names_of_encoders_are_those_of_the_packages():
    timms, smps = encoder_names()
    assert set(timm.list_models()) <= timms
    assert "tv_resnext50_32x4d" in timms, "an old name that timm still takes"
    assert all(timm.is_model(name) for name in timms)
    assert smps >= set(smp.encoders.get_encoder_names())


@pytest.mark.parametrize(
    ("arch", "encoder", "message"),
    [
        ("unett", "resnet18", "did you mean 'unet'?"),
        ("xyz", "resnet18", "there are unet, "),
        ("unet", "resnet19", "did you mean 'resnet18'?"),
        ("unet", "hf-hub:somebody/model", "no such encoder"),
        ("unet", "local-dir:/tmp", "no such encoder"),
        ("unet", "vit_tiny_patch16_224", "do not go together: .*downsampling"),
        ("unet", "swin_tiny_patch4_window7_224", "do not go together: .*height"),
        ("deeplabv3", "pvt_v2_b0", "do not go together: .*output_stride"),
        ("fcn", "vit_tiny_patch16_224", "do not go together"),
    ],
)
def test_what_does_not_fit_is_one_line(arch, encoder, message):
    with pytest.raises(InvalidOption, match=message) as caught:
        make_config(arch, encoder, 3, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("details", [{"decoder": 3}, {"classes": 0}, {"decoder_channels": [10**9] * 5}])
def test_details_are_checked(details):
    with pytest.raises(GeosegError):
        make_config("unet", "test_resnet", **{"bands": 3, "classes": 1} | details)


def test_details_replace_the_family_s():
    config = make_config("unet", "test_resnet", 3, 1, decoder_channels=[16, 8, 8, 8, 8])
    assert config["decoder_channels"] == [16, 8, 8, 8, 8]


@pytest.mark.parametrize("name", ["tu-hf-hub:somebody/model", "tu-local-dir:/tmp", "../x"])
@pytest.mark.parametrize("model_class", ["Unet", "FCN", "HRNet"])
def test_no_config_makes_timm_look_elsewhere(name, model_class):
    with pytest.raises(InvalidModel, match="is no name of an encoder"):
        build({"_model_class": model_class, "encoder_name": name})


def test_fcn_adds_the_scores_of_three_strides():
    network = FCN("tu-test_resnet", 3, 2).eval()
    for level, layer in enumerate(network.scores):
        torch.nn.init.constant_(layer.bias, 10.0**level)
    with torch.inference_mode():
        torch.testing.assert_close(network(torch.rand(1, 3, 64, 64)), torch.full((1, 2, 64, 64), 111.0))


def test_hrnet_takes_the_four_resolutions_as_they_are():
    network = HRNet("tu-hrnet_w18_small", 3, 1)
    assert network.encoder.out_channels[-4:] == [16, 32, 64, 128]
    assert network.head[0].in_channels == 240


@pytest.mark.parametrize("arch", ["deeplabv3", "deeplabv3+", "pspnet", "segformer"])
def test_enlarging_does_not_shift_the_borders(arch):
    network = build(make_config(arch, "test_resnet", 3, 1))
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Upsample) and m.mode == "bilinear"]
    assert layers
    assert not any(layer.align_corners for layer in layers)
    assert any(
        layer.align_corners
        for layer in build({"_model_class": FAMILIES[arch].model_class, "encoder_name": "resnet18"}).modules()
        if isinstance(layer, torch.nn.Upsample)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_the_mask_rcnns_of_torchvision_are_known_by_name(name: str) -> None:
    from torchvision.models import detection

    family = find_family(name)
    config = {"_model_class": family.model_class, "encoder_name": family.encoder, "in_channels": 3}
    with torch.device("meta"):
        ours = build({**config, "classes": 91, **family.details}).state_dict()
        theirs = getattr(detection, name)(weights=None, weights_backbone=None).state_dict()
    same = [
        {
            key: value.shape
            for key, value in tensors.items()
            if "backbone.body" not in key and "encoder" not in key
        }
        for tensors in (ours, theirs)
    ]
    assert same[0] == same[1]
    assert len(same[0]) > 40
