"""Depthwise convolutions in float32: the same network, computed otherwise."""

import copy

import pytest
import torch

from geoseg.training.network import depthwise_in_float32, make_network
from geoseg.training.recipe import ModelSpec

pytestmark = pytest.mark.slow

SPEC = ModelSpec(arch="unet", encoder="test_efficientnet", details={"decoder_channels": [16, 8, 8, 8, 8]})


def depthwise(network):
    return [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.groups == m.in_channels > 1]


def test_only_depthwise_convolutions_leave_bfloat16_and_weights_keep_their_names():
    network = make_network(SPEC, 3, 1, seed=0).network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    seen = {}
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, _, output: seen.__setitem__(module, output.dtype))
    depthwise_in_float32(network)
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(2, 3, 64, 64)).sum().backward()
    apart = depthwise(network)
    assert apart
    assert {seen[module] for module in apart} == {torch.float32}
    assert {dtype for module, dtype in seen.items() if module not in apart} == {torch.bfloat16}
    assert all(module.weight.grad is not None for module in apart)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(after[key].shape == value.shape for key, value in before.items())


def test_without_autocast_nothing_changes():
    network = make_network(SPEC, 3, 1, seed=0).network.eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(image)
        depthwise_in_float32(network)
        assert torch.equal(network(image), expected)


def test_a_copy_has_weights_of_its_own():
    network = make_network(SPEC, 3, 1, seed=0).network.eval()
    depthwise_in_float32(network)
    twin = copy.deepcopy(network)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(image)
        for module in depthwise(twin):
            module.weight.zero_()
        assert torch.equal(network(image), expected)
        assert not torch.equal(twin(image), expected)
