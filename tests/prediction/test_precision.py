"""Precision and flips through whole runs: what is said, what is refused, what tells results apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoseg.backends.hardware import cpu_features
from geoseg.testing import assert_same_polygons, make_scene
from tests.runs import assert_refused, picture, predict


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return make_scene(tmp_path / "scene.tif", pixels=picture((10, 12, 30, 40), (60, 70, 20, 30)))


def test_the_summary_says_what_ran_and_why(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = predict(capfd, scene, "--precision", "f32")
    assert result.code == 0, result.err
    assert result.summary["options"]["backend"] == "openvino f32"
    reason = "openvino: the fastest on a CPU; f32: as asked for"
    assert result.summary["backend_reason"] == reason
    assert f"bright on openvino f32 ({reason})" in result.err
    usual = predict(capfd, scene, "--overwrite")
    assert "the fastest on a CPU; " in usual.err
    other = predict(capfd, scene, "--overwrite", "--backend", "onnx")
    assert other.summary["backend_reason"] == "onnx: as asked for; f32: all that onnx on cpu computes in"


def test_flips_change_nothing_for_a_model_of_single_pixels_but_have_a_digest_of_their_own(
    scene: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = predict(capfd, scene, "--precision", "f32", "--threshold", "0.5", out="plain.gpkg")
    flipped = predict(capfd, scene, "--precision", "f32", "--threshold", "0.5", "--tta", out="flipped.gpkg")
    assert (plain.code, flipped.code) == (0, 0), flipped.err
    assert flipped.summary["options"]["backend"] == "openvino f32, mean of 4 flips"
    assert "4 passes over each tile" in flipped.err
    assert_same_polygons(flipped.features, plain.features)
    assert len(plain.features) == 2
    assert plain.summary["plan_digest"] != flipped.summary["plan_digest"]


def test_precisions_have_digests_of_their_own(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if "bf16" not in cpu_features():
        pytest.skip("this CPU computes in float32 alone")
    digests = {
        predict(capfd, scene, "--precision", name, out=f"{name}.gpkg").summary["plan_digest"]
        for name in ("f32", "bf16")
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--precision", "int8"), ("precision int8", "model_int8.xml", "choose bf16 or f32")),
        (("--precision", "bf16", "--backend", "onnx"), ("precision bf16", "onnx on cpu computes in f32")),
    ],
)
def test_a_precision_that_is_not_to_be_had_is_one_line(
    scene: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(predict(capfd, scene, *arguments), *words)
