import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.assessment.compare import EXACT, compare_backends
from geoseg.backends import openvino, pytorch, select
from geoseg.backends.base import Predictor
from geoseg.backends.gpu_runner import Gatherer
from geoseg.errors import BackendUnavailable, InvalidModel, OutOfDeviceMemory
from geoseg.models.bundle import INT8, ONNX, WEIGHTS, Bundle, find_model, save_bundle
from geoseg.values import CERTAIN
from tests.backends.conftest import with_int8
from tests.models.onnx_graphs import write_pointwise

pytestmark = pytest.mark.slow

Tiles = NDArray[np.float32]


@pytest.fixture(params=["binary", "land"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    found: Bundle = request.getfixturevalue(request.param)
    return found


def precise(bundle: Bundle) -> dict[str, Predictor]:
    """Return every backend in float32."""
    return {
        "openvino": openvino.OpenVinoPredictor(bundle.files[ONNX], bundle.card.activation, precision="f32"),
        "onnx": select.load_predictor(bundle, backend="onnx"),
        "pytorch": select.load_predictor(bundle, backend="pytorch", device="cpu"),
    }


def test_backends_agree_in_float32(bundle: Bundle, tiles: Tiles) -> None:
    outputs = {name: predictor(tiles) for name, predictor in precise(bundle).items()}
    reference = outputs["pytorch"].astype(np.int64)
    assert reference.shape == (5, len(bundle.card.channels), 64, 64)
    assert reference.std() > 0.02 * CERTAIN  # the network says something
    for output in outputs.values():
        assert output.dtype == np.uint16
        assert np.abs(output - reference).max() <= EXACT * CERTAIN
    if bundle.card.activation == "softmax":
        np.testing.assert_allclose(reference.sum(axis=1), CERTAIN, atol=2)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc on Linux")
def test_no_thread_is_pinned_to_a_core(binary: Bundle) -> None:
    """Else several workers on a machine would share the first one."""
    script = (
        "import os, sys; import numpy as np; from contextlib import suppress\n"
        "from pathlib import Path; from threading import Thread\n"
        "from geoseg.backends.openvino import OpenVinoPredictor\n"
        "run = OpenVinoPredictor(Path(sys.argv[1]), 'sigmoid', precision='f32', threads=1)\n"
        "run(np.zeros((2, 3, 256, 256), np.float32))\n"  # compiling looks at each core
        "work = Thread(target=run, args=[np.zeros((40, 3, 256, 256), np.float32)])\n"
        "work.start()\n"
        "while work.is_alive():\n"
        "    for task in os.listdir('/proc/self/task'):\n"
        "        with suppress(ProcessLookupError):\n"  # it has ended
        "            cores = os.sched_getaffinity(int(task))\n"
        "            assert cores == os.sched_getaffinity(0), cores\n"
    )
    subprocess.run([sys.executable, "-c", script, str(binary.files[ONNX])], check=True)


@pytest.mark.parametrize("backend", select.BACKENDS)
def test_a_tile_gives_the_same_bits_in_any_batch_and_thread(
    binary: Bundle, tiles: Tiles, backend: str
) -> None:
    predictor = select.load_predictor(binary, backend=backend, device="cpu")
    together = predictor(tiles)
    alone = np.concatenate([predictor(tile[None]) for tile in tiles])
    np.testing.assert_array_equal(alone, together)
    with ThreadPoolExecutor(4) as pool:
        for output in pool.map(predictor, [tiles] * 6):
            np.testing.assert_array_equal(output, together)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(binary: Bundle, tiles: Tiles, threads: int) -> None:
    usual = select.load_predictor(binary, backend="openvino")
    limited = select.load_predictor(binary, backend="openvino", threads=threads)
    np.testing.assert_array_equal(limited(tiles), usual(tiles))


def test_openvino_takes_tiles_of_any_size_in_turn(binary: Bundle) -> None:
    predictor = select.load_predictor(binary, backend="openvino")
    for size in (64, 96, 64):
        assert predictor(np.zeros((2, 3, size, size), np.float32)).shape == (2, 1, size, size)


def test_an_error_in_openvino_is_one_line_and_leaves_it_usable(binary: Bundle, tiles: Tiles) -> None:
    predictor = select.load_predictor(binary, backend="openvino")
    expected = predictor(tiles)
    for _ in range(5):  # more often than there are requests to lose
        with pytest.raises(InvalidModel, match="OpenVINO cannot run it") as caught:
            predictor(np.zeros((3, 5, 64, 64), np.float32))
        assert "\n" not in str(caught.value)
        pool = predictor._pool(tiles)  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError):
            pool.run(np.zeros((3, 3, 32, 64), np.float32))
    np.testing.assert_array_equal(predictor(tiles), expected)


@pytest.mark.parametrize("backend", select.BACKENDS)
def test_the_callers_batch_is_left_alone(binary: Bundle, tiles: Tiles, backend: str) -> None:
    predictor = select.load_predictor(binary, backend=backend, device="cpu")
    before = tiles.copy()
    kept = predictor(tiles)
    copy = kept.copy()
    predictor(tiles[::-1])
    np.testing.assert_array_equal(tiles, before)
    np.testing.assert_array_equal(kept, copy)


def test_auto_is_openvino_on_a_cpu(binary: Bundle) -> None:
    recipe = select.choose_backend(binary, device="cpu")
    assert (recipe.backend, recipe.device) == ("openvino", "cpu")
    assert recipe.reason == "the fastest on a CPU"
    chosen = select.choose_predictor(binary, device="cpu")
    assert chosen.name in ("openvino bf16", "openvino f32")
    assert chosen.reason.startswith(f"openvino: the fastest on a CPU; {chosen.precision}: ")


def test_the_precision_that_was_asked_for_runs(binary: Bundle, tmp_path: Path, tiles: Tiles) -> None:
    bundle = with_int8(binary, tmp_path, None)
    exact = select.load_predictor(bundle, device="cpu", precision="f32")
    small = select.load_predictor(bundle, device="cpu", precision="int8")
    assert exact.name == "openvino f32"
    assert small.name in ("openvino int8", "openvino int8/bf16")
    assert small._path == bundle.files[INT8[0]]  # type: ignore[attr-defined]
    difference = np.abs(small(tiles).astype(np.int64) - exact(tiles)).max() / CERTAIN
    assert difference < 0.1  # it is the same network, in bf16 at worst


def test_weights_alone_run_in_pytorch(binary: Bundle) -> None:
    files = {name: path for name, path in binary.files.items() if name != ONNX}
    alone = Bundle(binary.path, binary.card, binary.document, files)
    recipe = select.choose_backend(alone, device="cpu")
    assert (recipe.backend, recipe.reason) == ("pytorch", "the model has only its weights")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorflow"}, "backend tensorflow: is none of"),
        ({"device": "tpu"}, "device tpu: is none of"),
        ({"device": "cuda:x"}, "device cuda:x: is none of"),
        ({"backend": "onnx", "device": "cuda"}, "device cuda: only the pytorch backend"),
    ],
)
def test_what_is_not_there_is_one_line(binary: Bundle, options: dict[str, str], message: str) -> None:
    with pytest.raises(BackendUnavailable, match=message) as caught:
        select.load_predictor(binary, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_onnx_file_has_no_pytorch(tmp_path: Path) -> None:
    bundle = find_model(str(write_pointwise(tmp_path / "m.onnx")))
    with pytest.raises(BackendUnavailable, match=r"backend pytorch: .* it runs on openvino, onnx"):
        select.load_predictor(bundle, backend="pytorch")


def test_what_openvino_cannot_read_runs_in_onnx_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = find_model(str(write_pointwise(tmp_path / "m.onnx")))

    def refuse(*_: object, **__: object) -> None:
        raise InvalidModel(f"{bundle.path}: OpenVINO cannot read it: no such operator")

    monkeypatch.setattr(openvino, "OpenVinoPredictor", refuse)
    recipe = select.choose_predictor(bundle)
    assert recipe.name == "onnxruntime f32"
    assert recipe.reason.startswith("onnx: OpenVINO cannot read the model; f32: ")
    assert "OpenVINO cannot read it" in caplog.text
    with pytest.raises(InvalidModel, match="OpenVINO cannot read it"):
        select.load_predictor(bundle, backend="openvino")


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
@pytest.mark.parametrize(
    "options",
    [
        {"shape": (1, 3, 64, 64)},
        {"shape": (4, 3, 64, 64)},
        {"dtype": 2},  # uint8
        {"dtype": 10},  # float16
        {"classes": 3, "end": "Softmax"},
    ],
)
def test_onnx_files_of_all_kinds_give_the_formula(
    tmp_path: Path, backend: str, options: dict[str, object]
) -> None:
    path = write_pointwise(tmp_path / "m.onnx", **options)  # type: ignore[arg-type]
    bundle = find_model(str(path))
    pixels = np.random.default_rng(2).integers(0, 256, (3, 3, 64, 64)).astype(np.float32)
    batch = pixels if options.get("dtype") == 2 else pixels / 255
    random = np.random.default_rng(3)
    classes = len(bundle.card.channels)
    weights, bias = random.normal(0, 4, (classes, 3)), random.normal(0, 1, classes)
    logits = np.einsum("kc,nchw->nkhw", weights.astype(np.float32), batch) + bias[:, None, None]
    if classes == 1:
        expected = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    else:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected = powers / powers.sum(axis=1, keepdims=True)
    predictor = select.load_predictor(bundle, backend=backend)
    if backend == "openvino":
        predictor = openvino.OpenVinoPredictor(path, bundle.card.activation, precision="f32")
    output = predictor(batch.astype(np.float32)) / CERTAIN
    np.testing.assert_allclose(output, expected, atol=4e-3 if options.get("dtype") == 10 else 1e-4)


def test_running_out_of_memory_has_its_own_error(binary: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = pytorch.PyTorchPredictor(binary.path, "sigmoid", device="cpu")
    for message in ("CUDA out of memory. Tried", "CUBLAS_STATUS_ALLOC_FAILED when calling"):

        def fail(_: object, message: str = message) -> None:
            raise RuntimeError(message)

        monkeypatch.setattr(predictor, "_run", fail)
        with pytest.raises(OutOfDeviceMemory, match="does not fit"):
            predictor(np.zeros((1, 3, 64, 64), np.float32))


def test_other_errors_of_pytorch_are_not_taken_for_it(
    binary: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = pytorch.PyTorchPredictor(binary.path, "sigmoid", device="cpu")

    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(predictor, "_run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        predictor(np.zeros((1, 3, 64, 64), np.float32))


def test_compare_finds_no_fault_in_a_right_model_and_all_in_a_wrong_one(
    binary: Bundle, land: Bundle, tmp_path: Path
) -> None:
    assert not any(report.problem for report in compare_backends(binary))
    files = dict(binary.files) | {ONNX: write_pointwise(tmp_path / "other.onnx")}
    wrong = save_bundle(tmp_path / "wrong", binary.document, files)
    assert any("differs" in report.problem for report in compare_backends(wrong))
    mixed = save_bundle(tmp_path / "mixed", land.document, {ONNX: binary.files[ONNX]})
    assert all("the card says (1, 3, 64, 64)" in report.problem for report in compare_backends(mixed))


def test_weights_that_do_not_fit_are_one_line(binary: Bundle, land: Bundle, tmp_path: Path) -> None:
    files = dict(binary.files) | {WEIGHTS: land.files[WEIGHTS]}
    bundle = save_bundle(tmp_path / "wrong", binary.document, files)
    with pytest.raises(InvalidModel, match=r"model\.safetensors: does not fit") as caught:
        select.load_predictor(bundle, backend="pytorch")
    assert "\n" not in str(caught.value)


def test_a_prediction_through_openvino_imports_no_torch(binary: Bundle) -> None:
    code = f"""
import sys, numpy
from geoseg.models.bundle import find_model
from geoseg.backends.select import load_predictor
heavy = {{"torch", "openvino", "onnxruntime", "rasterio", "huggingface_hub"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
bundle = find_model({str(binary.path)!r})
assert not heavy & set(sys.modules), heavy & set(sys.modules)
output = load_predictor(bundle, device="cpu")(numpy.zeros((2, 3, 64, 64), numpy.float32))
assert output.shape == (2, 1, 64, 64)
assert heavy & set(sys.modules) == {{"openvino"}}, heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Device:
    """Stands for one that is busy with its first pass until it is let go on."""

    def __init__(self, most: int = 99) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.passes: list[int] = []
        self.most = most

    def __call__(self, batch: NDArray[Any]) -> tuple[NDArray[np.uint16], bool]:
        self.passes.append(len(batch))
        if len(self.passes) == 1:
            self.begun.set()
            assert self.go_on.wait(60)
        if len(batch) > self.most:
            raise RuntimeError("out of memory")
        return batch[:, :1].astype(np.uint16) + 1, bool((batch == 9).any())

    def gathers(self, batches: list[NDArray[Any]]) -> list[Any]:
        """Return what callers in threads get of whom all but the first come while the device is busy."""
        gatherer = Gatherer(self, most=16, passes=1)
        with ThreadPoolExecutor(len(batches)) as pool:
            answers = [pool.submit(gatherer, batches[0])]
            assert self.begun.wait(60)
            answers += [pool.submit(gatherer, batch) for batch in batches[1:]]
            while len(gatherer._waiting) < len(batches) - 1:
                time.sleep(0.001)
            self.go_on.set()
            return [answer.exception() or answer.result() for answer in answers]


def test_tiles_of_several_scenes_fill_a_pass() -> None:
    batches = [np.full((4, 3, 8, 8), number, np.uint8) for number in range(9)]
    batches[8] = np.full((4, 3, 16, 16), 8, np.uint8)
    device = Device()
    for number, (values, broken) in enumerate(device.gathers(batches)):
        np.testing.assert_array_equal(values, batches[number][:, :1] + 1)
        assert not broken
    assert sorted(device.passes) == [4, 4, 12, 16]


def test_whoever_shares_a_pass_has_their_own_error() -> None:
    batches = [np.full((size, 1, 8, 8), value, np.uint8) for size, value in ((1, 1), (4, 9), (4, 2), (5, 3))]
    device = Device(most=4)
    _, broken, whole, large = device.gathers(batches)
    assert broken[1]
    assert not whole[1]
    assert str(large) == "out of memory"
    assert device.passes[:2] == [1, 13]
    assert sorted(device.passes[2:]) == [4, 4, 5]
