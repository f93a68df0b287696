"""The card says what was measured with the weights that are written."""

import numpy as np
import pytest
import torch

from geoseg.backends.architectures import load
from geoseg.errors import InvalidModel
from geoseg.metrics import Confusion
from geoseg.models.bundle import load_folder
from geoseg.training import __main__ as command
from geoseg.training.publish import accuracy, training_data
from geoseg.training.recipe import read_recipe
from geoseg.training.samples import read_index, read_split
from geoseg.training.validate import Score


@pytest.fixture
def told(collection):
    """The collection with terms and places in its index, and one line that a mask must not cover."""
    index = collection / "index.csv"
    header, *lines = index.read_text().splitlines()
    terms = [f"{line},CC0-1.0,{'C' if 'village' in line else 'A'},Somewhere" for line in lines]
    index.write_text("\n".join([header + ",licence,tier,place", *terms]) + "\n")
    return collection


def test_run_is_published_and_replaces_what_was_there(told, recipe_path):
    folder = told / "model"
    assert command.main([str(recipe_path), "--publish", str(folder)]) == 0
    (folder / "left over").touch()
    assert command.main([str(recipe_path), "--publish", str(folder), "--no-train"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.json",
        "model.onnx",
        "model.safetensors",
    ]
    card = load_folder(folder).card
    assert (card.name, card.resolution_m, card.resolution_range) == ("tiny", 0.3, (0.2, 0.6))
    assert card.activation == "sigmoid"
    pixels = np.array([0.0, 255.0])
    scaled = (pixels * card.inputs.scale - card.inputs.mean[0]) / card.inputs.std[0]
    assert scaled.tolist() == [-1.0, 1.0], "the card scales as training did"
    assert all(value.dtype == torch.float32 for value in load(folder).parameters())


def test_nothing_to_publish(told, recipe_path, capsys):
    assert (
        command.main([str(recipe_path), "--publish", str(told / "model"), "--no-train"])
        == InvalidModel.exit_code
    )
    assert "config.json" in capsys.readouterr().err
    assert not (told / "model").exists()


def test_training_data_lists_each_source_once_with_its_terms(told, recipe_path):
    recipe = read_recipe(recipe_path)
    rows = training_data(recipe, read_split(recipe.data, recipe.validation))
    assert [row["name"] for row in rows] == ["forest", "town", "village"]
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    assert [row["note"].split(";")[0] for row in rows] == ["tier A", "tier A", "tier C"]
    assert [row["note"].split("; ")[1].split(" chips")[0] for row in rows] == ["2", "2", "3"]
    assert len(read_index(told / "index.csv")) == 9


def test_accuracy_rows(told, recipe_path):
    recipe = read_recipe(recipe_path)
    split = read_split(recipe.data, recipe.validation)
    town = Score(Confusion(60, 20, 20, 100), Confusion(3, 1, 1), 1e6)
    wood = Score(Confusion(0, 2, 0, 198), Confusion(0, 5, 0), 2e6)
    rows = accuracy({"old town": town, "wood": wood}, split, 0.4, 0.3)
    found = {(row["metric"], row["where"].split(" (")[0]): row["value"] for row in rows}
    assert found == {
        ("pixel IoU", "old town"): 0.6,
        ("object F1 at IoU 0.5", "old town"): 0.75,
        ("false area share", "wood"): 0.01,
        ("false features per km²", "wood"): 2.5,
        ("pixel IoU", "mean over 1 places with buildings"): 0.6,
        ("object F1 at IoU 0.5", "mean over 1 places with buildings"): 0.75,
    }
    assert all("threshold 0.4" in row["how"] for row in rows)
