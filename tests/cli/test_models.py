import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from geoseg.cli.models import models
from geoseg.errors import InvalidModel, InvalidOption
from geoseg.models.bundle import builtin_models, find_model, save_bundle
from geoseg.models.card import Head
from geoseg.models.card_json import make_document
from geoseg.models.inputs import InputSpec
from geoseg.testing import make_scene
from geoseg.values import ClassInfo
from tests.models.onnx_graphs import write_pointwise
from tests.runs import object_model

pytestmark = pytest.mark.slow

SPEC = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.5,) * 3, (0.5,) * 3)
EXTRA = {
    "description": "Roofs",
    "geoseg:training_data": [{"name": "synthetic", "licence": "CC0-1.0"}],
    "geoseg:accuracy": [{"metric": "F1", "value": 0.91, "where": "validation", "how": "IoU 0.5"}],
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of each precision is measurement enough here."""
    monkeypatch.setattr("geoseg.assessment.compare.SECONDS", 0.0)
    monkeypatch.setattr("geoseg.assessment.compare.TURNS", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    head = Head((ClassInfo(1, "building", (1, 2, 3)),), (1,), "sigmoid")
    document = make_document("tiny", SPEC, head, tile=64, overlap=16, resolution_m=0.3, extra=EXTRA)
    return save_bundle(tmp_path / "tiny", document, {"model.onnx": write_pointwise(tmp_path / "m.onnx")}).path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments], catch_exceptions=False)


def test_list_shows_every_model_that_ships() -> None:
    lines = run("list").output.splitlines()
    assert lines[0].split() == ["name", "classes", "resolution", "size", "threshold", "measured"]
    assert [line.split()[0] for line in lines[1:]] == list(builtin_models())


def test_show_says_what_the_card_says(folder: Path) -> None:
    output = run("show", folder).output
    for text in (
        "tiny",
        "Roofs",
        "1 building",
        "0.3 m",
        "64 pixels, overlap 16",
        "synthetic (CC0-1.0)",
        "F1 0.91",
    ):
        assert text in output


def test_show_json_is_the_card(folder: Path) -> None:
    shown = json.loads(run("show", folder, "--json").output)
    assert shown == json.loads((folder / "model.json").read_text())


def test_show_reads_an_onnx_file(tmp_path: Path) -> None:
    path = write_pointwise(tmp_path / "roofs.onnx", metadata={"resolution": "20"})
    assert "0.2 m" in run("show", path).output


def test_check_compares_the_backends(folder: Path) -> None:
    output = run("check", folder).output
    assert "card and files are right" in output
    assert output.count("agrees") == 2
    assert "openvino: f32 " in output
    assert "is the default (" in output


def test_check_compares_the_objects_that_are_found() -> None:
    output = run("check", object_model()).output
    assert output.count("agrees") == 3
    assert "overlap: by the largest object, " in output
    with pytest.raises(InvalidOption, match=r"--write: .* finds objects: no overlap is measured"):
        run("check", object_model(), "--write")


def test_check_of_a_wrong_model_is_an_error(folder: Path) -> None:
    write_pointwise(folder / "model.onnx", end="NaN")
    with pytest.raises(InvalidModel, match="checksum"):
        run("check", folder)
    item = json.loads((folder / "model.json").read_text())
    item["assets"] = {}
    (folder / "model.json").write_text(json.dumps(item))
    with pytest.raises(InvalidModel, match="wrong on openvino: the model gives NaN"):
        run("check", folder)


def test_check_measures_how_far_the_model_looks(folder: Path) -> None:
    output = run("check", folder).output
    assert "receptive field: 95 % within 15 px, 99.9 % within 15 px (disturbed input)" in output
    assert "depends on the tile's extent: no" in output
    assert "smallest overlap: unknown: needs imagery; give --scene FILE" in output
    assert "not measured" in run("show", folder).output


def test_check_writes_what_it_measured_into_the_card(folder: Path, tmp_path: Path) -> None:
    before = find_model(str(folder)).card
    scene = make_scene(tmp_path / "scene.tif", size=(150, 140))
    assert "wrote" in run("check", folder, "--write", "--scene", scene).output
    # Without imagery the overlap is not measured, and stays.
    assert "wrote" in run("check", folder, "--write").output
    item = json.loads((folder / "model.json").read_text())["properties"]
    assert item["geoseg:smallest_overlap"] == 0
    assert item["geoseg:receptive_field_px"] == [15, 15]
    assert item["geoseg:depends_on_extent"] is False
    after = find_model(str(folder)).card
    assert (after.smallest_overlap, after.best_overlap, before.best_overlap) == (0, 0, 16)
    assert after.digest != before.digest
    assert "smallest overlap 0 px" in run("show", folder).output


def test_check_on_a_scene(folder: Path, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(150, 140))
    assert "smallest overlap: 0 px" in run("check", folder, "--scene", scene).output
    dark = make_scene(tmp_path / "dark.tif", pixels=np.zeros((3, 150, 140), np.uint8))
    assert "unknown: 0.0% of the picture are in a class" in run("check", folder, "--scene", dark).output
    small = make_scene(tmp_path / "small.tif", size=(64, 140))
    with pytest.raises(InvalidOption, match="needs 3 bands and 128 × 128 pixels"):
        run("check", folder, "--scene", small)


def test_the_card_of_a_model_that_ships_is_not_written() -> None:
    with pytest.raises(
        InvalidOption, match="buildings ships with geoseg and is not changed; copy its folder"
    ):
        run("check", "buildings", "--write")


def test_an_onnx_file_has_no_card_to_write(tmp_path: Path) -> None:
    path = write_pointwise(tmp_path / "roofs.onnx")
    with pytest.raises(InvalidOption, match="has no card"):
        run("check", path, "--write")
