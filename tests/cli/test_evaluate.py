"""``geoseg evaluate`` as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio

from geoseg.cli import run
from geoseg.models.bundle import find_model, load_folder
from geoseg.testing import make_scene
from tests.evaluation.files import boxes, burned, class_map, polygons
from tests.runs import SHARED, bright_model, picture

pytestmark = pytest.mark.slow

HOUSES = ((20, 30, 24, 24), (60, 70, 24, 30))
SIZE = (100, 120)


def evaluate(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capfd.readouterr()
    code = run(["evaluate", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return polygons(tmp_path / "truth.gpkg", boxes(*HOUSES))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return make_scene(tmp_path / "scene.tif", pixels=picture(*HOUSES))


def test_the_probabilities_of_a_run_know_its_threshold(
    truth: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raster = tmp_path / "probability.tif"
    command = ["predict", scene, "--out", tmp_path / "a.gpkg", "--raster", raster, "--model", bright_model()]
    assert run([*map(str, command), "--threshold", "0.05"]) == 0  # dark ground is a tenth
    code, out, err = evaluate(capfd, truth, "--prediction", raster, "--blocks", 9, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["confidence"][0]["used"] == 0.05
    assert result["classes"][0]["name"] == "building"
    assert result["pixels"]["mean_iou"]["value"] < 0.5
    code, out, err = evaluate(
        capfd, truth, "--prediction", raster, "--blocks", 9, "--json", "--threshold", 0.5
    )
    assert json.loads(out)["pixels"]["mean_iou"]["value"] == 1
    with rasterio.open(raster) as dataset:
        items = dataset.tags()
    assert items["geoseg_model"] == "bright"
    assert json.loads(items["geoseg_options"])["threshold"] == 0.05
    layer = pyogrio.read_info(tmp_path / "a.gpkg", layer=0)["layer_metadata"]
    same = ("geoseg_model", "geoseg_model_digest", "geoseg_plan_digest", "geoseg_options")
    assert [items[key] for key in same] == [layer[key] for key in same]


def test_a_model_a_scene_and_the_truth(
    truth: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    code, out, err = evaluate(
        capfd, truth, "--scene", scene, "--model", bright_model(), "--outline", "pixel", "--min-area", 0,
        "--blocks", 9, "--json", "--report", page,
    )  # fmt: skip
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    assert result["model"] == "bright"
    assert result["pixels"]["mean_iou"]["value"] == 1
    assert result["objects"][0]["f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert result["confidence"][0]["best"]["iou"] == 1
    assert result["resampling"]["blocks"] == 16
    assert "Objects at IoU 0.5" in err
    assert "note" in err
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    assert not list(tmp_path.glob(".*"))  # nothing of the run is left beside the inputs


def test_the_truth_limits_what_is_predicted(
    truth: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    area = polygons(tmp_path / "area.gpkg", boxes((0, 0, 50, 120)))
    arguments = ("--scene", scene, "--model", bright_model(), "--labelled-area", area, "--json", "--quiet")
    code, out, err = evaluate(capfd, truth, *arguments)
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["pixels"]["known_pixels"] == 50 * 120
    assert result["objects"][0]["truth"] == 1


def test_masks_by_explicit_values(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ids = burned(SIZE, *HOUSES)
    mask = ids * 255
    mask[:10] = 127
    files = class_map(tmp_path / "mask.tif", mask), "--prediction", class_map(tmp_path / "map.tif", ids)
    code, out, err = evaluate(capfd, *files, "--truth-values", "255=1,127=ignore", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["pixels"]["unknown_pixels"] == 10 * 120
    assert result["pixels"]["accuracy"]["value"] == 1
    assert result["confidence"] == []
    code, out, err = evaluate(capfd, *files, "--json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "--truth-values" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--prediction"),
        (("--scene", "s.tif", "--probability", "p.tif"), "--probability"),
        (("--prediction", "p.tif", "--tile", "256"), "--tile"),
        (("--prediction", "p.tif", "--report", "report.pdf"), ".html"),
        (("--prediction", "p.tif", "--report", "/dev/null/report.html"), "/dev/null is not a folder"),
        (("--prediction", "p.tif", "--blocks", "0"), "--blocks"),
        (("--prediction", "p.tif"), "no such file"),
    ],
)
def test_what_does_not_fit_gets_one_line(
    arguments: tuple[str, ...], words: str, truth: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = evaluate(capfd, truth, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_a_report_is_not_replaced_unasked(
    truth: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine")
    found = class_map(tmp_path / "map.tif", burned(SIZE, *HOUSES))
    code, _, err = evaluate(capfd, truth, "--prediction", found, "--report", page)
    assert code == 2
    assert "--overwrite" in err
    assert page.read_text() == "mine"
    assert evaluate(capfd, truth, "--prediction", found, "--report", page, "--overwrite")[0] == 0
    assert page.read_text(encoding="utf-8") != "mine"


def test_real_footprints_against_their_mask(capfd: pytest.CaptureFixture[str]) -> None:
    stem = "banepa_nepal_drone_z19x2_3857"
    mask, footprints = (SHARED / "scenes" / f"{stem}{end}" for end in ("_mask.tif", "_buildings.gpkg"))
    if not mask.exists():
        pytest.skip("shared/data is not beside the checkout")
    options = ["--prediction-layer", "buildings", "--truth-values", "255=1,127=ignore", "--json"]
    code, out, err = evaluate(capfd, mask, "--prediction", footprints, *options)
    assert code == 0, err
    result = json.loads(out)
    # The mask was drawn from these footprints; in it, houses that touch are one object.
    assert result["pixels"]["mean_iou"]["value"] > 0.999
    assert result["objects"][0]["split"] > 100
    assert result["resolution_m"] == pytest.approx([0.132, 0.132], abs=0.001)
    assert np.isclose(result["outlines"][0]["boundary_iou"]["value"], 1, atol=0.01)


def test_the_card_takes_figures_and_the_best_threshold(
    truth: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "mine"
    shutil.copytree(find_model("buildings").path, model)
    before = load_folder(model)
    options = ["--scene", scene, "--model", model, "--blocks", 9, "--write", "--json"]
    for _ in range(2):  # the second time replaces what the first wrote
        code, out, err = evaluate(capfd, truth, *options)
        assert code == 0, err
    result = json.loads(out)
    after = load_folder(model)
    assert after.card.threshold == result["confidence"][0]["best"]["threshold"]
    figures = [
        figure for figure in after.document.properties.accuracy if figure.where.startswith("truth.gpkg")
    ]
    assert [figure.metric for figure in figures] == ["pixel IoU", "object F1 at IoU 0.5"]
    assert figures[0].value == pytest.approx(result["pixels"]["mean_iou"]["value"], abs=1e-3)
    assert len(after.document.properties.accuracy) == len(before.document.properties.accuracy) + 2
    assert "wrote" in err


def test_write_needs_a_model_of_ones_own_that_is_run(truth: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = evaluate(capfd, truth, "--prediction", truth, "--write")
    assert code == 2
    assert "--write" in err
    code, _, err = evaluate(capfd, truth, "--scene", "s.tif", "--write")
    assert (code, err.count("\n")) == (2, 1)
    assert "buildings ships with geoseg and is not changed" in err


def test_a_wrong_truth_is_told_before_the_model_runs(
    truth: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "geoseg.prediction.session.predict_scene", lambda *_: pytest.fail("the model has run")
    )
    for wrong, words in ((["nothere.gpkg"], "nothere.gpkg"), ([truth, "--class-attribute", "knid"], "knid")):
        code, _, err = evaluate(capfd, *wrong, "--scene", "scene.tif")
        assert (code, err.count("\n")) == (2, 1)
        assert words in err


def test_a_threshold_is_heeded_or_refused(
    truth: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raster = tmp_path / "probability.tif"
    command = ["predict", scene, "--out", tmp_path / "a.gpkg", "--raster", raster, "--model", bright_model()]
    assert run([*map(str, command), "--quiet"]) == 0
    code, out, err = evaluate(capfd, truth, "--prediction", raster, "--json", "--threshold", "0")
    assert code == 0, err
    result = json.loads(out)
    assert result["confidence"][0]["used"] == 0
    assert result["pixels"]["classes"][0]["predicted_pixels"] == result["pixels"]["known_pixels"]
    code, _, err = evaluate(capfd, truth, "--prediction", truth, "--threshold", "0.3")
    assert (code, err.count("\n")) == (2, 1)
    assert "leave out --threshold" in err


def test_a_mask_whose_zero_is_nodata_is_noted(
    truth: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mask = class_map(tmp_path / "mask.tif", burned(SIZE, *HOUSES))
    with rasterio.open(mask, "r+") as dataset:
        dataset.nodata = 0
    for files in ((mask, "--prediction", truth), (truth, "--prediction", mask)):
        code, out, err = evaluate(capfd, *files, "--json")
        assert code == 0, err
        assert any("mask.tif: says that 0 is nodata" in note for note in json.loads(out)["notes"])
