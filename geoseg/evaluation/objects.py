"""Whole objects of truth and prediction: cut to what is known, matched, counted, scored as COCO does."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import MissingExtra
from geoseg.evaluation.result import CocoScore, SizeScore
from geoseg.labels.coco import runs_of
from geoseg.metrics import ObjectMatch, held_twice, match_pairs, overlaps
from geoseg.metrics.objects import outline_distances
from geoseg.raster.describe import resolution_at
from geoseg.values import ClassInfo, GeoBox, Window
from geoseg.vector.place import measure
from geoseg.vectorfiles.layers import polygons_of

Polygons = NDArray[np.object_]

THRESHOLDS = tuple(i / 100 for i in range(50, 100, 5))
"""IoU from which a pair counts as found, as in COCO (Lin et al. 2014)."""

SIZES_M2 = (0.0, 50.0, 200.0, 1000.0, float("inf"))
"""Borders of the classes of size: sheds, houses, blocks, halls."""

_WHOLE = 1 - 1e-9
_CHUNK = 2000


@dataclass(frozen=True, eq=False, slots=True)
class Objects:
    """The polygons of one class on one side."""

    polygons: Polygons
    """(Multi)Polygon, shape (n,). What of them lies where truth and prediction are known, in pixels of the
    grid; never empty."""
    whole: Polygons
    """(Multi)Polygon, shape (n,). Before they were cut."""
    share: NDArray[np.float64]
    """float64, shape (n,). Area of the first over that of the second."""
    which: NDArray[np.int64]
    """int64, shape (n,). Their numbers among those that were given."""

    @property
    def excused(self) -> NDArray[np.bool_]:
        """Those of which most is hidden: without a partner they count neither as missed nor as false."""
        return self.share < 0.5

    @property
    def centers(self) -> NDArray[np.float64]:
        """Centres of the bounding boxes, (col, row), shape (n, 2)."""
        bounds = shapely.bounds(self.polygons).reshape(-1, 4)
        return (bounds[:, :2] + bounds[:, 2:]) / 2


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """What matching the objects of one class gave."""

    counts: NDArray[np.int64]
    """int64, shape (objects, thresholds, 3). For each object that was counted: found, false, missed, at each
    of `THRESHOLDS`. A pair is counted at its true object."""
    places: NDArray[np.float64]
    """float64, shape (objects, 2). Where these are (col, row)."""
    excused: int
    split: int
    merged: int
    sizes: tuple[SizeScore, ...]
    distances: NDArray[np.float64]
    """float64, shape (points,). Between matched outlines, in metres (pixels without a CRS)."""
    pair: NDArray[np.int64]
    """int64, shape (points,). The pair of each of them."""
    pair_places: NDArray[np.float64]
    """float64, shape (pairs, 2). Where the pairs are (col, row)."""


def known_parts(polygons: Polygons, unknown: Sequence[shapely.Polygon], grid: GeoBox) -> Objects:
    """Cut polygons to the grid and to what is known; those wholly hidden are left out.

    Parameters
    ----------
    polygons : ndarray of (Multi)Polygon
        Valid, in pixels of the grid.
    unknown : sequence of Polygon
        That do not overlap each other.
    """
    cut = polygons.copy()
    frame = shapely.box(0, 0, grid.width, grid.height)
    beyond = ~shapely.covered_by(cut, frame)
    cut[beyond] = shapely.intersection(cut[beyond], frame)
    hidden = np.array(unknown, dtype=object)
    which, by = shapely.STRtree(hidden).query(cut, predicate="intersects")
    starts = np.flatnonzero(np.r_[True, which[1:] != which[:-1]]) if len(which) else which
    for part in np.split(np.arange(len(which)), starts[1:]) if len(which) else ():
        index = int(which[part[0]])
        cut[index] = shapely.difference(cut[index], shapely.union_all(hidden[by[part]]))
    for index in np.flatnonzero(~np.isin(shapely.get_type_id(cut), (3, 6))).tolist():
        # Cutting may have left lines and points.
        cut[index] = shapely.MultiPolygon(polygons_of(cut[index : index + 1])[0].tolist())
    share = shapely.area(cut) / shapely.area(polygons)
    kept = share > 1e-9
    return Objects(cut[kept], polygons[kept], share[kept], np.flatnonzero(kept))


def compare(truth: Objects, predicted: Objects, grid: GeoBox) -> Comparison:
    """Match the objects of one class and count."""
    sizes = (len(predicted.polygons), len(truth.polygons))
    pairs = overlaps(predicted.polygons, truth.polygons)
    matches = [match_pairs(pairs, sizes, threshold) for threshold in THRESHOLDS]
    counts = np.zeros((sizes[0] + sizes[1], len(THRESHOLDS), 3), np.int64)
    for i, match in enumerate(matches):
        false, missed = _alone(match, truth, predicted)
        counts[: sizes[0], i, 1] = false
        counts[sizes[0] :, i, 2] = missed
        counts[sizes[0] + match.truth, i, 0] = 1
    first = matches[0]
    false, missed = _alone(first, truth, predicted)
    alone = sizes[0] + sizes[1] - 2 * len(first.iou)
    distances, pair, places = _distances(first, truth, predicted, grid)
    return Comparison(
        counts=counts,
        places=np.concatenate([predicted.centers, truth.centers]),
        excused=alone - int(false.sum()) - int(missed.sum()),
        split=int(held_twice(predicted.polygons, truth.polygons).sum()),
        merged=int(held_twice(truth.polygons, predicted.polygons).sum()),
        sizes=_by_size(first, (truth, missed), (predicted, false), grid),
        distances=distances,
        pair=pair,
        pair_places=places,
    )


def _alone(
    match: ObjectMatch, truth: Objects, predicted: Objects
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which predicted objects are false and which true ones are missed."""
    false, missed = ~predicted.excused, ~truth.excused
    false[match.predicted] = False
    missed[match.truth] = False
    return false, missed


