"""A scene behind a URL: the same result as from a file, for the bytes that the area needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from geopandas.testing import assert_geodataframe_equal
from shapely.geometry import Polygon, box

from geoseg.raster import scene as scene_module
from geoseg.raster.describe import SceneInfo
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import GeoBox, Patch, Window
from tests.raster.serve import Served, served
from tests.runs import BRIGHT, Run, assert_refused, bright_model, least_memory, predict

pytestmark = pytest.mark.slow

SIDE, BLOCK, TILE, OVERLAP = 1536, 128, 256, 64
PIXEL, LEFT, TOP = NORTH_UP[0], NORTH_UP[2], NORTH_UP[5]
HEADER = 3 << 14
"""Bytes: what is read at opening, and the directories of the overviews at the end of the file."""

TILES = ("--tile", TILE, "--overlap", OVERLAP)
AREA = Window(410, 500, 500, 330)
TRIANGLE = Polygon([(430, 300), (1100, 330), (700, 900)])
"""Columns and rows."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Noise does not compress: what is fetched without need is seen."""
    folder = tmp_path_factory.mktemp("served")
    pixels = np.random.default_rng(0).integers(0, 64, (3, SIDE, SIDE)).astype(np.uint8)
    for row in range(40, SIDE, 180):
        for col in range(20, SIDE, 210):
            pixels[:, row : row + 50, col : col + 70] = BRIGHT
    make_scene(
        folder / "scene.tif",
        pixels=pixels,
        block=BLOCK,
        overviews=(2, 4),
        compress="deflate",
        interleave="pixel",
    )
    with served(folder) as running:
        yield running


def place(col: float, row: float) -> tuple[float, float]:
    return LEFT + col * PIXEL, TOP - row * PIXEL


def bbox(area: Window) -> tuple[object, ...]:
    left, bottom = place(area.col + 0.1, area.row_stop - 0.1)
    right, top = place(area.col_stop - 0.1, area.row + 0.1)
    return "--bbox", left, bottom, right, top


def starts(side: int) -> list[int]:
    return [min(start, side - TILE) for start in range(0, side - OVERLAP, TILE - OVERLAP)]


