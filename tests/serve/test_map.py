"""What the server answers and refuses, asked in this process."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.warp import reproject

pytest.importorskip("fastapi", reason="geoseg[serve] is not installed")

import mapbox_vector_tile
from fastapi.testclient import TestClient

from geoseg.cli import run
from geoseg.errors import InvalidOption
from geoseg.prediction.decide import Decision
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.session import Session, predict_scene
from geoseg.serve import app as application
from geoseg.serve.app import STATIC, TOKEN_HEADER, Map, make_app
from geoseg.serve.layers import open_served
from geoseg.serve.mercator import HALF, MapTile, to_degrees
from geoseg.serve.run import open_map
from geoseg.serve.scenes import OPACITY
from geoseg.testing import make_scene
from tests.archive.merging import land_model
from tests.runs import BRIGHT, DARK, REPOSITORY, bright_model, picture

SAMPLE = REPOSITORY / "sample_data"
ADDRESS = "http://127.0.0.1:8765"
DEGREE = 0.5 / 111_320
"""Half a metre."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Map]:
    folder = tmp_path_factory.mktemp("served")
    pixels = picture((20, 30, 40, 50), (100, 10, 60, 150), size=(220, 300))
    scene = make_scene(folder / "my scene.tif", pixels=pixels, validity="nodata", nodata=0)
    options = PredictOptions(model=bright_model(), tile=64, overlap=16, max_memory="1200MB")
    with open_map([str(scene)], options, [SAMPLE / "buildings.gpkg", SAMPLE / "landcover.gpkg"]) as served:
        yield served


@pytest.fixture
def client(opened: Map) -> Iterator[TestClient]:
    with TestClient(make_app(opened), base_url=ADDRESS) as made:
        yield made


def middle(opened: Map, zoom: int | None = None, name: str = "my-scene") -> MapTile:
    place = opened.scenes[name].place
    return tile_amid(place.bounds, place.zoom if zoom is None else zoom)


def tile_amid(bounds: tuple[float, float, float, float], zoom: int) -> MapTile:
    west, south, east, north = bounds
    pixel, _, left, _, _, top = MapTile(zoom, 0, 0).box.transform
    return MapTile(
        zoom, int(((west + east) / 2 - left) / pixel / 256), int((top - (south + north) / 2) / pixel / 256)
    )


def ended_job(client: TestClient) -> dict[str, Any]:
    """Wait until the last job has ended."""
    for _ in range(2400):
        job: dict[str, Any] = client.get("/jobs").json()[-1]
        if job["state"] != "running":
            return job
        time.sleep(0.05)
    pytest.fail("the job does not end")


def address(kind: str, tile: MapTile, name: str = "my-scene", end: str = "png") -> str:
    return f"/{kind}/{name}/{tile.z}/{tile.x}/{tile.y}.{end}"


def pixels_of(content: bytes) -> NDArray[np.uint8]:
    assert content.startswith(b"\x89PNG"), content
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_tile_shows_what_is_bright(opened: Map, client: TestClient) -> None:
    tile = middle(opened)
    image = pixels_of(client.get(address("tiles", tile)).content)
    raw = pixels_of(client.get(address("prediction", tile) + "?raw").content)
    styled = pixels_of(client.get(address("prediction", tile)).content)
    assert {25, 230} <= set(image[image[..., 3] > 0][:, 0].tolist())
    assert np.isin(raw, [*range(251), 255]).all()
    assert ((image[..., 3] == 0) == (raw == 255)).mean() > 0.97  # but for the edge, half a pixel
    inside = (image[..., 3] > 0) & (raw < 255)
    assert np.abs(raw[inside] / 250 - image[inside][:, 0] / 255).mean() < 0.01
    assert ((styled[..., 3] > 0) == ((raw >= 125) & (raw < 255))).mean() > 0.995
    assert styled[styled[..., 3] > 0][0].tolist() == [228, 87, 46, OPACITY]


