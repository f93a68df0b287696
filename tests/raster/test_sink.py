from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoseg.errors import InvalidOption, NoSpaceLeft, UnreadableScene, UnwritableOutput
from geoseg.raster.encoding import Encoding
from geoseg.raster.scene import open_scene, read_patch
from geoseg.raster.sink import RasterSink
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import CERTAIN, ClassInfo, ClassRule, LayerSchema, ProbabilityBlock, Window

BUILDING = ClassInfo(1, "building", (230, 60, 40))
WATER = ClassInfo(7, "wäter", (30, 60, 240))
SCHEMA = LayerSchema("areas", "EPSG:32633", (BUILDING, WATER), {"model": "test", "digest": "abc"})
ONE = ClassRule((1,), 0.5)
TWO = ClassRule((0, 1, 7), 0.4)


def surface(grid, channels=1):
    """Return probabilities over a whole grid that differ everywhere."""
    rows, cols = np.mgrid[: grid.height, : grid.width]
    waves = [np.sin(rows / 9 + k) * np.cos(cols / 11 - k) / 2 + 0.5 for k in range(channels)]
    return np.stack([(wave * CERTAIN).astype(np.uint16) for wave in waves])


def cut(values, valid, window, grid):
    place = window.within(grid.window)
    return ProbabilityBlock(window, values[:, *place], valid[place])


def tiles(grid, side):
    for row in range(0, grid.height, side):
        for col in range(0, grid.width, side):
            yield Window(row, col, side, side).intersection(grid.window)


def write(path, scene, grid, values, valid, *, side=64, **options):
    settings = {"scene": scene, "schema": SCHEMA, "rule": ONE, "overwrite": False} | options
    with RasterSink(path, grid, **settings) as sink:
        for window in tiles(grid, side):
            sink.write(cut(values, valid, window, grid))


@pytest.fixture
def scene(tmp_path):
    return open_scene(make_scene(tmp_path / "scene.tif", size=(90, 130)))


def test_probabilities_come_back_within_half_a_step(tmp_path, scene):
    values, valid = surface(scene.geobox), np.ones((90, 130), bool)
    valid[10:20, 30:50] = False
    write(tmp_path / "out.tif", scene, scene.geobox, values, valid)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.dtypes == ("uint8",)
        assert (dataset.nodata, dataset.scales, dataset.descriptions) == (255, (1 / 250,), ("building",))
        stored = dataset.read(1)
        assert np.array_equal(stored == 255, ~valid)
        error = stored * dataset.scales[0] - values[0] / CERTAIN
        assert np.abs(error[valid]).max() <= 0.5 / 250 + 1e-6
        assert dataset.crs == rasterio.crs.CRS.from_epsg(32633)
        assert tuple(dataset.transform)[:6] == NORTH_UP
        assert dataset.tags()["model"] == "test"


@pytest.mark.parametrize("content", ["instance", "class"])
def test_outlines_are_drawn_in_batches_beside_nodata(tmp_path, content):
    valid = np.ones((1100, 130), bool)
    valid[40:60, 30:50] = False
    scene = open_scene(make_scene(tmp_path / "scene.tif", size=valid.shape, validity="nodata", valid=valid))
    boxes = [(2, 3, 40, 50), (40, 3, 60, 50), (0, 1000, 130, 1050), (125, 1090, 130, 1100)]
    expected = np.where(valid, 0, 255 if content == "class" else 2**32 - 1)
    with RasterSink(
        tmp_path / "out.tif", scene.geobox, scene=scene, schema=SCHEMA, rule=TWO, content=content
    ) as sink:
        for number, (left, top, right, bottom) in enumerate(boxes, 1):
            sink.draw([shapely.box(left, top, right, bottom)], [number])
            part = expected[top:bottom, left:right]
            part[valid[top:bottom, left:right]] = number
        sink.fill_background(shapely.box(0, 0, 130, 1095))
    expected[1095:] = expected[50, 40]
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.nodata == expected[50, 40]
        assert dataset.dtypes == ("uint8" if content == "class" else "uint32",)
        np.testing.assert_array_equal(dataset.read(1), expected)


