"""Figures of whole evaluations: laws, brute force, other libraries, closed forms."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoseg.cli import run
from geoseg.evaluation.stream import STEP, TILE
from geoseg.metrics.pixels import inner_band
from geoseg.testing import make_scene
from tests.evaluation.files import boxes, burned, class_map, compare, polygons, probabilities
from tests.runs import object_model

SIZE = (600, 560)
FEW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def blobs(seed: int, classes: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Rectangles of classes at random, some of them across windows, some at the edges."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(size, np.uint8)
    for _ in range(60):
        row, col = rng.integers(-10, size[0]), rng.integers(-10, size[1])
        height, width = rng.integers(3, 70, 2)
        ids[max(0, row) : row + height, max(0, col) : col + width] = rng.integers(0, classes + 1)
    return ids


def rounded(value: object) -> object:
    """Compare figures but for the last digits: sums in another order differ there."""
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, list):
        return [rounded(part) for part in value]
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return value


def plain_text(score: Any) -> str:
    """All figures of a class as text, without the class."""
    figures = {key: value for key, value in dataclasses.asdict(score).items() if key != "info"}
    return json.dumps(rounded(json.loads(json.dumps(figures))))


@pytest.mark.slow
@FEW
@given(seed=st.integers(0, 1000))
def test_the_size_of_the_windows_changes_no_figure(seed: int, tmp_path: Path) -> None:
    truth, prediction = blobs(seed, 2), blobs(seed + 1, 2)
    truth[:90, :200] = 255
    rng = np.random.default_rng(seed)
    probability = np.stack([np.where(prediction == i, 0.9, 0.1) for i in (1, 2)])
    probability += rng.uniform(-0.1, 0.1, probability.shape)
    one = class_map(tmp_path / "truth.tif", truth, nodata=255)
    other = probabilities(tmp_path / "prediction.tif", probability)
    found = [
        rounded(json.loads(json.dumps(compare(one, other, step=step).as_json()))) for step in (TILE, STEP)
    ]
    assert found[0] == found[1]


@pytest.mark.slow
@FEW
@given(seed=st.integers(0, 1000))
def test_what_is_equal_is_perfect(seed: int, tmp_path: Path) -> None:
    truth = class_map(tmp_path / "truth.tif", blobs(seed, 2))
    result = compare(truth, truth, classes="1=house,2=road")
    assert result.pixels.accuracy.value == result.pixels.mean_iou.value == 1
    for pixels, objects, outlines in zip(result.pixels.classes, result.objects, result.outlines, strict=True):
        assert (pixels.iou.value, pixels.iou.low, pixels.iou.high) == (1, 1, 1)
        assert objects.f1.value == objects.mean_f1.value == 1
        assert objects.split == objects.merged == objects.excused == 0
        assert outlines.boundary_iou.value == 1
        assert outlines.mean_m.value == pytest.approx(0, abs=1e-6)
    assert result.worst == ()


@pytest.mark.slow
@FEW
@given(seed=st.integers(0, 1000))
def test_naming_classes_otherwise_changes_nothing_else(seed: int, tmp_path: Path) -> None:
    truth, prediction = blobs(seed, 3), blobs(seed + 1, 3)
    other = np.array([0, 7, 2, 5], np.uint8)
    plain = compare(
        class_map(tmp_path / "a.tif", truth),
        class_map(tmp_path / "b.tif", prediction),
        classes="1=a,2=b,3=c",
    )
    renamed = compare(
        class_map(tmp_path / "c.tif", other[truth]),
        class_map(tmp_path / "d.tif", other[prediction]),
        classes="7=a,2=b,5=c",
    )
    assert renamed.pixels.accuracy == plain.pixels.accuracy
    for kind in ("objects", "outlines"):
        one, two = (
            {score.info.name: plain_text(score) for score in getattr(e, kind)} for e in (plain, renamed)
        )
        assert one == two


@pytest.mark.slow
def test_pixels_agree_with_scikit_learn(tmp_path: Path) -> None:
    import sklearn.metrics

    truth, prediction = blobs(3, 3), blobs(4, 3)
    result = compare(
        class_map(tmp_path / "t.tif", truth), class_map(tmp_path / "p.tif", prediction), classes="1=a,2=b,3=c"
    )
    one, two = truth.ravel(), prediction.ravel()
    assert np.array(result.pixels.confusion).tolist() == sklearn.metrics.confusion_matrix(one, two).tolist()
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(one, two, labels=[1, 2, 3])
    iou = sklearn.metrics.jaccard_score(one, two, labels=[1, 2, 3], average=None)
    for i, score in enumerate(result.pixels.classes):
        assert score.precision.value == pytest.approx(precision[i])
        assert score.recall.value == pytest.approx(recall[i])
        assert score.f1.value == pytest.approx(f1[i])
        assert score.iou.value == pytest.approx(iou[i])
    assert result.pixels.mean_iou.value == pytest.approx(iou.mean())
    assert result.pixels.accuracy.value == pytest.approx((one == two).mean())


def test_boundary_iou_is_that_of_the_whole_raster(tmp_path: Path) -> None:
    truth, prediction = blobs(5), blobs(6)
    result = compare(
        class_map(tmp_path / "t.tif", truth),
        class_map(tmp_path / "p.tif", prediction),
        step=TILE,
        boundary=1.2,
    )
    one, two = (inner_band(ids == 1, (4, 4)) for ids in (truth, prediction))
    (score,) = result.outlines
    assert score.width_px == (4, 4)
    assert score.boundary_iou.value == pytest.approx((one & two).sum() / (one | two).sum())


def test_intervals_hold_the_figure_and_follow_the_seed(tmp_path: Path) -> None:
    files = class_map(tmp_path / "t.tif", blobs(1)), class_map(tmp_path / "p.tif", blobs(2))
    first, again, other = (compare(*files, seed=seed) for seed in (1, 1, 2))
    iou = first.pixels.classes[0].iou
    assert iou.low < iou.value < iou.high
    assert rounded(first.as_json()) == rounded(again.as_json())
    changed = other.pixels.classes[0].iou
    assert changed.value == iou.value
    assert (changed.low, changed.high) != (iou.low, iou.high)
    assert first.resampling.blocks == 12 * 12


def test_too_few_blocks_leave_figures_without_intervals(tmp_path: Path) -> None:
    truth = class_map(tmp_path / "t.tif", blobs(1))
    result = compare(truth, truth, blocks=100.0)
    assert result.resampling.replicates == 0
    assert math.isnan(result.pixels.accuracy.low)
    assert any("no intervals" in note for note in result.notes)


def test_objects_closed_form(tmp_path: Path) -> None:
    """Found, moved, missed, false, split, merged: one house each; 0.3 m pixels."""
    size = (200, 200)
    true = (
        (10, 10, 20, 20),
        (10, 60, 20, 20),
        (10, 110, 20, 20),
        (60, 10, 20, 40),
        (110, 10, 20, 20),
        (110, 31, 20, 20),
    )
    predicted = (
        (10, 10, 20, 20),
        (10, 65, 20, 20),
        (60, 10, 20, 19),
        (60, 31, 20, 19),
        (110, 10, 20, 41),
        (160, 160, 30, 30),
    )
    result = compare(
        polygons(tmp_path / "t.gpkg", boxes(*true)),
        polygons(tmp_path / "p.gpkg", boxes(*predicted)),
        scene=class_map(tmp_path / "scene.tif", np.ones(size)),
    )
    (score,) = result.objects
    # Moved by a quarter: IoU 15 / 25 = 0.6. Halves of the split one, and the merged one: below 0.5.
    assert (score.truth, score.predicted, score.matched) == (6, 6, 2)
    assert (score.split, score.merged) == (1, 1)
    assert score.f1.value == pytest.approx(2 / 6)
    assert [m.f1 for m in score.by_iou] == pytest.approx([2 / 6] * 3 + [1 / 6] * 7)
    assert score.mean_f1.value == pytest.approx((3 * 2 + 7) / 60)
    small = score.sizes[0]  # 36 m² and 72 m², 34.2, 73.8 and 81
    assert (small.low_m2, small.high_m2) == (0, 50)
    assert (small.truth, small.found, small.predicted, small.right) == (5, 2, 4, 2)
    assert sum(size.truth for size in score.sizes) == 6
    (outlines,) = result.outlines
    assert outlines.pairs == 2
    assert 0.1 < outlines.mean_m.value < 1.5 * 0.5
    assert outlines.p95_m.value == pytest.approx(1.5, abs=0.01)
    assert score.false_per_km2.value == pytest.approx(4 / (200 * 200 * 0.09) * 1e6, rel=1e-3)


def test_rasters_and_polygons_of_the_same_give_the_same(tmp_path: Path) -> None:
    true = ((10, 10, 20, 20), (100, 250, 30, 60), (300, 240, 60, 40))
    predicted = ((12, 10, 20, 20), (100, 250, 30, 30), (400, 400, 30, 30))
    raster = compare(
        class_map(tmp_path / "t.tif", burned(SIZE, *true)),
        class_map(tmp_path / "p.tif", burned(SIZE, *predicted)),
        step=TILE,
    )
    vector = compare(
        polygons(tmp_path / "t.gpkg", boxes(*true)),
        polygons(tmp_path / "p.gpkg", boxes(*predicted)),
        scene=tmp_path / "t.tif",
    )
    assert vector.pixels.confusion == raster.pixels.confusion
    assert vector.pixels.accuracy == raster.pixels.accuracy
    for kind in ("objects", "outlines"):
        one, two = (
            rounded(getattr(e, kind)[0].f1.value if kind == "objects" else getattr(e, kind)[0].mean_m.value)
            for e in (raster, vector)
        )
        assert one == pytest.approx(two, abs=1e-6)


def test_confidence_closed_form(tmp_path: Path) -> None:
    truth = burned(SIZE, (0, 0, 600, 280))
    probability = np.where(truth == 1, 0.8, 0.3)
    probability[:300, 280:] = 0.6  # wrongly above a half
    result = compare(
        class_map(tmp_path / "t.tif", truth),
        probabilities(tmp_path / "p.tif", probability[None]),
        threshold=0.5,
    )
    (score,) = result.confidence
    assert score.bins[8].pixels == 600 * 280
    assert score.bins[8].mean_probability == pytest.approx(0.8)
    assert score.bins[8].true_share == 1
    assert score.calibration_error.value == pytest.approx(0.5 * 0.2 + 0.25 * 0.3 + 0.25 * 0.6)
    assert score.brier == pytest.approx(0.5 * 0.04 + 0.25 * 0.09 + 0.25 * 0.36)
    assert score.best.iou == 1
    assert 0.6 < score.best.threshold <= 0.8
    assert score.used == 0.5
    assert result.pixels.classes[0].iou.value == pytest.approx(2 / 3)


@pytest.mark.slow
def test_a_model_of_objects_is_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (4, 100, 100)).astype(np.uint8)
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels, size=(100, 100))
    truth = make_scene(tmp_path / "truth.tif", pixels=np.full((1, 100, 100), 3, np.uint8), size=(100, 100))
    asked = ["evaluate", str(truth), "--scene", str(scene), "--model", str(object_model()), "--json"]
    assert run([*asked, "--truth-values", "3=a"]) == 0
    assert json.loads(capfd.readouterr().out)["model"] == "objects"


def test_the_worst_tiles_come_first(tmp_path: Path) -> None:
    truth = burned(SIZE, (10, 10, 20, 20), (300, 300, 50, 50))
    result = compare(class_map(tmp_path / "t.tif", truth), class_map(tmp_path / "p.tif", truth * 0))
    assert [(tile.window.row, tile.window.col) for tile in result.worst] == [(256, 256), (0, 0)]
    assert [tile.missed_pixels for tile in result.worst] == [2500, 400]
    assert result.worst[0].iou == 0
    assert result.worst[0].center == pytest.approx((500_000 + 384 * 0.3, 5_000_000 - 384 * 0.3))
