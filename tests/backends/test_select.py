"""Which backend, device and precision are chosen, refused, and carried to a worker."""

import math
import pickle
import platform
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from geoseg.backends import hardware, select
from geoseg.backends.hardware import (
    FEATURES,
    LOSS_LIMIT,
    by_rule,
    choose_precision,
    features_of,
    int8_objection,
    read_flags,
)
from geoseg.errors import BackendUnavailable, InvalidModel, MissingExtra
from geoseg.models.bundle import CONFIG, ONNX, WEIGHTS, Bundle, save_bundle
from geoseg.models.card_json import make_document
from tests.backends.conftest import SIGMOID, SPEC, TILE, with_int8
from tests.models.onnx_graphs import write_pointwise

GOOD = 0.3
FLAGS = {
    "Skylake": ("avx2 avx512f", "FP32 INT8"),
    "Ice Lake": ("avx2 avx512f avx512_vnni", "FP32 INT8"),
    "Alder Lake": ("avx2 avx_vnni", "FP32 INT8"),
    "Zen 4": ("avx2 avx512f avx512_vnni avx512_bf16", "FP32 BF16 INT8"),
    "Sapphire Rapids": ("avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8", "FP32 BF16 FP16 INT8"),
    "a Mac": ("", "FP32 FP16"),
    "Windows on Zen 4": ("", "FP32 BF16 INT8"),
}


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model with all its files, whose weights nobody loads: no PyTorch is needed to choose."""
    folder = tmp_path_factory.mktemp("chosen")
    save_file({"weight": np.zeros(1, np.float32)}, folder / WEIGHTS)
    (folder / CONFIG).write_text("{}")
    write_pointwise(folder / ONNX)
    files = {name: folder / name for name in (WEIGHTS, CONFIG, ONNX)}
    document = make_document("tiny", SPEC, SIGMOID, tile=TILE, overlap=16)
    return save_bundle(folder / "bundle", document, files)


@pytest.mark.parametrize(
    ("cpu", "with_int8", "without"),
    [
        ("Skylake", "f32", "f32"),
        ("Ice Lake", "int8", "f32"),
        ("Alder Lake", "int8", "f32"),
        ("Zen 4", "int8", "bf16"),
        ("Sapphire Rapids", "bf16", "bf16"),
        ("a Mac", "f32", "f32"),
        ("Windows on Zen 4", "bf16", "bf16"),
    ],
)
def test_the_rule_by_cpu(cpu: str, with_int8: str, without: str) -> None:
    flags, capabilities = (text.split() for text in FLAGS[cpu])
    features = features_of(flags, capabilities)
    assert by_rule(features, int8=True, loss=GOOD).precision == with_int8
    assert by_rule(features, int8=False).precision == without


subsets = st.frozensets(st.sampled_from(sorted(FEATURES)))


@given(subsets, st.booleans(), st.none() | st.floats(allow_nan=True))
def test_int8_far_from_float32_is_never_taken_unasked(
    features: frozenset[str], int8: bool, loss: float | None
) -> None:
    choice = by_rule(features, int8=int8, loss=loss)
    if choice.precision == "int8":
        assert int8
        assert loss is not None
        assert abs(loss) <= LOSS_LIMIT
    assert choice.precision != "bf16" or {"bf16", "amx"} & features
    assert "\n" not in choice.reason


@pytest.mark.parametrize(
    ("loss", "objection"),
    [
        (0.5, None),
        (-0.5, None),
        (0.51, "INT8 is 0.51 IoU points from f32 by the card, more than 0.5"),
        (-12.0, "INT8 is 12 IoU points from f32 by the card, more than 0.5"),
        (float("nan"), "INT8 is nan IoU points from f32 by the card, more than 0.5"),
        (None, "the card does not say how far INT8 is from f32"),
    ],
)
def test_the_distance_counts_either_way(
    binary: Bundle, tmp_path: Path, loss: float | None, objection: str | None
) -> None:
    assert int8_objection(loss) == objection
    if loss is not None and math.isnan(loss):  # cannot stand on a card
        return
    found = choose_precision(
        with_int8(binary, tmp_path, loss),
        "auto",
        backend="openvino",
        device="cpu",
        features={"vnni", "bf16", "int8"},
    )
    assert found.precision == ("bf16" if objection else "int8")
    assert (objection or f"INT8 is {abs(loss or 0):g} IoU points from f32 by the card") in found.reason


def test_flags_are_those_of_the_first_core(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\nflags\t\t: fpu amx_tile avx2\nvmx flags\t: ept\n\nprocessor: 1\nflags : mmx\n"
    )
    assert read_flags(path) == {"fpu", "amx_tile", "avx2"}
    path.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")  # ARM
    assert read_flags(path) == frozenset()
    assert read_flags(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(
    ("backend", "device", "wanted", "computes"),
    [
        ("pytorch", "cpu", "bf16", "f32"),
        ("pytorch", "cpu", "int8", "f32"),
        ("pytorch", "cuda:1", "f32", "bf16"),
        ("onnx", "cpu", "bf16", "f32"),
    ],
)
def test_a_precision_that_a_backend_lacks_is_refused(
    binary: Bundle, backend: str, device: str, wanted: str, computes: str
) -> None:
    ask = partial(choose_precision, binary, backend=backend, device=device, features=frozenset())
    assert ask("auto").precision == computes
    with pytest.raises(BackendUnavailable, match=f"precision {wanted}: .* computes in {computes}") as caught:
        ask(wanted)
    assert "\n" not in str(caught.value)


def test_a_precision_that_model_or_cpu_lack_is_refused(binary: Bundle) -> None:
    ask = partial(choose_precision, binary, backend="openvino", device="cpu")
    with pytest.raises(BackendUnavailable, match=r"has no model_int8\.xml; choose bf16 or f32"):
        ask("int8", features={"bf16", "int8"})
    with pytest.raises(BackendUnavailable, match="precision bf16: this CPU does not compute in it"):
        ask("bf16", features=set())
    with pytest.raises(BackendUnavailable, match="precision f64: is none of auto, f32, bf16, int8"):
        ask("f64", features=set())


def has_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in ("has_nvidia_driver", "cuda_available"):
        monkeypatch.setattr(select, asked, lambda: True)


def test_a_precision_is_looked_for_where_it_is_to_be_had(
    binary: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_gpu(monkeypatch)
    for precision, device in (("auto", "cuda"), ("bf16", "cuda"), ("f32", "cpu"), ("int8", "cpu")):
        assert select.choose_backend(binary, precision=precision).device == device
    with pytest.raises(BackendUnavailable, match="precision f32: pytorch on cuda computes in bf16"):
        select.choose_predictor(binary, device="cuda", precision="f32")


def test_auto_is_pytorch_where_there_is_a_gpu(binary: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    has_gpu(monkeypatch)
    for options, reason in (
        ({}, "on cuda"),
        ({"device": "cuda"}, "on cuda"),
        ({"backend": "pytorch"}, "as asked for"),
        ({"device": "cuda:1"}, "on cuda:1"),
    ):
        recipe = select.choose_backend(binary, **options)
        assert recipe.backend == "pytorch"
        assert recipe.device == options.get("device", "cuda")
        assert recipe.reason == reason
    assert select.choose_backend(binary, backend="openvino").device == "cpu"


def test_no_gpu_is_one_line(binary: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "cuda_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="device cuda: this machine has no NVIDIA GPU"):
        select.load_predictor(binary, device="cuda")


@pytest.mark.slow
def test_a_gpu_that_pytorch_does_not_see_is_one_line(binary: Bundle) -> None:
    from geoseg.backends.pytorch import PyTorchPredictor

    with pytest.raises(BackendUnavailable, match="device cuda:99: PyTorch sees"):
        PyTorchPredictor(binary.path, "sigmoid", device="cuda:99")


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the driver of an NVIDIA GPU where PyTorch is not installed."""
    monkeypatch.setattr(hardware, "has_torch", lambda: False)
    monkeypatch.setattr(select, "has_torch", lambda: False)
    monkeypatch.setattr(select, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(hardware, "has_nvidia_driver", lambda: True)


@pytest.mark.usefixtures("no_torch")
def test_a_gpu_without_pytorch_is_told_and_the_cpu_taken(
    binary: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = select.choose_backend(binary)
    assert (recipe.backend, recipe.device) == ("openvino", "cpu")
    (record,) = caplog.records
    assert record.getMessage() == (
        "the NVIDIA GPU of this machine needs geoseg[torch]: pip install 'geoseg[torch]'; running on the CPU"
    )
    caplog.clear()
    for options in ({"device": "cpu"}, {"backend": "onnx"}, {"precision": "f32"}):
        select.choose_backend(binary, **options)
    assert not caplog.records


@pytest.mark.usefixtures("no_torch")
def test_what_only_pytorch_does_names_the_extra(binary: Bundle, tmp_path: Path) -> None:
    alone = {name: binary.files[name] for name in (WEIGHTS, CONFIG)}
    bundle = save_bundle(tmp_path / "alone", binary.document, alone)
    select._load.cache_clear()
    for model, options in ((binary, {"device": "cuda"}), (bundle, {}), (binary, {"backend": "pytorch"})):
        with pytest.raises(
            MissingExtra, match=r"needs geoseg\[torch\]: pip install 'geoseg\[torch\]'"
        ) as caught:
            select.load_predictor(model, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_one_predictor_a_process(binary: Bundle) -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = set(pool.map(lambda _: id(select.load_predictor(binary, device="cpu")), range(8)))
    assert len(loaded) == 1
    recipe = pickle.loads(pickle.dumps(select.choose_predictor(binary, device="cpu")))
    assert {id(recipe.load())} == loaded


def test_a_recipe_refuses_another_model_and_another_precision(binary: Bundle) -> None:
    recipe = select.choose_predictor(binary, device="cpu")
    other = select.replace(recipe, digest="0" * 64)
    with pytest.raises(InvalidModel, match="is not the model that the run was planned with"):
        other.load()
    with pytest.raises(BackendUnavailable, match="the run in openvino f64"):
        select.replace(recipe, name="openvino f64").load()


@pytest.mark.parametrize(
    ("precision", "lacks"), [("int8", "VNNI"), ("bf16", r"bf16 arithmetic \(AVX512_BF16 or AMX\)")]
)
def test_a_worker_without_the_instructions_is_refused_by_name(
    binary: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, lacks: str
) -> None:
    here = frozenset({"int8", "vnni", "bf16"})
    bundle = with_int8(binary, tmp_path, GOOD) if precision == "int8" else binary
    if not hardware.cpu_features() >= here - {"vnni"}:
        pytest.skip("this CPU computes neither in bf16 nor in INT8")
    monkeypatch.setattr(select, "cpu_features", lambda: here)
    recipe = select.choose_predictor(bundle, device="cpu")
    assert recipe.precision == precision
    missing = "vnni" if precision == "int8" else "bf16"
    monkeypatch.setattr(select, "cpu_features", lambda: here - {missing})
    with pytest.raises(
        BackendUnavailable, match=f"worker {platform.node()}: its CPU lacks {lacks}"
    ) as caught:
        recipe.load()
    assert "\n" not in str(caught.value)
    select.choose_predictor(bundle, device="cpu", precision="f32").load()
