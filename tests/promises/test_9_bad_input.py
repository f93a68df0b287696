"""Promise 9: bad input gets one line, and odd input comes out right."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyogrio
import pytest

import geoseg
from geoseg.cli import run
from geoseg.errors import GeosegError
from geoseg.prediction.options import PredictOptions
from geoseg.testing import make_scene
from tests.raster.serve import served
from tests.runs import BRIGHT, DARK, assert_refused, bright_model, least_memory, picture, predict


def good_scene(folder: Path) -> Path:
    return make_scene(folder / "scene.tif", pixels=picture((20, 30, 40, 60)))


def test_text_that_is_called_tif(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = tmp_path / "scene.tif"
    scene.write_text("this is not a raster\n")
    assert_refused(predict(capfd, scene), "scene.tif", "not a raster")


def test_a_file_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused(predict(capfd, tmp_path / "missing.tif"), "missing.tif", "no such file")


def test_an_empty_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scene.tif").touch()
    assert_refused(predict(capfd, tmp_path / "scene.tif"), "scene.tif")


def test_a_truncated_file_is_done_in_part_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 300, 300)).astype(np.uint8)
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels, block=64)
    whole = scene.read_bytes()
    scene.write_bytes(whole[: len(whole) * 2 // 3])
    result = predict(capfd, scene)
    if result.code == 2:  # the directory itself was cut off
        assert_refused(result, "scene.tif")
        return
    assert result.code == 1
    assert result.summary["failed"]
    assert result.summary["coverage"] < 1
    assert "NOT DONE" in result.err


def test_one_unreadable_block_costs_its_tiles_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import rasterio

    pixels = picture((10, 10, 20, 20), (300, 300, 40, 40), size=(400, 400))
    pixels[:, 150:200, 150:200] = np.random.default_rng(0).integers(0, 90, (3, 50, 50))
    scene = make_scene(
        tmp_path / "scene.tif", pixels=pixels, block=64, compress="deflate", interleave="pixel"
    )
    with rasterio.open(scene) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
    data = bytearray(scene.read_bytes())
    data[offset : offset + 40] = b"\xff" * 40
    scene.write_bytes(data)
    result = predict(capfd, scene)
    assert result.code == 1, result.err
    assert len(result.features) == 2
    assert 0.85 < result.summary["coverage"] < 1
    windows = [failure["window"] for failure in result.summary["failed"]]
    metadata = pyogrio.read_info(result.path, layer=0)["layer_metadata"]
    assert json.loads(metadata["geoseg_failed"]) == windows, "not in words that depend on threads"
    for row, col, height, width in windows:
        assert row < 192
        assert row + height > 128
        assert col < 192
        assert col + width > 128


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7)])
@pytest.mark.parametrize("outline", ["pixel", "smooth"])
def test_tiny_and_thin_scenes(
    size: tuple[int, int], outline: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=np.full((3, *size), BRIGHT, np.uint8))
    result = predict(capfd, scene, "--outline", outline)
    assert result.code == 0, result.err
    assert len(result.features) == 1
    assert result.features.area_m2[0] == pytest.approx(size[0] * size[1] * 0.09, rel=2e-3)


def test_a_thin_scene_of_5000(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = np.full((3, 1, 5000), DARK, np.uint8)
    pixels[:, :, 1000:1010] = BRIGHT
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels)
    assert len(predict(capfd, scene).features) == 1


def test_one_band_under_an_rgb_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=picture((20, 30, 40, 60), bands=1))
    assert_refused(predict(capfd, scene), "1 band", "3")


def test_rgb_under_a_four_band_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused(predict(capfd, good_scene(tmp_path), bands=4), "3 bands", "4")


def test_four_bands_with_alpha(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=picture((30, 40, 40, 60)), validity="alpha")
    assert predict(capfd, scene).features.area_m2.sum() == pytest.approx(40 * 60 * 0.09, rel=1e-3)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_other_types_are_stretched(dtype: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = picture((20, 30, 40, 60)).astype(dtype) * 10
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels)
    result = predict(capfd, scene)
    assert result.code == 0, result.err
    assert "stretch" in result.err
    assert result.features.area_m2.sum() == pytest.approx(40 * 60 * 0.09, rel=1e-3)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("out.xyz", (".gpkg",)),
        ("there.gpkg/out.gpkg", ("is not a folder",)),
        ("there.gpkg", ("exists already", "--overwrite")),
    ],
)
def test_outputs_are_checked_before_any_work(
    out: str, words: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.gpkg").write_text("precious")
    result = predict(capfd, tmp_path / "no scene is even opened.tif", out=out)
    assert result.code == 2
    assert all(word in result.err for word in words), result.err
    assert len(result.err.splitlines()) == 1
    assert (tmp_path / "there.gpkg").read_text() == "precious"


@pytest.mark.parametrize(
    "out", ["out.gpkg", "out.fgb", "out.parquet", "out.geojson", "out.geojsonl", "out.shp"]
)
@pytest.mark.parametrize("empty", [False, True])
def test_every_format_is_written(
    out: str, empty: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = picture() if empty else picture((20, 30, 40, 60), (70, 10, 10, 10))
    result = predict(capfd, make_scene(tmp_path / "scene.tif", pixels=pixels), out=out)
    assert result.code == 0, result.err
    assert result.summary["features"] == (0 if empty else 2)
    if empty and out.endswith(".geojsonl"):
        assert result.path.read_text() == ""  # no line, no feature; OGR finds no format in that
    else:
        assert len(result.features) == (0 if empty else 2)
    assert not list(tmp_path.glob(".*"))


def test_a_pickle_is_never_loaded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    for name in ("model.pth", "model.onnx", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        assert_refused(predict(capfd, good_scene(tmp_path), "--model", tmp_path / name), name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nothing"], ("nothing",)),
        (["--threshold", "2"], ("--threshold",)),
        (["--tile", "50"], ("--tile",)),
        (["--overlap", "60", "--tile", "64"], ("--overlap",)),
        (["--bands", "1,2,9"], ("--bands",)),
        (["--bands", "1"], ("--bands",)),
        (["--device", "tpu"], ("tpu",)),
        (["--max-memory", "1kB"], ("--max-memory",)),
        (["--aoi", "missing.gpkg"], ("missing.gpkg",)),
        (["--bbox", "0", "0", "1", "1"], ("outside",)),
        (["--crs", "EPSG:999999"], ("EPSG:999999",)),
        (["--raster", "out.png"], ("out.png", ".tif")),
        (["--raster-content", "class"], ("--raster-content", "for --raster, which is not given")),
        (["--raster-resolution", "model"], ("--raster-resolution", "for --raster, which is not given")),
        (["--stretch", "10"], ("--stretch takes auto, none or LOW,HIGH, not '10'",)),
        (["--max-memory", "10"], ("--max-memory 10 bytes",)),
        (["--scheduler", "tcp://127.0.0.1:1"], ("--scheduler",)),
        (["--scheduler", "tls://127.0.0.1:1"], ("--scheduler", "not set up for tls")),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str],
    words: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geoseg.prediction.cluster.SCHEDULER_SECONDS", 0.2)
    assert_refused(predict(capfd, good_scene(tmp_path), *arguments), *words)


@pytest.mark.parametrize(
    "arguments", [["--threshold", "high"], ["--max-memory", "lots"], ["--tile", "big"], ["--no"]]
)
def test_values_that_cannot_be_read_are_usage_errors(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = predict(capfd, good_scene(tmp_path), *arguments)
    assert result.code == 2
    assert arguments[0] in result.err
    assert "Traceback" not in result.err


def test_an_area_of_interest_is_all_that_is_predicted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import geopandas
    import rasterio
    from shapely.geometry import box

    scene = make_scene(
        tmp_path / "scene.tif", pixels=picture((20, 20, 30, 30), (200, 200, 30, 30), size=(300, 300))
    )
    with rasterio.open(scene) as dataset:
        left, top = dataset.transform @ (10, 10)
        right, bottom = dataset.transform @ (100, 100)
        crs = dataset.crs
    area = tmp_path / "area.gpkg"
    geopandas.GeoSeries([box(left, bottom, right, top)], crs=crs).to_crs(4326).to_file(area)
    whole = predict(capfd, scene)
    for arguments in (["--aoi", area], ["--bbox", left, bottom, right, top]):
        result = predict(capfd, scene, *arguments, out="part.gpkg", folder=tmp_path)
        assert result.code == 0, result.err
        (tmp_path / "part.gpkg").unlink()
        assert result.summary["features"] == 1
        assert result.summary["coverage"] == pytest.approx(90 * 90 / 300**2, rel=0.01)
        assert result.summary["tiles"]["inferred"] < whole.summary["tiles"]["inferred"]


@pytest.mark.slow
def test_what_lies_outside_the_area_of_interest_is_not_even_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import rasterio

    pixels = picture((20, 20, 30, 30), size=(800, 800))
    pixels[:, 400:] = np.random.default_rng(0).integers(0, 90, (3, 400, 800))
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels, block=64, compress="deflate")
    with rasterio.open(scene) as dataset:
        left, top = dataset.transform @ (10, 10)
        right, bottom = dataset.transform @ (100, 100)
    data = scene.read_bytes()
    scene.write_bytes(data[: len(data) * 3 // 4])
    memory = ["--max-memory", least_memory(scene, model=str(bright_model()))]
    area = ["--bbox", left, bottom, right, top, *memory]
    result = predict(capfd, scene, *area)
    assert result.code == 0, result.err
    assert result.summary["features"] == 1
    result = predict(capfd, scene, *memory, "--overwrite")
    assert result.code == 1, result.err  # all of it: the missing part shows


def test_the_model_sees_what_lies_around_the_area_of_interest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A spot that cannot be read and an area of interest, on values that do not fit into 8 bits."""
    import rasterio

    values = picture((20, 20, 30, 30), size=(300, 300)).astype(np.uint16) * 40
    values[:, 200:, 200:] = np.random.default_rng(0).integers(900, 1100, (3, 100, 100))
    scene = make_scene(
        tmp_path / "scene.tif", pixels=values, block=64, compress="deflate", interleave="pixel"
    )
    with rasterio.open(scene) as dataset:
        left, top = dataset.transform @ (10, 10)
        right, bottom = dataset.transform @ (290, 150)
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_4_4", "TIFF", bidx=1))
    arguments = ["--bbox", left, bottom, right, top, "--stretch", "1000,9200", "--raster-content"]
    arguments += ["probability-float32", "--overwrite", "--raster"]
    whole = predict(capfd, scene, *arguments, tmp_path / "whole.tif")
    assert whole.code == 0, whole.err
    data = bytearray(scene.read_bytes())
    data[offset : offset + 40] = b"\xff" * 40
    scene.write_bytes(data)
    broken = predict(capfd, scene, *arguments, tmp_path / "broken.tif")
    assert broken.summary["features"] == whole.summary["features"] == 1
    with rasterio.open(tmp_path / "whole.tif") as one, rasterio.open(tmp_path / "broken.tif") as other:
        a, b = one.read(1), other.read(1)
    both = ~np.isnan(a) & ~np.isnan(b)
    assert both.mean() > 0.3
    assert (a[both] == b[both]).all()


