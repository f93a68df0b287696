"""What a model needs to see round a pixel: its receptive field, and the overlap at which seams vanish.

Tiles cut the context at their borders; overlap and blending hide that as far as the network does
not look further. So the overlap is measured: a picture of two tiles a side is run whole and in
tiles, blended as `geoseg predict` blends, and the results are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.assessment.compare import probe_picture
from geoseg.assessment.reach import Field, depends_on_extent, field_by_disturbing, field_by_gradient
from geoseg.backends.base import Predictor
from geoseg.backends.hardware import has_torch
from geoseg.backends.select import backends_of, load_predictor
from geoseg.errors import InvalidOption
from geoseg.grid import Axis, BlockIndex, TileGrid, accumulate, blend, classify, split
from geoseg.models.bundle import Bundle
from geoseg.values import CERTAIN, Patch

TOLERANCE = 0.0005
"""Share of the pixels whose class may differ between tiled and whole: 0.05 %."""

STEP = 32
"""Overlaps are tried in multiples of the coarsest stride of the encoders."""

_FASTEST_FIRST = ("openvino", "onnx", "pytorch")
_LEAST_FOUND = 0.001


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a tiled result differs from the whole one."""

    overlap: int
    """Pixels."""
    largest: float
    tail: float
    mean: float
    """`largest`, `tail`, `mean`: Largest difference in probability, its 99.9th percentile, its mean."""
    moved: float
    """Share of the pixels whose class differs."""


@dataclass(frozen=True, slots=True)
class Context:
    """What was measured; None is unknown."""

    tile: int
    """Side of the tiles, in pixels."""
    field: Field | None
    """The effective receptive field."""
    depends_on_extent: bool | None
    """Whether pixels however far away matter; see `geoseg.assessment.reach`."""
    agreements: tuple[Agreement, ...] = ()
    """By overlap, from 0 to half a tile; none if tiled and whole were not compared."""
    problem: str = ""
    """Why there is no smallest overlap; empty if there is."""

    @property
    def smallest_overlap(self) -> int | None:
        """The smallest overlap from which on tiled and whole agree within `TOLERANCE`."""
        if self.problem:
            return None
        bad = [found.overlap for found in self.agreements if found.moved > TOLERANCE]
        good = [found.overlap for found in self.agreements if not bad or found.overlap > max(bad)]
        return min(good, default=None)

    @property
    def properties(self) -> Mapping[str, object]:
        """The fields of the card that this fills; None is unknown. What was not compared is left out."""
        overlap = {"geoseg:smallest_overlap": self.smallest_overlap} if self.agreements else {}
        return {
            "geoseg:receptive_field_px": None if self.field is None else list(self.field.radii),
            "geoseg:depends_on_extent": self.depends_on_extent,
        } | overlap


def measure_context(
    bundle: Bundle,
    picture: Patch | None = None,
    *,
    on_step: Callable[[float], None] = lambda done: None,
) -> Context:
    """Measure the receptive field and the smallest overlap of a model, in float32 where it can.

    Parameters
    ----------
    bundle : Bundle
        The model; its card says how large tiles are.
    picture : Patch, optional
        Imagery as the model knows it, at its resolution and in its dtype, of at least two tiles a
        side; more is cut off. None: the field is measured on a made-up picture, in which a trained
        model finds nothing to compare, so tiled and whole are not compared.
    on_step : callable
        Told the share that is done, 0 … 1.

    Raises
    ------
    InvalidOption
        If the picture is too small.
    InvalidModel, BackendUnavailable
        If the model cannot be run.
    """
    card = bundle.card
    pixels = _prepare(bundle, probe_picture(card.inputs, 2 * card.tile) if picture is None else picture)
    predict = _exact_predictor(bundle)
    size = card.tile
    corners = [pixels[:, row : row + size, col : col + size] for row in (0, size) for col in (0, size)]
    field = _field(bundle, predict, np.stack(corners))
    on_step(0.2)
    depends = depends_on_extent(bundle)
    if card.fixed_tile:
        problem = f"the model takes tiles of {size} only, so nothing can be run whole"
        return Context(size, field, depends, problem=problem)
    if picture is None:
        return Context(size, field, depends, problem="needs imagery; give --scene FILE")
    agreements, found = _agreements(bundle, predict, pixels, lambda done: on_step(0.2 + 0.8 * done))
    problem = ""
    if not _LEAST_FOUND < found < 1 - _LEAST_FOUND:
        problem = f"{found:.1%} of the picture are in a class: nothing to compare; give another --scene"
    return Context(size, field, depends, agreements, problem)


