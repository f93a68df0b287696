"""``geoseg predict`` as a newcomer runs it: the built-in model, real processes, real scenes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely

from geoseg.cli import run
from geoseg.cli.progress import summary
from geoseg.metrics.objects import match_objects
from geoseg.prediction.blocks import Tally
from geoseg.prediction.decide import decide
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.report import Remarks, RunReport
from geoseg.testing import make_scene
from tests.plans import make_test_plan
from tests.runs import (
    REPOSITORY,
    SHARED,
    assert_refused,
    bright_model,
    object_model,
    object_scene,
    picture,
    predict,
)

pytestmark = pytest.mark.slow

REAL = SHARED / "scenes"


def geoseg(*arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "geoseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def predicted(scene: Path, out: Path, *arguments: object) -> dict[str, Any]:
    done = geoseg("predict", scene, "--out", out, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def real_scene(name: str) -> Path:
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the checkout (shared/data/scenes)")
    return path


def test_the_first_command_of_the_readme(tmp_path: Path) -> None:
    summary = predicted(REPOSITORY / "sample_data" / "scene.tif", tmp_path / "buildings.gpkg")
    found = pyogrio.read_dataframe(tmp_path / "buildings.gpkg", layer="buildings")
    truth = pyogrio.read_dataframe(REPOSITORY / "sample_data" / "buildings.gpkg", layer="buildings")
    assert len(found) == summary["features"]
    assert found.crs == truth.crs
    half, ninth = (
        match_objects(found.geometry.to_numpy(), truth.geometry.to_numpy(), threshold).counts.f1
        for threshold in (0.5, 0.9)
    )
    print(f"sample scene: F1 {half:.3f} at IoU 0.5, {ninth:.3f} at 0.9; {len(found)} for {len(truth)}")
    # The sample is rendered by the generator that also made a small part of the training imagery.
    assert half > 0.4


def test_a_real_scene_beside_its_footprints(tmp_path: Path) -> None:
    scene = real_scene("banepa_nepal_drone_z19x2_3857.tif")
    bbox = (9520231.87, 3202329.31, 9520384.74, 3202940.79)  # the columns that no training saw
    out = tmp_path / "out.gpkg"
    summary = predicted(scene, out, "--bbox", *bbox)
    assert summary["coverage"] == pytest.approx(1 / 3, abs=0.01)
    found = pyogrio.read_dataframe(out, layer=0)
    truth_path = scene.with_name(scene.stem + "_buildings.gpkg")
    truth, unknown = (
        pyogrio.read_dataframe(truth_path, layer=layer).to_crs(found.crs) for layer in ("buildings", "ignore")
    )
    one, other = (
        shapely.union_all(shapely.make_valid(table.geometry.to_numpy())).intersection(shapely.box(*bbox))
        for table in (found, truth)
    )
    one, other = (
        shapely.difference(shape, shapely.union_all(shapely.make_valid(unknown.geometry.to_numpy())))
        for shape in (one, other)
    )
    iou = one.intersection(other).area / one.union(other).area
    print(f"Banepa, held-out columns: area IoU {iou:.3f}")
    assert iou > 0.65


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("bali_drone_035m_rgba_alpha_32750.tif", 0, "coverage"),
        ("vegas_wv3_030m_rgba_4326.tif", 0, "coverage"),
        ("landsat8_parana_30m_uint16_32621.tif", 2, "30"),
        ("naip_northdakota_5m_rgbn_26914.tif", 2, "5"),
    ],
)
def test_real_scenes_of_other_kinds(name: str, code: int, words: str, tmp_path: Path) -> None:
    done = geoseg("predict", real_scene(name), "--out", tmp_path / "out.gpkg")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert (tmp_path / "out.gpkg").exists() == (code == 0)
    if code:
        assert len(done.stderr.splitlines()) == 1


def test_json_is_all_that_stdout_gets_and_quiet_is_quiet(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=picture((20, 30, 40, 60)))
    loud = geoseg("predict", scene, "--out", tmp_path / "a.gpkg", "--json")
    assert json.loads(loud.stdout)["exit_code"] == 0
    assert "features" in loud.stderr
    quiet = geoseg("predict", scene, "--out", tmp_path / "b.gpkg", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.parametrize("backend", ["onnx", "pytorch"])  # openvino: above
def test_nothing_is_said_after_the_end(backend: str, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(60, 70))
    done = geoseg("predict", scene, "--out", tmp_path / "o.gpkg", "--quiet", "--backend", backend)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_names_with_spaces_and_other_letters(tmp_path: Path) -> None:
    folder = tmp_path / "Häuser & Höfe 建物"
    folder.mkdir()
    make_scene(folder / "größe 1.tif", pixels=picture((20, 30, 40, 60)))
    done = geoseg("predict", "größe 1.tif", "--out", "dächer 2.gpkg", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"größe 1.tif", "dächer 2.gpkg"}


def test_cli_py_runs_the_same_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "cli.py", "--help"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=True,
        env=os.environ,
    )
    assert "predict" in done.stdout


def test_the_memory_of_other_processes_is_not_taken_for_this_ones() -> None:
    report = RunReport(
        make_test_plan((40, 40)), Remarks(), 0, None, Tally(), (), planned_memory=10**9, peak_memory=2 * 10**8
    )
    assert "memory     200 MB at most (planned: 1,000 MB)" in summary(report)
    told = "memory     200 MB at most in this process (with those of its workers here, planned: 1,000 MB)"
    assert told in summary(replace(report, alone=False))


@pytest.mark.parametrize("command", [["predict", "--out", "o.gpkg"], ["plan"]])
@pytest.mark.parametrize("scenes", [["a.tif", "b.tif"], ["tiles/*.tif"]])
def test_several_scenes_are_told_what_to_do_until_there_is_batch(
    command: list[str], scenes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, *scenes]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "one scene a run" in said
    assert "gdalbuildvrt" in said
    assert "geoseg batch" in said


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return object_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


def test_objects_of_two_classes_carry_their_ids_names_and_colours(
    pattern: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    maps = {content: tmp_path / f"{content}.tif" for content in ("class", "instance")}
    for content, path in maps.items():
        done = predict(
            capfd, pattern, "--model", object_model(), "--raster", path, "--raster-content", content,
            out=f"{content}.gpkg", folder=tmp_path,
        )  # fmt: skip
        assert done.code == 0, done.err
    found = done.features
    assert set(zip(found["class"], found["class_name"], strict=True)) == {(3, "a"), (7, "b")}
    assert found["instance"].tolist() == list(range(1, len(found) + 1))
    assert not found.geometry.overlaps(found.geometry.union_all()).any()
    with sqlite3.connect(done.path) as database:
        ((style,),) = database.execute("SELECT styleQML FROM layer_styles").fetchall()
    assert [style.count(f'value="{colour},255"') for colour in ("1,2,3", "4,5,6")] == [1, 1]
    with rasterio.open(maps["class"]) as classes, rasterio.open(maps["instance"]) as numbers:
        assert classes.colormap(1)[3][:3] == (1, 2, 3)
        assert classes.colormap(1)[7][:3] == (4, 5, 6)
        ids, rows = classes.read(1), numbers.read(1)
    expected = np.array([0, *found["class"]])[rows]
    np.testing.assert_array_equal(ids, expected)
    drawn = rasterio.features.rasterize(
        zip(found.geometry, found["instance"], strict=True), rows.shape, transform=numbers.transform
    )
    assert (drawn == rows).mean() > 0.99


@pytest.mark.parametrize(
    ("metres", "overlap"),
    [(None, 31), (1, 16), (6, 24), (100, 32)],  # of the card; the least; with both edges; half a tile
)
def test_tiles_overlap_by_the_largest_object(metres: float | None, overlap: int, pattern: Path) -> None:
    options = PredictOptions(model=str(object_model()), max_object=metres)
    assert decide(pattern, options).plan.tiles.rows.overlap == overlap


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-object", "0"), "--max-object must be more than 0, not '0'"),
        (("--max-object", "9", "--overlap", "20"), "--max-object and --overlap exclude each other"),
        (("--max-object", "9", "--model", bright_model()), "model bright finds no objects; leave it out"),
    ],
)
def test_what_objects_have_no_use_for_is_one_line(
    options: tuple[str, ...], words: str, pattern: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = () if "--model" in options else ("--model", object_model())
    assert_refused(predict(capfd, pattern, *options, *model, folder=tmp_path), words)