def test_float_probabilities(tmp_path, scene):
    values, valid = surface(scene.geobox, 3), surface(scene.geobox)[0] > 9000
    write(tmp_path / "out.tif", scene, scene.geobox, values, valid, rule=TWO, content="probability-float32")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.dtypes == ("float32", "float32")
        assert dataset.descriptions == ("building", "wäter")
        assert np.isnan(dataset.nodata)
        expected = np.where(valid, values[1:].astype(np.float32) / np.float32(CERTAIN), np.nan)
        assert np.array_equal(dataset.read(), expected, equal_nan=True)


@pytest.mark.parametrize("content", ["probability", "probability-float32", "class"])
@pytest.mark.parametrize("resolution", ["scene", "model"])
def test_a_file_says_what_it_holds(tmp_path, scene, content, resolution):
    grid = scene.geobox.resized(45, 65)
    values, valid = surface(grid, 3), np.ones((45, 65), bool)
    path = tmp_path / "out.tif"
    write(path, scene, grid, values, valid, rule=TWO, content=content, resolution=resolution)
    with rasterio.open(path) as dataset:
        items = dataset.tags()
        bands = [dataset.tags(band).get("CLASS") for band in dataset.indexes]
    expected = {"geoseg_threshold": "0.4", "CLASS_1": "building", "CLASS_7": "wäter", "model": "test"}
    assert {key: items[key] for key in expected} == expected
    assert bands == ([None] if content == "class" else ["1", "7"])


def test_class_maps(tmp_path, scene):
    values, valid = surface(scene.geobox, 3), np.ones((90, 130), bool)
    valid[:5] = False
    write(tmp_path / "out.tif", scene, scene.geobox, values, valid, rule=TWO, content="class")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        ids = dataset.read(1)
        assert (dataset.nodata, set(np.unique(ids))) == (255, {0, 1, 7, 255})
        winner = np.array([0, 1, 7])[values.argmax(axis=0)]
        assert np.array_equal(ids[5:], np.where(values.max(axis=0) >= 0.4 * CERTAIN, winner, 0)[5:])
        assert dataset.colormap(1)[7] == (30, 60, 240, 255)
        assert dataset.tags()["CLASS_7"] == "wäter"


@pytest.mark.parametrize(
    "transform",
    [
        NORTH_UP,
        (0.3, 0.0, 5e5, 0.0, 0.3, 5e6),
        (0.3, 0.1, 5e5, 0.1, -0.3, 5e6),
        (1 / 3, 0.1, 5e5, 0.0, -0.7, 5e6),
    ],
    ids=["north-up", "south-up", "rotated", "sheared"],
)
@pytest.mark.parametrize("resolution", ["scene", "model"])
def test_the_georeference_is_exact(tmp_path, transform, resolution):
    scene = open_scene(make_scene(tmp_path / "scene.tif", size=(90, 130), transform=transform))
    grid = scene.geobox.resized(47, 71)
    write(tmp_path / "out.tif", scene, grid, surface(grid), np.ones((47, 71), bool), resolution=resolution)
    written = open_scene(tmp_path / "out.tif").geobox
    expected = scene.geobox if resolution == "scene" else grid
    assert written.crs == expected.crs
    assert (written.height, written.width) == (expected.height, expected.width)
    assert written.transform == pytest.approx(expected.transform, rel=1e-15, abs=1e-12)


def test_without_a_crs(tmp_path):
    scene = open_scene(make_scene(tmp_path / "scene.tif", crs=None, transform=None))
    write(tmp_path / "out.tif", scene, scene.geobox, surface(scene.geobox), np.ones((64, 64), bool))
    assert open_scene(tmp_path / "out.tif").geobox == scene.geobox


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), side=st.integers(7, 100))
def test_the_order_of_blocks_does_not_matter(tmp_path, scene, seed, side):
    grid, rng = scene.geobox, np.random.default_rng(seed)
    values, valid = surface(grid), rng.random((90, 130)) < 0.8
    windows = list(tiles(grid, side))
    path = tmp_path / "out.tif"
    with RasterSink(path, grid, scene=scene, schema=SCHEMA, rule=ONE, overwrite=True) as sink:
        for index in rng.permutation(len(windows)):
            sink.write(cut(values, valid, windows[index], grid))
    with rasterio.open(path) as dataset:
        block = ProbabilityBlock(grid.window, values, valid)
        assert np.array_equal(dataset.read(), Encoding("probability", ONE).encode(block))


