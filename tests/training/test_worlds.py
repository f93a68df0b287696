"""Rendered worlds become ground like any other."""

import numpy as np
import pytest
from rasterio.features import shapes

from geoseg.errors import InvalidOption
from geoseg.training.data import pictures
from geoseg.training.data.spec import ClassSpec, DataSpec, Draws, SceneSpec

ONE = (SceneSpec(scene="a.tif", labels=None),)


def data(**changes):
    return DataSpec(scenes=ONE, **changes)


def components(labels):
    return sum(value > 0 for _, value in shapes(labels, connectivity=4))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(pictures, "_SIDE", 192)


@pytest.mark.usefixtures("small")
def test_worlds_are_ground_and_differ():
    spec = data(classes=(ClassSpec(id=9, name="house", color=(1, 2, 3)),))
    draws = Draws(worlds=2, resolution_m=0.4, smallest_m=0.4)
    first, second = pictures.render_worlds(7, draws, spec)
    for ground in (first, second):
        pixels, labels = ground.read(ground.region, ground.shape)
        assert pixels.shape == (3, 192, 192)
        assert set(np.unique(labels)) <= {0, 9}
        assert ground.gsd_m == 0.4
    assert not np.array_equal(first.pixels, second.pixels)
    again = pictures.render_worlds(7, draws.model_copy(update={"worlds": 1}), spec)
    assert np.array_equal(again[0].pixels, first.pixels)


def test_touching_houses_are_separated(monkeypatch):
    monkeypatch.setattr(pictures, "_SIDE", 256)
    draws = Draws(worlds=6, resolution_m=0.3)
    joined = pictures.render_worlds(0, draws, data(touching_gap_m=0))
    parted = pictures.render_worlds(0, draws, data(touching_gap_m=0.5))
    counts = [
        [components(ground.read(ground.region, ground.shape)[1]) for ground in grounds]
        for grounds in (joined, parted)
    ]
    assert all(one <= other for one, other in zip(*counts, strict=True))
    assert sum(counts[1]) > sum(counts[0])
    # At the worlds' own pixels, without gaps, the polygons burn what the world says.
    for ground in joined:
        assert np.array_equal(ground.read(ground.region, ground.shape)[1], ground.labels)


def test_none_are_rendered_unless_asked_for():
    assert pictures.render_worlds(7, Draws(), data()) == []
    assert pictures.render_worlds(7, Draws(worlds=3, synthetic_share=0), data()) == []


def test_other_bands_are_refused():
    with pytest.raises(InvalidOption, match="nir"):
        pictures.render_worlds(7, Draws(worlds=1), data(bands=("nir", "red", "green")))
