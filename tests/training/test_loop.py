"""The loop: a killed run that ends like one that was not, what a run leaves, how it gives up."""

import copy
import csv
import json
import math
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geoseg.backends.architectures import load
from geoseg.errors import InvalidOption, NoSpaceLeft, UnreadableScene, UnwritableOutput
from geoseg.training.data.read import read_data
from geoseg.training.data.sampler import Sampler
from geoseg.training.events import Began, Stepped, Validated
from geoseg.training.folder import CHECKPOINT, is_first_process
from geoseg.training.loop import CheckpointFiles, automatic_precision, train
from geoseg.training.losses import make_loss
from geoseg.training.network import Start, make_network
from geoseg.training.run import train_model
from geoseg.training.task import PATIENCE, Numbered, Samples, automatic_workers

pytestmark = pytest.mark.slow


def run(recipe, **options):
    split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    start = make_network(recipe.model, 3, 1, recipe.seed)
    return train(recipe, split, Sampler(split.training, recipe.draws), start, **options)


def tensors(folder):
    return load_file(folder / "model.safetensors")


def changed(recipe, **options):
    return recipe.model_copy(update={"optimization": recipe.optimization.model_copy(update=options)})


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("killed_in", "validate_every", "cycles"), [(1, 1, 1), (4, 1, 1), (3, 3, 1), (4, 1, 2), (5, 3, 3)]
)
def test_killed_and_resumed_ends_like_uninterrupted(recipe, killed_in, validate_every, cycles, monkeypatch):
    """Also where a step takes chances: dropout, or the regions that a Mask R-CNN learns from."""

    def by_chance(*options, **more):
        loss = make_loss(*options, **more)
        return lambda logits, labels: loss(logits, labels) * (1 + torch.rand(()))

    monkeypatch.setattr("geoseg.training.loop.make_loss", by_chance)
    recipe = changed(recipe, steps=6, validate_every=validate_every, cycles=cycles)
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


def test_the_mean_of_several_cycles_is_kept_where_it_does_best(recipe, monkeypatch):
    merits = iter([0.1, 0.3, 0.2, 0.4])  # the last is the mean's
    monkeypatch.setattr("geoseg.training.callbacks.merit", lambda _: next(merits))
    best = run(changed(recipe, steps=6, cycles=3))
    ends = [tensors(recipe.run_folder / f"cycle_{number}") for number in (1, 2, 3)]
    for key, value in tensors(best).items():
        found = [end[key] for end in ends]
        expected = torch.stack(found).mean(0) if value.is_floating_point() else found[0]
        torch.testing.assert_close(value, expected)
    assert any(not torch.equal(ends[0][key], ends[2][key]) for key in ends[0])
    assert [int(row["step"]) for row in rows(recipe.run_folder / "validation.csv")[::2]] == [2, 4, 6, 6]


def test_the_mean_of_several_cycles_is_left_where_it_does_worse(recipe, monkeypatch):
    merits = iter([0.1, 0.3, 0.2, 0.25])
    monkeypatch.setattr("geoseg.training.callbacks.merit", lambda _: next(merits))
    best = run(changed(recipe, steps=6, cycles=3))
    second = tensors(recipe.run_folder / "cycle_2")
    assert all(torch.equal(value, second[key]) for key, value in tensors(best).items())


def test_one_cycle_leaves_no_ends(recipe):
    run(recipe)
    assert not list(recipe.run_folder.glob("cycle_*"))


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


def test_a_batch_too_small_for_the_network_is_one_line(recipe):
    pooling = recipe.model.model_copy(update={"arch": "pspnet", "details": {}})
    recipe = changed(recipe.model_copy(update={"model": pooling}), batch=1)
    with pytest.raises(InvalidOption, match="batch of 1 is too small"):
        run(recipe)


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


