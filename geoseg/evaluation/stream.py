"""Walking over the grid window by window: pixel counts by block, outlines of rasters, worst tiles."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.evaluation.inputs import Inputs
from geoseg.evaluation.layers import PolygonLayer
from geoseg.metrics import confusion_matrix
from geoseg.metrics.pixels import BINS, LEVELS, fold, inner_band, level_histogram
from geoseg.values import CERTAIN, ClassRule, GeoBox, ProbabilityBlock, Window

if TYPE_CHECKING:
    from geoseg.vector.pieces import Piece

STEP = 2048
"""Side of the windows that are read at a time: what is in memory does not grow with the scene."""

TILE = 256
"""Side of the tiles of which the worst are shown; divides `STEP`."""

WORST = 12
"""So many are kept."""

Ids = NDArray[np.uint8]
Known = NDArray[np.bool_]
Counts = NDArray[np.int64]
Key = tuple[int, int]


@dataclass(eq=False, slots=True)
class BlockCounts:
    """What is counted in one block; n classes without the background."""

    pixels: Counts
    """int64, shape (n + 1, n + 1). Row the true class, column the predicted one."""
    boundary: Counts
    """int64, shape (n, 2). Intersection and union of the bands."""
    bins: Counts
    """int64, shape (n, BINS, 3). See `geoseg.metrics.pixels.fold`."""

    @classmethod
    def empty(cls, classes: int) -> BlockCounts:
        """Return counts of nothing."""
        sizes = ((classes + 1, classes + 1), (classes, 2), (classes, BINS, 3))
        return cls(*(np.zeros(size, np.int64) for size in sizes))


@dataclass(frozen=True, slots=True, order=True)
class TileErrors:
    """What is wrong in a tile; the larger the worse."""

    wrong: int
    false: int
    missed: int
    right: int
    window: Window


@dataclass(eq=False, slots=True)
class Tally:
    """All that the walk collects."""

    histogram: Counts
    """int64, shape (n, LEVELS, 2). Of all probabilities."""
    blocks: dict[Key, BlockCounts] = field(default_factory=dict)
    """Counts by row and column of the block."""
    truth: list[tuple[int, shapely.Polygon]] = field(default_factory=list)
    prediction: list[tuple[int, shapely.Polygon]] = field(default_factory=list)
    """`truth`, `prediction`: Traced outlines of what is a raster, in pixels of the grid."""
    unknown: list[shapely.Polygon] = field(default_factory=list)
    """Where nothing is known, cut at the windows."""
    worst: list[TileErrors] = field(default_factory=list)
    unknown_pixels: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One window with its margin, everything read."""

    core: Window
    window: Window
    """`core`, `window`: What this step counts, and what the arrays cover."""
    truth: Ids
    prediction: Ids
    """`truth`, `prediction`: uint8. Numbers of classes: 0 the background, 1 … n in the order of the classes;
    the rest as in `Compared`."""
    known: Known
    levels: Ids | None