@pytest.mark.parametrize(
    ("crs", "west", "elsewhere", "there"),
    [
        ("EPSG:4326", 180 - 140 * DEGREE, "EPSG:4326", -140 * DEGREE),
        ("EPSG:4326", -180 - 140 * DEGREE, "EPSG:4326", -140 * DEGREE),
        ("EPSG:32701", 180_530 - 70, "EPSG:32731", 180_530 - 70),
    ],
)
def test_a_scene_across_180_degrees_is_shown_as_one_across_0(
    crs: str, west: float, elsewhere: str, there: float, tmp_path: Path
) -> None:
    pixels = picture((20, 30, 40, 50), (100, 10, 60, 150), size=(220, 300))
    step, north = (DEGREE, -17.0) if crs == "EPSG:4326" else (0.5, 8_118_000)
    sources = [
        str(
            make_scene(tmp_path / name, pixels=pixels, crs=in_crs, transform=(step, 0, left, 0, -step, north))
        )
        for name, in_crs, left in (("across.tif", crs, west), ("here.tif", elsewhere, there))
    ]
    options = PredictOptions(model=bright_model(), tile=64, overlap=16, max_memory="1200MB")
    with open_map(sources, options) as served, TestClient(make_app(served), base_url=ADDRESS) as client:
        tile = middle(served, 18, "here")
        sides = set()
        for column in range(tile.x - 2, tile.x + 3):
            turned = (column + 2**17) % 2**18
            for kind in ("tiles", "prediction"):
                here, across = (
                    pixels_of(client.get(address(kind, tile._replace(x=x), name)).content)
                    for x, name in ((column, "here"), (turned, "across"))
                )
                assert (here == across).mean() > 0.999, kind
                if here.any():
                    sides.add((kind, turned > 2**17))
        assert sides >= {("tiles", False), ("tiles", True), ("prediction", True)}
        (facts, _) = client.get("/scenes").json()["scenes"]
        assert 0 < facts["bounds"][2] - facts["bounds"][0] < 0.01
        (told, token) = client.get("/tiles/across.json").json(), served.token
        assert told["bounds"][::2] == [-180, 180]
        assert abs(abs(told["center"][0]) - 180) < 0.01
        for shift in (0, 360 if facts["bounds"][0] < 0 else -360):
            box = ",".join(str(round(one + shift * (i % 2 == 0), 9)) for i, one in enumerate(facts["bounds"]))
            answer = client.post(f"/map/across?bbox={box}", headers={TOKEN_HEADER: token})
            assert answer.status_code == 202, answer.text
            assert ended_job(client)["message"] == "2 features"


def test_what_is_not_changed_is_not_computed_again(opened: Map, client: TestClient) -> None:
    for kind in ("tiles", "prediction"):
        first = client.get(address(kind, middle(opened)))
        again = client.get(address(kind, middle(opened)), headers={"If-None-Match": first.headers["ETag"]})
        assert (first.status_code, again.status_code) == (200, 304)


def test_descriptions_lead_to_the_tiles(opened: Map, client: TestClient) -> None:
    told = client.get("/scenes").json()
    (scene,) = told["scenes"]
    assert [one["name"] for one in told["layers"][:2]] == ["buildings", "landcover"]
    prediction = client.get(scene["prediction"].removeprefix(ADDRESS)).json()
    west, south, east, north = prediction["bounds"]
    assert west < east
    assert south < north
    tile = middle(opened)
    path = prediction["tiles"][0].removeprefix(ADDRESS).format(**tile._asdict())
    assert client.get(path).status_code == 200
    layer = client.get("/features/buildings.json").json()
    assert layer["vector_layers"][0]["fields"]
    assert client.get("/health").json()["status"] == "ok"
    assert "/prediction/{scene}/{z}/{x}/{y}.png" in client.get("/openapi.json").json()["paths"]
    assert "/prediction/" in client.get("/docs").text


