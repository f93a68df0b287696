"""From a layer to a page, from the page to verdicts, from verdicts to a layer."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.enums import ColorInterp

from geoseg.cli import run
from geoseg.evaluation import EvaluateOptions
from geoseg.evaluation.inputs import Sources, open_inputs, tile_layers
from geoseg.labels.verdicts import read_verdicts
from geoseg.raster.scene import open_scene
from geoseg.review.apply import precision_of
from geoseg.testing import make_scene
from geoseg.values import Window
from tests.runs import picture

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PIXEL, WEST, NORTH = 0.5, 500_000.0, 5_000_000.0


@pytest.fixture
def layer(tmp_path):
    """A scene of eight houses, the layer of them: the third is unlikely, the last lies beside the scene."""
    houses = [(10 + 40 * (i // 4), 10 + 30 * (i % 4), 12 + i, 14) for i in range(8)]
    make_scene(tmp_path / "scene.tif", pixels=picture(*houses), transform=(PIXEL, 0, WEST, 0, -PIXEL, NORTH))
    boxes = [
        shapely.box(WEST + PIXEL * x, NORTH - PIXEL * (y + h), WEST + PIXEL * (x + w), NORTH - PIXEL * y)
        for y, x, h, w in [*houses, (300, 300, 5, 5)]
    ]
    confidence = [0.9, 0.9, 0.5, *[0.9] * 6]
    ids = [9_007_199_254_740_993 + i for i in range(9)]  # no double holds the first
    frame = geopandas.GeoDataFrame(
        {"id": ids, "class_name": "</script>", "confidence": confidence}, geometry=boxes, crs=32633
    )
    frame.to_file(tmp_path / "houses.gpkg")
    return tmp_path / "houses.gpkg"


def page(layer, *arguments, code=0):
    out = layer.with_name("review.html")
    scene = layer.with_name("scene.tif")
    given = [*map(str, (layer, "--scene", scene, "--out", out)), *arguments]
    assert run(["review", *given, "--overwrite"]) == code
    return out


def content(path):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"))[1]
    )


def test_the_page_holds_all_and_the_most_doubtful_first(layer, capfd):
    path = page(layer, "--count", "3")
    assert "3 of 8 polygons to look at; 1 lie outside the scene" in capfd.readouterr().err
    text = path.read_text("utf-8")
    assert not re.search(r"(src|href)=[\"']?(?!data:)\w|https?://|@import|url\(", text)
    found = content(path)
    assert found["column"] == "id"
    assert found["items"][0]["key"] == "9007199254740995"
    assert found["items"][0]["reasons"] == ["low confidence"]
    assert found["items"][0]["class"] == "</script>"
    assert found["items"][0]["geometry"]["type"] == "Polygon"
    assert found["items"][0]["picture"].startswith("data:image/jpeg;base64,")


def test_the_outline_lies_on_the_house(layer):
    item = content(page(layer))["items"][0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(item["picture"].partition(",")[2]))))
    assert pixels.shape[1::-1] == tuple(item["size"])
    corners = np.array([one.split() for one in re.split("[MLZ]+", item["outline"]) if one], float)
    left, top = corners.min(axis=0).astype(int)
    right, bottom = corners.max(axis=0).astype(int)
    assert pixels[top + 2 : bottom - 2, left + 2 : right - 2].min() > 150
    assert pixels[top:bottom, right + 3 : right + 6].max() < 100


@pytest.mark.parametrize(
    ("colors", "shown"),
    [
        (("red", "green", "blue", "undefined"), (40, 90, 140)),
        (("blue", "green", "red", "undefined"), (140, 90, 40)),
        (("gray", "undefined", "undefined", "undefined"), (40, 90, 140)),
        (("gray",), (40, 40, 40)),
        (("gray", "undefined"), (40, 40, 40)),
    ],
)
def test_page_report_and_map_show_the_same_colours(layer, colors, shown):
    """Of four bands, a gray one, and bands that are named in another order."""
    from types import SimpleNamespace

    from geoseg.serve.scenes import LiveScene

    scene = layer.with_name("scene.tif")
    values = np.array([40, 90, 140, 190][: len(colors)], np.uint8)
    pixels = np.broadcast_to(values[:, None, None], (len(values), 160, 160))
    make_scene(scene, pixels=pixels, transform=(PIXEL, 0, WEST, 0, -PIXEL, NORTH))
    with rasterio.open(scene, "r+") as dataset:
        dataset.colorinterp = [ColorInterp[name] for name in colors]
    info = open_scene(str(scene))
    assert [band.color for band in info.bands] == list(colors)

    picture = Image.open(io.BytesIO(base64.b64decode(content(page(layer))["items"][0]["picture"][23:])))
    assert np.abs(np.array(picture.getpixel((0, 0))) - shown).max() <= 2  # a JPEG
    sources = Sources(truth=str(layer), prediction=str(layer), scene=str(scene))
    compared = tile_layers(open_inputs(sources, EvaluateOptions()), Window(0, 0, 8, 8)).scene
    assert np.broadcast_to(compared[:, 0, 0], 3).tolist() == list(shown)
    plan = SimpleNamespace(inputs=SimpleNamespace(bands=colors), bands=range(1, len(colors) + 1), scene=info)
    bands, limits = LiveScene("scene", str(scene), SimpleNamespace(plan=plan)).picture
    assert limits is None
    assert np.broadcast_to(values[np.array(bands) - 1], 3).tolist() == list(shown)


def verdicts(layer, *rows):
    path = layer.with_name("verdicts.csv")
    path.write_text("\n".join(["id,verdict,stratum,stratum_size", *rows]) + "\n")
    return path


FIRST = 9_007_199_254_740_993


def test_verdicts_filter_the_layer_and_state_its_precision(layer, capfd):
    said = [
        f"{FIRST + i},{one},{i // 4},4" for i, one in enumerate(["right"] * 5 + ["wrong", "unsure", "redraw"])
    ]
    path, out = verdicts(layer, *said), layer.with_name("checked.gpkg")
    assert run(["review", str(layer), "--apply", str(path), "--out", str(out)]) == 0
    err = capfd.readouterr().err
    assert "8 features; of the verdicts 1 redraw, 5 right, 1 unsure, 1 wrong" in err
    assert "precision  83.3% right (95 % interval" in err
    checked = pyogrio.read_dataframe(out)
    assert FIRST + 5 not in set(checked["id"])
    assert checked["verdict"].fillna("").tolist() == ["right"] * 5 + ["unsure", "redraw", ""]
    assert checked.geometry.geom_equals(
        pyogrio.read_dataframe(layer).drop(5).geometry.reset_index(drop=True)
    ).all()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_verdicts_that_a_spreadsheet_has_saved(layer, separator):
    rows = [["id", "verdict"], [str(FIRST), "Wrong "], [str(FIRST + 1), ""], ["", ""]]
    path, out = layer.with_name("verdicts.csv"), layer.with_name("checked.gpkg")
    text = "".join(separator.join(row) + "\r\n" for row in rows)
    path.write_text(text, encoding="utf-8-sig", newline="")
    assert run(["review", str(layer), "--apply", str(path), "--out", str(out)]) == 0
    assert FIRST not in set(pyogrio.read_dataframe(out)["id"])
    assert len(pyogrio.read_dataframe(out)) == len(pyogrio.read_dataframe(layer)) - 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([f"{FIRST},,,"], "holds no verdicts"),
        ([f"{FIRST},rihgt,,"], "verdict 1: 'rihgt' is none; did you mean 'right'?"),
        ([f"{FIRST},right,,", f"{FIRST},wrong,,"], "verdict 2 is there twice"),
        (["12,right,,"], "1 of 1 verdicts are on polygons that the layer does not have (first: id 12)"),
        ([], "holds no verdicts"),
    ],
)
def test_verdicts_that_cannot_be_used_get_one_line(layer, capfd, rows, words):
    out = layer.with_name("checked.gpkg")
    assert run(["review", str(layer), "--apply", str(verdicts(layer, *rows)), "--out", str(out)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line
    assert not out.exists()


@pytest.mark.parametrize("west", [14.99, 179.99999])
def test_verdicts_on_a_layer_with_the_same_numbers_are_refused(layer, capfd, west):
    houses = [shapely.box(west + i * 1e-4, 52, west + i * 1e-4 + 5e-5, 52.0001) for i in range(3)]
    geopandas.GeoDataFrame(geometry=houses, crs=4326).to_file(layer.with_name("new.gpkg"))
    path, out = layer.with_name("verdicts.csv"), layer.with_name("checked.gpkg")
    for shift, code in [(0, 0), (1, 2)]:
        x, y = houses[1 + shift].centroid.coords[0]
        path.write_text(
            f"feature;verdict;longitude;latitude\n2;wrong;{(x + 180) % 360 - 180:.7f};{y}".replace(".", ",")
        )
        assert (
            run(["review", str(layer.with_name("new.gpkg")), "--apply", str(path), "--out", str(out)]) == code
        )
        out.unlink(missing_ok=True)
    assert (
        "1 of 1 verdicts are on polygons that the layer does not have (first: feature 2)"
        in capfd.readouterr().err
    )


def test_what_no_page_can_be_made_of_gets_one_line(layer, capfd, tmp_path):
    far = tmp_path / "far.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=32633).to_file(far)
    page_of = ["--scene", str(tmp_path / "scene.tif"), "--out", str(tmp_path / "r.html")]
    for arguments, words in [
        ([str(far), *page_of], "no polygon lies on"),
        ([str(layer), "--out", str(tmp_path / "r.html")], "give --scene to make a page"),
        ([str(layer), *page_of[:3], str(tmp_path / "r.gpkg")], "its name must end in .html"),
        ([str(tmp_path / "none.gpkg"), *page_of], "none.gpkg"),
        ([str(layer), *page_of, "--sample", "9", "--count", "3"], "whatever --count says"),
        ([str(layer), *page_of, "--seed", "9"], "--seed is for --sample N"),
        (
            [str(layer), "--apply", "v.csv", "--out", "c.gpkg", "--sample", "9"],
            "--sample is for making a page",
        ),
        ([str(layer), "--apply", "v.csv", "--out", "c.gpkg", "--older", "o.gpkg"], "--older is for making a"),
    ]:
        assert run(["review", *arguments]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert words in line


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_person_walks_through_a_sample_in_a_browser(layer, tmp_path, capfd):
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing (the group dev brings it)")
    path = page(layer, "--sample", "8", "--seed", "3")
    with (
        api.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"]) as browser,
    ):
        tab = browser.new_page()

        def press(*keys):
            for key in keys:
                tab.keyboard.press(key)

        tab.goto(path.as_uri())
        press(*"rr2rruz", "ArrowLeft")
        for _ in range(50):  # the browser writes down what it keeps when it comes to it
            tab.reload()
            first = tab.evaluate("state")
            if first["verdicts"]:
                break
            tab.wait_for_timeout(100)
        press(*"nrd")
        last, line, shown = tab.evaluate("[state, document.getElementById('counts').innerText, precision()]")
        both = []
        for suffix in ("csv", "geojson"):
            with tab.expect_download() as download:
                tab.click(f"#{suffix}")
            exported = tmp_path / download.value.suggested_filename
            download.value.save_as(exported)
            assert exported.name == f"houses.review.{suffix}"
            both.append(read_verdicts(exported))
    assert list(first["verdicts"].values()) == ["right", "right", "wrong", "right", "right", "unsure"]
    assert first["at"] == 5
    assert len(last["verdicts"]) == 8
    said = both[0]
    assert said.of == both[1].of == last["verdicts"]
    expected = precision_of(said)
    assert [shown[name] for name in ("value", "low", "high")] == pytest.approx(
        [expected.value, expected.low, expected.high]
    )
    assert f"{100 * expected.value:.1f} %" in line
    assert geopandas.read_file(exported).total_bounds[0] == pytest.approx(15, abs=0.01)


def test_training_sees_what_was_judged_and_nothing_else(layer):
    from geoseg.labels.classes import IGNORE
    from geoseg.training.data.read import open_labelled
    from geoseg.training.data.spec import DataSpec, Draws, SceneSpec

    said = [f"{FIRST + i},{one},," for i, one in enumerate(["right", "wrong", "unsure", "redraw"])]
    path = verdicts(layer, *said)
    spec = SceneSpec(scene="scene.tif", labels="houses.gpkg", verdicts=path.name)
    data, draws = DataSpec(scenes=(spec,)), Draws(crop=32, resolution_m=0.5, smallest_m=0.4)
    found, _ = open_labelled(spec, data, draws, layer.parent, data.table)
    _, labels = found.ground.read(found.geobox.window, found.geobox.shape)
    expected = np.full(labels.shape, IGNORE)
    expected[10:22, 10:24], expected[10:23, 40:54] = 1, 0
    assert (labels == expected).all()
    assert len(found.ground.spots) == 1