def tiled(predict: Predictor, pixels: NDArray[np.float32], tile: int, overlap: int) -> NDArray[np.uint16]:
    """Predict a prepared picture in tiles and blend them as a run does.

    Parameters
    ----------
    pixels : ndarray of float32, shape (bands, rows, cols)
        At least a tile a side.
    tile, overlap : int
        Pixels.

    Returns
    -------
    ndarray of uint16, shape (channels, rows, cols)
    """
    rows, cols = (Axis(n, tile, overlap) for n in pixels.shape[1:])
    grid, block = TileGrid(rows, cols, max(len(rows), len(cols))), BlockIndex(0, 0)
    sums: NDArray[np.uint32] | None = None
    for part in grid.tiles(block):
        values = predict(pixels[None, :, *part.window.within(grid.window)])[0]
        if sums is None:
            sums = np.zeros((len(values), *grid.window.shape), np.uint32)
        accumulate(sums, grid.window, grid, part, values)
    assert sums is not None
    valid = np.ones(grid.window.shape, bool)
    return blend(grid, block, [split(sums, valid, grid, block)[block]]).values


def _agreements(
    bundle: Bundle, predict: Predictor, pixels: NDArray[np.float32], on_step: Callable[[float], None]
) -> tuple[tuple[Agreement, ...], float]:
    """Compare every overlap with the whole; also return the share of pixels that is in a class."""
    rule, tile = bundle.card.rule, bundle.card.tile
    whole = predict(pixels[None])[0]
    classes = classify(whole, rule)
    overlaps = range(0, tile // 2 + 1, STEP)
    found = []
    for number, overlap in enumerate(overlaps):
        values = tiled(predict, pixels, tile, overlap)
        difference = np.abs(values.astype(np.int32) - whole).max(axis=0) / CERTAIN
        tail, moved = np.quantile(difference, 0.999), (classify(values, rule) != classes).mean()
        found.append(
            Agreement(overlap, float(difference.max()), float(tail), float(difference.mean()), float(moved))
        )
        on_step((number + 1) / len(overlaps))
    return tuple(found), float((classes > 0).mean())


def _prepare(bundle: Bundle, patch: Patch) -> NDArray[np.float32]:
    inputs, side = bundle.card.inputs, 2 * bundle.card.tile
    bands, rows, cols = patch.pixels.shape
    if bands != len(inputs.bands) or min(rows, cols) < side:
        raise InvalidOption(
            f"measuring overlaps needs {len(inputs.bands)} bands and {side} × {side} pixels at the model's "
            f"resolution, not {bands} bands and {rows} × {cols}"
        )
    top, left = (rows - side) // 2, (cols - side) // 2
    part = (slice(top, top + side), slice(left, left + side))
    return inputs.prepare(Patch(patch.pixels[:, *part], patch.valid[part]))


def _exact_predictor(bundle: Bundle) -> Predictor:
    """Load the model where it computes in float32, so that only the tiling differs."""
    backend = next(name for name in _FASTEST_FIRST if name in backends_of(bundle))
    return load_predictor(bundle, backend=backend, device="cpu", precision="f32")


def _field(bundle: Bundle, predict: Predictor, tiles: NDArray[np.float32]) -> Field:
    if "pytorch" not in backends_of(bundle) or not has_torch():
        return field_by_disturbing(predict, tiles)
    from geoseg.backends import architectures

    return field_by_gradient(architectures.load(bundle.path).requires_grad_(False), tiles)
