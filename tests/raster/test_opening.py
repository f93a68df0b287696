"""Datasets that stay open: whose they are, when they are closed, how often a file's blocks are read."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import UnreadableScene
from geoseg.raster import environment, opening
from geoseg.raster.describe import SceneInfo
from geoseg.raster.environment import BLOCK_CACHE, LARGEST_CACHE, useful_cache
from geoseg.raster.opening import KEPT, close_kept, kept_open
from geoseg.raster.scene import close_scene, open_scene, read_patch
from geoseg.testing import make_scene
from geoseg.values import Patch, Window
from tests.runs import BRIGHT, predict

IO = Path("/proc/thread-self/io")


class Fake:
    """Stands for a dataset, and notices what must not happen to one."""

    files: tuple[str, ...] = ()

    def __init__(self, opened: list[Fake]) -> None:
        self.open = True
        self.failed = False
        self._users: set[int] = set()
        opened.append(self)

    def close(self) -> None:
        assert self.open, "closed twice"
        assert not self._users, "closed under somebody's hands"
        self.open = False

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        assert self.open
        assert not self.failed
        assert self._users <= {threading.get_ident()}, "lent to two threads"
        before = set(self._users)
        self._users.add(threading.get_ident())
        try:
            yield
        except OSError:
            self.failed = True
            raise
        finally:
            self._users = before


@contextlib.contextmanager
def lent(uri: str, opened: list[Fake]) -> Iterator[Fake]:
    def enter(stack: contextlib.ExitStack) -> Fake:
        dataset = Fake(opened)
        stack.callback(dataset.close)
        return dataset

    with kept_open((uri, None, False), enter) as dataset, dataset.used():  # type: ignore[arg-type]
        yield dataset  # type: ignore[misc]


def close_all() -> None:
    for uri, *_ in list(opening._handles):
        close_kept(uri)


@pytest.fixture(autouse=True)
def nothing_is_open() -> Iterator[None]:
    close_all()
    yield
    close_all()


steps = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.sampled_from(["read", "fail", "close", "nest"])), max_size=40
)


@settings(max_examples=200)
@given(steps)
def test_few_stay_open_and_what_failed_never_comes_back(todo: list[tuple[str, str]]) -> None:
    close_all()
    opened: list[Fake] = []
    for name, what in todo:
        if what == "close":
            close_kept(name)
        elif what == "fail":
            with pytest.raises(OSError, match="broken"), lent(name, opened):
                raise OSError("broken")
        elif what == "nest":
            with contextlib.ExitStack() as stack:
                for other in (name, *"abcdef", name):
                    stack.enter_context(lent(other, opened))
        else:
            with lent(name, opened) as first:
                pass
            with lent(name, opened) as second:
                assert second is first
        assert sum(dataset.open for dataset in opened) <= KEPT
        assert not any(dataset.open and dataset.failed for dataset in opened)
    close_all()
    assert not any(dataset.open for dataset in opened)


def test_threads_never_share_a_dataset() -> None:
    opened: list[Fake] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(200):
            name, luck = str(random.integers(7)), random.random()
            if luck < 0.1:
                close_kept(name)
                continue
            with contextlib.suppress(OSError), lent(name, opened):
                if luck < 0.2:
                    raise OSError("broken")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert sum(dataset.open for dataset in opened) <= KEPT
    close_all()
    assert not any(dataset.open for dataset in opened)


def open_files(folder: Path) -> list[str]:
    """Return the files of a folder that this process has open, once for each descriptor."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("what is open is seen in /proc alone")
    found = []
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(entry.path))
    return [name for name in found if name.startswith(str(folder))]