def test_another_thread_may_write(tmp_path, scene):
    grid, values, valid = scene.geobox, surface(scene.geobox), np.ones((90, 130), bool)
    with RasterSink(tmp_path / "out.tif", grid, scene=scene, schema=SCHEMA, rule=ONE) as sink:
        block = ProbabilityBlock(grid.window, values, valid)
        thread = threading.Thread(target=sink.write, args=(block,))
        thread.start()
        thread.join()
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert np.array_equal(dataset.read(), Encoding("probability", ONE).encode(block))


def test_blocks_that_are_never_written_stay_nodata(tmp_path, scene):
    values, valid = surface(scene.geobox), np.ones((90, 130), bool)
    path = tmp_path / "out.tif"
    with RasterSink(path, scene.geobox, scene=scene, schema=SCHEMA, rule=ONE) as sink:
        sink.write(cut(values, valid, Window(10, 10, 30, 40), scene.geobox))
    with rasterio.open(path) as dataset:
        known = dataset.read_masks(1) > 0
    assert known.sum() == 30 * 40
    assert known[10:40, 10:50].all()


def test_the_scenes_own_validity_masks_its_own_resolution(tmp_path):
    rng = np.random.default_rng(3)
    holes = rng.random((90, 130)) < 0.9
    scene = open_scene(make_scene(tmp_path / "scene.tif", size=(90, 130), validity="mask", valid=holes))
    grid = scene.geobox.resized(30, 40)
    write(tmp_path / "out.tif", scene, grid, surface(grid), np.ones((30, 40), bool))
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert np.array_equal(dataset.read_masks(1) > 0, holes)


def test_probabilities_are_interpolated_and_classes_are_not(tmp_path, scene):
    grid = scene.geobox.resized(45, 65)
    values, valid = np.zeros((1, 45, 65), np.uint16), np.ones((45, 65), bool)
    values[:, :, 20:] = CERTAIN
    write(tmp_path / "p.tif", scene, grid, values, valid)
    write(tmp_path / "c.tif", scene, grid, values, valid, content="class")
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert dataset.read(1)[50, 36:44].tolist() == [0, 0, 0, 62, 188, 250, 250, 250]
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert dataset.read(1)[50, 36:44].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("content", ["probability", "probability-float32", "class"])
def test_streamed_windows_leave_no_trace(tmp_path, scene, content, monkeypatch):
    grid = scene.geobox.resized(47, 71)
    valid = np.ones((47, 71), bool)
    valid[20:30, 5:9] = False
    write(tmp_path / "one.tif", scene, grid, surface(grid), valid, content=content)
    monkeypatch.setattr("geoseg.raster.sink._STEP", 16)
    write(tmp_path / "many.tif", scene, grid, surface(grid), valid, content=content)
    with rasterio.open(tmp_path / "one.tif") as one, rasterio.open(tmp_path / "many.tif") as many:
        assert np.array_equal(one.read(), many.read(), equal_nan=True)


@pytest.mark.parametrize("content", ["probability", "probability-float32", "class"])
def test_the_file_is_a_cloud_optimized_geotiff(tmp_path, content):
    scene = open_scene(make_scene(tmp_path / "scene.tif", size=(1500, 1700), bands=1))
    grid = scene.geobox
    path = tmp_path / "out.tif"
    write(path, scene, grid, surface(grid), np.ones((1500, 1700), bool), side=700, content=content)
    with rasterio.open(path) as dataset:
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        assert (structure["LAYOUT"], structure["COMPRESSION"]) == ("COG", "DEFLATE")
        assert dataset.block_shapes[0] == (512, 512)
        assert dataset.overviews(1) == [2, 4]
        full = dataset.read(1)
    offsets = directories(path)
    assert [offset for offset, _ in offsets] == sorted(offset for offset, _ in offsets)
    last_directory = offsets[-1][0]
    data = [first for _, first in offsets]
    assert min(data) > last_directory
    assert data == sorted(data, reverse=True)
    with rasterio.open(path, overview_level=0) as overview:
        small = overview.read(1)
    if content == "class":
        assert set(np.unique(small)) <= set(np.unique(full))
    else:
        mean = full[:1500, :1700].astype(float).reshape(750, 2, 850, 2).mean(axis=(1, 3))
        assert np.abs(small - mean).max() <= 1
    assert len(list(tmp_path.iterdir())) == 2


