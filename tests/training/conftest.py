"""A tiny labelled collection on disk, and a recipe for it."""

import csv

import numpy as np
import pytest
import yaml
from PIL import Image

from geoseg.training.recipe import make_recipe, read_recipe

SMALL = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}


@pytest.fixture
def collection(tmp_path):
    """Nine chips of bright houses on dark ground: two sources, one empty, one place held out."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(9):
        source = ("town", "village", "forest")[number % 3]
        mask = np.zeros((80, 96), np.uint8)
        if source != "forest":
            row, col = rng.integers(5, 40, 2)
            mask[row : row + 25, col : col + 25] = 255
            mask[:4] = 127
        image = np.where(mask[..., None] == 255, 200, 60) + rng.integers(0, 20, (80, 96, 3))
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"{number}.tif")
        Image.fromarray(mask).save(tmp_path / f"{number}.png")
        rows.append(
            {
                "source": source,
                "stem": f"{source}_{number}",
                "image": f"{number}.tif",
                "mask": f"{number}.png",
                "gsd_m": 0.3,
            }
        )
    with (tmp_path / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


@pytest.fixture
def recipe_dict():
    return {
        "name": "tiny",
        "seed": 3,
        "out": "model",
        "data": {"chips": [{"index": "index.csv", "weights": {"town": 2}}], "touching_gap_m": 0},
        "model": {"arch": "unet", "encoder": "test_efficientnet", "details": SMALL},
        "draws": {"crop": 32},
        "optimization": {"batch": 2, "steps": 4, "epoch": 2, "validate_every": 1, "warmup_steps": 2},
        "validation": {
            "places": [
                {"name": "old town", "source": "town", "stems": ["town_0"]},
                {"name": "wood", "source": "forest", "stems": ["forest_2"]},
            ]
        },
        "card": {"int8": False, "tile": 64},
    }


@pytest.fixture
def recipe_path(collection, recipe_dict):
    path = collection / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_dict))
    return path


@pytest.fixture
def recipe(recipe_path):
    return make_recipe(read_recipe(recipe_path), "recipe.yaml")
