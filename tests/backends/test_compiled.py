"""Compiled networks in the user's cache: found again when nothing changed, harmless whatever is there."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from numpy.typing import NDArray

from geoseg import files
from geoseg.backends import compiled, select
from geoseg.backends.compiled import CompiledCache
from geoseg.backends.hardware import cpu_features
from geoseg.backends.openvino import OpenVinoPredictor
from geoseg.models.bundle import find_model
from geoseg.models.inputs import InputSpec
from tests.backends.conftest import SPEC
from tests.models.onnx_graphs import write_pointwise

pytestmark = pytest.mark.slow

TILES = np.random.default_rng(7).integers(0, 256, (2, 3, 32, 32), np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled networks, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "geoseg" / "openvino"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_pointwise(tmp_path / "m.onnx")


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each network that was compiled, and each that was parsed out of the cache."""
    seen: list[str] = []

    class Core(openvino.Core):  # type: ignore[misc]
        def compile_model(self, *arguments: Any, **named: Any) -> Any:
            seen.append("compiled")
            return super().compile_model(*arguments, **named)

        def import_model(self, *arguments: Any, **named: Any) -> Any:
            seen.append("parsed")
            return super().import_model(*arguments, **named)

    monkeypatch.setattr(openvino, "Core", Core)
    return seen


def predict(
    model: Path,
    tiles: NDArray[Any] = TILES,
    *,
    digest: str = "d",
    precision: Any = "f32",
    threads: int | None = None,
    inputs: InputSpec = SPEC,
    activation: Any = "sigmoid",
) -> NDArray[np.uint16]:
    """Do what a process does that begins anew."""
    predictor = OpenVinoPredictor(
        model, activation, precision=precision, threads=threads, inputs=inputs, digest=digest
    )
    return predictor(tiles)


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir())


def test_what_was_compiled_is_found_again_with_the_same_bits(
    folder: Path, model: Path, compiles: list[str]
) -> None:
    first = predict(model)
    assert len(kept(folder)) == 1
    before = kept(folder)[0].read_bytes()
    np.testing.assert_array_equal(predict(model), first)
    assert compiles == ["compiled", "parsed"]
    assert kept(folder)[0].read_bytes() == before


def test_a_model_that_is_known_is_not_read(folder: Path, model: Path, compiles: list[str]) -> None:
    first = predict(model)
    model.unlink()
    np.testing.assert_array_equal(predict(model), first)
    assert compiles == ["compiled", "parsed"]


def test_without_a_digest_nothing_is_kept(folder: Path, model: Path, compiles: list[str]) -> None:
    predict(model, digest="")
    predict(model, digest="")
    assert not folder.exists()
    assert compiles == ["compiled", "compiled"]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first byte": lambda path: flip(path, 0),
    "middle": lambda path: flip(path, path.stat().st_size // 2),
    "last byte": lambda path: flip(path, -1),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut in the digest": lambda path: os.truncate(path, 20),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "other": lambda path: path.write_bytes(b"\x80\x04" + os.urandom(5000)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_not_parsed_and_is_replaced(
    folder: Path, model: Path, compiles: list[str], damage: str
) -> None:
    first = predict(model)
    (path,) = kept(folder)
    DAMAGES[damage](path)
    np.testing.assert_array_equal(predict(model), first)
    assert compiles == ["compiled", "compiled"]
    assert kept(folder) == [path]
    np.testing.assert_array_equal(predict(model), first)
    assert compiles == ["compiled", "compiled", "parsed"]


def test_a_whole_file_under_anothers_name_is_not_parsed(
    folder: Path, model: Path, tmp_path: Path, compiles: list[str]
) -> None:
    other = write_pointwise(tmp_path / "other.onnx", end="Sigmoid")
    first = predict(model)
    (path,) = kept(folder)
    second = predict(other, digest="other")
    (swapped,) = set(kept(folder)) - {path}
    assert not np.array_equal(first, second)
    shutil.copy(swapped, path)
    np.testing.assert_array_equal(predict(model), first)
    assert compiles == ["compiled", "compiled", "compiled"]


