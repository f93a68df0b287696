"""What training a Mask R-CNN needs of its own: objects of a sample, regions of their size.

Each polygon is an object (`geoseg.labels.footprints.OBJECT`); in masks of classes, what is connected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import OBJECT, Footprints
from geoseg.training.data.ground import Ground, PictureGround, SceneGround
from geoseg.training.data.sampler import Sampler
from geoseg.training.recipe import ModelSpec
from geoseg.training.task import SegmentationTask, normalize

SMALLEST = 4
"""Pixels that an object has at least to be looked for."""

_SAMPLES = 100
"""Samples that the sizes of objects are taken from."""


class InstanceTask(SegmentationTask):
    """Trains a `geoseg.backends.maskrcnn.MaskRCNN` on the objects of samples."""

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _number: int) -> torch.Tensor:
        """Return the loss of a batch."""
        pixels, labels = batch
        self._before = [buffer.clone() for buffer in self.network.buffers()]
        targets = [targets_of(one.cpu().numpy(), pixels.device) for one in labels]
        with torch.autocast(pixels.device.type, enabled=False):
            loss: torch.Tensor = self.network.losses(normalize(pixels), targets)  # type: ignore[operator]
        return loss


def numbered(grounds: Iterable[Ground]) -> list[Ground]:
    """Return grounds whose polygons are drawn as objects, each of its own, however they lie."""
    parted: dict[int, Footprints] = {}  # the blocks of a scene share their polygons

    def objects(labels: Any) -> Any:
        if not isinstance(labels, Footprints):
            return labels
        if id(labels) not in parted:
            parted[id(labels)] = replace(labels, gap_m=0.0, objects=True)
        return parted[id(labels)]

    def one(ground: Ground) -> Ground:
        if isinstance(ground, SceneGround):
            return replace(ground, labels=objects(ground.labels))
        assert isinstance(ground, PictureGround)
        return replace(ground, footprints=objects(ground.footprints))

    return [one(ground) for ground in grounds]


def objects_of(
    labels: NDArray[np.uint8] | NDArray[np.int32],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the masks (n, rows, cols) and the classes (n,) of the objects in labels (rows, cols).

    Where labels number no object, one is what is connected.

    >>> labels = np.zeros((4, 9), np.int32)
    >>> labels[:, :2], labels[:, 3:6], labels[:, 6:] = 1, 1 + OBJECT, 1 + 2 * OBJECT
    >>> labels[1:3, 7] = 2 + 3 * OBJECT
    >>> masks, kinds = objects_of(labels)
    >>> masks.sum(axis=(1, 2)).tolist(), kinds.tolist()
    ([12, 10, 8], [1, 1, 1])
    """
    from rasterio.features import rasterize, shapes

    labels = labels.astype(np.int32)
    plain = (labels != 0) & (labels < IGNORE)
    if plain.any():
        first = labels.max() // OBJECT + 1
        found = shapes(labels, mask=plain, connectivity=4)
        parts = ((shape, int(value) + OBJECT * number) for number, (shape, value) in enumerate(found, first))
        rasterize(parts, out=labels)
    values = np.unique(labels[labels > IGNORE])
    masks = (labels == values[:, None, None]).astype(np.uint8)
    large = masks.sum(axis=(1, 2)) >= SMALLEST
    return masks[large], values[large].astype(np.int64) % OBJECT


def targets_of(labels: NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
    """Return the objects of a sample as torchvision's detectors take them."""
    masks, kinds = objects_of(labels)
    targets = {"boxes": _boxes(masks), "labels": kinds, "masks": masks}
    return {name: torch.from_numpy(value).to(device) for name, value in targets.items()}


def _boxes(masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the boxes (x1, y1, x2, y2) of masks, shape (n, 4)."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[:] = across[0], down[0], across[-1] + 1, down[-1] + 1
    return boxes


def boxes_of(sampler: Sampler, seed: int) -> list[NDArray[np.float32]]:
    """Return the boxes (n, 4) of the objects of each of some training samples."""
    rng = np.random.default_rng(seed)
    return [_boxes(objects_of(sampler.draw(rng)[1].numpy())[0]) for _ in range(_SAMPLES)]


def sizes_of(boxes: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the longer sides of objects, in ascending order.

    Raises
    ------
    InvalidOption
        If there is none.
    """
    sides = np.concatenate([box[:, 2:] - box[:, :2] for box in boxes])
    if not len(sides):
        raise InvalidOption(f"the labels hold no object of {SMALLEST} pixels: there is nothing to be found")
    return np.sort(sides.max(axis=1).astype(np.float64))


def fit_anchors(spec: ModelSpec, sizes: NDArray[np.float64]) -> ModelSpec:
    """Return what a recipe says of a network with regions of the sizes of objects, unless it says which.

    Each of the five levels looks at regions twice the size of those before it; the smallest are those
    that a tenth of all objects do not reach.

    >>> fit_anchors(ModelSpec(arch="maskrcnn"), np.arange(10.0, 60.0)).details["anchors"]
    [15.0, 30.0, 60.0, 120.0, 240.0]
    """
    if "anchors" in spec.details or spec.start:
        return spec
    smallest = max(4.0, float(round(np.quantile(sizes, 0.1))))
    anchors = [smallest * 2**level for level in range(5)]
    return spec.model_copy(update={"details": {**spec.details, "anchors": anchors}})
