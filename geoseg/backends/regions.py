"""From the answers of the three networks of a Mask R-CNN to objects: numpy, the same on every backend.

Ren, He et al.: Faster R-CNN (2015), https://arxiv.org/abs/1506.01497; He et al.: Mask R-CNN (2017),
https://arxiv.org/abs/1703.06870; in the order, and with the constants, of torchvision.models.detection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import NOT_A_NUMBER, Detection, sigmoid, softmax
from geoseg.errors import InvalidModel
from geoseg.models.document import Instances
from geoseg.values import HALF, Window

Floats = NDArray[np.float32]

STRIDES = (4, 8, 16, 32, 64)
"""Pixels of a tile for each pixel of a level of features; regions are cut out of the first four."""

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
_LARGEST_STEP = math.log(1000.0 / 16)
_CANONICAL = 224.0
"""Side of a region that is cut out of the third level."""

BOX_SIDE, MASK_SIDE = 7, 14
"""Cells a side that regions are cut into for each head."""

BOXES_TOGETHER, MASKS_TOGETHER = 256, 32
"""Regions that a head is asked about at a time: no more of a tile's memory, and as fast as all of them."""

_TOGETHER = 64
"""Boxes that are compared with the rest at a time: fewer calls, and not much that is compared in vain."""

Body = Callable[[NDArray[Any]], Sequence[Floats]]
"""A tile (1, bands, rows, cols) to features of four levels (1, rows, cols, channels), then scores
(1, anchors, rows, cols) of five, then steps (1, 4 · anchors, rows, cols) of five."""

Head = Callable[[Floats], Sequence[Floats]]
"""Regions as `cut_out` gives them to answers of n rows."""


def detect(tile: NDArray[Any], networks: tuple[Body, Head, Head], how: Instances) -> list[Detection]:
    """Find the objects of a tile, shape (1, bands, rows, cols), the likeliest first.

    Raises
    ------
    InvalidModel
        If an answer is NaN, or of another shape than the card says.
    """
    body, boxes, masks = networks
    answers = body(tile)
    levels = len(STRIDES)
    features, scores, steps = answers[: -2 * levels], answers[-2 * levels : -levels], answers[-levels:]
    size = (tile.shape[2], tile.shape[3])
    if not all(np.isfinite(part.sum()) for part in scores):
        raise InvalidModel(NOT_A_NUMBER)
    _check("ratios", len(how.ratios), scores[0].shape[1])
    regions = propose(scores, steps, size, how)
    if not len(regions):
        return []
    logits, moves = _asked(boxes, features, regions, (BOX_SIDE, BOXES_TOGETHER))
    _check("labels", len(how.labels), logits.shape[1] - 1)
    found, score, label = choose(regions, logits, moves, size, how)
    if not len(found):
        return []
    (shapes,) = _asked(masks, features, found, (MASK_SIDE, MASKS_TOGETHER))
    values = sigmoid(shapes[np.arange(len(found)), label])
    return [
        Detection(how.labels[number], float(certain), *paste(shape, box, size))
        for shape, box, certain, number in zip(values, found, score, (label - 1).tolist(), strict=True)
    ]


def _check(name: str, told: int, answered: int) -> None:
    if told != answered:
        raise InvalidModel(
            f"geoseg:instances.{name}: the card has {told}, the networks answer for {answered}; "
            "take the card that was written with them"
        )


def _asked(
    head: Head, features: Sequence[Floats], regions: Floats, how: tuple[int, int]
) -> tuple[Floats, ...]:
    """Return what a head says of regions that are cut into `side` cells, some at a time."""
    side, together = how
    parts = [
        head(cut_out(features, regions[start : start + together], side))
        for start in range(0, len(regions), together)
    ]
    return tuple(np.concatenate(answers) for answers in zip(*parts, strict=True))


def propose(
    scores: Sequence[Floats], steps: Sequence[Floats], size: tuple[int, int], how: Instances
) -> Floats:
    """Return the regions that may hold an object, shape (n, 4) as (x1, y1, x2, y2), the likeliest first."""
    kept = []
    for depth, (score, step) in enumerate(zip(scores, steps, strict=True)):
        count = score.shape[1]
        flat = np.moveaxis(score[0], 0, -1).ravel()
        best = _highest(flat, how.proposals)
        place, kind = np.divmod(best, count)
        anchors = anchors_at(best, depth, score.shape[3], how)
        moves = step[0].reshape(count, 4, -1)[kind, :, place]
        box = clip(move(anchors, moves, PROPOSAL_WEIGHTS), size)
        large = ((box[:, 2:] - box[:, :2]) >= 1e-3).all(axis=1)
        box, flat = box[large], flat[best][large]
        chosen = suppress(box, flat, how.proposal_iou)
        kept.append((sigmoid(flat[chosen]), box[chosen]))
    score, box = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return np.asarray(box[np.argsort(-score, kind="stable")[: how.proposals]], np.float32)