class OneWeight(torch.nn.Module):
    """The smallest network with a norm."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.BatchNorm2d(1))

    def forward(self, image):
        return self.layer(image)


def quickly(recipe, network=None, **options):
    """Run the loop on a network that costs nothing."""
    split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    start = make_network(recipe.model, 3, 1, recipe.seed)
    start = Start(network or start.network, start.config, None)
    return train(recipe, split, Sampler(split.training, recipe.draws), start, **options)


def test_a_bad_batch_leaves_no_trace(recipe, monkeypatch):
    """One batch in which all goes wrong: its step is left out, norms keep their means, training goes on."""
    number = iter(range(100))

    class Broken(OneWeight):
        def forward(self, image):
            bad = self.training and next(number) == 1
            return self.layer(image * (torch.inf if bad else 1.0))

    seen = []

    def look(event):
        if isinstance(event, Stepped):
            seen.append({key: value.clone() for key, value in network.state_dict().items()})
            losses.append(event.loss)

    network, losses = Broken(), []
    monkeypatch.setattr("geoseg.training.callbacks.save_weights", lambda *_: None)
    quickly(changed(recipe, steps=4, epoch=4, validate_every=5), network, on_event=look)
    assert all(bool(torch.isfinite(value).all()) for state in seen for value in state.values())
    assert all(torch.equal(seen[0][key], seen[1][key]) for key in seen[0])
    assert not torch.equal(seen[1]["layer.0.weight"], seen[2]["layer.0.weight"])
    assert all(math.isfinite(loss) for loss in losses)


def test_a_finished_run_does_no_step_more(recipe):
    recipe = changed(recipe, steps=1000, minutes=1e-9)
    first = tensors(run(recipe))
    events = []
    again = tensors(run(recipe, on_event=events.append))
    assert not [event for event in events if isinstance(event, Stepped)]
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_checkpoints_hold_data_only_and_appear_whole(recipe, monkeypatch):
    run(recipe)
    checkpoint = recipe.run_folder / CHECKPOINT
    content = torch.load(checkpoint, weights_only=True)
    assert content["global_step"] == 4
    before = checkpoint.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(NoSpaceLeft, match="no space left in"):
        CheckpointFiles().save_checkpoint({"a": 1}, checkpoint)
    assert checkpoint.read_bytes() == before
    assert not [path for path in recipe.run_folder.iterdir() if ".tmp" in path.name]


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(recipe, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("geoseg.training.callbacks.append_row", full)
        with pytest.raises(UnwritableOutput, match=r"model\.training: cannot be written: No space left"):
            run(recipe)
    run(recipe)


def test_a_damaged_checkpoint_is_one_line(recipe):
    run(recipe)
    (recipe.run_folder / CHECKPOINT).write_bytes(b"PK torn")
    with pytest.raises(UnwritableOutput, match=r"last\.ckpt: is damaged.*--no-resume"):
        run(recipe)


def test_scalars_reach_tensorboard(recipe):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(changed(recipe, steps=10, epoch=10))
    events = accumulator.EventAccumulator(str(recipe.run_folder / "tensorboard"))
    events.Reload()
    assert {"loss", "rate", "merit", "iou/old town"} <= set(events.Tags()["scalars"])


def test_worst_first_weights_are_kept_all_the_same(recipe, monkeypatch):
    """Where nothing is to be found and all is found, the merit is -1; there is a best even so."""
    monkeypatch.setattr("geoseg.training.callbacks.merit", lambda _: -1.0)
    assert (run(recipe) / "model.safetensors").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core
def test_processes_that_draw_change_nothing(recipe):
    expected = tensors(run(recipe))
    other = changed(recipe, workers=2).model_copy(update={"out": recipe.out.with_name("other")})
    found = tensors(run(other))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_picture_that_is_gone_is_named_whoever_reads_it(recipe, monkeypatch):
    def gone(*_):
        raise UnreadableScene("a.tif: cannot be read")

    monkeypatch.setattr(Sampler, "draw", gone)
    for workers in (0, 1):
        out = recipe.out.with_name(f"model{workers}")
        with pytest.raises(UnreadableScene, match=r"^a\.tif: cannot be read$"):
            run(changed(recipe, workers=workers).model_copy(update={"out": out}))


def test_samples_can_be_sent_to_a_process(recipe):
    split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    draw = Numbered(Sampler(split.training, recipe.draws).draw, [1])
    samples = Samples(draw, 1, 0, 4)
    sent = pickle.loads(pickle.dumps(samples))
    for number in range(4):
        assert all(torch.equal(a, b) for a, b in zip(samples[number], sent[number], strict=True))
    assert copy.deepcopy(draw) is draw, "averaging copies the task, never the data"


def test_labels_become_channels():
    labels = torch.tensor([[0, 9, 4], [255, 7, 4]], dtype=torch.uint8)
    numbered = Numbered(lambda _: (torch.zeros(3, 2, 3, dtype=torch.uint8), labels), [9, 4])
    assert numbered(np.random.default_rng(0))[1].tolist() == [[0, 1, 2], [255, 255, 2]]


def test_other_processes_of_a_run_write_nothing(recipe, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    claimed = []
    monkeypatch.setattr("geoseg.training.loop.claim", lambda *_, **__: claimed.append(1))
    assert not is_first_process()
    monkeypatch.setattr("geoseg.training.loop._fit", lambda *_: None)
    monkeypatch.setattr("geoseg.training.publish.publish", lambda *_: claimed.append(2))
    events = []
    with pytest.raises(SystemExit) as end:
        train_model(recipe, resume=False, on_event=events.append)
    assert end.value.code == 0
    assert claimed == events == []


def test_processes_share_the_cores():
    assert automatic_workers("cpu", 1) == 0
    assert 1 <= automatic_workers("cuda", 1000) <= automatic_workers("cuda", 1) <= 16


def test_precision_of_this_cpu_is_a_known_one():
    assert automatic_precision("cpu") in ("bfloat16", "float32")


def test_without_steps_what_training_begins_with_is_kept(recipe):
    recipe = changed(recipe, steps=0)
    expected = make_network(recipe.model, 3, 1, recipe.seed).network.state_dict()
    found = tensors(run(recipe))
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_ground_held_out_without_objects_is_refused_before_the_first_step(recipe):
    validation = recipe.validation.model_copy(update={"places": recipe.validation.places[1:]})
    with pytest.raises(InvalidOption, match="the ground held out has no objects"):
        train_model(recipe.model_copy(update={"validation": validation}))
    assert not recipe.run_folder.exists()