@pytest.mark.slow
def test_probabilities_are_those_of_predict(tmp_path: Path) -> None:
    """The default model on the sample: `?raw` against the raster of a run, warped in the same way."""
    raster = tmp_path / "probability.tif"
    content = {"raster_content": "probability-float32", "raster_resolution": "model"}
    predict_scene(SAMPLE / "scene.tif", tmp_path / "out.gpkg", PredictOptions(raster=raster, **content))
    with (
        open_map([str(SAMPLE / "scene.tif")], PredictOptions(), read_only=True) as opened,
        rasterio.open(raster) as run_,
    ):
        client = TestClient(make_app(opened), base_url=ADDRESS)
        live = opened.scenes["scene"]
        for zoom in (live.place.zoom, live.place.zoom - 1, live.whole_from):
            tile = middle(opened, zoom, "scene")
            raw = pixels_of(client.get(address("prediction", tile, "scene") + "?raw").content)
            expected = np.full(raw.shape, np.nan, np.float32)
            reproject(
                rasterio.band(run_, 1),
                expected,
                dst_transform=rasterio.Affine(*tile.box.transform),
                dst_crs="EPSG:3857",
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,
                XSCALE=(scale := min(1, 256 / live.place.pixels_across(zoom))),
                YSCALE=scale,
            )
            edge = np.isnan(expected) | (raw == 255)
            away = ~(
                edge | np.roll(edge, 2, 0) | np.roll(edge, -2, 0) | np.roll(edge, 2, 1) | np.roll(edge, -2, 1)
            )
            assert away.mean() > 0.2
            assert np.abs(raw[away] / 250 - expected[away]).max() <= 2 / 255
        assert opened.tiles.used <= opened.tiles.memory


def test_coarse_zooms_are_previews_of_a_few_windows(opened: Map, client: TestClient) -> None:
    live = opened.scenes["my-scene"]
    for zoom in range(live.preview_from, live.place.zoom + 1):
        tile = middle(opened, zoom)
        answer = client.get(address("prediction", tile) + "?raw")
        assert ("X-Geoseg-Preview" in answer.headers) == live.is_preview(zoom)
        assert not live.is_preview(zoom) or len(live.needs(tile)) <= 9
    coarse = middle(opened, live.preview_from - 1)
    assert not live.needs(coarse)
    assert pixels_of(client.get(address("prediction", coarse)).content)[..., 3].max() == 0


def test_a_map_of_several_classes(tmp_path: Path) -> None:
    """Red, green and blue fields: the model knows the green and the blue, as far as they are bright."""
    pixels = np.full((3, 220, 300), DARK, np.uint8)
    for (row, col), (band, value) in {
        (20, 20): (1, BRIGHT),
        (20, 160): (2, BRIGHT),
        (120, 20): (0, BRIGHT),
        (120, 160): (2, 100),
    }.items():
        pixels[band, row : row + 80, col : col + 120] = value
    scene = make_scene(tmp_path / "land.tif", pixels=pixels)
    options = PredictOptions(model=land_model(tmp_path / "model"), max_memory="1500MB")
    with open_map([str(scene)], options) as opened:
        client = TestClient(make_app(opened), base_url=ADDRESS)
        (facts,) = client.get("/scenes").json()["scenes"]
        assert [one["name"] for one in facts["classes"]] == ["wood", "water"]
        assert (facts["channels"], facts["threshold"]) == ([0, 1, 2], 0.5)
        tile = middle(opened, name="land")
        raw = pixels_of(client.get(address("prediction", tile, "land") + "?raw").content)
        styled = pixels_of(client.get(address("prediction", tile, "land")).content)
        shown = (raw[..., 0] >= 125) & (raw[..., 0] < 255)
        winner = raw[..., 1] * shown
        assert set(np.unique(winner)) == {0, 1, 2}
        assert (raw[..., 1][~shown] == 2).any()  # the darker blue
        colors = np.array([[0] * 4, *([*one["color"], OPACITY] for one in facts["classes"])])
        exact = raw[..., 0] != 125  # which stands for what is just below one half, too
        assert (styled == colors[winner])[exact].all()
        assert exact.mean() > 0.98


