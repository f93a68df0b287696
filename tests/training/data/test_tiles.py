"""Held-out ground in tiles: each pixel counts once, and sees what lies around it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.training.data.sampler import region_on, validation_tiles
from geoseg.values import Window
from tests.training.data.fakes import ground, picture


@settings(max_examples=40)
@given(st.integers(3, 70), st.integers(3, 70), st.floats(0.2, 0.7), st.integers(5, 40), st.integers(0, 2))
def test_inner_windows_partition_a_picture(rows, cols, resolution, size, context):
    whole = picture(rows, cols)
    shape = whole.grid(resolution)
    seen = np.zeros(shape, int)
    pixels, labels = whole.read(Window(0, 0, *shape), shape)
    for tile in validation_tiles(whole, resolution, size, context):
        assert tile.pixels.shape == (3, size, size)
        assert tile.labels.shape == (size, size)
        seen[tile.place.slices] += 1
        assert np.array_equal(tile.pixels[:, *tile.inner.slices], pixels[:, *tile.place.slices])
        assert np.array_equal(tile.labels[tile.inner.slices], labels[tile.place.slices])
    assert (seen == 1).all()


def test_blocks_partition_the_scene_and_see_their_surroundings(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (3, 70, 90)).astype(np.uint8)
    whole = ground(tmp_path / "a.tif", image)
    cuts = [Window(0, 0, 31, 90), Window(31, 0, 39, 41), Window(31, 41, 39, 49)]
    shape = whole.grid(0.45)
    everything, _ = whole.read(Window(0, 0, *shape), shape)
    padded = np.pad(everything, ((0, 0), (40, 40), (40, 40)), mode="reflect")
    seen = np.zeros(shape, int)
    for cut in cuts:
        for tile in validation_tiles(replace(whole, region=cut), 0.45, 20, 6):
            seen[tile.place.slices] += 1
            top, left = tile.place.row - 6 + 40, tile.place.col - 6 + 40
            assert np.array_equal(tile.pixels, padded[:, top : top + 20, left : left + 20])
    assert (seen == 1).all()
    assert sum(np.prod(region_on(replace(whole, region=cut), shape).shape) for cut in cuts) == seen.size


def test_tiles_without_an_inside_are_refused():
    with pytest.raises(InvalidOption, match="have no inside"):
        next(validation_tiles(picture(), 0.3, 32, 16))
