"""The loop: schedule, averages, and a killed run that ends like one that was not."""

import csv
import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from geoseg.backends.architectures import load
from geoseg.metrics import Confusion
from geoseg.training import __main__ as command
from geoseg.training.loop import Average, merit, schedule, train
from geoseg.training.recipe import Optimization, read_recipe
from geoseg.training.samples import read_split
from geoseg.training.validate import Score

OPTIONS = Optimization(steps=1000, minutes=10, warmup_steps=50)


@given(st.integers(0, 2000), st.floats(0, 1200))
def test_schedule_stays_between_0_and_1(step, seconds):
    assert 0 <= schedule(OPTIONS, step, seconds) <= 1


@given(st.integers(50, 999), st.floats(0, 600))
def test_schedule_falls_with_steps_and_with_time(step, seconds):
    now = schedule(OPTIONS, step, seconds)
    assert schedule(OPTIONS, step + 1, seconds) <= now
    assert schedule(OPTIONS, step, seconds + 1) <= now


def test_schedule_corners():
    assert schedule(OPTIONS, 0, 0) == pytest.approx(1 / 50)
    assert schedule(OPTIONS, 500, 0) == schedule(OPTIONS, 60, 300) == pytest.approx(0.5)
    assert schedule(OPTIONS, 1000, 0) == schedule(OPTIONS, 60, 600) == pytest.approx(0)


def test_average_follows_and_forgets_its_start():
    layer = torch.nn.BatchNorm1d(1)
    average = Average(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(5.0)
    layer.num_batches_tracked.fill_(7)
    for step in range(1, 200):
        average.update(layer, step)
    assert average.tensors["weight"].item() == pytest.approx(5.0, abs=1e-3)
    assert average.tensors["num_batches_tracked"].item() == 7
    assert average.tensors["weight"].data_ptr() != layer.weight.data_ptr()


def test_merit_wants_iou_and_no_false_ground():
    town = Score(Confusion(50, 25, 25, 100), area_m2=1)
    wood = Score(Confusion(0, 10, 0, 90), area_m2=1)
    assert merit({"town": town, "wood": wood}) == pytest.approx(0.5 - 0.1)
    assert merit({"town": town}) > merit({"town": town, "wood": wood})


def tensors(folder):
    return load_file(folder / "best" / "model.safetensors")


def test_killed_and_resumed_ends_like_uninterrupted(recipe_path, monkeypatch):
    recipe = read_recipe(recipe_path)
    options = recipe.optimization.model_copy(update={"checkpoint_minutes": 1e-9, "steps": 3})
    recipe = recipe.model_copy(update={"optimization": options})
    split = read_split(recipe.data, recipe.validation)
    whole = recipe.model_copy(update={"output": recipe_path.parent / "whole"})
    train(whole, split, [])

    with monkeypatch.context() as patch:
        patch.setattr("geoseg.training.loop.segmentation_loss", _fails_at_call(3))
        with pytest.raises(KeyboardInterrupt):
            train(recipe, split, [])
    assert not (recipe.output / "best").exists()
    progress = train(recipe, split, [])
    assert progress.step == 3
    expected = tensors(whole.output)
    for key, value in tensors(recipe.output).items():
        assert torch.equal(value, expected[key]), key


def _fails_at_call(number):
    from geoseg.training.losses import segmentation_loss

    calls = []

    def loss(logits, mask):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return segmentation_loss(logits, mask)

    return loss


def test_run_leaves_a_model_and_logs(recipe_path, caplog):
    caplog.set_level(logging.INFO)
    assert command.main([str(recipe_path)]) == 0
    output = recipe_path.parent / "run"
    module = load(output / "best")
    with torch.inference_mode():
        assert module(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)
    with (output / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3]
    assert all(float(row["loss"]) > 0 for row in rows)
    with (output / "validation.csv").open() as file:
        assert {row["place"] for row in csv.DictReader(file)} == {"old town", "wood"}
    assert "merit" in caplog.text
    assert command.main([str(recipe_path)]) == 0, "a finished run is left alone"


def test_training_learns_bright_houses(recipe_path, recipe_dict):
    recipe = read_recipe(recipe_path)
    options = {"steps": 40, "learning_rate": 0.01, "ema_decay": 0.8, "batch": 4, "warmup_steps": 3}
    recipe = recipe.model_copy(update={"optimization": recipe.optimization.model_copy(update=options)})
    progress = train(recipe, read_split(recipe.data, recipe.validation), [])
    assert progress.best > 0.5


@pytest.mark.parametrize("arguments", [[], ["a.yaml", "b.yaml"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_bad_recipe_is_one_line(tmp_path, capsys):
    assert command.main([str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
