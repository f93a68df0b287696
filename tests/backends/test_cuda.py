"""GPUs: a real one where there is one, and everywhere one that has no memory left."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas.testing
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from geoseg.backends import select
from geoseg.backends.base import BatchSize, Predictor, predict_batches
from geoseg.backends.hardware import cuda_available
from geoseg.backends.openvino import OpenVinoPredictor
from geoseg.errors import InvalidModel, OutOfDeviceMemory
from geoseg.models.bundle import ONNX, Bundle
from geoseg.testing import make_scene
from geoseg.values import CERTAIN
from tests.backends.test_stored import SPEC, normalized, stored
from tests.runs import Run, predict

pytestmark = pytest.mark.slow

needs_gpu = pytest.mark.skipif(not cuda_available(), reason="no NVIDIA GPU that PyTorch can use")


@dataclass
class FakeGpu:
    """A device that computes as a CPU does, and holds a few tiles at a time.

    Parameters
    ----------
    inner : Predictor
        What computes.
    room : int
        Tiles that fit.
    """

    inner: Predictor
    room: int
    name: str = "pytorch bf16"
    device: str = "cuda"
    normalizes: bool = True
    refused: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    dtypes: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.Lock)

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        with self.lock:
            (self.taken if len(batch) <= self.room else self.refused).append(len(batch))
            self.dtypes.add(batch.dtype.name)
        if len(batch) > self.room:
            raise OutOfDeviceMemory(f"cuda: a batch of {len(batch)} tiles does not fit")
        return self.inner(batch)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(4).integers(0, 256, (3, 330, 400), np.uint8)
    return make_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels=pixels)


def install(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, room: int) -> FakeGpu:
    card = bundle.card
    inner = OpenVinoPredictor(bundle.files[ONNX], card.activation, precision="f32", inputs=card.inputs)
    gpu = FakeGpu(inner, room)
    monkeypatch.setattr(select, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(select, "cuda_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "a GPU of paper")
    monkeypatch.setattr(select, "_load", lambda _: gpu)
    return gpu


def infer(
    capfd: pytest.CaptureFixture[str], scene: Path, bundle: Bundle, folder: Path, *arguments: str
) -> tuple[Run, NDArray[Any]]:
    """Run on a scene; return what was said and the probabilities."""
    raster = folder / "p.tif"
    result = predict(
        capfd,
        scene,
        "--model",
        str(bundle.path),
        "--raster",
        raster,
        "--raster-content",
        "probability-float32",
        *arguments,
        folder=folder,
    )
    assert result.code == 0, result.err
    with rasterio.open(raster) as dataset:
        return result, dataset.read()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("large", "small"):
        (tmp_path / name).mkdir()
    return tmp_path / "large", tmp_path / "small"


@pytest.mark.parametrize("room", [1, 2, 5, 11])
def test_a_device_that_is_too_small_gives_the_same_in_smaller_batches(
    binary: Bundle,
    scene: Path,
    folders: tuple[Path, Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    room: int,
) -> None:
    large = install(monkeypatch, binary, 1000)
    expected, probabilities = infer(capfd, scene, binary, folders[0])
    assert set(large.taken) == {14}  # 56 tiles, shared out evenly into passes of at most 16
    assert large.dtypes == {"uint8"}
    assert not large.refused
    assert expected.summary["shrunk_batch"] is None
    assert "batch      shrunk" not in expected.err
    assert "pytorch: on cuda; bf16: " in expected.summary["backend_reason"]
    assert expected.summary["features"] > 10

    small = install(monkeypatch, binary, room)
    result, again = infer(capfd, scene, binary, folders[1])
    np.testing.assert_array_equal(again, probabilities)
    geopandas.testing.assert_geodataframe_equal(result.features, expected.features)
    assert sum(small.taken) == sum(large.taken) == result.summary["tiles"]["inferred"]
    assert small.refused
    assert all(size > room for size in small.refused)
    shrunk = result.summary["shrunk_batch"]
    assert room / 2 <= shrunk <= room
    assert f"batch      shrunk to {shrunk} tile" in result.err
    # It is remembered: only what was under way in other threads is refused again.
    assert len(small.refused) < len(small.taken)
    assert max(small.taken[-3:]) <= shrunk


def test_a_second_run_begins_afresh(
    binary: Bundle,
    scene: Path,
    folders: tuple[Path, Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, binary, 3)  # another program has the rest of the memory
    first, _ = infer(capfd, scene, binary, folders[0])
    assert first.summary["shrunk_batch"] == 3
    roomy = install(monkeypatch, binary, 1000)
    second, _ = infer(capfd, scene, binary, folders[1])
    assert second.summary["plan_digest"] == first.summary["plan_digest"]
    assert second.summary["shrunk_batch"] is None
    assert max(roomy.taken) == 14


def test_flips_shrink_too(
    binary: Bundle,
    scene: Path,
    folders: tuple[Path, Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, binary, 1000)
    _, probabilities = infer(capfd, scene, binary, folders[0], "--tta")
    install(monkeypatch, binary, 3)
    result, again = infer(capfd, scene, binary, folders[1], "--tta")
    np.testing.assert_array_equal(again, probabilities)
    assert result.summary["shrunk_batch"] == 3


def test_a_device_without_room_for_one_tile_is_one_line(
    binary: Bundle,
    scene: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = install(monkeypatch, binary, 0)
    result = predict(capfd, scene, "--model", str(binary.path), folder=tmp_path)
    assert result.code == 2
    errors = [line for line in result.err.splitlines() if line.startswith("geoseg: error")]
    assert len(errors) == 1
    assert "not even one tile of 64 × 64 pixels fits" in errors[0]
    assert 1 in gpu.refused
    assert not result.path.exists()


def test_what_pytorch_says_of_full_memory_shrinks_the_batch(
    binary: Bundle,
    scene: Path,
    folders: tuple[Path, Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from geoseg.backends.gpu_runner import Forward
    from geoseg.backends.pytorch import CpuRunner

    chosen = ("--backend", "pytorch", "--device", "cpu", "--batch", "8")
    expected, probabilities = infer(capfd, scene, binary, folders[0], *chosen)
    assert expected.summary["shrunk_batch"] is None
    usual = CpuRunner.__call__

    def cramped(runner: CpuRunner, batch: NDArray[Any]) -> Forward:
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return usual(runner, batch)

    monkeypatch.setattr(CpuRunner, "__call__", cramped)
    result, again = infer(capfd, scene, binary, folders[1], *chosen)
    np.testing.assert_array_equal(again, probabilities)
    assert result.summary["shrunk_batch"] == 2


def cuda(bundle: Bundle) -> Predictor:
    predictor = select.load_predictor(bundle, device="cuda")
    assert (predictor.name, predictor.device, predictor.normalizes) == ("pytorch bf16", "cuda", True)
    return predictor


def exact(bundle: Bundle, tiles: NDArray[Any]) -> NDArray[np.int64]:
    predictor = select.load_predictor(bundle, backend="pytorch", device="cpu")
    return predictor(tiles).astype(np.int64)


def assert_near(output: NDArray[np.uint16], expected: NDArray[np.int64]) -> None:
    """In bf16 a network of random weights moves by this much; another tile is ten times as far."""
    assert output.dtype == np.uint16
    assert output.shape == expected.shape
    difference = np.abs(output - expected)
    assert difference.mean() < 0.01 * CERTAIN
    assert difference.max() < 0.1 * CERTAIN


@needs_gpu
@pytest.mark.parametrize("name", ["binary", "land"])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_gpu_gives_what_a_cpu_gives(request: pytest.FixtureRequest, name: str, count: int) -> None:
    bundle: Bundle = request.getfixturevalue(name)
    tiles = stored(count, count)
    expected = exact(bundle, tiles)
    assert_near(cuda(bundle)(tiles), expected)
    assert_near(cuda(bundle)(normalized(SPEC, tiles)), expected)


@needs_gpu
def test_shapes_in_turn_overwrite_nothing(binary: Bundle) -> None:
    predictor = cuda(binary)
    batches = [stored(count, count, (side, side)) for count, side in ((3, 64), (1, 96), (5, 64), (2, 128))]
    outputs = [predictor(batch) for batch in batches]
    for batch, output in zip(batches, outputs, strict=True):
        assert_near(output, exact(binary, batch))


@needs_gpu
def test_threads_at_once_get_their_own_tiles(binary: Bundle) -> None:
    predictor = cuda(binary)
    batches = [stored(4, seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(predictor, batches))
    for batch, output in zip(batches, outputs, strict=True):
        assert_near(output, exact(binary, batch))


@needs_gpu
def test_nan_on_a_gpu_is_an_error_and_the_next_batch_is_fine(binary: Bundle) -> None:
    tiles = normalized(SPEC, stored(2, 3))
    spoiled = tiles.copy()
    spoiled[1, 0, 5, 5] = np.nan
    with pytest.raises(InvalidModel, match="NaN"):
        cuda(binary)(spoiled)
    assert_near(cuda(binary)(tiles), exact(binary, tiles))


@needs_gpu
def test_a_full_gpu_halves_the_batch(binary: Bundle) -> None:
    import torch

    predictor = cuda(binary)
    few = stored(2, 1, (512, 512))
    predictor(few[:1])
    tiles = np.concatenate([few] * 64)
    total = torch.cuda.get_device_properties(0).total_memory
    batch = BatchSize(len(tiles))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (300 << 20)) / total)
    try:
        output = predict_batches(predictor, tiles, batch)  # the floats of all alone are 400 MB
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert batch.shrunk
    assert 1 <= batch.value < len(tiles)
    assert_near(output[-2:], exact(binary, few))


@needs_gpu
def test_a_whole_run_on_a_gpu_is_near_that_on_a_cpu(
    binary: Bundle, scene: Path, folders: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    result, probabilities = infer(capfd, scene, binary, folders[0])
    assert result.summary["options"]["backend"] == "pytorch bf16"
    assert result.summary["backend_reason"].startswith("pytorch: on cuda; bf16: ")
    _, expected = infer(capfd, scene, binary, folders[1], "--device", "cpu", "--precision", "f32")
    difference = np.abs(probabilities.astype(np.float64) - expected)
    assert difference.mean() < 0.01 * probabilities.max()


@needs_gpu
def test_a_gpu_that_is_not_there_is_one_line(binary: Bundle) -> None:
    from geoseg.errors import BackendUnavailable

    with pytest.raises(BackendUnavailable, match="device cuda:99: PyTorch sees"):
        select.load_predictor(binary, device="cuda:99")
