"""Empty ground that is known without reading."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling

from geoseg.raster.coverage import read_coverage
from geoseg.raster.pixels import reach, taps
from geoseg.raster.scene import open_scene, read_patch
from geoseg.testing import make_scene
from geoseg.values import Window

BLOCK = 32
SIZE = (200, 170)


def islands(filled: np.ndarray) -> np.ndarray:
    """Which pixels are data: those of the blocks that are filled."""
    return np.kron(filled, np.ones((BLOCK, BLOCK), bool))[: SIZE[0], : SIZE[1]].astype(bool)


def sparse_scene(path: Path, filled: np.ndarray, **options) -> Path:
    kind = options.setdefault("validity", "nodata")
    valid = islands(filled)
    pixels = np.random.default_rng(1).integers(1, 250, (3, *SIZE)).astype("f4" if kind == "nan" else "u1")
    pixels[:, ~valid] = 0  # GDAL leaves out what equals nodata, or 0
    return make_scene(path, pixels=pixels, valid=valid, block=BLOCK, sparse_ok=True, **options)


@given(data=st.data(), source=st.integers(1, 300), size=st.integers(1, 300))
def test_the_reach_is_that_of_the_taps(data, source, size):
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    made = taps(start, stop, size, source)
    assert reach(start, stop, size, source) == (made.start, made.stop)


@st.composite
def windows(draw, height, width):
    row, col = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return Window(row, col, draw(st.integers(1, height - row)), draw(st.integers(1, width - col)))


@given(
    seed=st.integers(0, 100),
    validity=st.sampled_from(["nodata", "alpha", "msk", "mask", "none"]),
    interleave=st.sampled_from(["pixel", "band"]),
    overviews=st.sampled_from([(), (2,), (2, 4)]),
    data=st.data(),
)
@settings(max_examples=40)
def test_what_is_called_empty_holds_nothing(seed, validity, interleave, overviews, data):
    filled = np.random.default_rng(seed).random((7, 6)) < 0.3
    with TemporaryDirectory() as folder:
        path = sparse_scene(
            Path(folder) / "a.tif", filled, validity=validity, interleave=interleave, overviews=overviews
        )
        scene = open_scene(path)
        coverage = read_coverage(scene)
        assert (coverage is None) == (validity not in {"nodata", "alpha"} or filled.all())
        if coverage is None:
            return
        height = data.draw(st.sampled_from([SIZE[0], 60, 100, 333]))
        grid = scene.geobox.resized(height, round(height * SIZE[1] / SIZE[0]))
        for _ in range(10):
            window = data.draw(windows(*grid.shape))
            if coverage.empty(window, grid):
                assert not read_patch(scene, window, grid, [1, 2, 3]).valid.any()


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("validity", ["nodata", "alpha"])
def test_every_absent_block_is_known(tmp_path, validity, interleave):
    filled = np.random.default_rng(2).random((7, 6)) < 0.3
    scene = open_scene(sparse_scene(tmp_path / "a.tif", filled, validity=validity, interleave=interleave))
    coverage = pickle.loads(pickle.dumps(read_coverage(scene)))
    for (row, col), here in np.ndenumerate(filled):
        block = Window(row * BLOCK, col * BLOCK, BLOCK, BLOCK).intersection(scene.geobox.window)
        assert coverage.empty(block, scene.geobox) != here
    assert coverage.empty(Window(5, 5, 0, 9), scene.geobox)


def test_a_block_absent_in_one_band_only_is_there(tmp_path):
    pixels = np.ones((3, 64, 64), np.uint8)
    pixels[:2, :32, :32] = 0
    path = make_scene(
        tmp_path / "a.tif", pixels=pixels, validity="nodata", valid=np.ones((64, 64), bool),
        block=32, sparse_ok=True, interleave="band",
    )  # fmt: skip
    assert read_coverage(open_scene(path)) is None


def test_absent_blocks_that_are_data(tmp_path):
    # 0 without a nodata tag is data; what a mask says of an absent block is not known.
    filled = np.eye(7, 6, dtype=bool)
    assert read_coverage(open_scene(sparse_scene(tmp_path / "a.tif", filled, validity="none"))) is None
    path = sparse_scene(tmp_path / "b.tif", filled, validity="mask")
    assert read_coverage(open_scene(path)) is None


def test_strips_are_not_known(tmp_path):
    pixels = np.zeros((1, 64, 64), np.uint8)
    strips = make_scene(
        tmp_path / "a.tif", pixels=pixels, validity="nodata", valid=np.zeros((64, 64), bool), sparse_ok=True
    )
    assert read_coverage(open_scene(strips)) is None


def test_an_empty_scene_is_known_to_be_empty(tmp_path):
    scene = open_scene(sparse_scene(tmp_path / "a.tif", np.zeros((7, 6), bool)))
    coverage = read_coverage(scene)
    assert coverage is not None
    assert coverage.empty(scene.geobox.window, scene.geobox)


def test_overviews_answer_for_the_grids_that_read_them(tmp_path):
    filled = np.zeros((7, 6), bool)
    filled[0, 0] = True
    path = sparse_scene(tmp_path / "a.tif", filled)
    with (
        rasterio.Env(SPARSE_OK_OVERVIEW="ON", GDAL_TIFF_OVR_BLOCKSIZE=64),
        rasterio.open(path, "r+") as dataset,
    ):
        dataset.build_overviews((2,), Resampling.average)
    scene = open_scene(path)
    coverage = read_coverage(scene)
    assert np.array_equal(coverage.levels[1].present, [[True, False], [False, False]])
    grid = scene.geobox.resized(100, 85)
    assert not coverage.empty(Window(0, 0, 5, 5), grid)
    assert coverage.empty(Window(70, 70, 10, 15), grid)