def directories(path):
    """Return (offset of the directory, offset of its first tile's data) of each image in a TIFF."""
    content = path.read_bytes()
    assert content[:4] == b"II*\0"

    def number(offset, size):
        return int.from_bytes(content[offset : offset + size], "little")

    found, directory = [], number(4, 4)
    while directory:
        entries = number(directory, 2)
        tags = {number(at, 2): at for at in range(directory + 2, directory + 2 + 12 * entries, 12)}
        count, where = number(tags[324] + 4, 4), tags[324] + 8
        first = number(where, 4) if count == 1 else number(number(where, 4), 4)
        found.append((directory, first))
        directory = number(directory + 2 + 12 * entries, 4)
    return found


def test_nothing_is_left_when_a_run_fails(tmp_path, scene):
    path = tmp_path / "out.tif"
    before = sorted(tmp_path.iterdir())
    with (
        pytest.raises(KeyboardInterrupt),
        RasterSink(path, scene.geobox, scene=scene, schema=SCHEMA, rule=ONE) as sink,
    ):
        sink.write(cut(surface(scene.geobox), np.ones((90, 130), bool), scene.geobox.window, scene.geobox))
        raise KeyboardInterrupt
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_left_when_publishing_fails(tmp_path, scene):
    grid = scene.geobox.resized(40, 40)
    path = tmp_path / "out.tif"
    broken = open_scene(make_scene(tmp_path / "masked.tif", size=(90, 130), validity="mask"))
    (tmp_path / "masked.tif").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UnreadableScene):
        write(path, broken, grid, surface(grid), np.ones((40, 40), bool))
    assert sorted(tmp_path.iterdir()) == before


@contextlib.contextmanager
def full_disk(size):
    """Limit the size of files, as a disk does that is nearly full.

    Not a fixture: pytest itself may be writing to a file between a test and its teardown.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("resolution", ["scene", "model"])
@pytest.mark.parametrize("size", [100, 100_000, 800_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, size, resolution):
    scene = open_scene(make_scene(tmp_path / "scene.tif", size=(1600, 1600), bands=1))
    grid = scene.geobox.resized(800, 800)
    values = np.random.default_rng(0).integers(0, CERTAIN, (1, 800, 800), np.uint16)
    before = sorted(tmp_path.iterdir())
    reason = r"out\.tif: files may not grow any further in .*; make room there, or write to another folder$"
    with pytest.raises(NoSpaceLeft, match=reason) as caught, full_disk(size):
        write(tmp_path / "out.tif", scene, grid, values, np.ones((800, 800), bool), resolution=resolution)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_an_existing_file_stays_until_the_new_one_is_complete(tmp_path, scene):
    path = tmp_path / "out.tif"
    path.write_text("precious")
    values, valid = surface(scene.geobox), np.ones((90, 130), bool)
    with pytest.raises(UnwritableOutput, match="exists already"):
        write(path, scene, scene.geobox, values, valid)
    with RasterSink(path, scene.geobox, scene=scene, schema=SCHEMA, rule=ONE, overwrite=True):
        assert path.read_text() == "precious"
    with rasterio.open(path) as dataset:
        assert not dataset.read_masks(1).any()


def test_names_that_are_no_tiff_are_refused(tmp_path, scene):
    with pytest.raises(UnwritableOutput, match=r"must end in \.tif"):
        RasterSink(tmp_path / "out.png", scene.geobox, scene=scene, schema=SCHEMA, rule=ONE)
    with pytest.raises(InvalidOption, match="255"):
        RasterSink(
            tmp_path / "o.tif",
            scene.geobox,
            scene=scene,
            schema=SCHEMA,
            rule=ClassRule((255,), 0.5),
            content="class",
        )


def test_blocks_outside_are_refused(tmp_path, scene):
    block = ProbabilityBlock(Window(80, 0, 20, 20), np.ones((1, 20, 20), np.uint16), np.ones((20, 20), bool))
    with pytest.raises(ValueError, match="not inside"), RasterSink(
        tmp_path / "out.tif", scene.geobox, scene=scene, schema=SCHEMA, rule=ONE
    ) as sink:  # fmt: skip
        sink.write(block)


STREAM = """
import re, sys
from pathlib import Path
import numpy as np
from geoseg.raster.scene import open_scene
from geoseg.raster.sink import RasterSink
from geoseg.values import *