def test_what_openvino_cannot_parse_is_compiled(folder: Path, model: Path, compiles: list[str]) -> None:
    first = predict(model)
    (path,) = kept(folder)
    blob = b"not a network"
    path.write_bytes(compiled._digest(path.name, blob) + blob)
    np.testing.assert_array_equal(predict(model), first)
    assert compiles == ["compiled", "parsed", "compiled"]
    predict(model)
    assert compiles[3:] == ["parsed"]


def refuse(name: str, code: int) -> Callable[..., Any]:
    usual = getattr(Path, name)

    def fail(path: Path, *arguments: Any, **named: Any) -> Any:
        if "cache" in path.parts:
            raise OSError(code, os.strerror(code), str(path))
        return usual(path, *arguments, **named)

    return fail


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("write_bytes", errno.ENOSPC),
        ("replace", errno.ENOSPC),
        ("mkdir", errno.EROFS),
        ("read_bytes", errno.EIO),
        ("unlink", errno.EROFS),
        ("stat", errno.EACCES),
    ],
)
def test_a_full_or_broken_disk_costs_nothing_and_says_nothing(
    folder: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    call: str,
    code: int,
) -> None:
    expected = predict(model, digest="")
    with monkeypatch.context() as patch:
        patch.setattr(Path, call, refuse(call, code))
        for _ in range(2):
            np.testing.assert_array_equal(predict(model), expected)
    if folder.is_dir():
        assert not [path for path in kept(folder) if "tmp" in path.name and call != "unlink"]
    np.testing.assert_array_equal(predict(model), expected)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_where_little_is_free_nothing_is_kept(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(compiled.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 2000, 2000))
    predict(model)
    assert not kept(folder)


def test_a_read_only_folder_is_used_and_not_written(
    folder: Path, model: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predict(model)
    folder.chmod(0o500)
    if os.geteuid() == 0:  # root may write everywhere
        monkeypatch.setattr(files.os, "access", lambda *_: False)
    try:
        np.testing.assert_array_equal(predict(model), first)
        predict(model, digest="other")
        predict(model, digest="other")
    finally:
        folder.chmod(0o700)
    assert compiles == ["compiled", "parsed", "compiled", "compiled"]
    assert len(kept(folder)) == 1


@pytest.mark.parametrize("obstacle", ["file", "loop"])
def test_something_else_in_the_folders_place_is_no_error(folder: Path, model: Path, obstacle: str) -> None:
    folder.parent.mkdir(parents=True)
    if obstacle == "file":
        folder.write_text("no folder")
    else:
        folder.symlink_to(folder)
    np.testing.assert_array_equal(predict(model), predict(model, digest=""))


def test_a_user_without_a_home_keeps_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compiled, "cache_folder", fail)
    assert CompiledCache.of(openvino.Core(), {"digest": "d"}).folder is None
    np.testing.assert_array_equal(predict(model), predict(model, digest=""))


CHANGES: dict[str, dict[str, Any]] = {
    "model": {"digest": "other"},
    "tile": {"tiles": TILES[:, :, :16]},
    "dtype": {"tiles": TILES.astype(np.float32)},
    "threads": {"threads": 1},
    "more threads": {"threads": 2},
    "activation": {"activation": "probability"},
    "normalization": {"inputs": InputSpec(SPEC.bands, "uint8", 1.0, SPEC.mean, SPEC.std)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_network_is_another_file(folder: Path, model: Path, compiles: list[str], change: str) -> None:
    predict(model)
    output = predict(model, **CHANGES[change])
    assert compiles == ["compiled", "compiled"]
    assert len(kept(folder)) == 2
    np.testing.assert_array_equal(output, predict(model, **{**CHANGES[change], "digest": ""}))


def test_another_precision_is_another_file(folder: Path, model: Path, compiles: list[str]) -> None:
    if "bf16" not in cpu_features():
        pytest.skip("this CPU computes in float32 alone")
    predict(model)
    predict(model, precision="bf16")
    assert compiles == ["compiled", "compiled"]
    assert len(kept(folder)) == 2


def test_another_openvino_cpu_or_set_of_cores_is_another_file(
    folder: Path, model: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model)
    monkeypatch.setattr(openvino, "__version__", "2099.1")
    predict(model)
    core = openvino.Core
    usual = core.get_property

    def named(self: Any, device: str, key: str) -> Any:
        return "another CPU" if key == "FULL_DEVICE_NAME" else usual(self, device, key)

    monkeypatch.setattr(core, "get_property", named)
    predict(model)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(977)))
        predict(model)
    assert set(compiles) == {"compiled"}
    assert len(kept(folder)) == len(compiles) >= 3


