from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoseg.raster.pixels import apply_stretch
from geoseg.raster.scene import estimate_stretch, open_scene
from geoseg.testing import make_scene


def test_limits_are_percentiles_of_the_valid_pixels(tmp_path):
    pixels = np.arange(2 * 100 * 100, dtype=np.uint16).reshape(2, 100, 100)
    valid = np.ones((100, 100), bool)
    valid[:50] = False
    scene = open_scene(make_scene(tmp_path / "s.tif", pixels=pixels, valid=valid, validity="mask"))
    expected = np.array([np.percentile(pixels[band][valid], (1, 99)) for band in (1, 0)])
    assert np.array(estimate_stretch(scene, [2, 1], (1, 99))) == pytest.approx(expected)


def test_the_same_limits_every_time(tmp_path, monkeypatch):
    path = make_scene(tmp_path / "s.tif", size=(600, 900), dtype="uint16", validity="nodata")
    monkeypatch.setattr("geoseg.raster.scene.sample.__kwdefaults__", {"budget": 1 << 18})
    assert estimate_stretch(open_scene(path), [1]) == estimate_stretch(open_scene(path), [1])


def test_a_scene_that_is_nearly_all_nodata(tmp_path, monkeypatch):
    pixels = np.full((1, 600, 900), 0, np.uint16)
    pixels[0, 0, 0], pixels[0, 599, 899] = 1000, 3000
    scene = open_scene(make_scene(tmp_path / "s.tif", pixels=pixels, valid=pixels[0] > 0, validity="nodata"))
    monkeypatch.setattr("geoseg.raster.scene.sample.__kwdefaults__", {"budget": 1 << 17})
    assert estimate_stretch(scene, [1], (0, 100)) == ((1000, 3000),)


def test_a_scene_without_data_has_some_limits(tmp_path):
    path = make_scene(tmp_path / "s.tif", dtype="uint16", valid=np.zeros((64, 64), bool), validity="nodata")
    assert len(estimate_stretch(open_scene(path), [1, 2, 3])) == 3


@given(
    pixels=hnp.arrays(np.uint16, (1, 3, 4)),
    low=st.integers(0, 60000),
    span=st.integers(1, 60000),
)
def test_the_map_is_linear_and_clipped(pixels, low, span):
    expected = np.clip((pixels.astype(float) - low) / span, 0, 1) * 255
    stretched = apply_stretch(pixels, [(low, low + span)])
    assert stretched.dtype == np.float32
    assert stretched == pytest.approx(expected, abs=1e-3)


def test_equal_limits_do_not_divide_by_zero():
    stretched = apply_stretch(np.uint8([[[4, 5, 6]]]), [(5, 5)])
    assert stretched.tolist() == [[[0, 0, 255]]]