def test_neighbours_meet_without_a_seam(opened: Map, client: TestClient) -> None:
    tile = middle(opened)
    pair = [
        pixels_of(client.get(address("prediction", one) + "?raw").content)
        for one in (tile._replace(x=tile.x - 1), tile)
    ]
    both = np.hstack(pair).astype(int)
    known = (both[:, 255] < 255) & (both[:, 256] < 255)
    assert known.any()
    across = np.abs(both[known][:, 255] - both[known][:, 256])
    assert (across <= 2).mean() > 0.9  # the rest are edges of buildings


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/tiles/nothing/1/0/0.png", 404, "no scene 'nothing'; there is my-scene"),
        ("/features/x.geojson?bbox=1,2,3,4", 404, "no layer 'x'"),
        ("/tiles/..%2f..%2fetc%2fpasswd/1/0/0.png", 404, "Not Found"),
        ("/static/..%2fapp.py", 404, "Not Found"),
        ("/prediction/my-scene/25/0/0.png", 400, "zoom is 0 to 24"),
        ("/prediction/my-scene/3/8/0.png", 400, "below 2 to the zoom"),
        ("/prediction/my-scene/3/-1/0.png", 400, "below 2 to the zoom"),
        ("/prediction/my-scene/three/1/0.png", 400, "z: Input should be a valid integer"),
        ("/features/buildings.geojson", 400, "bbox: Field required"),
        ("/features/buildings.geojson?bbox=nan,2,3,4", 400, "bbox: takes degrees"),
        ("/features/buildings.geojson?bbox=3,2,1,4", 400, "bbox: takes degrees"),
        ("/features/buildings.geojson?bbox=1,2", 400, "bbox: takes degrees"),
    ],
)
def test_bad_input_gets_one_line(client: TestClient, path: str, status: int, words: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert words in answer.text
    assert len(answer.text.strip().splitlines()) == 1


def test_only_this_machine_s_own_names_are_answered(client: TestClient) -> None:
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/health", headers={"Host": "localhost:8765"}).status_code == 200
    assert (
        "Access-Control-Allow-Origin"
        not in client.get("/scenes", headers={"Origin": "http://evil.example"}).headers
    )


def test_too_much_at_once_is_told_to_come_again(
    opened: Map, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "MOST_REQUESTS", 0)
    answer = client.get(address("prediction", middle(opened)))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    monkeypatch.undo()
    assert client.get(address("prediction", middle(opened))).status_code == 200


def test_layers_as_vector_tiles_and_geojson(opened: Map, client: TestClient) -> None:
    layer = opened.layers["buildings"]
    assert layer.bounds is not None
    west, south, east, north = to_degrees(np.array(layer.bounds).reshape(2, 2)).ravel()
    found = client.get(f"/features/buildings.geojson?bbox={west},{south},{east},{north}").json()
    assert len(found["features"]) == layer.features
    path = address("features", tile_amid(layer.bounds, 16), "buildings", "mvt")
    tile = mapbox_vector_tile.decode(client.get(path).content)
    shown = tile["buildings"]["features"]
    assert len(shown) > 10
    assert shown[0]["properties"].keys() <= set(layer.fields)
    assert client.get("/features/buildings/download").content == (SAMPLE / "buildings.gpkg").read_bytes()


def test_a_view_is_mapped_and_becomes_a_layer(opened: Map, client: TestClient) -> None:
    bounds = client.get("/scenes").json()["scenes"][0]["bounds"]
    order = f"/map/my-scene?bbox={','.join(map(str, bounds))}"
    assert client.post(order).status_code == 403
    assert client.post(order, headers={TOKEN_HEADER: "guessed"}).status_code == 403
    token = re.findall('name="token" content="(.+?)"', client.get("/").text)[0]
    assert client.post("/map/my-scene?bbox=0,0,1,1", headers={TOKEN_HEADER: token}).status_code == 400
    begun = client.post(order, headers={TOKEN_HEADER: token})
    assert begun.status_code == 202, begun.text
    job = ended_job(client)
    assert job["state"] == "done", job
    made = client.get("/scenes").json()["layers"][-1]
    assert (made["name"], made["features"]) == (job["name"], 2)
    assert client.delete("/jobs").status_code == 403


def test_a_read_only_map_runs_nothing(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(100, 100), bands=1, dtype="uint16")
    options = PredictOptions(model=bright_model(1))
    with open_map([str(scene), str(scene)], options, read_only=True) as opened:
        client = TestClient(make_app(opened), base_url=ADDRESS)
        assert list(opened.scenes) == ["scene", "scene-2"]
        assert 'name="token" content=""' in client.get("/").text
        assert client.post("/map/scene?bbox=0,0,1,1", headers={TOKEN_HEADER: opened.token}).status_code == 403
        grey = pixels_of(client.get(address("tiles", middle(opened, name="scene"), "scene")).content)
        assert np.ptp(grey[grey[..., 3] > 0][:, 0]) > 200  # stretched


def test_what_the_page_needs_lies_beside_it(client: TestClient) -> None:
    folder = STATIC / "maplibre"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert "Redistribution and use" in (folder / "LICENSE.txt").read_text()
    page = client.get("/")
    for name in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert client.get(name).status_code == 200
    written = page.text + (STATIC / "map.js").read_text() + (STATIC / "map.css").read_text()
    assert not re.search(r"https?://", written)
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


def test_what_cannot_be_served_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    nowhere = make_scene(tmp_path / "nowhere.tif", crs=None)
    pole = make_scene(tmp_path / "pole.tif", crs="EPSG:3413", transform=(0.3, 0, 0, 0, -0.3, 0))
    scene = make_scene(tmp_path / "scene.tif")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        used, model = taken.getsockname()[1], ["--model", str(bright_model())]
        for arguments, words in (
            ([nowhere, "--port", "0", *model], "nowhere.tif: has no CRS, and a map needs one"),
            ([pole, "--port", "0", *model], "pole.tif: has no place on a web map"),
            ([scene, "--port", "0", *model, "--layer", tmp_path / "none.gpkg"], "none.gpkg: no such file"),
            ([scene, "--port", used, *model], f"--port {used}: cannot be used (address already in use)"),
            ([scene, "--port", "0", *model, "--max-memory", "400MB"], "at least"),
            ([scene, "--port", "x"], "--port must be a whole number"),
        ):
            assert run(["serve", *map(str, arguments)]) == 2
            error = capsys.readouterr().err
            assert words in error
            assert len(error.splitlines()) == 1


def test_a_file_of_several_layers_shows_each(tmp_path: Path) -> None:
    path = tmp_path / "places.gpkg"
    for name in ("houses", "fields"):
        geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 9, 9)], crs=32633).to_file(path, layer=name)
    scene = make_scene(tmp_path / "scene.tif")
    with open_map([str(scene)], PredictOptions(model=bright_model()), [path]) as opened:
        assert [(one.name, one.features) for one in opened.layers.values()] == [
            ("places-houses", 1),
            ("places-fields", 1),
        ]