def _highest(scores: Floats, count: int) -> NDArray[np.int64]:
    """Return where the highest scores are, in their order; of equals the first."""
    if len(scores) > count:
        among = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    else:
        among = np.arange(len(scores))
    return among[np.argsort(-scores[among], kind="stable")[:count]]


def anchors_at(numbers: NDArray[np.int64], level: int, cols: int, how: Instances) -> Floats:
    """Return anchors by their numbers, row by row, all of a place together."""
    ratios = np.sqrt(np.array(how.ratios, np.float32))
    height, width = (ratios * how.anchors[level]).ravel(), (how.anchors[level] / ratios).ravel()
    base = np.round(np.stack([-width, -height, width, height], axis=1) / 2)
    place, kind = np.divmod(numbers, len(base))
    row, col = np.divmod(place, cols)
    shift = np.stack([col, row, col, row], axis=1) * STRIDES[level]
    return np.asarray(shift + base[kind], np.float32)


def move(boxes: Floats, steps: Floats, weights: tuple[float, ...]) -> Floats:
    """Move and scale boxes (n, 4) by what a network says of each."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + 0.5 * sizes
    scaled = steps / np.array(weights, np.float32)
    centres = scaled[:, :2] * sizes + centres
    half = 0.5 * np.exp(np.minimum(scaled[:, 2:], _LARGEST_STEP)) * sizes
    return np.concatenate([centres - half, centres + half], axis=1)


def clip(boxes: Floats, size: tuple[int, int]) -> Floats:
    """Keep boxes within a tile of (rows, cols)."""
    rows, cols = size
    return np.clip(boxes, 0, np.array([cols, rows, cols, rows], np.float32))


def suppress(boxes: Floats, scores: Floats, iou: float) -> NDArray[np.int64]:
    """Return the boxes that overlap none of a higher score by more than `iou`, the likeliest first.

    >>> some = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [1, 0, 10, 9]], np.float32)
    >>> suppress(some, np.array([0.5, 0.7, 0.9], np.float32), 0.5).tolist()
    [2, 1]
    """
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        over = _overlaps(boxes[left[:_TOGETHER]], boxes[left], iou)
        gone = np.zeros(len(left), bool)
        for number, others in enumerate(over):
            if not gone[number]:
                kept.append(left[number])
                gone |= others
        left = left[_TOGETHER:][~gone[_TOGETHER:]]
    return np.array(kept, np.int64)


def _overlaps(some: Floats, others: Floats, iou: float) -> NDArray[np.bool_]:
    """Tell which boxes (n, 4) overlap which others (m, 4) by more than `iou`, shape (n, m)."""
    one, two = some.T[:, :, None], others.T[:, None]
    across = np.minimum(one[2], two[2]) - np.maximum(one[0], two[0])
    down = np.minimum(one[3], two[3]) - np.maximum(one[1], two[1])
    common = np.maximum(across, 0) * np.maximum(down, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return np.asarray(common > iou * (areas[0] + areas[1] - common))


def choose(
    regions: Floats, logits: Floats, moves: Floats, size: tuple[int, int], how: Instances
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return the boxes of objects, their scores, and the channels of their classes, the likeliest first."""
    chances = softmax(logits)
    kept = []
    for number in range(1, chances.shape[1]):
        score = chances[:, number]
        box = clip(move(regions, moves[:, 4 * number : 4 * number + 4], BOX_WEIGHTS), size)
        good = (score > how.least_score) & ((box[:, 2:] - box[:, :2]) >= 1e-2).all(axis=1)
        chosen = np.flatnonzero(good)[suppress(box[good], score[good], how.box_iou)]
        kept.append((box[chosen], score[chosen], np.full(len(chosen), number)))
    box, score, channel = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    best = np.argsort(-score, kind="stable")[: how.objects]
    return box[best], score[best], channel[best]


