"""Rendered worlds become chips like any other."""

import torch

from geoseg.training import worlds
from geoseg.training.recipe import Draws
from geoseg.training.samples import BUILDING


def test_worlds_are_chips_and_differ(monkeypatch):
    monkeypatch.setattr(worlds, "_SIDE", 160)
    first, second = worlds.render_worlds(7, Draws(worlds=2, resolution_m=0.4))
    for chip in (first, second):
        assert chip.pixels.shape == (3, 160, 160)
        assert chip.mask.dtype == torch.uint8
        assert set(chip.mask.unique().tolist()) <= {0, BUILDING}
        assert chip.gsd_m == 0.4
    assert not torch.equal(first.pixels, second.pixels)
    assert torch.equal(worlds.render_worlds(7, Draws(worlds=1, resolution_m=0.4))[0].pixels, first.pixels)


def test_none_are_rendered_unless_asked_for():
    assert worlds.render_worlds(7, Draws()) == []
