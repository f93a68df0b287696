import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from geoseg.cli.models import models
from geoseg.errors import InvalidModel
from geoseg.models.bundle import builtin_models, save_bundle
from geoseg.models.card import Head, make_document
from geoseg.models.inputs import InputSpec
from geoseg.values import ClassInfo
from tests.models.onnx_graphs import write_pointwise

SPEC = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.5,) * 3, (0.5,) * 3)
EXTRA = {
    "description": "Roofs",
    "geoseg:training_data": [{"name": "synthetic", "licence": "CC0-1.0"}],
    "geoseg:accuracy": [{"metric": "F1", "value": 0.91, "where": "validation", "how": "IoU 0.5"}],
}


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


def test_check_of_a_wrong_model_is_an_error(folder: Path) -> None:
    write_pointwise(folder / "model.onnx", end="NaN")
    with pytest.raises(InvalidModel, match="checksum"):
        run("check", folder)
    item = json.loads((folder / "model.json").read_text())
    item["assets"] = {}
    (folder / "model.json").write_text(json.dumps(item))
    with pytest.raises(InvalidModel, match="wrong on openvino: the model gives NaN"):
        run("check", folder)
