"""Average precision and recall as COCO has them (Lin et al. 2014), by the package faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
import math
from importlib.util import find_spec
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption, MissingExtra
from geoseg.evaluation.objects import Objects
from geoseg.evaluation.result import CocoScore
from geoseg.labels.coco import runs_of
from geoseg.values import ClassInfo, GeoBox, Window


def need_coco() -> None:
    """Check that the package is installed: before a scene is predicted and compared.

    Raises
    ------
    MissingExtra
    """
    if find_spec("faster_coco_eval") is None:
        raise MissingExtra("--coco", "coco")


def coco_score(
    info: ClassInfo,
    truth: Objects,
    predicted: Objects,
    scores: NDArray[np.float64] | None,
    grid: GeoBox,
) -> CocoScore:
    """Score the objects of one class, those of which most is hidden aside.

    Parameters
    ----------
    scores : ndarray of float64, shape (n,), or None
        How sure the prediction is of each object.
    grid : GeoBox
        Objects are compared by its pixels.

    Raises
    ------
    InvalidOption
        If the prediction holds no scores.
    """
    if scores is None:
        raise InvalidOption(
            "--coco: the prediction has no attribute 'confidence' with a number for each polygon"
        )
    from faster_coco_eval import COCO, COCOeval_faster

    content = dataset(info, truth, grid)
    found = [
        one | {"score": float(score)}
        for one, score in zip(annotated(info, predicted, grid), scores, strict=True)
        if not one["iscrowd"]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(content)
        run = (
            COCOeval_faster(known, known.loadRes(found), "segm") if found and content["annotations"] else None
        )
        if run is not None:
            run.params.maxDets = [1, 10, max(100, len(found))]
            run.evaluate()
            run.accumulate()
    if run is None:
        value = 0.0 if content["annotations"] else math.nan
        return CocoScore(info, value, value, value, (math.nan,) * 3, value, (math.nan,) * 3)
    precision, recall = run.eval["precision"][:, :, 0, :, -1], run.eval["recall"][:, 0, :, -1]
    # Of any size, small, medium, large.
    aps, ars = ([_mean(part[..., size]) for size in range(4)] for part in (precision, recall))
    return CocoScore(
        info,
        aps[0],
        _mean(precision[0, :, 0]),
        _mean(precision[5, :, 0]),
        (aps[1], aps[2], aps[3]),
        ars[0],
        (ars[1], ars[2], ars[3]),
    )


def dataset(info: ClassInfo, truth: Objects, grid: GeoBox) -> dict[str, Any]:
    """Return a truth as the JSON of COCO: the whole grid is one picture."""
    return {
        "info": {},
        "images": [{"id": 1, "width": grid.width, "height": grid.height}],
        "categories": [{"id": info.id, "name": info.name}],
        "annotations": annotated(info, truth, grid),
    }


def annotated(info: ClassInfo, objects: Objects, grid: GeoBox) -> list[dict[str, Any]]:
    """Return objects as annotations: masks of the grid's pixels, run by run, column by column."""
    return [
        _annotation(number, info, polygon, grid) | {"iscrowd": int(hidden)}
        for number, (polygon, hidden) in enumerate(
            zip(objects.polygons, objects.excused.tolist(), strict=True), 1
        )
    ]


def _annotation(number: int, info: ClassInfo, polygon: Any, grid: GeoBox) -> dict[str, Any]:
    from faster_coco_eval.core import mask as coding
    from rasterio.features import rasterize

    left, top, right, bottom = (int(edge) for edge in shapely.bounds(polygon))
    rows, cols = min(grid.height, bottom + 1) - top, min(grid.width, right + 1) - left
    mask = np.zeros((rows, cols), np.uint8)
    moved = shapely.transform(polygon, lambda points: points - np.array([left, top]))
    rasterize([moved], out=mask)
    counts = runs_of(mask, Window(top, left, rows, cols), grid.shape)
    runs = {"size": [grid.height, grid.width], "counts": counts}
    return {
        "id": number,
        "image_id": 1,
        "category_id": info.id,
        "area": float(mask.sum()),
        "segmentation": coding.frPyObjects(runs, grid.height, grid.width),
    }


def _mean(values: NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else math.nan
