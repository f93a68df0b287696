"""``geoseg train`` from the command line: scenes with footprints, recipes, what is refused."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
import yaml
from safetensors.torch import load_file

import geoseg.training.defaults
from geoseg.cli import run
from geoseg.models.bundle import load_folder
from geoseg.testing import make_scene
from tests.runs import heed_interrupts
from tests.training.conftest import collection, recipe_dict, recipe_path  # noqa: F401 (fixtures)

pytestmark = pytest.mark.slow

FAST = ["--steps", "20", "--batch", "4", "--crop", "32", "--learning-rate", "0.01"]
FAST += ["--encoder", "test_efficientnet"]
AGAIN = ["--steps", "2", "--batch", "2", "--crop", "32", "--learning-rate", "1e-6"]


@pytest.fixture
def plain(monkeypatch):
    """Cards of small tiles, without INT8, which takes longest and has tests of its own."""
    make_content = geoseg.training.defaults.make_content

    def make_plain(*arguments):
        return make_content(*arguments) | {"card": {"int8": False, "tile": 64}}

    monkeypatch.setattr(geoseg.training.defaults, "make_content", make_plain)


@pytest.fixture
def town(tmp_path):
    """A scene of bright houses on dark ground, 192 m a side, and its footprints in another CRS."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(30, 60, (3, 192, 192)).astype(np.uint8)
    houses = []
    for row in range(8, 180, 24):
        for col in range(8, 180, 24):
            pixels[:, row : row + 10, col : col + 12] = 220
            houses.append(shapely.box(500000 + col, 5000000 - row - 10, 500000 + col + 12, 5000000 - row))
    scene = make_scene(
        tmp_path / "town.tif", pixels=pixels, transform=(1, 0, 500000, 0, -1, 5000000), crs="EPSG:32632"
    )
    frame = gpd.GeoDataFrame({"kind": ["house"] * len(houses)}, geometry=houses, crs="EPSG:32632")
    frame.to_crs(4326).to_file(tmp_path / "town.gpkg")
    return scene, tmp_path / "town.gpkg"


@pytest.mark.usefixtures("plain")
def test_one_command_from_scene_and_footprints_to_a_model_that_predicts(town, tmp_path, capsys):
    scene, labels = map(str, town)
    out = tmp_path / "mine"
    command = ["train", "--scene", scene, "--labels", labels, "--out", str(out), *FAST]
    assert run([*command, "--json"]) == 0
    said = capsys.readouterr()
    figures = {figure["metric"]: figure["value"] for figure in json.loads(said.out)["accuracy"]}
    assert figures["pixel IoU"] > 0.5
    assert "wrote" in said.err
    bundle = load_folder(out)
    assert {"model.safetensors", "model.onnx", "config.json"} <= set(bundle.files)
    properties = bundle.document.properties
    assert properties.resolution_m == 1.0
    assert properties.training_data[0].name == "town"
    assert (tmp_path / "mine.training" / "last.ckpt").exists()
    assert run(["predict", scene, "--model", str(out), "--out", str(tmp_path / "found.gpkg"), "--quiet"]) == 0
    found = gpd.read_file(tmp_path / "found.gpkg", layer="mine")
    truth = gpd.read_file(labels).to_crs(found.crs)
    shared = found.union_all().intersection(truth.union_all()).area
    assert shared / found.union_all().union(truth.union_all()).area > 0.5
    assert run(command) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.usefixtures("plain")
def test_fine_tuning_goes_on_from_a_model(town, tmp_path, capsys):
    scene, labels = map(str, town)
    base = ["train", "--scene", scene, "--labels", labels, "--quiet"]
    assert run([*base, "--out", str(tmp_path / "first"), *FAST]) == 0
    start = ["--start", str(tmp_path / "first")]
    assert run([*base, "--out", str(tmp_path / "second"), *start, *AGAIN]) == 0
    first, second = (load_folder(tmp_path / name).document.properties for name in ("first", "second"))
    assert second.accuracy[0].value == pytest.approx(first.accuracy[0].value, abs=0.05)
    assert second.training_data[-1].name.startswith("weights of first")
    assert "town" in second.training_data[-1].note
    capsys.readouterr()
    assert run([*base, "--out", str(tmp_path / "third"), *start, *AGAIN, "--arch", "hrnet"]) == 2
    assert "hrnet is not that of" in capsys.readouterr().err


def test_recipe_trains_and_says_what_it_reached(recipe_path, tmp_path, capsys):  # noqa: F811
    assert run(["train", str(recipe_path)]) == 0
    said = capsys.readouterr().err
    assert "mean over 1 places with objects" in said
    assert "false area share" in said
    assert (recipe_path.parent / "model" / "model.json").exists()