def walk(
    inputs: Inputs,
    block: tuple[int, int],
    band: tuple[int, int],
    *,
    step: int = STEP,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Tally:
    """Compare truth and prediction over the whole grid.

    Parameters
    ----------
    block : tuple of int
        Rows and columns of a block.
    band : tuple of int
        Width of the band of boundary IoU in pixels along rows and columns.
    step : int
        Side of the windows; it changes no figure, and is a multiple of `TILE`.
    on_step : callable
        Called with the windows done and their number.
    """
    count = len(inputs.classes)
    tally = Tally(np.zeros((count, LEVELS, 2), np.int64))
    tracers = [
        (None if isinstance(layer, PolygonLayer) else Tracer(inputs.grid, count), found)
        for layer, found in ((inputs.truth, tally.truth), (inputs.prediction, tally.prediction))
    ]
    cores = list(_parts(inputs.grid.window, (step, step)))
    for done, core in enumerate(cores, 1):
        frame = _read(inputs, core, (band[0] + 1, band[1] + 1))
        _count_pixels(inputs, frame, block, tally)
        _count_bands(frame, block, band, count, tally)
        _rank_tiles(frame, tally)
        for (tracer, found), labels in zip(tracers, (frame.truth, frame.prediction), strict=True):
            if tracer is not None:
                found += [(piece.label, piece.polygon) for piece in tracer.add(core, frame.window, labels)]
        tally.unknown += _outline_unknown(frame)
        on_step(done, len(cores))
    for tracer, _ in tracers:
        if tracer is not None:
            tracer.joiner.finish()
    tally.worst.sort(reverse=True)
    return tally


@dataclass(eq=False)
class Tracer:
    """Traces a map of classes along exact pixel edges, window by window, into whole polygons."""

    grid: GeoBox
    classes: int

    def __post_init__(self) -> None:
        from geoseg.vector.pieces import Joiner

        self.joiner = Joiner(self.grid.shape)
        self._rule = ClassRule(tuple(range(1, self.classes + 1)), 0.5)

    def add(self, region: Window, window: Window, labels: Ids) -> list[Piece]:
        """Take a region, its labels with a pixel of margin, and return what is complete now."""
        from geoseg.vector.trace import trace

        outer = Window(region.row - 1, region.col - 1, region.height + 2, region.width + 2)
        field_window = outer.intersection(self.grid.window)
        inside = labels[field_window.within(window)]
        if not inside.any():
            return []
        values = np.stack([np.where(inside == label, CERTAIN, 0) for label in self._rule.channels])
        block = ProbabilityBlock(field_window, values.astype(np.uint16), np.ones(inside.shape, bool))
        return self.joiner.add(trace(block, region, self.grid.shape, self._rule, "pixel"))


def _parts(window: Window, size: tuple[int, int]) -> Iterator[Window]:
    """Cut a window along the lines of a regular grid that starts at the grid's corner."""
    height, width = size
    for row in range(window.row // height * height, window.row_stop, height):
        for col in range(window.col // width * width, window.col_stop, width):
            yield Window(row, col, height, width).intersection(window)


def _read(inputs: Inputs, core: Window, margin: tuple[int, int]) -> Frame:
    down, across = margin
    outer = Window(core.row - down, core.col - across, core.height + 2 * down, core.width + 2 * across)
    window = outer.intersection(inputs.grid.window)
    numbers = np.zeros(256, np.uint8)
    for number, info in enumerate(inputs.classes, 1):
        numbers[info.id] = number
    found = inputs.read(window)
    return Frame(core, window, numbers[found.truth], numbers[found.prediction], found.known, found.levels)


def _count_pixels(inputs: Inputs, frame: Frame, block: tuple[int, int], tally: Tally) -> None:
    numbers = {info.id: number for number, info in enumerate(inputs.classes)}
    rated = () if inputs.probability is None else inputs.probability.ids
    tally.unknown_pixels += int(np.count_nonzero(~frame.known[frame.core.within(frame.window)]))
    for part in _parts(frame.core, block):
        place = part.within(frame.window)
        known = frame.known[place]
        if not known.any():
            continue
        counts = _counts_at(tally, part.row // block[0], part.col // block[1], len(numbers))
        truth = frame.truth[place][known]
        counts.pixels += confusion_matrix(truth, frame.prediction[place][known], len(numbers) + 1)
        if frame.levels is not None:
            for levels, class_id in zip(frame.levels, rated, strict=True):
                number = numbers[class_id]
                found = level_histogram(levels[place][known], truth == number + 1)
                tally.histogram[number] += found
                counts.bins[number] += fold(found)


def _count_bands(
    frame: Frame, block: tuple[int, int], band: tuple[int, int], count: int, tally: Tally
) -> None:
    """Count the bands' intersection and union; what is unknown is no outline."""
    for number in range(count):
        masks = (frame.truth == number + 1, frame.prediction == number + 1)
        if not any(mask.any() for mask in masks):
            continue
        one, two = (inner_band(mask | ~frame.known, band) & mask & frame.known for mask in masks)
        for part in _parts(frame.core, block):
            place = part.within(frame.window)
            union = int(np.count_nonzero(one[place] | two[place]))
            if union:
                counts = _counts_at(tally, part.row // block[0], part.col // block[1], count)
                counts.boundary[number] += int(np.count_nonzero(one[place] & two[place])), union


def _counts_at(tally: Tally, row: int, col: int, count: int) -> BlockCounts:
    return tally.blocks.setdefault((row, col), BlockCounts.empty(count))


def _rank_tiles(frame: Frame, tally: Tally) -> None:
    for part in _parts(frame.core, (TILE, TILE)):
        place = part.within(frame.window)
        known, truth, prediction = frame.known[place], frame.truth[place], frame.prediction[place]
        false = int(np.count_nonzero(known & (truth == 0) & (prediction > 0)))
        missed = int(np.count_nonzero(known & (truth > 0) & (prediction == 0)))
        differ = int(np.count_nonzero(known & (truth != prediction)))
        right = int(np.count_nonzero(known & (truth > 0) & (truth == prediction)))
        if differ:
            heapq.heappush(tally.worst, TileErrors(differ, false, missed, right, part))
            if len(tally.worst) > WORST:
                heapq.heappop(tally.worst)


def _outline_unknown(frame: Frame) -> list[shapely.Polygon]:
    """Return polygons over the core's unknown pixels, in pixels of the grid."""
    core = frame.core
    unknown = ~frame.known[core.within(frame.window)]
    if not unknown.any():
        return []
    if unknown.all():
        return [shapely.box(core.col, core.row, core.col_stop, core.row_stop)]
    small = Tracer(GeoBox(*core.shape, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None), 1)
    whole = Window(0, 0, *core.shape)
    shift = np.array([core.col, core.row], np.float64)
    pieces = [piece.polygon for piece in small.add(whole, whole, unknown.astype(np.uint8))]
    return [shapely.transform(polygon, lambda points: points + shift) for polygon in pieces]