def needed(scene: Path, area: Polygon, beside: Iterable[Window] = ()) -> int:
    """Return the bytes of the blocks that the tiles over an area (columns, rows) touch, and windows."""
    with rasterio.open(scene) as dataset:
        side, block = dataset.width, dataset.block_shapes[0][0]
        tiles = [Window(row, col, TILE, TILE) for row in starts(side) for col in starts(side)]
        touching = [
            tile
            for tile in tiles
            if box(tile.col, tile.row, tile.col_stop, tile.row_stop).intersection(area).area > 0
        ]
        blocks = {
            (i, j)
            for window in [*touching, *beside]
            for i in range(window.row // block, (window.row_stop - 1) // block + 1)
            for j in range(window.col // block, (window.col_stop - 1) // block + 1)
        }
        sizes = [dataset.get_tag_item(f"BLOCK_SIZE_{j}_{i}", "TIFF", bidx=1) for i, j in blocks]
    return sum(map(int, sizes))


def assert_same(far: Run, near: Run) -> None:
    assert far.code == near.code == 0, far.err
    assert len(near.features) > 5
    assert_geodataframe_equal(far.features, near.features)
    for key in ("tiles", "coverage", "features"):
        assert far.summary.get(key) == near.summary.get(key)


@pytest.mark.parametrize("area", ["bbox", "aoi", "bbox in small blocks"])
def test_an_area_costs_the_bytes_of_its_tiles(
    area: str, server: Served, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scene = server.folder / "scene.tif"
    if area == "aoi":
        outline = {
            "type": "Polygon",
            "coordinates": [[place(*point) for point in TRIANGLE.exterior.coords]],
            "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
        }
        path = tmp_path / "area.geojson"
        path.write_text(json.dumps(outline))
        options, shape = ("--aoi", path, *TILES), TRIANGLE
    else:
        options = (*bbox(AREA), *TILES)
        shape = box(AREA.col, AREA.row, AREA.col_stop, AREA.row_stop)
    if area == "bbox in small blocks":
        least = least_memory(scene, model=str(bright_model()), tile=TILE, overlap=OVERLAP)
        options += ("--max-memory", least)
    near = predict(capfd, scene, *options, folder=tmp_path, out="near.gpkg")
    server.log()
    far = predict(capfd, f"{server.url}/scene.tif", *options, folder=tmp_path, out="far.gpkg")
    fetched = sum(sent for *_, sent in server.log())
    assert_same(far, near)
    assert fetched <= 1.2 * needed(scene, shape) + HEADER
    assert fetched < 0.5 * scene.stat().st_size


def test_what_a_stretch_looks_at_comes_on_top(
    server: Served, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows as far apart as those of a large scene: GDAL reads ahead where it seems to be asked for all.
    monkeypatch.setitem(scene_module.sample.__kwdefaults__, "budget", 1 << 20)
    side = 2560
    pixels = np.random.default_rng(1).integers(900, 3000, (3, side, side)).astype(np.uint16)
    pixels[:, 420:470, 520:590] = 3000
    scene = make_scene(
        server.folder / "sixteen.tif", pixels=pixels, block=256, compress="deflate", interleave="pixel"
    )
    seen: list[Window] = []
    read = scene_module.read_patch

    def watched(info: SceneInfo, window: Window, grid: GeoBox, bands: Sequence[int]) -> Patch:
        seen.append(window)
        return read(info, window, grid, bands)

    with monkeypatch.context() as patch:
        patch.setattr(scene_module, "read_patch", watched)
        list(scene_module.sample(scene_module.open_scene(scene), [1, 2, 3]))
    assert len(seen) == 16
    options = (*bbox(AREA), *TILES)
    near = predict(capfd, scene, *options, folder=tmp_path, out="near.gpkg")
    server.log()
    far = predict(capfd, f"{server.url}/sixteen.tif", *options, folder=tmp_path, out="far.gpkg")
    fetched = sum(sent for *_, sent in server.log())
    assert far.code == near.code == 0, far.err
    assert_geodataframe_equal(far.features, near.features)
    area = box(AREA.col, AREA.row, AREA.col_stop, AREA.row_stop)
    looked_at = needed(scene, Polygon(), seen)
    assert fetched <= 1.2 * (needed(scene, area) + looked_at) + HEADER
    assert looked_at < 0.17 * scene.stat().st_size  # 16 of 100 blocks


@pytest.mark.parametrize("trouble", ["503x2", "cutx3", "cutx12"])
def test_a_stumbling_server_changes_nothing(
    trouble: str,
    server: Served,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.1")
    options = (*bbox(AREA), *TILES)
    near = predict(capfd, server.folder / "scene.tif", *options, folder=tmp_path, out="near.gpkg")
    far = predict(capfd, f"{server.url}/{trouble}/scene.tif", *options, folder=tmp_path, out="far.gpkg")
    assert_same(far, near)


def test_s3_is_read_like_a_file(
    server: Served, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "AWS_S3_ENDPOINT": server.url.removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    options = (*bbox(AREA), *TILES)
    near = predict(capfd, server.folder / "scene.tif", *options, folder=tmp_path, out="near.gpkg")
    far = predict(capfd, "s3://bucket/scene.tif", *options, folder=tmp_path, out="far.gpkg")
    assert_same(far, near)
    missing = predict(capfd, "s3://bucket/none.tif", folder=tmp_path, out="missing.gpkg")
    assert_refused(missing, "s3://bucket/none.tif: no such file (HTTP 404)")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none.tif", "no such file (HTTP 404)"),
        ("403x1000/scene.tif", "access denied (HTTP 403)"),
        ("500x1000/scene.tif", "the server says HTTP 500"),
        ("whole/scene.tif", "byte ranges"),
        ("mute/scene.tif", "the server does not answer"),
    ],
)
def test_one_line_says_what_is_wrong(
    path: str,
    said: str,
    server: Served,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.1")
    result = predict(capfd, f"{server.url}/{path}", folder=tmp_path)
    assert_refused(result, f"{server.url}/{path}: ", said)


def test_nobody_there_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = predict(capfd, "http://127.0.0.1:9/scene.tif", folder=tmp_path)
    assert_refused(result, "127.0.0.1:9/scene.tif: no connection to the server")
