"""The loop: a killed run that ends like one that was not, what a run leaves, how it gives up."""

import csv
import json
import math

import pytest
import torch
from safetensors.torch import load_file

from geoseg.backends.architectures import load
from geoseg.errors import InvalidOption, UnwritableOutput
from geoseg.training.data.read import read_data
from geoseg.training.data.sampler import Sampler
from geoseg.training.folder import CHECKPOINT
from geoseg.training.loop import automatic_precision, moving_average, train
from geoseg.training.network import make_network
from geoseg.training.task import PATIENCE, Samples
from geoseg.training.watch import Began, Stepped, Validated


def run(recipe, **options):
    split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    start = make_network(recipe.model, 3, 1, recipe.seed)
    return train(recipe, split, Sampler(split.training, [], recipe.draws), start, **options)


def tensors(folder):
    return load_file(folder / "model.safetensors")


def changed(recipe, **options):
    return recipe.model_copy(update={"optimization": recipe.optimization.model_copy(update=options)})


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("killed_in", [3, 4, 6])
def test_killed_and_resumed_ends_like_uninterrupted(recipe, killed_in):
    recipe = changed(recipe, steps=6)
    whole = recipe.model_copy(update={"out": recipe.out.with_name("whole")})
    expected = tensors(run(whole))

    def kill(event):
        if isinstance(event, Stepped) and event.step == killed_in:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(recipe, on_event=kill)
    events = []
    found = tensors(run(recipe, on_event=events.append))
    assert isinstance(events[0], Began)
    assert events[0].step == (killed_in - 1) // 2 * 2
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key
    for name in ("training.csv", "validation.csv"):
        ours, theirs = rows(recipe.run_folder / name), rows(whole.run_folder / name)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_interrupted_by_the_user_says_so_and_keeps_the_checkpoint(recipe):
    def interrupt(event):
        if isinstance(event, Stepped) and event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, on_event=interrupt)
    assert (recipe.run_folder / CHECKPOINT).exists()


def test_a_run_leaves_weights_logs_and_pictures(recipe):
    events = []
    best = run(recipe, on_event=events.append)
    folder = recipe.run_folder
    assert load(best).training is False
    steps = rows(folder / "training.csv")
    assert [int(row["step"]) for row in steps] == [1, 2, 3, 4]
    assert all(math.isfinite(float(row["loss"])) for row in steps)
    assert {row["place"] for row in rows(folder / "validation.csv")} == {"old town", "wood"}
    assert list((folder / "pictures").glob("step_*.png"))
    assert list((folder / "tensorboard").glob("events.*"))
    assert [event.step for event in events if isinstance(event, Validated)] == [2, 4]
    shares = [event.share for event in events if isinstance(event, Stepped)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_training_learns(recipe):
    events = []
    run(
        changed(recipe, steps=60, epoch=20, validate_every=3, learning_rate=0.01, batch=4),
        on_event=events.append,
    )
    (last,) = [event for event in events if isinstance(event, Validated)]
    assert last.iou["old town"] > 0.8


def test_time_ends_the_schedule_with_a_validation(recipe):
    events = []
    run(changed(recipe, steps=1000, minutes=1e-9), on_event=events.append)
    assert [event.step for event in events if isinstance(event, Stepped)] == [1]
    assert isinstance(events[-1], Validated)


def test_divergence_is_one_line(recipe, monkeypatch):
    monkeypatch.setattr(
        "geoseg.training.loop.make_loss", lambda *_, **__: lambda logits, labels: logits.sum() * math.nan
    )
    with pytest.raises(InvalidOption, match=f"no finite gradient in {PATIENCE} steps"):
        run(changed(recipe, steps=50, epoch=25))


def test_another_recipe_does_not_take_over_a_run(recipe):
    run(recipe)
    other = recipe.model_copy(update={"seed": 99})
    with pytest.raises(UnwritableOutput, match="--no-resume"):
        run(other)
    run(other, resume=False)
    assert json.loads((recipe.run_folder / "run.json").read_text())["recipe"] == other.digest


def test_a_folder_that_is_no_run_is_not_removed(recipe):
    recipe.run_folder.mkdir()
    (recipe.run_folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UnwritableOutput, match="no folder of a training run"):
        run(recipe, resume=False)
    assert (recipe.run_folder / "thesis.txt").exists()


def test_average_follows_and_forgets_its_start():
    average = moving_average(0.9)
    mean = torch.tensor(0.0)
    for update in range(1, 200):
        mean = average(mean, torch.tensor(5.0), torch.tensor(update))
    assert mean.item() == pytest.approx(5.0, abs=1e-3)


def test_samples_are_a_function_of_seed_epoch_and_number():
    def draw(rng):
        value = int(rng.integers(256))
        return torch.full((3, 8, 8), value, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)

    first, again = Samples(draw, 1, 2, 5), Samples(draw, 1, 2, 5)
    assert all(torch.equal(first[i][0], again[i][0]) for i in range(5))
    different = [Samples(draw, 2, 2, 5), Samples(draw, 1, 3, 5)]
    assert all(any(not torch.equal(first[i][0], other[i][0]) for i in range(5)) for other in different)
    with pytest.raises(IndexError):
        first[5]


def test_precision_of_this_cpu_is_a_known_one():
    assert automatic_precision("cpu") in ("bfloat16", "float32")