@pytest.mark.parametrize("west", [179.9995, -180.0005])
def test_a_layer_across_180_degrees_is_shown_on_both_sides(west: float, tmp_path: Path) -> None:
    house = shapely.box(west, -17.001, west + 0.001, -17)
    geopandas.GeoDataFrame(geometry=[house], crs=4326).to_file(tmp_path / "house.gpkg")
    layer = open_served(tmp_path / "house.gpkg", "house", tmp_path)
    assert layer.bounds is not None
    assert 100 < layer.bounds[2] - layer.bounds[0] < 120
    row = int((HALF - (layer.bounds[1] + layer.bounds[3]) / 2) / (2 * HALF / 2**16))
    for x in (0, 2**16 - 1):
        (shown,) = mapbox_vector_tile.decode(layer.tile(MapTile(16, x, row)))["house"]["features"]
        columns = shapely.bounds(shapely.geometry.shape(shown["geometry"]))[[0, 2]]
        assert 365 < np.ptp(columns) - 64 < 378  # of 4096; and the buffer
    assert not mapbox_vector_tile.decode(layer.tile(MapTile(16, 2**15, row)))["house"]["features"]
    (found,) = json.loads(layer.geojson(MapTile(16, 0, row).bounds))["features"]
    longitudes = shapely.bounds(shapely.geometry.shape(found["geometry"]))[[0, 2]]
    assert longitudes.round(7).tolist() == [-180.0005, -179.9995]