@pytest.mark.usefixtures("plain")
def test_classes_are_found_in_the_attribute(town, tmp_path):
    scene, labels = town
    frame = gpd.read_file(labels)
    frame["kind"] = ["barn" if number % 2 else "house" for number in range(len(frame))]
    frame.to_file(tmp_path / "kinds.gpkg")
    command = ["train", "--scene", str(scene), "--labels", str(tmp_path / "kinds.gpkg"), "--quiet"]
    assert run([*command, "--class-attribute", "kind", "--out", str(tmp_path / "kinds"), *FAST]) == 0
    card = load_folder(tmp_path / "kinds").card
    assert [info.name for info in card.classes] == ["barn", "house"]
    assert card.channels == (0, 1, 2)
    assert card.activation == "softmax"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimisation": {}}, ["optimisation: no such key", "did you mean 'optimization'?"]),
        ({"draws": {"crop": 32, "resolution": 0.3}}, ["draws.resolution: no such key", "resolution_m"]),
        ({"draws": {"crop": 33}}, ["draws.crop", "multiple of 32"]),
        ({"model": {"arch": "unetr"}}, ["unetr", "unet"]),
        ({"loss": {"name": "dise"}}, ["dise", "dice"]),
        ({"validation": {"places": [{"name": "x", "source": "twon"}]}}, ["'x'", "did you mean 'town'?"]),
        ({"model": "unet"}, ["model: "]),
        ({"draws": 5}, ["draws: "]),
        ({"draws": {"crop": 32, "worlds": 2}}, ["draws.worlds: no such key"]),
        ({"data": {"chips": [{"index": "missing.csv"}]}}, ["missing.csv"]),
    ],
)
def test_mistakes_in_a_recipe_are_one_line(recipe_path, recipe_dict, change, words, capsys):  # noqa: F811
    recipe_path.write_text(yaml.safe_dump(recipe_dict | change))
    assert run(["train", str(recipe_path)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(said) == 1
    assert all(word in said[0] for word in words), said[0]
    assert not (recipe_path.parent / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["nothing to train on"]),
        (["--scene", "a.tif"], ["1 --scene and 0 --labels"]),
        (["--scene", "missing.tif", "--labels", "x.gpkg"], ["missing.tif"]),
        (["recipe.yaml", "--scene", "a.tif", "--labels", "b.gpkg"], ["recipe.yaml"]),
        (["--chips", "folder"], ["--hold-out"]),
        (
            ["--device", "tpu", "--chips", "folder", "--hold-out", "a"],
            ["--device must be auto, cpu or cuda"],
        ),
        (["--steps", "-1", "--chips", "folder", "--hold-out", "a"], ["--steps must be 0 or more"]),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["train", *arguments, "--out", "model", "--resolution", "0.3"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert all(word in said[0] for word in words), said[0]


def test_bad_labels_are_one_line_each(town, tmp_path, capsys):
    scene, labels = town
    frame = gpd.read_file(labels)
    frame.iloc[:0].to_file(tmp_path / "empty.gpkg")
    frame.translate(yoff=10).to_file(tmp_path / "elsewhere.gpkg")
    for name, word in (("empty", "empty.gpkg"), ("elsewhere", "elsewhere.gpkg")):
        path = tmp_path / f"{name}.gpkg"
        command = [
            "train",
            "--scene",
            str(scene),
            "--labels",
            str(path),
            "--out",
            str(tmp_path / "mine"),
            "-q",
        ]
        assert run(command) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert word in said[0]
    command = ["train", "--scene", str(scene), "--labels", str(labels), "--class-attribute", "kid"]
    assert run([*command, "--out", str(tmp_path / "mine"), "-q"]) == 2
    assert "kind" in capsys.readouterr().err


def interrupted(recipe, after, with_signal):
    """Start a run in a process of its own; send it a signal once it has done so many steps."""
    command = [sys.executable, "-c", "import geoseg.cli; geoseg.cli.main()", "train", str(recipe)]
    table = recipe.parent / "model.training" / "training.csv"
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    )
    while process.poll() is None and steps_in(table) < after:
        time.sleep(0.05)
    process.send_signal(with_signal)
    _, said = process.communicate(timeout=300)
    assert process.returncode != 0, said
    return process.returncode, said


def steps_in(table):
    if not table.exists():
        return 0
    with table.open() as file:
        return max((int(row["step"]) for row in csv.DictReader(file)), default=0)


def test_a_run_killed_twice_ends_like_one_that_was_not(recipe_path, recipe_dict, capsys):  # noqa: F811
    recipe_dict["optimization"] |= {"steps": 60, "epoch": 10, "validate_every": 3}
    recipe_path.write_text(yaml.safe_dump(recipe_dict))
    whole = recipe_path.parent / "whole"
    assert run(["train", str(recipe_path), "--out", str(whole), "-q"]) == 0
    code, said = interrupted(recipe_path, 15, signal.SIGINT)
    assert code == 130, said
    assert "the same command resumes" in said
    assert "Traceback" not in said
    assert interrupted(recipe_path, 35, signal.SIGKILL)[0] == -signal.SIGKILL
    folder = recipe_path.parent / "model.training"
    assert steps_in(folder / "training.csv") < 60, "killed in the middle"
    assert not (recipe_path.parent / "model").exists()
    assert run(["train", str(recipe_path)]) == 0
    assert "resuming after step" in capsys.readouterr().err
    for name in ("model.training/best", "model"):
        ours = load_file(recipe_path.parent / name / "model.safetensors")
        theirs = load_file(
            Path(str(recipe_path.parent / name).replace("model", "whole")) / "model.safetensors"
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_model_is_replaced_when_asked_and_nothing_else_is(recipe_path, capsys):  # noqa: F811
    out = recipe_path.parent / "model"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    command = ["train", str(recipe_path), "--overwrite"]
    assert run(command) == 2
    assert "is no model folder" in capsys.readouterr().err
    (out / "thesis.txt").unlink()
    assert run([*command, "--json", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    first = json.loads(said.out)
    assert run(["train", str(recipe_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*command, "--no-resume", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == first["accuracy"], (
        "the same seed, the same model"
    )


def test_what_cannot_be_written_is_said_before_training(recipe_path, tmp_path, capsys):  # noqa: F811
    (tmp_path / "file").write_text("no folder")
    assert run(["train", str(recipe_path), "--out", str(tmp_path / "file" / "model")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "full.training").write_text("a file")
    assert run(["train", str(recipe_path), "--out", str(tmp_path / "full")]) == 2
    assert "is no folder of a training run" in capsys.readouterr().err


def test_folders_above_the_model_are_made(recipe_path, tmp_path):  # noqa: F811
    out = tmp_path / "models" / "of mine" / "model"
    assert run(["train", str(recipe_path), "--out", str(out), "--quiet"]) == 0
    assert (out / "model.json").is_file()


def test_missing_packages_are_named_before_training(recipe_path, monkeypatch, capsys):  # noqa: F811
    import geoseg.training

    find = geoseg.training.find_spec
    monkeypatch.setattr(geoseg.training, "find_spec", lambda name: None if name == "nncf" else find(name))
    content = recipe_path.read_text().replace("int8: false", "int8: true")
    recipe_path.write_text(content)
    assert run(["train", str(recipe_path)]) == 2
    assert "card.int8: true needs geoseg[train]: pip install 'geoseg[train]'" in capsys.readouterr().err


def test_help_names_every_family_and_shows_examples(capsys):
    assert run(["train", "--help"]) == 0
    said = capsys.readouterr().out
    for word in ("deeplabv3+", "segformer", "--labelled-area", "geoseg train --scene a.tif"):
        assert word in said


@pytest.mark.usefixtures("plain")
def test_a_mask_rcnn_learns_objects_and_predicts_them(town, tmp_path, capsys):
    scene, labels = map(str, town)
    out = tmp_path / "objects"
    options = ["--arch", "maskrcnn", "--steps", "2", "--batch", "2", "--crop", "64"]
    command = ["train", "--scene", scene, "--labels", labels, "--out", str(out), *options]
    assert run([*command, "--encoder", "test_efficientnet", "--quiet"]) == 0
    card = load_folder(out).card
    assert card.task == "instance"
    assert card.instances is not None
    assert 12 <= card.instances.largest_m <= 40
    found = tmp_path / "found.gpkg"
    command = ["predict", scene, "--model", str(out), "--out", str(found), "--quiet"]
    numbers = tmp_path / "numbers.tif"
    options = ["--threshold", "0.1", "--raster", str(numbers), "--json"]
    assert run([*command, *options]) == 0
    done = json.loads(capsys.readouterr().out)
    assert run(["plan", scene, "--model", str(out), *options, "--overwrite"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["plan_digest"] == done["plan_digest"]
    assert planned["tiles"]["to_infer"] == done["tiles"]["inferred"] > 0
    assert planned["memory_bytes"]["total"] > 10**8
    assert planned["predicted_seconds"] > 0.1
    layer = gpd.read_file(found, layer="objects")
    assert layer["instance"].tolist() == list(range(1, len(layer) + 1))
    with rasterio.open(numbers) as dataset:
        assert dataset.dtypes == ("uint32",)
        drawn = dataset.read(1)
    largest = layer.loc[layer["area_m2"].idxmax()]
    assert (drawn == largest["instance"]).sum() == pytest.approx(largest["area_m2"], rel=0.2)
    assert set(np.unique(drawn).tolist()) <= {0, *layer["instance"]}
    for wrong, words in (
        (["--raster", str(tmp_path / "a.tif"), "--raster-content", "probability"], "give instance or class"),
        (["--tta"], "have no mean"),
        (["--split", "touching"], "tells objects apart itself"),
        (["--overlap", "4"], "16 or more"),
        (["--precision", "int8"], "has no model_int8.xml"),
    ):
        assert run([*command, "--overwrite", *wrong]) == 2
        assert words in capsys.readouterr().err