def cut_out(features: Sequence[Floats], regions: Floats, side: int) -> Floats:
    """Cut regions out of features: RoIAlign with four samples a cell, at the level that suits their size.

    Parameters
    ----------
    features : sequence of ndarray of float32, shape (1, rows, cols, channels)
    regions : ndarray of float32, shape (n, 4)
        In pixels of the tile: (x1, y1, x2, y2).
    side : int
        Cells of each region.

    Returns
    -------
    ndarray of float32, shape (n, side, side, channels)
        Columns first, then rows: as they come, without a copy.
    """
    sides = np.sqrt(np.prod(regions[:, 2:] - regions[:, :2], axis=1))
    depth = np.floor(2 + np.log2(np.maximum(sides, 1e-6) / _CANONICAL) + 1e-6)
    level = np.clip(depth, 0, len(features) - 1).astype(np.int64)
    cut = np.empty((len(regions), side, side, features[0].shape[-1]), np.float32)
    for number in np.unique(level).tolist():
        which, ground = np.flatnonzero(level == number), features[number][0]
        places = regions[which] / np.float32(STRIDES[number])
        rows, down = _samples(places[:, 1], places[:, 3], side, ground.shape[0])
        cols, across = _samples(places[:, 0], places[:, 2], side, ground.shape[1])
        for region, row, col, one, two in zip(which.tolist(), rows, cols, down, across, strict=True):
            # Small products, one for each row and then for each column: BLAS would share out large ones
            # among threads that wait for each other longer than they work.
            part = two[:, : col.stop - col.start] @ ground[row, col]
            np.matmul(one[:, : row.stop - row.start], part.transpose(1, 0, 2), out=cut[region])
    return cut


def _samples(starts: Floats, stops: Floats, side: int, limit: int) -> tuple[list[slice], Floats]:
    """Return which pixels of an axis regions are sampled from, and the share of each in every cell.

    Two samples a cell, each linear between the centres of two pixels, as torchvision takes them.
    """
    sizes = np.maximum(stops - starts, 1)[:, None]
    places = starts[:, None] + (np.arange(2 * side, dtype=np.float32) + np.float32(0.5)) * sizes / (2 * side)
    inside = (places >= -1) & (places <= limit)
    places = np.clip(places, 0, limit - 1)
    first, last = places[:, 0].astype(np.int64), np.ceil(places[:, -1]).astype(np.int64)
    away = (places - first[:, None])[:, :, None] - np.arange((last - first).max() + 1, dtype=np.float32)
    shares = np.maximum(0, 1 - np.abs(away)) * inside[:, :, None]
    spans = [slice(start, stop + 1) for start, stop in zip(first.tolist(), last.tolist(), strict=True)]
    return spans, np.asarray((shares[:, ::2] + shares[:, 1::2]) * np.float32(0.5), np.float32)


def paint(found: Iterable[Detection], labels: Sequence[int], size: tuple[int, int]) -> Floats:
    """Return where objects are found, as a semantic model would say it: scores, where their masks reach.

    Parameters
    ----------
    labels : sequence of int
        Class ids, in the order of the channels after that of the background.
    size : (rows, cols)

    Returns
    -------
    ndarray of float32, shape (1 + classes, rows, cols)
    """
    chances = np.zeros((1 + len(labels), *size), np.float32)
    for one in found:
        part = chances[1 + labels.index(one.label)][one.window.slices]
        np.maximum(part, np.where(one.values >= HALF, np.float32(one.score), 0), out=part)
    chances[0] = 1 - chances[1:].max(axis=0)
    return chances


def paste(shape: Floats, box: Floats, size: tuple[int, int]) -> tuple[Window, NDArray[np.uint8]]:
    """Return the pixels of a tile that a mask covers, and its values there, interpolated at their centres.

    Parameters
    ----------
    shape : ndarray of float32, shape (k, k)
        Probabilities over the box.
    box : ndarray of float32, shape (4,)
        In pixels of the tile: (x1, y1, x2, y2).
    size : (rows, cols)
        Of the tile.
    """
    x1, y1, x2, y2 = (float(edge) for edge in box)
    spans, shares = [], []
    for start, stop, limit, count in ((y1, y2, size[0], shape.shape[0]), (x1, x2, size[1], shape.shape[1])):
        first, last = max(0, math.floor(start - 0.5)), min(limit, math.ceil(stop + 0.5))
        first = min(first, limit - 1)
        places = (np.arange(first, max(last, first + 1)) + 0.5 - start) / max(
            stop - start, 1e-3
        ) * count - 0.5
        spans.append((first, len(places)))
        # Linear between the centres of the mask's cells, 0 beyond them.
        shares.append(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(count))).astype(np.float32))
    values = shares[0] @ shape @ shares[1].T
    window = Window(spans[0][0], spans[1][0], spans[0][1], spans[1][1])
    return window, np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