def test_changed_weights_beside_an_onnx_file_are_another_model(
    folder: Path, model: Path, tmp_path: Path, compiles: list[str]
) -> None:
    path = tmp_path / "beside" / "bare.onnx"
    path.parent.mkdir()
    onnx.save(
        onnx.load(model),
        path,
        save_as_external_data=True,
        location="model.safetensors",
        size_threshold=0,
    )
    first = select.load_predictor(find_model(str(path)), backend="openvino", precision="f32")(TILES)
    weights = path.with_name("model.safetensors")
    values = np.frombuffer(weights.read_bytes(), np.float32)
    weights.write_bytes((-values).tobytes())
    second = select.load_predictor(find_model(str(path)), backend="openvino", precision="f32")(TILES)
    assert compiles == ["compiled", "compiled"]
    assert len(kept(folder)) == 2
    np.testing.assert_allclose(second, 65535 - first.astype(float), atol=2)


def test_the_folder_stays_under_its_limit_and_the_oldest_go_first(
    folder: Path, model: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model, digest="0")
    size = kept(folder)[0].stat().st_size
    monkeypatch.setattr(compiled, "KEPT_BYTES", 5 * size + size // 2)
    for number in range(8):
        predict(model, digest=str(number))
        for age, path in enumerate(sorted(kept(folder), key=lambda path: -path.stat().st_mtime_ns)):
            os.utime(path, ns=(10**18 - age * 10**9,) * 2)  # coarse clocks cannot tell them apart
        assert sum(path.stat().st_size for path in kept(folder)) <= compiled.KEPT_BYTES
    compiles.clear()
    predict(model, digest="3")  # used again: it is the newest
    predict(model, digest="8")
    predict(model, digest="3")
    predict(model, digest="4")
    assert compiles == ["parsed", "compiled", "parsed", "compiled"]


def test_a_network_larger_than_its_share_is_not_kept(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "KEPT_BYTES", 4000)
    predict(model)
    assert not kept(folder)


def test_files_that_another_process_removes_meanwhile_are_no_obstacle(
    folder: Path, model: Path, compiles: list[str]
) -> None:
    predict(model)
    (folder / "gone.blob").symlink_to(folder / "nowhere")  # is listed and cannot be looked at
    predict(model, digest="other")
    predict(model, digest="other")
    assert compiles == ["compiled", "compiled", "parsed"]


PROCESS = """
import sys, json, hashlib
def hook(event, arguments):
    if event.startswith(("pickle", "marshal.load")) and not event.startswith("marshal.loads"):
        pickled.append(event)
pickled = []
import numpy
from pathlib import Path
from geoseg.backends.openvino import OpenVinoPredictor
sys.addaudithook(hook)
outputs = []
for size in (32, 48, 32):
    predictor = OpenVinoPredictor(Path(sys.argv[1]), "sigmoid", precision="f32", digest="d")
    tiles = numpy.random.default_rng(1).normal(0, 1, (3, 3, size, size)).astype(numpy.float32)
    outputs.append(hashlib.sha256(predictor(tiles).tobytes()).hexdigest())
print(json.dumps([outputs, pickled]))
"""


def test_processes_at_once_agree_print_nothing_and_unpickle_nothing(folder: Path, model: Path) -> None:
    def begin() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(model)], stdout=pipe, stderr=pipe, text=True
        )

    running = [begin() for _ in range(2)]
    said = [process.communicate(timeout=300) for process in running]
    said.append(begin().communicate(timeout=300))  # all of it is there
    assert [error for _, error in said] == [""] * 3
    results = [json.loads(out) for out, _ in said]
    assert results[0] == results[1] == results[2]
    outputs, pickled = results[0]
    assert outputs[0] == outputs[2] != outputs[1]
    assert pickled == []
    assert len(kept(folder)) == 2
    assert all(path.suffix == ".blob" and not path.name.startswith(".") for path in kept(folder))
