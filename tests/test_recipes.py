"""Recipes through the command line: those that are shipped run as they stand, mistakes get one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import geopandas
import pytest
import yaml

from geoseg.cli import run
from geoseg.recipes import load
from geoseg.testing import make_scene
from tests.runs import REPOSITORY, bright_model, picture

PIPELINES = REPOSITORY / "pipelines"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe in a folder of its own, with its scene and model; the working folder is another."""
    folder = tmp_path / "recipes"
    (folder / "data").mkdir(parents=True)
    make_scene(folder / "data" / "scene.tif", pixels=picture((10, 10, 20, 30), (50, 60, 8, 8)))
    shutil.copytree(bright_model(), folder / "bright")
    path = folder / "town.yaml"
    path.write_text(
        "kind: predict\n"
        "scene: data/scene.tif\n"
        "out: out/town.geojsonl\n"
        "predict:\n"
        "  model: bright\n"
        "  outline: pixel\n"
        "  min_area: 0\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return path


def refused(capfd, *arguments):
    capfd.readouterr()
    assert run(["run", *map(str, arguments)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line.removeprefix("geoseg: error: ")


def test_paths_are_those_beside_the_recipe_and_what_was_said_is_saved_beside_the_result(recipe, capfd):
    assert run(["run", str(recipe), "--json"]) == 0
    assert '"features": 2' in capfd.readouterr().out
    out = recipe.parent / "out"
    saved = out / "town.recipe.yaml"
    first, text = (out / "town.geojsonl").read_bytes(), saved.read_bytes()
    assert run(["run", str(saved), "--quiet"]) == 2
    assert "exists already; give --overwrite" in capfd.readouterr().err
    assert run(["run", str(saved), "--quiet", "--overwrite"]) == 0
    assert (out / "town.geojsonl").read_bytes() == first
    assert saved.read_bytes() == text
    assert run(["run", str(saved), "--quiet", "--set", f"out={out / 'again.geojsonl'}"]) == 0
    assert (out / "again.geojsonl").read_bytes() == first


def test_changes_are_said_last_and_their_paths_are_those_of_the_working_folder(recipe):
    changes = ["--set", "predict.min_area=20", "--set", "out=large.geojsonl"]
    assert run(["run", str(recipe), "--quiet", *changes]) == 0
    assert len(Path("large.geojsonl").read_text().splitlines()) == 1
    said = yaml.safe_load(Path("large.recipe.yaml").read_text())
    assert said["predict"] == {"model": str(recipe.parent / "bright"), "outline": "pixel", "min_area": 20}
    assert said["scene"] == str(recipe.parent / "data" / "scene.tif")


def test_a_variable_stays_one_in_what_is_saved(recipe, monkeypatch, capfd):
    recipe.write_text(recipe.read_text().replace("data/scene.tif", "${TOWN}/scene.tif"))
    monkeypatch.delenv("TOWN", raising=False)
    assert refused(capfd, recipe).startswith("${TOWN}: the environment has no such variable")
    for town in (recipe.parent / "data", "data"):
        monkeypatch.setenv("TOWN", str(town))
        assert run(["run", str(recipe), "--quiet", "--overwrite"]) == 0
        saved = recipe.parent / "out" / "town.recipe.yaml"
        assert "${TOWN}/scene.tif" in saved.read_text()
        assert load(saved).recipe.scene == str(recipe.parent / "data" / "scene.tif")


def test_a_recipe_may_change_another(recipe):
    child = recipe.parent.parent / "child.yaml"
    child.write_text("extends: recipes/town.yaml\nout: child.gpkg\npredict: {min_area: 5}\n")
    loaded = load(child).recipe
    assert loaded.out == child.parent / "child.gpkg"
    assert (loaded.predict.min_area, loaded.predict.outline) == (5, "pixel")
    assert loaded.scene == str(recipe.parent / "data" / "scene.tif")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("min_area", "min_are", 7, "predict.min_are: no such key; did you mean 'min_area'?"),
        ("scene:", "scen:", 2, "scen: no such key; did you mean 'scene'?"),
        ("min_area: 0", "min_area: x", 7, "predict.min_area must be a number or auto, not 'x'"),
        ("min_area: 0", "min_area: -1", 7, "predict.min_area must be 0 or more or auto, not -1"),
        ("outline: pixel", "outline: round", 6, "predict.outline must be smooth or pixel, not 'round'"),
        ("outline: pixel", "aoi_layer: x", 4, "--aoi-layer is for --aoi"),
        ("kind: predict", "kind: predikt", 1, "kind: 'predikt' is none; did you mean 'predict'?"),
        ("  model: bright\n  outline: pixel\n  min_area: 0\n", "  - 1\n", 4, "predict must be a valid dict"),
    ],
)
def test_mistakes_name_the_line_and_the_key(recipe, capfd, old, new, line, words):
    recipe.write_text(recipe.read_text().replace(old, new))
    assert refused(capfd, recipe).startswith(f"{recipe}, line {line}: {words}")
    assert not (recipe.parent / "out").exists()


def test_what_is_missing_is_named(recipe, capfd):
    recipe.write_text("kind: predict\nout: a.gpkg\n")
    assert refused(capfd, recipe) == f"{recipe}: scene is missing; give it"


def test_other_bad_input(recipe, capfd, tmp_path):
    recipe.write_text("scene: a.tif\n")
    assert "has no kind, which says what to do: one of train, predict" in refused(capfd, recipe)
    assert refused(capfd, recipe, "--set", "kind=predict", "--set", "predict.min_area=x").startswith(
        f"{recipe}"
    )
    assert "cannot be read" in refused(capfd, tmp_path / "none.yaml")
    assert "Missing argument" in refused(capfd)
    assert refused(capfd, "--example", "bildings").endswith("did you mean 'buildings'?")
    assert "run it afterwards" in refused(capfd, recipe, "--example", "buildings")
    report = "kind: evaluate\ntruth: a.gpkg\nreport: r.html\npredict: {raster: x.tif}\n"
    recipe.write_text(report)
    assert "predict.raster is not for an evaluation" in refused(capfd, recipe)
    recipe.write_text(report.replace("raster: x.tif", "tile: 64") + "prediction: b.gpkg\n")
    assert "leave out --tile" in refused(capfd, recipe)
    batch = "kind: batch\nsources: a.tif\nout: b\n"
    recipe.write_text(batch + "predict: {bbox: [1, 2, 3, 4]}\n")
    assert "predict.bbox is for one scene; give select.bbox" in refused(capfd, recipe)
    recipe.write_text(batch + "merge: {merge_crs: EPSG:4326, reconcile: no-date}\n")
    assert "line 4: merge.reconcile must be same-date or any-date, not 'no-date'" in refused(capfd, recipe)


def test_a_training_recipe_is_checked_in_the_same_words(tmp_path, capfd):
    path = tmp_path / "train.yaml"
    shutil.copy(PIPELINES / "train_sample.yaml", path)
    path.write_text(path.read_text().replace("warmup_steps", "warmup_step"))
    line = path.read_text().splitlines().index("  warmup_step: 10") + 1
    expected = f"{path}, line {line}: optimization.warmup_step: no such key; did you mean 'warmup_steps'?"
    assert refused(capfd, path) == expected
    assert refused(capfd, path, "--set", "loss.nam=ce").startswith("--set loss.nam=ce: loss.nam: no such key")
    buildings = PIPELINES / "buildings.yaml"
    assert run(["train", str(buildings)]) == 2
    assert f"kind is predict, not train; run it: geoseg run {buildings}" in capfd.readouterr().err


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Write an example into an empty folder, which becomes the working folder, and run it."""
    monkeypatch.chdir(tmp_path)

    def write_and_run(name, *arguments):
        assert run(["run", "--example", name, "--quiet"]) == 0
        return run(["run", f"{name}.yaml", *arguments])

    return write_and_run


@pytest.mark.slow
def test_the_buildings_of_the_sample(example, capfd):
    assert example("buildings") == 0
    assert "recipe     " in capfd.readouterr().err
    assert Path("build/buildings.gpkg").exists()
    assert sorted(os.listdir()) == ["build", "buildings.yaml", "sample_data"]
    assert os.listdir("sample_data") == ["scene.tif"]


@pytest.mark.slow
def test_an_archive_of_the_sample_becomes_one_dataset(example, capfd):
    assert example("archive") == 0
    said = capfd.readouterr().err
    merged = geopandas.read_parquet("build/archive/merged")
    assert f"features   {len(merged)} of " in said
    assert "catalogue  build/archive/stac/collection.json" in said.replace(f"{Path.cwd()}/", "")
    assert set(merged["scene"]) == {"east", "west"}
    assert sorted(os.listdir("sample_data")) == ["east.vrt", "scene.tif", "west.vrt"]
    files = {path: path.read_bytes() for path in Path("build/archive").glob("*/**/*") if path.is_file()}
    assert run(["run", "build/archive.recipe.yaml", "--quiet"]) == 0
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.slow
def test_what_was_built_between_two_dates_is_found(example, capfd):
    assert example("change", "--json") == 0
    counts = json.loads(capfd.readouterr().out)
    assert counts["new"]["added"] > counts["old"]["removed"]
    assert sorted(os.listdir("build")) == [
        "changes.gpkg",
        "changes.new.gpkg",
        "changes.old.gpkg",
        "changes.recipe.yaml",
    ]
    first = {path: path.read_bytes() for path in Path("build").glob("*.gpkg")}
    assert run(["run", "build/changes.recipe.yaml", "--quiet", "--overwrite"]) == 0
    assert {path: path.read_bytes() for path in first} == first


@pytest.mark.slow
def test_the_model_is_evaluated_on_the_sample(example):
    assert example("evaluate", "--quiet") == 0
    assert Path("build/evaluation.html").stat().st_size > 10_000
    assert Path("build/evaluation.recipe.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_sample", "landcover"])
def test_a_model_is_trained_on_the_sample(example, name):
    """Two steps are as good as all for whether the recipe holds."""
    settings = "optimization.steps=2", "optimization.batch=2", "card.int8=false", "card.tile=128"
    changes = [part for setting in settings for part in ("--set", setting)] + ["--quiet"]
    assert example(name, *changes) == 0
    (model,) = Path("build").glob("*/model.json")
    assert Path(f"build/{model.parent.name}.recipe.yaml").exists()


def test_what_an_example_extends_is_written_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["run", "--example", "train_buildings_a", "--quiet"]) == 0
    assert load(Path("train_buildings_a.yaml")).recipe.data.tiers == ("A",)
    assert run(["run", "--example", "train_buildings_a", "--quiet"]) == 2


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_checked(path):
    assert load(path).recipe.out.parent == REPOSITORY / "build"
