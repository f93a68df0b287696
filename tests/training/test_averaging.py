"""Averages of weights: what they follow, what they forget, where they lie."""

from types import SimpleNamespace

import lightning
import pytest
import torch

from geoseg.training.callbacks import Averaging, moving_average

pytestmark = pytest.mark.slow


def test_average_follows_and_forgets_its_start():
    average = moving_average(0.9)
    means = [torch.tensor(0.0), torch.zeros(3)]
    for update in range(1, 200):
        average(means, [torch.tensor(5.0), torch.arange(3.0)], torch.tensor(update))
    assert means[0].item() == pytest.approx(5.0, abs=1e-3)
    assert means[1].tolist() == pytest.approx([0, 1, 2], abs=1e-3)


def test_average_is_the_usual_one():
    mean = [torch.tensor(1.0)]
    moving_average(0.75)(mean, [torch.tensor(3.0)], 10**6)
    assert mean[0].item() == pytest.approx(0.75 * 1.0 + 0.25 * 3.0)


def test_counts_are_taken_as_they_are():
    counts = [torch.tensor(3), torch.tensor(70)]
    moving_average(0.9)(counts, [torch.tensor(4), torch.tensor(71)], torch.tensor(5))
    assert [count.item() for count in counts] == [4, 71]


def test_the_average_lies_where_the_network_is_trained():
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    averaging = Averaging(0.9)
    module = lightning.LightningModule()
    module.layer = torch.nn.Linear(2, 2)
    averaging.setup(trainer, module, "fit")
    assert averaging._average_model.module.layer.weight.device.type == "meta"
    assert module.layer.weight.device.type == "cpu"