def read(path: Path) -> Patch:
    scene = open_scene(path)
    return read_patch(scene, scene.geobox.window, scene.geobox, [1])


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened by GDAL, in order."""
    names: list[str] = []
    real = rasterio.open

    def noted(uri: str, *arguments: object, **options: object) -> object:
        names.append(uri)
        return real(uri, *arguments, **options)

    monkeypatch.setattr(rasterio, "open", noted)
    return names


def test_hundreds_of_scenes_leave_few_open(tmp_path: Path) -> None:
    for number in range(30):
        read(make_scene(tmp_path / f"{number}.tif", validity="msk"))
    assert 0 < len(set(open_files(tmp_path))) <= 2 * KEPT  # each with its mask


def test_a_scene_is_opened_once_until_it_is_closed(tmp_path: Path, opens: list[str]) -> None:
    scene = open_scene(make_scene(tmp_path / "scene.tif"))
    opens.clear()
    for _ in range(3):
        read_patch(scene, Window(0, 0, 9, 9), scene.geobox, [1])
    assert len(opens) == 1
    close_scene(scene)
    assert not open_files(tmp_path)
    read_patch(scene, Window(0, 0, 9, 9), scene.geobox, [1])
    assert len(opens) == 2


@pytest.mark.parametrize("way", ["replaced", "written to", "its mask"])
def test_a_changed_file_is_read_anew(way: str, tmp_path: Path) -> None:
    kind = "msk" if way == "its mask" else "none"
    path = make_scene(tmp_path / "scene.tif", pixels=np.full((1, 64, 64), 7, np.uint8), validity=kind)
    scene = open_scene(path)
    window = scene.geobox.window
    before = read_patch(scene, window, scene.geobox, [1])
    if way == "replaced":
        other = make_scene(tmp_path / "other.tif", pixels=np.full((1, 64, 64), 9, np.uint8))
        os.replace(other, path)
    elif way == "written to":
        with rasterio.open(path, "r+") as dataset:
            dataset.write(np.full((1, 64, 64), 9, np.uint8))
    else:
        other = make_scene(tmp_path / "other.tif", validity="msk", valid=np.ones((64, 64), bool))
        os.replace(f"{other}.msk", f"{path}.msk")
    after = read_patch(scene, window, scene.geobox, [1])
    if kind == "msk":
        assert not before.valid.all()
        assert after.valid.all()
    else:
        assert (before.pixels == 7).all()
        assert (after.pixels == 9).all()


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    path = make_scene(tmp_path / "scene.tif")
    scene = open_scene(path)
    read_patch(scene, Window(0, 0, 9, 9), scene.geobox, [1])
    path.unlink()
    with pytest.raises(UnreadableScene, match=r"scene\.tif"):
        read_patch(scene, Window(0, 0, 9, 9), scene.geobox, [1])


def test_a_damaged_block_costs_nothing_but_itself(tmp_path: Path, opens: list[str]) -> None:
    path = make_scene(tmp_path / "scene.tif", size=(64, 64), block=16, compress="deflate")
    whole = read(path)
    with rasterio.open(path) as dataset:
        place, size = (
            int(dataset.get_tag_item(f"BLOCK_{what}_1_1", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE")
        )
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(size))
    scene = open_scene(path)
    opens.clear()
    for row in range(0, 64, 16):
        for col in range(0, 64, 16):
            window = Window(row, col, 16, 16)
            if (row, col) == (16, 16):
                with pytest.raises(UnreadableScene):
                    read_patch(scene, window, scene.geobox, [1])
            else:
                patch = read_patch(scene, window, scene.geobox, [1])
                assert (patch.pixels == whole.pixels[:, row : row + 16, col : col + 16]).all()
    assert len(opens) == 2  # what failed was not used again


def _read_in_child(path: str, answers: multiprocessing.Queue[tuple[bool, bytes]]) -> None:
    answers.put((not opening._handles, read(Path(path)).pixels.tobytes()))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    path = make_scene(tmp_path / "scene.tif", size=(64, 64), block=16)
    expected = read(path)
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    children = [fork.Process(target=_read_in_child, args=(str(path), answers)) for _ in range(2)]
    for child in children:
        child.start()
    for _ in children:
        assert answers.get(timeout=60) == (True, expected.pixels.tobytes())
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    scene = open_scene(path)
    assert (read_patch(scene, scene.geobox.window, scene.geobox, [1]).pixels == expected.pixels).all()


sides = st.integers(1, 5000)


@given(st.tuples(sides, sides), st.integers(1, 300_000), st.tuples(sides, sides), st.integers(1, 32))
def test_the_cache_has_bounds_and_holds_rows_of_windows(
    block: tuple[int, int], width: int, window: tuple[int, int], pixel: int
) -> None:
    size = useful_cache(block, width, window, pixel)
    rows, area = window[0], (window[0] + block[0]) * min(window[1] + block[1], width) * pixel
    # The blocks that one or two rows of windows can touch, wherever they begin.
    one, two = (((n * rows - 2) // block[0] + 2) * block[0] * width * pixel for n in (1, 2))
    assert size <= (LARGEST_CACHE if block[1] >= width else BLOCK_CACHE)
    assert size <= 32 * area
    if size < two and size < min(6 * area, BLOCK_CACHE):
        assert block[1] >= width
        assert size >= one


@given(st.integers(1, 10**5), st.tuples(sides, sides), st.integers(1, 32))
def test_smaller_windows_take_a_smaller_cache(width: int, window: tuple[int, int], pixel: int) -> None:
    """So that a plan that is cut down takes less memory."""
    windows = [(max(1, window[0] // cut), max(1, window[1] // cut)) for cut in (8, 4, 2, 1)]
    sizes = [useful_cache((256, 256), width, smaller, pixel) for smaller in windows]
    assert sizes == sorted(sizes)


SIDE, TILE, OVERLAP = 1024, 128, 32


def noise() -> np.ndarray:
    """Pixels that do not compress, with something to find."""
    pixels = np.random.default_rng(0).integers(0, 64, (3, SIDE, SIDE)).astype(np.uint8)
    for row in range(40, SIDE, 180):
        for col in range(20, SIDE, 210):
            pixels[:, row : row + 50, col : col + 70] = BRIGHT
    return pixels


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that each call of the reader of a run takes from files."""
    if not IO.exists():
        pytest.skip("bytes that a thread reads are counted in /proc alone")
    calls: list[int] = []
    ready = threading.local()
    monkeypatch.setattr(opening, "_threads", ["1"])  # what others read is not counted

    def taken() -> int:
        return int(IO.read_text().split()[1])

    def call(scene: SceneInfo, *arguments: Any, **named: Any) -> Patch:
        # PROJ reads its database (400 kB) once a thread, unless an earlier test has left it in memory.
        if not hasattr(ready, "proj"):
            with rasterio.open(scene.uri) as dataset:
                ready.proj = dataset.crs.to_wkt()
        before = taken()
        own = taken() - before  # what counting itself reads
        try:
            return read_patch(scene, *arguments, **named)
        finally:
            calls.append(taken() - before - 2 * own)

    monkeypatch.setattr("geoseg.raster.scene.read_patch", call)
    for module in ("plan", "budget"):
        monkeypatch.setattr(f"geoseg.prediction.{module}.BLOCK_PIXELS", 2 * TILE)
    return calls


