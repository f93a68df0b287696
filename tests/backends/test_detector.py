"""Mask R-CNN without torch: the same objects as torchvision finds, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.assessment.int8 import LabelledTile, ship_int8_parts
from geoseg.backends import architectures
from geoseg.backends.base import Detection
from geoseg.backends.detector import INPUTS, NetworkDetector
from geoseg.backends.maskrcnn import MaskRCNN, TorchDetector
from geoseg.backends.regions import paste
from geoseg.errors import BackendUnavailable, InvalidModel
from geoseg.models.bundle import BOXES, ONNX, load_folder
from geoseg.models.card import Head
from geoseg.values import ClassInfo
from tests.runs import HOW, object_model, object_scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> MaskRCNN:
    made = architectures.load(object_model())
    assert isinstance(made, MaskRCNN)
    return made


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    return dict(load_folder(object_model()).files)


def whole(found: Detection, size: int) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), bool)
    mask[found.window.slices] = found.values >= 128
    return mask


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_three_networks_find_what_torchvision_finds(
    runtime: Literal["onnxruntime", "openvino"], network: MaskRCNN, files: dict[str, Path]
) -> None:
    tiles = np.random.default_rng(5).normal(size=(2, 4, 128, 128)).astype(np.float32)
    expected = TorchDetector(network, HOW)(tiles)
    found = NetworkDetector(files, HOW, runtime, threads=1)(tiles)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(theirs) > 5
        assert {one.label for one in ours} <= {3, 7}
        for one, two in zip(ours, theirs, strict=True):
            assert one.label == two.label
            assert one.score == pytest.approx(two.score, abs=1e-4)
            a, b = whole(one, 128), whole(two, 128)
            assert (a & b).sum() >= 0.99 * (a | b).sum()


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_run_on_the_cpu_imports_no_torch(backend: str, tmp_path: Path) -> None:
    scene, out = str(object_scene(tmp_path / "scene.tif")), str(tmp_path / "out.gpkg")
    model = ("--model", str(object_model()), "--device", "cpu", "--backend", backend)
    arguments = ["predict", scene, "--out", out, *model]
    code = f"""
import sys
from geoseg.cli import run
assert run({arguments!r}) == 0
assert not {{"torch", "torchvision"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_scores_too_little_is_not_masked_and_the_rest_stays(files: dict[str, Path]) -> None:
    tiles = np.random.default_rng(5).normal(size=(1, 4, 128, 128)).astype(np.float32)
    ((*every,),) = NetworkDetector(files, HOW, "openvino", threads=1)(tiles)
    floor = every[3].score
    ((*some,),) = NetworkDetector(files, HOW.model_copy(update={"least_score": floor}), "openvino", 1)(tiles)
    assert [one.score for one in some] == [one.score for one in every if one.score > floor]
    for one, two in zip(some, every, strict=False):
        np.testing.assert_array_equal(one.values, two.values)


def test_all_three_networks_are_quantized_and_compared(files: dict[str, Path], tmp_path: Path) -> None:
    copies = {name: Path(shutil.copy(path, tmp_path / name)) for name, path in files.items()}
    parts = {name: copies[name] for name in INPUTS}
    tiles = np.random.default_rng(5).normal(size=(2, 4, 64, 64)).astype(np.float32)
    head = Head((ClassInfo(3, "a", (1, 2, 3)), ClassInfo(7, "b", (1, 2, 3))), (0, 3, 7), "softmax", 0.1)
    truth = np.full((64, 64), 3, np.uint8)
    labelled = [LabelledTile(tiles[0], truth, truth > 0)]
    verdict = ship_int8_parts(parts, HOW, head, tiles, labelled, where="here")
    assert verdict.reports["int8"].name == "openvino int8"
    assert 0 <= verdict.reports["int8"].changed < 0.5
    quantized = {path.name: path for path in tmp_path.iterdir()}
    assert len(NetworkDetector(quantized, HOW, "openvino", 1, "int8")(tiles)) == 2


def test_a_network_of_another_layout_is_refused_in_one_line(files: dict[str, Path]) -> None:
    swapped = files | {ONNX: files[BOXES], BOXES: files[ONNX]}
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(InvalidModel, match="none of the three networks") as caught:
            NetworkDetector(swapped, HOW, runtime, threads=1)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"ratios": (0.5, 1.0)}, {"labels": (3,)}, {"labels": (3, 7, 9)}])
def test_a_card_of_other_networks_is_refused_in_one_line(files: dict[str, Path], change: object) -> None:
    detector = NetworkDetector(files, HOW.model_copy(update=change), "onnxruntime", threads=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidModel, match="the networks answer for"):
        detector(np.zeros((1, 4, 64, 64), np.float32))


def test_a_gpu_that_pytorch_does_not_see_is_one_line(network: MaskRCNN) -> None:
    with pytest.raises(BackendUnavailable, match="device cuda:99: PyTorch sees"):
        TorchDetector(network, HOW, "cuda:99")


@pytest.mark.parametrize("box", [(2.0, 3.0, 8.0, 9.0), (2.4, 3.5, 8.1, 9.9), (-3.0, -2.0, 4.0, 30.0)])
def test_a_full_mask_covers_its_box_and_no_more(box: tuple[float, ...]) -> None:
    window, values = paste(np.ones((28, 28), np.float32), np.array(box, np.float32), (20, 16))
    mask = np.zeros((20, 16), bool)
    mask[window.slices] = values >= 128
    rows, cols = np.mgrid[:20, :16] + 0.5
    inside = (cols > box[0]) & (cols < box[2]) & (rows > box[1]) & (rows < box[3])
    near = (np.abs(cols - box[0]) < 0.2) | (np.abs(cols - box[2]) < 0.2)
    near |= (np.abs(rows - box[1]) < 0.2) | (np.abs(rows - box[3]) < 0.2)
    np.testing.assert_array_equal(mask[~near], inside[~near])
