"""Several GPUs on one scene: which are used, who infers, and that the result is that of one process.

No GPU is needed: workers declare the resource, and devices are of paper.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import geopandas.testing
import numpy as np
import pytest
import rasterio
from distributed import Client, LocalCluster, Nanny
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.backends.base import Predictor
from geoseg.backends.footprint import NOTHING, Footprint
from geoseg.backends.hardware import VISIBLE, visible_gpus
from geoseg.grid import BlockIndex
from geoseg.prediction import schedulers
from geoseg.prediction.blocks import BlockPixels, BlockResult, Inferred
from geoseg.prediction.budget import FEWEST_THREADS, TILES_A_GPU, choose_gpus, choose_resources, fit_run
from geoseg.prediction.cluster import offers_gpu
from geoseg.prediction.journal import Journal
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.resources import Machine, Resources, memory_use
from geoseg.prediction.schedulers import Scheduler, run_on_cluster, run_on_threads
from geoseg.prediction.wiring import Work, infer, read
from geoseg.testing import PointwisePredictor, ReferencePredictor, make_scene
from geoseg.values import Patch, Window
from tests.plans import ArrayReader, Load, make_test_plan
from tests.runs import predict

SHAPE = (120, 150)
PIXELS = np.random.default_rng(0).random((1, *SHAPE)).astype(np.float32)
PLAN = make_test_plan(SHAPE)
PATIENCE = 3.0


@dataclass(frozen=True)
class Diary:
    """Files that say which process did what, and which GPU it was shown."""

    folder: Path

    def note(self, what: str) -> None:
        shown = os.environ.get(VISIBLE, "all")
        (self.folder / f"{what}-{os.getpid()}-{shown}-{uuid4().hex}").touch()

    def pids(self, what: str) -> Counter[int]:
        return Counter(int(path.name.split("-")[1]) for path in self.folder.glob(f"{what}-*"))

    def shown(self, what: str) -> set[str]:
        return {path.name.split("-")[2] for path in self.folder.glob(f"{what}-*")}

    def wait_for(self, processes: int, what: str) -> None:
        """Give other processes the time to begin too."""
        end = time.monotonic() + PATIENCE
        while len(self.pids(what)) < processes and time.monotonic() < end:
            time.sleep(0.02)


@dataclass(frozen=True)
class Alone:
    """A device that fails where a process asks for more than so many batches at once."""

    diary: Diary
    inner: Predictor = field(default_factory=ReferencePredictor)
    processes: int = 1
    at_once: int = 1
    name: str = "pytorch bf16"
    device: str = "cuda"
    normalizes: bool = False

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        self.diary.note("infer")
        self.diary.wait_for(self.processes, "infer")
        busy = self.diary.folder / f"busy-{os.getpid()}-{uuid4().hex}"
        busy.touch()
        time.sleep(0.01)
        assert len([*self.diary.folder.glob(f"busy-{os.getpid()}-*")]) <= self.at_once
        values = self.inner(batch)
        busy.unlink()
        return values


@dataclass(frozen=True)
class NotingReader:
    diary: Diary
    inner: ArrayReader

    def __call__(self, window: Window) -> Patch:
        self.diary.note("read")
        return self.inner(window)


@dataclass(frozen=True)
class PaperRecipe:
    """Loads a GPU of paper in any process."""

    diary: Diary
    processes: int
    reason: str = "a GPU of paper"

    def load(self) -> Predictor:
        return Alone(self.diary, PointwisePredictor(), self.processes, FEWEST_THREADS)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    (tmp_path / "diary").mkdir()
    return Diary(tmp_path / "diary")


def make_work(diary: Diary, processes: int = 1, at_once: int = 1) -> Work:
    broken = np.zeros(SHAPE, bool)
    broken[50:53, 60:63] = True
    reader = ArrayReader(PIXELS, PIXELS[0] > 0.05, broken)
    return Work(
        PLAN, NotingReader(diary, reader), Load(Alone(diary, processes=processes, at_once=at_once)), 4
    )


def alone(diary: Diary) -> list[BlockResult]:
    work = make_work(diary)
    done = list(run_on_threads(replace(work, load=Load(ReferencePredictor())), 2, 4))
    for path in diary.folder.iterdir():
        path.unlink()
    assert sum(len(result.tally.failures) for result in done) > 0
    return done


def assert_same(results: list[BlockResult], expected: list[BlockResult]) -> None:
    assert [result.block for result in results] == [result.block for result in expected]
    for result, other in zip(results, expected, strict=True):
        assert result.tally == other.tally
        assert result.raster is not None
        assert other.raster is not None
        np.testing.assert_array_equal(result.raster.values, other.raster.values)
        np.testing.assert_array_equal(result.raster.valid, other.raster.valid)


names = st.lists(st.sampled_from(["0", "1", " 2", "7", "GPU-8932f937", "MIG-0a1b"]), unique=True)


@given(names, st.integers(0, 8))
def test_the_gpus_of_a_process_are_those_that_it_was_shown(listed: list[str], more: int) -> None:
    wanted = [name.strip() for name in listed]
    assert visible_gpus({VISIBLE: ",".join(listed)}, len(listed)) == tuple(wanted)
    # CUDA stops at a name that it does not know.
    assert visible_gpus({VISIBLE: ",".join([*listed, "-1", "5"])}, len(listed)) == tuple(wanted)
    assert visible_gpus({}, more) == tuple(map(str, range(more)))


@pytest.mark.parametrize(
    ("options", "device", "share", "expected"),
    [
        ({}, "cuda", 4.0, ("0", "1", "2", "3")),
        ({}, "cuda", 1e5, ("0", "1", "2", "3")),
        ({}, "cuda", 3.9, ("0", "1", "2")),
        ({}, "cuda", 0.3, ("0",)),
        ({}, "cuda:1", 4.0, ()),
        ({}, "cpu", 4.0, ()),
        ({"workers": 2}, "cuda", 0.3, ("0", "1", "2", "3")),
        ({"workers": 2}, "cuda:1", 4.0, ()),
        ({"scheduler": "tcp://127.0.0.1:8786"}, "cuda", 4.0, ()),
    ],
)
def test_a_gpu_that_was_not_named_is_used_where_it_pays(
    options: dict[str, Any], device: str, share: float, expected: tuple[str, ...]
) -> None:
    four, tiles = ("0", "1", "2", "3"), int(share * TILES_A_GPU)
    assert choose_gpus(PredictOptions(**options), four, device, tiles) == expected


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [
        (None, ("6", "3"), (2, ("6", "3"))),
        (None, ("6",), (None, ())),
        (None, (), (None, ())),
        (3, ("6", "3"), (3, ("6", "3"))),
    ],
)
def test_a_process_for_each_gpu(
    asked: int | None, gpus: tuple[str, ...], expected: tuple[int | None, tuple[str, ...]]
) -> None:
    found = choose_resources(PredictOptions(workers=asked), 512, "cuda", Machine(4, gpus))
    assert (found.workers, found.gpus) == expected
    assert found.gpu
    assert found.batch == 16
    assert found.in_flight == (found.workers or 1) * found.threads + 1


@pytest.mark.parametrize(
    ("device", "cores", "expected"),
    [("cpu", 1, 2), ("cpu", 2, 3), ("cpu", 16, 8), ("cuda", 2, 3), ("cuda", 4, 5), ("cuda", 64, 8)],
)
def test_a_backend_is_fed_by_a_thread_more_than_cores(device: str, cores: int, expected: int) -> None:
    assert choose_resources(PredictOptions(), 512, device, Machine(cores)).threads == expected


def test_memory_has_room_for_so_many_gpus() -> None:
    plan = make_test_plan((45_000, 45_000), tile=512, overlap=64)
    four = ("0", "1", "2", "3")

    def workers(limit: int | None, budget: int | str = "auto") -> int | None:
        options = PredictOptions(max_memory=budget)  # type: ignore[arg-type]
        chosen = fit_run(plan, options, "cuda", Footprint(2 * 10**9), Machine(4, four, limit))
        assert sum(memory_use(*chosen).values()) <= (limit or 10**12)
        return chosen[1].workers

    assert workers(None) == workers(64 * 10**9) == 4
    assert workers(11 * 10**9) == workers(None, 11 * 10**9) == 3
    assert workers(4 * 10**9) is None


class Declaring(Nanny):  # type: ignore[misc]
    """A worker process; the one of two that is named 0 declares a GPU."""

    def __init__(self, *arguments: Any, name: int, **more: Any) -> None:
        super().__init__(*arguments, name=name, resources={} if name else {"GPU": 1}, **more)


@pytest.mark.slow
def test_only_workers_that_declare_a_gpu_infer(diary: Diary) -> None:
    expected = alone(diary)
    asked: dict[str, set[str]] = {}
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            worker_class=Declaring,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        submit = client.submit

        def watched(function: Any, *arguments: Any, **more: Any) -> Any:
            asked.setdefault(getattr(function, "__name__", repr(function)), set()).add(str(more["resources"]))
            return submit(function, *arguments, **more)

        client.submit = watched
        stream = run_on_cluster(make_work(diary), client, 5, gpu=offers_gpu(client))
        assert_same(list(stream), expected)
        assert set(diary.pids("infer")) == {cluster.workers[0].pid}
    assert asked.pop("infer") == {"{'GPU': 1}"}
    assert {"read", "blend_block", "finish_block"} < set(asked)
    assert set.union(*asked.values()) == {"None"}


@pytest.mark.parametrize(("device", "asks"), [("cpu", False), ("cuda", True)])
def test_a_model_on_the_cpu_asks_no_worker_for_its_gpu(
    diary: Diary, monkeypatch: pytest.MonkeyPatch, device: str, asks: bool
) -> None:
    asked = []

    class Cluster:
        def nthreads(self) -> dict[str, int]:
            return {"a": 1}

        def scheduler_info(self, n_workers: int) -> dict[str, Any]:
            return {"workers": {"a": {"resources": {"GPU": 1}}, "b": {"resources": {}}}}

        def run(self, *_: object, **__: object) -> None:
            pass

    @contextlib.contextmanager
    def cluster(_: Resources) -> Iterator[Cluster]:
        yield Cluster()

    def stream(*_: object, gpu: bool) -> Iterator[BlockResult]:
        asked.append(gpu)
        yield from ()

    monkeypatch.setattr(schedulers, "connect", cluster)
    monkeypatch.setattr(schedulers, "run_on_cluster", stream)
    machine = Resources(threads=2, in_flight=5, batch=4, scheduler="tcp://a:1", device=device)
    with Scheduler() as scheduler, scheduler.results(make_work(diary), machine) as given:
        assert not list(given)
    assert asked == [asks]


def test_no_more_gpus_than_processes_are_named() -> None:
    four = ("0", "1", "2", "3")
    asked = choose_resources(PredictOptions(workers=2), 640, "cuda", Machine(4, four))
    assert asked.gpus == ("0", "1")
    assert choose_resources(PredictOptions(), 640, "cuda", Machine(4, four)).gpus == four


@pytest.mark.slow
def test_each_process_is_shown_its_gpu_and_a_killed_one_loses_nothing(diary: Diary) -> None:
    expected = alone(diary)
    machine = Resources(threads=2, in_flight=5, batch=4, workers=2, device="cuda", gpus=("7", "GPU-9"))
    done: list[BlockResult] = []
    work = make_work(diary, 2, FEWEST_THREADS)
    with Scheduler() as scheduler, scheduler.results(work, machine) as stream:
        for result in stream:
            done.append(result)
            if len(done) == 3:
                os.kill(max(diary.pids("infer")), signal.SIGKILL)
    assert_same(done, expected)
    assert diary.shown("infer") <= {"7", "GPU"}


def test_what_the_journal_knows_is_neither_read_ahead_nor_inferred(diary: Diary, tmp_path: Path) -> None:
    journal = Journal.beside(tmp_path / "out.gpkg", PLAN.digest)
    journal.begin()
    work, block = replace(make_work(diary), journal=journal), BlockIndex(0, 0)
    pixels = read(work, block)
    assert isinstance(pixels, BlockPixels)
    first = infer(work, block, None, None, pixels)
    noted = diary.pids("read"), diary.pids("infer")
    known = read(work, block)
    assert isinstance(known, Inferred)
    assert known.tally == first.tally
    assert infer(work, block, None, None, known) is known
    assert (diary.pids("read"), diary.pids("infer")) == noted


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(4).integers(0, 256, (3, 330, 400), np.uint8)
    return make_scene(tmp_path / "scene.tif", pixels=pixels)


@pytest.mark.slow
def test_a_whole_run_on_two_gpus_is_that_on_one(
    scene: Path,
    diary: Diary,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geoseg.prediction.budget.BLOCK_PIXELS", 100)  # several blocks
    monkeypatch.setattr("geoseg.prediction.budget.TILES_A_GPU", 4)
    monkeypatch.setattr("geoseg.prediction.decide.footprint", lambda *_, **__: NOTHING)
    outcomes = []
    for count in (1, 2):
        monkeypatch.setenv(VISIBLE, ",".join(["5", "3"][:count]))
        monkeypatch.setattr("geoseg.prediction.decide.gpu_count", lambda count=count: count)
        monkeypatch.setattr(
            "geoseg.backends.select.choose_predictor", lambda *_, count=count, **__: PaperRecipe(diary, count)
        )
        raster = tmp_path / f"{count}.tif"
        arguments = ("--tile", "64", "--raster", raster, "--raster-content", "probability-float32")
        result = predict(capfd, scene, *arguments, out=f"{count}.gpkg")
        assert result.code == 0, result.err
        with rasterio.open(raster) as dataset:
            outcomes.append((result, dataset.read()))
        if count == 1:
            assert set(diary.pids("infer")) == {os.getpid()}
            for path in diary.folder.iterdir():
                path.unlink()
    (one, expected), (two, probabilities) = outcomes
    assert one.summary["backend_reason"] == "a GPU of paper"
    assert two.summary["backend_reason"] == "a GPU of paper; on 2 GPUs"
    assert diary.shown("infer") == {"5", "3"}
    assert os.getpid() not in diary.pids("infer")
    np.testing.assert_array_equal(probabilities, expected)
    assert one.summary["features"] > 10
    geopandas.testing.assert_geodataframe_equal(two.features, one.features)