scene = open_scene(sys.argv[1])
grid = scene.geobox.resized(8000, 8000)
values, valid = np.full((1, 1000, 1000), 30_000, np.uint16), np.ones((1000, 1000), bool)
settings = dict(scene=scene, schema=LayerSchema("a", None, ()), rule=ClassRule((1,), 0.5))

def peak():  # in kB; ru_maxrss would count the parent's memory before exec
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
with RasterSink(Path(sys.argv[2]), grid, content="probability-float32", **settings) as sink:
    for row in range(0, 8000, 1000):
        for col in range(0, 8000, 1000):
            sink.write(ProbabilityBlock(Window(row, col, 1000, 1000), values, valid))
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_output(tmp_path):
    # 64 and 256 MB of float32 on either grid; GDAL's cache is kept to 32 MB. What GDAL's threads have in hand
    # varies with what else runs, but not with the output: a quarter of what more is written is left to them.
    growth = []
    for side in (4000, 8000):
        pixels = np.ones((1, side + 1, side), np.uint8)
        scene = make_scene(tmp_path / f"{side}.tif", pixels=pixels, compress="deflate")
        script = STREAM.replace("8000", str(side))
        command = [sys.executable, "-c", script, str(scene), str(tmp_path / f"out{side}.tif")]
        environment = os.environ | {"GDAL_CACHEMAX": "32"}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        growth.append(int(done.stdout))
    assert growth[1] - growth[0] < (8000**2 - 4000**2) * 4 / 4 / 1024


def test_what_was_written_is_read_back_as_a_scene(tmp_path, scene):
    values, valid = surface(scene.geobox), np.ones((90, 130), bool)
    valid[:, :20] = False
    write(tmp_path / "out.tif", scene, scene.geobox, values, valid)
    back = open_scene(tmp_path / "out.tif")
    patch = read_patch(back, back.geobox.window, back.geobox, [1])
    assert np.array_equal(patch.valid, valid)
    assert patch.pixels[0][valid] == pytest.approx(values[0][valid] / CERTAIN, abs=0.0021)


INTERRUPT = """
import signal, sys, threading, time
from pathlib import Path
import rasterio.shutil
from geoseg.raster import sink
from geoseg.raster.scene import open_scene
from tests.raster.test_sink import ONE, SCHEMA

signal.signal(signal.SIGINT, signal.default_int_handler)

finished = []

def slow(*arguments, **options):
    threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
    time.sleep(30)
    finished.append(True)

rasterio.shutil.copy = slow
scene = open_scene(sys.argv[1])
try:
    with sink.RasterSink(Path(sys.argv[2]), scene.geobox, scene=scene, schema=SCHEMA, rule=ONE):
        pass
except KeyboardInterrupt:
    print("too late" if finished else "interrupted")
"""


@pytest.mark.slow
def test_an_interruption_does_not_wait_for_the_optimizing(tmp_path, scene):
    out = tmp_path / "out.tif"
    before = sorted(tmp_path.iterdir())
    command = [sys.executable, "-c", INTERRUPT, scene.uri, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "interrupted", done.stderr
    assert sorted(tmp_path.iterdir()) == before