LAYOUTS: dict[str, dict[str, object]] = {
    "tiles of 128": {"block": 128},
    "tiles of 256": {"block": 256},
    "tiles of 512": {"block": 512},
    "strips of 16": {"blockysize": 16},
    "strips of 100, a mask": {"blockysize": 100, "validity": "mask"},
    "tiles, bands apart": {"block": 256, "interleave": "band"},
    "tiles, alpha": {"block": 256, "validity": "alpha"},
}


def allowance(scene: Path) -> int:
    """Return the bytes that may be read if each block is: files are read in pieces of 4096."""
    with rasterio.open(scene) as dataset:
        blocks = sum(1 for _ in dataset.block_windows(1))
        if dataset.profile["interleave"] == "band":
            blocks *= dataset.count
        if any(flag.name == "per_dataset" for flag in dataset.mask_flag_enums[0]):
            blocks *= 2
    return scene.stat().st_size + 2 * 4096 * blocks


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_reads_each_block_once(
    layout: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], counted: list[int]
) -> None:
    options = {"interleave": "pixel", "compress": "deflate", **LAYOUTS[layout]}
    scene = make_scene(tmp_path / "scene.tif", pixels=noise(), **options)  # type: ignore[arg-type]
    result = predict(capfd, scene, "--tile", TILE, "--overlap", OVERLAP)
    assert result.code == 0, result.err
    assert len(counted) >= 16
    assert 0.9 * scene.stat().st_size < sum(counted) < allowance(scene)
    assert not open_files(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tiles of 128", "tiles of 512"])
def test_all_cores_unpack_each_block_once(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path("/proc/self/io")
    if not own.exists():
        pytest.skip("bytes that a process reads are counted in /proc alone")
    options = {"interleave": "pixel", "compress": "deflate", **LAYOUTS[layout]}
    scene = open_scene(make_scene(tmp_path / "scene.tif", pixels=noise(), **options))  # type: ignore[arg-type]
    whole = scene.geobox.window
    starts = range(0, SIDE - OVERLAP, TILE - OVERLAP)
    windows = [
        Window(row, col, TILE, TILE).intersection(scene.geobox.window) for row in starts for col in starts
    ]
    monkeypatch.setattr(opening, "_threads", ["4"])
    before = int(own.read_text().split()[1])
    parts = [read_patch(scene, window, scene.geobox, [1, 2, 3]) for window in windows]
    taken = int(own.read_text().split()[1]) - before
    close_scene(scene)
    assert 0.9 * Path(scene.uri).stat().st_size < taken < allowance(Path(scene.uri)) + 10_000
    for window, part in zip(windows, parts, strict=True):
        assert (part.pixels == noise()[:, *window.within(whole)]).all()


def test_the_cache_is_what_those_who_are_open_want(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(environment, "set_gdal_config", lambda _name, size: sizes.append(size))
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    callers = environment.get_gdal_config("GDAL_CACHEMAX")
    scene = open_scene(make_scene(tmp_path / "scene.tif", size=(4000, 1000), blockysize=100))
    small, large = Window(0, 0, 10, 1000), Window(0, 0, 700, 1000)
    for window, rows in ((small, 10), (large, 700), (small, 700)):
        read_patch(scene, window, scene.geobox, [1])
        assert sizes[-1] == (2 * rows + 200) * 1000 * 3
    with environment.environment("written.tif"):
        assert sizes[-1] == BLOCK_CACHE
    assert sizes[-1] == (2 * 700 + 200) * 1000 * 3
    close_scene(scene)
    assert sizes[-1] == callers
