"""Average precision and recall: those of pycocotools, by another implementation."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio.features
import shapely

from geoseg.errors import InvalidOption, MissingExtra
from geoseg.evaluation import EvaluateOptions
from geoseg.evaluation.inputs import Sources
from geoseg.evaluation.objects import Objects, coco_score, known_parts
from geoseg.evaluation.run import evaluate, predicted
from geoseg.prediction.options import PredictOptions
from geoseg.values import ClassInfo, GeoBox

GRID = GeoBox(400, 300, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
HOUSE = ClassInfo(4, "house", (1, 2, 3))


def scattered(seed: int, shift: float) -> Objects:
    rng = np.random.default_rng(seed)
    polygons = []
    for row in range(5, 380, 60):
        for col in range(5, 280, 60):
            height, width = rng.integers(4, 55, 2)
            if rng.random() < 0.85:
                move = rng.normal(0, shift, 2) if shift else (0, 0)
                polygons.append(
                    shapely.affinity.translate(shapely.box(col, row, col + width, row + height), *move)
                )
    return known_parts(np.array(polygons, object), [], GRID)


def pycocotools_score(truth: Objects, predicted: Objects, scores: np.ndarray) -> list[float]:
    """AP, AP50, AP75, AP by size, AR, AR by size."""
    from pycocotools import mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def annotation(number: int, polygon: shapely.Polygon) -> dict[str, object]:
        burnt = rasterio.features.rasterize([polygon], (GRID.height, GRID.width), dtype=np.uint8)
        code = mask.encode(np.asfortranarray(burnt))
        area, box = float(mask.area(code)), mask.toBbox(code).tolist()
        kind = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0}
        return kind | {"segmentation": code, "area": area, "bbox": box}

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": 1, "height": GRID.height, "width": GRID.width}],
            "categories": [{"id": 1, "name": "house"}],
            "annotations": [annotation(i, polygon) for i, polygon in enumerate(truth.polygons, 1)],
        }
        known.createIndex()
        found = [annotation(i, polygon) for i, polygon in enumerate(predicted.polygons, 1)]
        for one in found:  # else the area of a box stands for that of the mask
            del one["bbox"]
        found = [one | {"score": score} for one, score in zip(found, scores.tolist(), strict=True)]
        run = COCOeval(known, known.loadRes(found), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    stats = run.stats.tolist()
    return [*stats[:6], stats[8], *stats[9:12]]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "shift"), [(1, 0.0), (2, 1.5), (3, 4.0)])
def test_scores_are_those_of_pycocotools(seed: int, shift: float) -> None:
    truth, predicted = scattered(seed, 0.0), scattered(seed, shift)
    scores = np.random.default_rng(seed).random(len(predicted.polygons))
    found = coco_score(HOUSE, truth, predicted, scores, GRID)
    ours = [found.ap, found.ap50, found.ap75, *found.ap_by_size, found.ar, *found.ar_by_size]
    theirs = [value if value > -1 else math.nan for value in pycocotools_score(truth, predicted, scores)]
    assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)
    assert shift or found.ap == 1.0


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_scores_are_read_from_any_format(suffix: str, tmp_path: Path) -> None:
    boxes = [shapely.box(500000 + 40 * i, 5000000, 500020 + 40 * i, 5000020) for i in range(3)]
    truth, found = tmp_path / "truth.gpkg", tmp_path / f"found{suffix}"
    geopandas.GeoDataFrame(geometry=boxes, crs=32632).to_file(truth)
    table = {"confidence": [0.9, 0.8, 0.7]}
    geopandas.GeoDataFrame(table, geometry=boxes, crs=32632).to_file(found)
    options = EvaluateOptions(coco=True, blocks=50)
    (score,) = evaluate(Sources(truth=str(truth), prediction=str(found)), options)[0].coco
    assert score.ap == score.ar == 1.0
    with pytest.raises(InvalidOption, match="no attribute 'confidence'"):
        evaluate(Sources(truth=str(truth), prediction=str(truth)), options, on_step=pytest.fail)  # before


def test_nothing_found_is_zero() -> None:
    truth, nothing = scattered(1, 0.0), known_parts(np.empty(0, object), [], GRID)
    assert coco_score(HOUSE, truth, nothing, np.empty(0), GRID).ap == 0
    assert math.isnan(coco_score(HOUSE, nothing, truth, np.ones(len(truth.polygons)), GRID).ap)


def test_a_package_that_is_not_installed_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.evaluation.objects.find_spec", lambda _: None)
    options = EvaluateOptions(coco=True)
    words = r"^--coco needs geoseg\[coco\]"
    with pytest.raises(MissingExtra, match=words):
        evaluate(Sources(truth="none.gpkg", prediction="none.gpkg"), options)
    with (
        pytest.raises(MissingExtra, match=words),
        predicted("none.gpkg", "none.tif", PredictOptions(), options, print),
    ):
        pass
