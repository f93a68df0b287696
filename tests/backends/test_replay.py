"""Recorded forward passes: a choice by times that are given, and every failure stays eager."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate, cycle
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.backends import loading, select
from geoseg.backends.base import PointwisePredictor
from geoseg.backends.gpu_runner import GpuRunner, LargestBatches
from geoseg.backends.replay import (
    ENOUGH_PASSES,
    GAIN,
    PASSES,
    Batch,
    ReplayChoice,
    choose_replay,
    measure_replay,
    worth_measuring,
)
from geoseg.errors import BackendUnavailable, OutOfDeviceMemory
from geoseg.models.bundle import Bundle
from geoseg.prediction.blocks import prepare, usual_batch
from geoseg.testing import make_scene
from geoseg.values import Patch
from tests.backends.test_cuda import assert_near, exact, needs_gpu
from tests.backends.test_stored import stored
from tests.plans import make_test_plan

BATCH = Batch((16, 3, 512, 512), "uint8")
seconds = st.floats(1e-6, 10)


@given(st.lists(seconds, min_size=1, max_size=9), st.floats(0.01, 100))
def test_the_faster_is_chosen_where_it_is_faster_by_enough(eager: list[float], factor: float) -> None:
    choice = choose_replay(eager, [second * factor for second in eager])
    if factor < 0.99 / GAIN:
        assert choice.replay
    if factor > 1.01 / GAIN:
        assert not choice.replay
    assert choice.reason.startswith("CUDA graph: " if choice.replay else "eager: ")


@given(st.lists(seconds, min_size=3, max_size=9), st.floats(0.01, 10))
def test_one_disturbed_pass_decides_nothing(eager: list[float], factor: float) -> None:
    steady = [eager[0]] * len(eager)
    replayed = [factor * eager[0]] * len(eager)
    assert choose_replay([*steady[1:], 1e6], replayed) == choose_replay(steady, replayed)
    assert choose_replay(steady, [*replayed[1:], 1e6]) == choose_replay(steady, replayed)


@given(st.integers(1, 64), st.integers(1, 8), st.integers(0, 10**6))
def test_only_a_long_run_is_worth_measuring(size: int, workers: int, tiles: int) -> None:
    batch = Batch((size, 3, 64, 64), "uint8")
    assert worth_measuring(tiles, batch, workers) == (tiles / size / workers >= ENOUGH_PASSES)


def ticking(each: list[float]) -> Callable[[], float]:
    """Return a clock that goes on by these, again and again."""
    times: Iterator[float] = accumulate(cycle(each), initial=0.0)
    return lambda: next(times)


def nothing() -> None:
    """Run a pass."""


@pytest.mark.parametrize(("eager", "replayed", "expected"), [(2.0, 1.0, True), (1.0, 1.0, False)])
def test_both_ways_are_timed(eager: float, replayed: float, expected: bool) -> None:
    did: list[str] = []
    clock = ticking([eager, 0] * PASSES + [replayed, 0] * PASSES)

    def record() -> Callable[[], object]:
        did.append("record")
        return lambda: did.append("replay")

    choice = measure_replay(lambda: did.append("eager"), record, clock)
    assert choice.replay is expected
    assert did == ["eager"] * (PASSES + 1) + ["record"] + ["replay"] * (PASSES + 1)
    if expected:
        assert choice.reason == "CUDA graph: 2.0 times as fast as eager"


@pytest.mark.parametrize("where", ["eager", "record", "replay"])
def test_whatever_fails_stays_eager_and_is_said(where: str) -> None:
    def failing() -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors")

    def record() -> Callable[[], object]:
        if where == "record":
            failing()
        return failing if where == "replay" else nothing

    choice = measure_replay(failing if where == "eager" else nothing, record)
    said = "CUDA error: operation not permitted when stream is capturing"
    what = "a pass could not be timed" if where == "eager" else "a CUDA graph could not be recorded"
    assert choice == ReplayChoice(False, f"eager: {what} ({said})")


@dataclass(frozen=True)
class PaperGpu(PointwisePredictor):
    """A device that chooses as it is told, and notes what it is asked for."""

    failure: str = ""
    device: str = "cuda"
    tried: list[Batch] = field(default_factory=list)
    recorded: list[Batch] = field(default_factory=list)
    forgotten: list[bool] = field(default_factory=list)

    def try_replay(self, batch: Batch) -> ReplayChoice:
        self.tried.append(batch)

        def record() -> Callable[[], object]:
            if self.failure:
                raise RuntimeError(self.failure)
            return nothing

        return measure_replay(nothing, record, ticking([2.0, 0] * PASSES + [1.0, 0] * PASSES))

    def replay(self, batch: Batch) -> None:
        self.recorded.append(batch)

    def forget(self) -> None:
        self.forgotten.append(True)


RECIPE = loading.PredictorRecipe("model", "0" * 64, "pytorch", "cuda", reason="pytorch: a GPU")


def install(monkeypatch: pytest.MonkeyPatch, gpu: Any) -> None:
    def load(recipe: loading.PredictorRecipe) -> Any:
        assert recipe == replace(RECIPE, device=recipe.device)  # else the model is loaded twice
        return gpu

    monkeypatch.setattr(loading, "_load", load)


def test_the_choice_goes_with_the_recipe_to_every_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PaperGpu()
    install(monkeypatch, gpu)
    recipe = RECIPE.for_run(BATCH, 16 * ENOUGH_PASSES, 1)
    assert recipe.reason == "pytorch: a GPU; CUDA graph: 2.0 times as fast as eager"
    assert (gpu.tried, recipe.replay) == ([BATCH], BATCH)
    assert recipe.load() is gpu
    assert gpu.recorded == [BATCH]
    assert not gpu.forgotten


def test_who_only_measures_for_others_gives_the_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PaperGpu()
    install(monkeypatch, gpu)
    assert RECIPE.for_run(BATCH, 10**6, 2).replay == BATCH
    assert gpu.forgotten


def test_a_device_that_cannot_record_is_launched_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PaperGpu(failure="CUDA out of memory. Tried to allocate 2.00 GiB.")
    install(monkeypatch, gpu)
    recipe = RECIPE.for_run(BATCH, 10**6, 1)
    assert recipe.replay is None
    assert recipe.reason.endswith("eager: a CUDA graph could not be recorded (" + gpu.failure + ")")
    recipe.load()
    assert gpu.recorded == []


@pytest.mark.parametrize(
    ("device", "tiles", "workers", "gpu"),
    [
        ("cuda", 16 * ENOUGH_PASSES - 1, 1, PaperGpu()),
        ("cuda", 16 * ENOUGH_PASSES, 2, PaperGpu()),
        ("cpu", 10**6, 1, PaperGpu()),
        ("cuda", 10**6, 1, PointwisePredictor()),
    ],
)
def test_a_short_run_or_another_device_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, device: str, tiles: int, workers: int, gpu: Any
) -> None:
    install(monkeypatch, gpu)
    recipe = replace(RECIPE, device=device)
    assert recipe.for_run(BATCH, tiles, workers) == recipe
    assert getattr(gpu, "tried", []) == []


@pytest.mark.parametrize("dtype", ["uint8", "float32", "uint16"])
@pytest.mark.parametrize("stretch", [None, ((0.0, 9.0),)])
@pytest.mark.parametrize("normalizes", [True, False])
def test_the_usual_batch_is_what_tiles_are_made_into(
    dtype: str, stretch: tuple[tuple[float, float], ...] | None, normalizes: bool
) -> None:
    plan = make_test_plan((100, 100), tile=16, block=3)
    bands = tuple(replace(band, dtype=dtype) for band in plan.scene.bands)
    plan = replace(plan, scene=replace(plan.scene, bands=bands), stretch=stretch)
    tile = prepare(plan, Patch(np.ones((1, 16, 16), dtype), np.ones((16, 16), bool)), normalizes)
    assert usual_batch(plan, 4, normalizes) == Batch((4, *tile.shape), tile.dtype.name)
    assert usual_batch(plan, 99, normalizes).shape[0] == 9


class Counting(torch.nn.Module):
    """Counts the passes that are launched."""

    def __init__(self) -> None:
        super().__init__()
        self.launched = 0

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.launched += 1
        return tiles.to(torch.int32) + 1, torch.zeros((), dtype=torch.bool, device=tiles.device)


def paper_runner(monkeypatch: pytest.MonkeyPatch, failure: str) -> tuple[GpuRunner, Counting]:
    """Return the runner of GPUs over a device of paper, which may fail to record."""

    @contextlib.contextmanager
    def graph(*_: object, **__: object) -> Iterator[None]:
        yield
        if failure:
            raise torch.cuda.OutOfMemoryError(failure)

    for name in ("Stream", "current_stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, Mock())
    for name in ("stream", "device"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", graph)
    model = Counting()
    return GpuRunner(model, torch.device("cpu")), model


SMALL = Batch((2, 1, 4, 4), "uint8")


def test_only_the_batch_that_was_recorded_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, model = paper_runner(monkeypatch, "")
    runner.replay(SMALL)
    before = model.launched
    runner.replay(SMALL)
    with torch.inference_mode():
        first, _ = runner._forward(torch.zeros(SMALL.shape, dtype=torch.uint8))
        second, _ = runner._forward(torch.zeros(SMALL.shape, dtype=torch.uint8))
        assert model.launched == before
        assert first.data_ptr() != second.data_ptr()  # the next pass leaves it alone
        runner._forward(torch.zeros((1, 1, 4, 4), dtype=torch.uint8))
        runner._forward(torch.zeros(SMALL.shape, dtype=torch.float32))
        assert model.launched == before + 2
        runner.forget()
        runner._forward(torch.zeros(SMALL.shape, dtype=torch.uint8))
        assert model.launched == before + 3


def test_where_recording_fails_passes_are_launched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failure = "CUDA out of memory. Tried to allocate 2.00 GiB."
    runner, model = paper_runner(monkeypatch, failure)
    choice = runner.try_replay(SMALL)
    assert choice == ReplayChoice(False, f"eager: a CUDA graph could not be recorded ({failure})")
    other = Batch((3, 1, 4, 4), "uint8")
    runner.replay(other)
    assert failure in caplog.text
    tried = model.launched
    runner.replay(other)  # once is enough
    assert model.launched == tried
    for batch in (SMALL, other):
        values, _ = runner._forward(torch.full(batch.shape, 4, dtype=torch.uint8))
        assert (values == 5).all()


def test_one_thread_queues_all_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, _ = paper_runner(monkeypatch, "")
    with ThreadPoolExecutor(4) as pool:
        idents = set(pool.map(lambda _: runner._in_turn(threading.get_ident), range(40)))
    assert len(idents) == 1
    assert idents != {threading.get_ident()}


def test_an_error_on_that_thread_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, _ = paper_runner(monkeypatch, "")
    with pytest.raises(ZeroDivisionError):
        runner._in_turn(lambda: 1 // 0)
    assert runner._in_turn(lambda: 3) == 3


def test_batches_are_filled_up_to_the_largest_of_their_kind() -> None:
    largest = LargestBatches()
    bytes_, floats = np.zeros((9, 3, 4, 4), np.uint8), np.zeros((9, 3, 4, 4), np.float32)
    assert largest.count_for(bytes_[:2]) == 2
    for count in (2, 7, 3):
        largest.ran(bytes_[:count])
    assert [largest.count_for(bytes_[:count]) for count in (1, 7, 9)] == [7, 7, 9]
    assert largest.count_for(floats[:1]) == 1
    assert largest.count_for(bytes_[:1, :, :2]) == 1
    largest.forget()
    assert largest.count_for(bytes_[:1]) == 1


@pytest.mark.parametrize(
    "failure",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")],
)
def test_a_batch_that_fits_only_unfilled_is_run_unfilled(
    monkeypatch: pytest.MonkeyPatch, failure: RuntimeError
) -> None:
    runner, _ = paper_runner(monkeypatch, "")
    tried: list[int] = []

    def run(_lane: object, batch: np.ndarray, count: int) -> tuple[np.ndarray, bool]:
        tried.append(count)
        if count > 2:
            raise failure
        return batch, False

    monkeypatch.setattr(runner, "_run_filled", run)
    runner._largest.ran(np.zeros((8, 1, 4, 4), np.uint8))
    runner(np.zeros((2, 1, 4, 4), np.uint8))
    runner(np.zeros((1, 1, 4, 4), np.uint8))
    assert tried == [8, 2, 1]
    with pytest.raises(RuntimeError, match=str(failure)):
        runner(np.zeros((3, 1, 4, 4), np.uint8))


def test_what_a_recording_holds_is_given_back_where_memory_is_short(
    binary: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geoseg.backends.pytorch import PyTorchPredictor

    predictor = PyTorchPredictor(binary.path, "sigmoid", inputs=binary.card.inputs)
    runner = Mock()
    runner.side_effect = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    monkeypatch.setattr(predictor, "_gpu", runner)
    monkeypatch.setattr(predictor, "_run", runner)
    with pytest.raises(OutOfDeviceMemory):
        predictor(stored(2, 1))
    runner.forget.assert_called_once_with()


def test_a_model_for_which_a_gpu_has_no_room_is_said(binary: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from geoseg.backends import pytorch

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(pytorch.WholeModel, "to", full)
    with pytest.raises(BackendUnavailable, match=r"device cpu: no room for the model .* --device cpu"):
        pytorch.PyTorchPredictor(binary.path, "sigmoid")


@needs_gpu
def test_a_replayed_pass_gives_what_a_launched_one_gives(binary: Bundle) -> None:
    from geoseg.backends.pytorch import PyTorchPredictor

    batches = [stored(count, count) for count in (4, 4, 3, 4, 1, 4)]
    predictor = loading._load(select.choose(binary, device="cuda"))
    assert isinstance(predictor, PyTorchPredictor)
    assert predictor._gpu is not None
    launched = [predictor(batch) for batch in batches]
    predictor.replay(Batch((4, 3, 64, 64), "uint8"))
    assert predictor._gpu._recorded is not None, "nothing was recorded"
    for batch, before in zip(batches, launched, strict=True):
        assert_near(predictor(batch), before.astype(np.int64))
        assert_near(before, exact(binary, batch))


@needs_gpu
def test_a_gpu_computes_batches_of_one_size(binary: Bundle) -> None:
    model, seen = Counting(), []
    model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[0]))
    runner = GpuRunner(model, torch.device("cuda", 0))
    for count in (5, 2, 7, 1):
        values, broken = runner(stored(count, count))
        np.testing.assert_array_equal(values, stored(count, count).astype(np.int32) + 1)
        assert not broken
    assert seen == [5, 5, 7, 7]


@needs_gpu
def test_a_gpu_says_which_way_is_faster(binary: Bundle) -> None:
    recipe = select.settle(binary, device="cuda")
    chosen = recipe.for_run(Batch((4, 3, 64, 64), "uint8"), 10**6, 1)
    assert chosen.reason.startswith((f"{recipe.reason}; CUDA graph: ", f"{recipe.reason}; eager: "))
    assert "could not be recorded" not in chosen.reason
    assert_near(chosen.load()(stored(4, 2)), exact(binary, stored(4, 2)))


@needs_gpu
def test_what_cannot_be_recorded_is_launched() -> None:
    class Asking(torch.nn.Module):
        """Looks at its result on the host, which a recording forbids."""

        def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            broken = tiles.float().isnan().any()
            values = tiles + 1 if broken.item() else tiles + 2
            return values.to(torch.int32).to(torch.uint16), broken

    runner = GpuRunner(Asking(), torch.device("cuda", 0))
    choice = runner.try_replay(Batch((2, 3, 64, 64), "uint8"))
    assert not choice.replay
    assert "could not be recorded" in choice.reason
    values, broken = runner(np.zeros((2, 3, 64, 64), np.uint8))
    assert not broken
    assert (values == 2).all()


@needs_gpu
def test_a_whole_run_on_a_gpu_says_how_it_ran(
    binary: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.backends.test_cuda import infer

    scene = make_scene(
        tmp_path / "scene.tif", pixels=np.random.default_rng(4).integers(0, 256, (3, 330, 400), np.uint8)
    )
    monkeypatch.setattr("geoseg.backends.replay.ENOUGH_PASSES", 1)
    result, _ = infer(capfd, scene, binary, tmp_path)
    assert ("CUDA graph" in result.summary["backend_reason"]) or ("eager" in result.summary["backend_reason"])