def _by_size(
    match: ObjectMatch,
    truth: tuple[Objects, NDArray[np.bool_]],
    predicted: tuple[Objects, NDArray[np.bool_]],
    grid: GeoBox,
) -> tuple[SizeScore, ...]:
    def tally(
        side: tuple[Objects, NDArray[np.bool_]], matched: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        objects, alone = side
        place = np.digitize(ground_areas(objects.whole, grid), SIZES_M2[1:-1])
        size = len(SIZES_M2) - 1
        right = np.bincount(place[matched], minlength=size)
        return right, right + np.bincount(place[alone], minlength=size)

    if grid.crs is None:
        return ()
    found, true = tally(truth, match.truth)
    right, claimed = tally(predicted, match.predicted)
    return tuple(
        _size_score(
            SIZES_M2[i], SIZES_M2[i + 1], (int(true[i]), int(found[i]), int(claimed[i]), int(right[i]))
        )
        for i in range(len(SIZES_M2) - 1)
    )


def _size_score(low: float, high: float, counts: tuple[int, int, int, int]) -> SizeScore:
    truth, found, predicted, right = counts
    precision = right / predicted if predicted else float("nan")
    recall = found / truth if truth else float("nan")
    total = precision + recall
    f1 = 2 * precision * recall / total if total > 0 else total
    return SizeScore(low, high, truth, found, predicted, right, precision, recall, f1)


def ground_areas(polygons: Polygons, grid: GeoBox) -> NDArray[np.float64]:
    """Return geodesic areas in square metres of (multi)polygons in pixels of the grid."""
    parts, owner = shapely.get_parts(polygons, return_index=True)
    areas = np.bincount(owner, weights=measure(parts, grid)[0], minlength=len(polygons))
    return np.asarray(areas, np.float64)


def _distances(
    match: ObjectMatch, truth: Objects, predicted: Objects, grid: GeoBox
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Compare the outlines of pairs that are wholly known and do not end at the grid's edge."""
    inner = shapely.box(0, 0, grid.width, grid.height).buffer(-1e-6, join_style="mitre")
    open_ground = np.ones(len(match.iou), bool)
    for objects, chosen in ((predicted, match.predicted), (truth, match.truth)):
        open_ground &= objects.share[chosen] >= _WHOLE
        open_ground &= shapely.within(objects.polygons[chosen], inner)
    ours, theirs = match.predicted[open_ground], match.truth[open_ground]
    places = truth.centers[theirs]
    scales = resolution_at(grid, places)
    scales = np.ones_like(places) if scales is None else np.where(np.isfinite(scales), scales, 1.0)
    found: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
    for start in range(0, len(ours), _CHUNK):
        part = slice(start, start + _CHUNK)
        one = _scaled(predicted.polygons[ours[part]], places[part], scales[part])
        other = _scaled(truth.polygons[theirs[part]], places[part], scales[part])
        distance, pair = outline_distances(one, other, float(scales[part].mean()))
        found.append((distance, pair + start))
    if not found:
        return np.empty(0), np.empty(0, np.int64), places
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]), places


def _scaled(polygons: Polygons, centers: NDArray[np.float64], scales: NDArray[np.float64]) -> Polygons:
    """Return polygons in metres around their own centres."""
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    moved = (points - centers[owner]) * scales[owner]
    scaled: Polygons = shapely.set_coordinates(polygons.copy(), moved)
    return scaled


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
    scores: NDArray[np.float64],
    grid: GeoBox,
) -> CocoScore:
    """Score the objects of one class, those of which most is hidden aside.

    Parameters
    ----------
    scores : ndarray of float64, shape (n,)
        How sure the prediction is of each object.
    grid : GeoBox
        Objects are compared by its pixels.
    """
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