def test_a_layer_of_the_whole_earth_is_shown_where_there_is_a_map(tmp_path: Path) -> None:
    halves = [shapely.box(-180, -90, 0, 0), shapely.box(0, -60, 180, 85)]
    geopandas.GeoDataFrame(geometry=halves, crs=4326).to_file(tmp_path / "earth.gpkg")
    layer = open_served(tmp_path / "earth.gpkg", "earth", tmp_path)
    tile = mapbox_vector_tile.decode(layer.tile(MapTile(1, 1, 1)))["earth"]["features"]
    assert len(tile) == 2  # the one, and the side of the other
    assert layer.bounds == pytest.approx((-HALF, -HALF, HALF, HALF), rel=0.01)


def test_a_scene_that_is_damaged_replaced_or_gone_is_told_in_one_line(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(300, 300))
    whole = scene.read_bytes()
    scene.write_bytes(whole[: len(whole) // 2])
    options = PredictOptions(model=bright_model())
    with open_map([str(scene)], options) as opened:
        client = TestClient(make_app(opened), base_url=ADDRESS)
        tile = middle(opened, name="scene")
        told = client.get(address("tiles", tile, "scene"))
        assert (told.status_code, len(told.text.splitlines())) == (500, 1)
        assert "scene.tif: cannot be read" in told.text
        for change in (lambda: scene.write_bytes(whole), scene.unlink):
            change()
            post = client.post("/map/scene?bbox=0,0,1,1", headers={TOKEN_HEADER: opened.token})
            for answer in (
                *(client.get(address(one, tile, "scene")) for one in ("tiles", "prediction")),
                post,
            ):
                assert answer.status_code == 500
                assert "has changed or gone since it was opened; start geoseg serve again" in answer.text


def test_what_a_killed_server_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    scene, options = str(make_scene(tmp_path / "scene.tif")), PredictOptions(model=bright_model())
    with open_map([scene], options):
        (folder,) = (tmp_path / "tmp").iterdir()
        with subprocess.Popen([sys.executable, "-c", ""]) as gone:
            pass
        left = folder.with_name(folder.name.replace(str(os.getpid()), str(gone.pid)))
        left.mkdir()
        (left / "view-1.gpkg").touch()
        with open_map([scene], options):
            assert folder.exists()
            assert not left.exists()
    assert not [*(tmp_path / "tmp").iterdir()]


def test_a_model_that_finds_objects_is_for_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, decide = make_scene(tmp_path / "scene.tif"), Session.decide

    def objects(session: Session, source: str) -> Decision:
        found = decide(session, source)
        return replace(found, work=replace(found.work, plan=replace(found.plan, task="instance")))

    monkeypatch.setattr(Session, "decide", objects)
    with (
        pytest.raises(InvalidOption, match="finds objects"),
        open_map([str(scene)], PredictOptions(model=bright_model())),
    ):
        pass


def test_a_layer_without_an_index_and_with_gaps(tmp_path: Path) -> None:
    boxes = [shapely.box(11, 48, 11.001, 48.001), None, shapely.box(11.002, 48, 11.003, 48.001)]
    geopandas.GeoDataFrame({"a": [1]}, geometry=[None], crs=4326).to_file(tmp_path / "none.gpkg")
    nowhere = open_served(tmp_path / "none.gpkg", "none", tmp_path)
    assert (nowhere.features, nowhere.bounds, nowhere.zoom) == (1, None, 0)
    assert b"Polygon" not in nowhere.geojson((-HALF, -HALF, HALF, HALF)) + nowhere.tile(MapTile(0, 0, 0))
    columns = {"share": [0.5, 1.0, np.nan], "name": ["x", "y", None], "flag": [True, True, False]}
    geopandas.GeoDataFrame(columns, geometry=boxes, crs="EPSG:4326").to_parquet(tmp_path / "some.parquet")
    layer = open_served(tmp_path / "some.parquet", "some", tmp_path)
    assert layer.bounds is not None
    found = json.loads(layer.geojson(layer.bounds))["features"]
    assert [one["properties"] for one in found] == [
        {"share": 0.5, "name": "x", "flag": True},
        {"flag": False},
    ]
    corner = np.array(found[0]["geometry"]["coordinates"][0])
    assert np.abs(corner.max(axis=0) - [11.001, 48.001]).max() < 1e-7
