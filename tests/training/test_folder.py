"""Whose a run's folder is: taken over only by the recipe and the data that it was begun with."""

import json
import multiprocessing

import numpy as np
import pytest
from PIL import Image

from geoseg.errors import UnwritableOutput
from geoseg.training.data.spec import SceneSpec
from geoseg.training.folder import CHECKPOINT, IDENTITY, alone, claim, data_state

pytestmark = pytest.mark.slow


def begun(recipe):
    """Claim a folder and leave a checkpoint in it."""
    claim(recipe.run_folder, recipe, resume=True)
    (recipe.run_folder / CHECKPOINT).write_bytes(b"weights")
    return recipe.run_folder


def other(recipe):
    return recipe.model_copy(update={"seed": recipe.seed + 1})


def test_the_same_recipe_and_data_go_on(recipe):
    folder = begun(recipe)
    claim(folder, recipe, resume=True)
    assert (folder / CHECKPOINT).exists()
    claim(folder, recipe, resume=False)
    assert not (folder / CHECKPOINT).exists()


def test_one_training_at_a_time(recipe):
    folder = recipe.run_folder
    with alone(folder):
        begun(recipe)
        claim(folder, recipe, resume=False)
        with pytest.raises(UnwritableOutput, match="another training is running in it"), alone(folder):
            pass
        context = multiprocessing.get_context("fork")
        ready, done = context.Event(), context.Event()
        drawer = context.Process(target=lambda: (ready.set(), done.wait()), daemon=True)
        drawer.start()
        ready.wait()
    with alone(folder):  # though a process that draws samples is still there
        done.set()
    drawer.join()


def test_another_recipe_is_refused_once_there_is_a_checkpoint(recipe):
    claim(recipe.run_folder, recipe, resume=True)
    claim(recipe.run_folder, other(recipe), resume=True)  # a mistyped option locks nobody out
    folder = begun(other(recipe))
    with pytest.raises(UnwritableOutput, match="holds a run of another recipe; give --no-resume"):
        claim(folder, recipe, resume=True)
    assert (folder / CHECKPOINT).exists()


@pytest.mark.parametrize("changed", ["index.csv", "4.png", "7.tif", "masks/a.png", "labels.gpkg"])
def test_changed_data_are_not_taken_for_those_that_were_trained_on(changed, recipe):
    chips = recipe.data.chips[0].model_copy(update={"labels": {"town": "labels.gpkg"}})
    images, masks = recipe.base / "images", recipe.base / "masks"
    folders = chips.model_copy(update={"index": None, "images": images, "masks": masks, "labels": {}})
    for folder in (images, masks):
        folder.mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    (recipe.base / "labels.gpkg").write_bytes(b"before")
    data = recipe.data.model_copy(update={"chips": (chips, folders)})
    recipe = recipe.model_copy(update={"data": data})
    folder = begun(recipe)
    claim(folder, recipe, resume=True)
    path = recipe.base / changed
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UnwritableOutput, match=f": {changed} has changed since its run began; give --no"):
        claim(folder, recipe, resume=True)
    claim(folder, recipe, resume=False)


def test_urls_are_left_out_and_paths_are_those_beside_the_recipe(recipe):
    scene = SceneSpec(scene="https://host/scene.tif", labels=None)
    data = recipe.data.model_copy(update={"scenes": (scene,)})
    names = {f"{number}.{kind}" for number in range(9) for kind in ("tif", "png")}
    assert set(data_state(data, recipe.base)) == names | {"index.csv"}


def test_a_folder_from_before_data_were_noted_is_not_gone_on_with(recipe):
    folder = begun(recipe)
    (folder / IDENTITY).write_text(json.dumps({"recipe": recipe.digest}))
    with pytest.raises(UnwritableOutput, match="does not say on what data"):
        claim(folder, recipe, resume=True)