def test_nothing_beside_an_input_is_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = good_scene(tmp_path)
    (tmp_path / "out.csv").write_text('geom\n"POLYGON ((0 0, 9 0, 9 9, 0 0))"\n')
    (tmp_path / "out.prj").write_text("EPSG:32633")
    result = predict(capfd, scene, "--aoi", tmp_path / "out.csv", "--overwrite", out="out.shp")
    assert_refused(result, "out.shp: would replace", "out.prj, which belongs to", "out.csv")
    assert (tmp_path / "out.prj").read_text() == "EPSG:32633"


def test_no_input_and_no_folder_is_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = good_scene(tmp_path)
    before = scene.read_bytes()
    folder = tmp_path / "folder.tif"
    folder.mkdir()
    (folder / "precious").touch()
    for arguments in (["--raster", scene], ["--raster", folder]):
        result = predict(capfd, scene, *arguments, "--overwrite")
        assert_refused(result, str(arguments[1]))
    assert scene.read_bytes() == before
    assert (folder / "precious").exists()


@pytest.mark.parametrize(
    "arguments", [("predict", "caf\udce9.tif", "--out", "a.gpkg"), ("info", "caf\udce9/scene.tif")]
)
def test_names_that_are_not_utf8(arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert re.fullmatch(r"geoseg: error: caf.udce9\S*: is not valid UTF-8; .*\n", capfd.readouterr().err)


def test_names_that_are_not_utf8_from_python(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    scene = good_scene(tmp_path)
    area = folder / "a.geojson"
    area.write_text("{}")
    for place, options in ((shutil.copy(scene, folder), {}), (scene, {"aoi": area})):
        with pytest.raises(GeosegError, match="is not valid UTF-8; rename it"):
            geoseg.predict(place, model=str(bright_model()), **options)


def test_naming_a_list_allows_the_rasters_that_it_lists_and_nothing_more(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from geoseg.archive.entries import entries_of
    from geoseg.archive.facts import look_at

    near, far = tmp_path / "near", tmp_path / "far"
    for folder in (near, far):
        folder.mkdir()
        good_scene(folder)
    with served(near) as mine, served(far) as other:
        away = f"{other.url}/scene.tif"
        (near / "list.csv").write_text(f"location\n{away}\n")
        (near / "sent.csv").write_text(f"location\nto/{other.url[7:]}/scene.tif\nscene.tif\n")
        (near / "local.csv").write_text(f"location\nfile://{tmp_path}/near/scene.tif\n")
        (near / "local.txt").write_text(f"{mine.url}/scene.tif\n")
        for listed in (
            f"{mine.url}/list.csv",
            near / "list.csv",
            near / "local.txt",
            f"{mine.url}/local.csv",
        ):
            assert run(["batch", str(listed), "--out", str(tmp_path / "out"), "--dry-run"]) == 2
            (line,) = capfd.readouterr().err.splitlines()
            assert "--allow-host" in line or "reads URLs of http" in line
        entries = entries_of([f"{mine.url}/sent.csv"])
        problems = sorted(look.problem for look in look_at(entries, tmp_path).values())
        assert problems[0] == ""
        assert "leads to another host" in problems[1]
        (near / "trap.vrt").write_text(
            '<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand><SimpleSource>'
            f"<SourceFilename>/vsicurl/{away}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
        )
        (near / "trap.txt").write_text("trap.vrt\n")
        (trap,) = look_at(entries_of([str(near / "trap.txt")]), tmp_path).values()
        assert "a VRT with" in trap.problem
        assert not other.log()
        (near / "both.txt").write_text(f"{away}\n")
        (entry,) = entries_of([str(near / "both.txt")], hosts=[other.url[7:]])
        (look,) = look_at([entry], tmp_path).values()
        assert look.facts is not None
        assert other.log()


def in_python(scene: Path, **options: Any) -> Any:
    return geoseg.predict(scene, model=str(bright_model()), outline="pixel", min_area=0, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_memory": 10}, "max_memory 10 bytes: this run needs"),
        ({"tile": 50}, "tile 50: must be"),
        ({"raster_content": "class"}, "raster_content and raster_resolution are for raster, which"),
        ({"treshold": 0.5}, "treshold: no such option; did you mean threshold?"),
        ({"threshold": "high"}, "threshold must be a number or auto, not 'high'"),
        ({"out": "there.gpkg"}, "give overwrite=True to replace it"),
        ({"aoi": 5}, "aoi must be a path, a GeoDataFrame, a GeoSeries or a geometry, not 5"),
    ],
)
def test_python_is_told_of_options_as_it_gives_them(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = good_scene(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.gpkg").touch()
    with pytest.raises(GeosegError) as caught:
        in_python(scene, **options)
    assert message in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_misspelt_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["prdict", "scene.tif"]) == 2
    assert capfd.readouterr().err == "geoseg: error: prdict: no such command; did you mean 'predict'?\n"


def test_a_zip_is_not_called_a_pickle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, message in (("a.txt", "is a zip archive; unpack it"), ("m/data.pkl", "is a pickle or torch")):
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
            archive.writestr(name, "x")
        assert run(["models", "show", str(tmp_path / "m.zip")]) == 2
        assert message in capfd.readouterr().err


def test_several_scenes_are_for_batch(tmp_path: Path) -> None:
    with pytest.raises(GeosegError, match=r"not 2 in a list; .*geoseg\.batch"):
        geoseg.predict([tmp_path / "a.tif", tmp_path / "b.tif"])  # type: ignore[arg-type]


def test_paths_are_checked_in_python(tmp_path: Path) -> None:
    scene, anything = good_scene(tmp_path), cast(Any, 5)
    for call, message in (
        (lambda: geoseg.predict(scene, out=anything), "out must be a path, not 5"),
        (lambda: geoseg.predict(cast(Any, np.zeros((9, 9)))), "scene must be one path or URL, not array"),
        (lambda: geoseg.predict(""), "the scene's name is empty"),
        (lambda: geoseg.batch(anything, tmp_path), "sources must be paths, not 5"),
        (lambda: geoseg.batch([scene, anything], tmp_path), "sources must be paths, not 5"),
        (lambda: geoseg.batch(scene, anything), "out must be a path, not 5"),
    ):
        with pytest.raises(GeosegError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_none_is_the_default_of_every_option(tmp_path: Path) -> None:
    names = set(PredictOptions.model_fields) - {"model"}
    assert PredictOptions(**dict.fromkeys(names)) == PredictOptions()
    with pytest.raises(GeosegError, match="no such option"):
        PredictOptions(treshold=None)


def test_an_area_of_interest_may_be_a_table_or_a_geometry(tmp_path: Path) -> None:
    import geopandas
    import shapely

    scene = make_scene(tmp_path / "scene.tif", pixels=picture((20, 30, 40, 60), (70, 10, 10, 10)))
    both = in_python(scene)
    assert len(both) == 2
    area = both.geometry[:1].envelope.buffer(1)
    for aoi in (area, geopandas.GeoDataFrame(geometry=area), area.to_crs(4326), area[0]):
        assert len(in_python(scene, aoi=aoi)) == 1
    with pytest.raises(GeosegError, match="aoi has no CRS"):
        in_python(scene, aoi=geopandas.GeoSeries([shapely.box(0, 0, 1, 1)]))
