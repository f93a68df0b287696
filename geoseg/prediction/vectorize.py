"""Polygons of a class map or a raster of probabilities that any tool may have made, streamed."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoseg.backends.hardware import usable_cores
from geoseg.errors import InvalidOption
from geoseg.files import check_not_read
from geoseg.grid import Axis, BlockIndex, TileGrid
from geoseg.labels.masks import open_labels
from geoseg.prediction.blocks import BlockResult
from geoseg.prediction.classraster import ClassRaster, VectorizeOptions, inspect_raster
from geoseg.prediction.report import Event, Progress
from geoseg.prediction.resources import LIBRARIES, OUTLINE, PART, WRITING
from geoseg.prediction.session import feed_sinks
from geoseg.prediction.view import PART_MARGIN, shape_rules
from geoseg.raster.environment import BLOCK_CACHE
from geoseg.raster.scene import close_scene
from geoseg.values import LayerSchema
from geoseg.vector.islands import IslandRule, island_rule, without_islands
from geoseg.vector.pieces import Pieces

SIDES = (2048, 1024, 512, 256)
"""Sides of a block in pixels, of which the largest that fits the memory is taken."""

TILE = 256
"""Side of a tile, of which blocks are made: what is split depends on tiles alone, not on the memory."""

BATCH = BLOCK_CACHE + 24_000_000
"""Bytes of GDAL's cache and of what is read beside the blocks."""


@dataclass(frozen=True, slots=True)
class VectorizeReport:
    """What was done; area in m², None without a CRS."""

    raster: str
    file: str
    content: str
    classes: tuple[str, ...]
    features: int
    area_m2: float | None
    seconds: float


def vectorize(
    raster: str | Path,
    out: Path,
    options: VectorizeOptions,
    on_step: Callable[[float], None] = lambda done: None,
) -> VectorizeReport:
    """Make polygons of a raster of classes or probabilities.

    Parameters
    ----------
    out : Path
        Vector file; its suffix names the format.
    on_step : callable
        Called with the share that is done.

    Raises
    ------
    GeosegError
        For every foreseeable failure.
    """
    from geoseg.vector.order import SortedSink
    from geoseg.vector.pieces import Joiner
    from geoseg.vector.sink import VectorSink, check_vector_path, layer_crs

    def told(event: Event) -> None:
        if isinstance(event, Progress):
            on_step(0.25 + 0.75 * event.blocks / event.blocks_total)

    started = time.monotonic()
    check_vector_path(out, overwrite=options.overwrite)
    check_not_read(out, Path(raster))
    scene = open_labels(raster)
    try:
        source = inspect_raster(scene, options, lambda share: on_step(share / 4))
        grid = scene.geobox
        rules = shape_rules(
            options,
            source.outline,
            pixel_m=math.sqrt(math.prod(scene.resolution or (1.0, 1.0))),
            min_area_m2=options.min_area,
            classes=len(source.classes),
        )
        islands = island_rule(rules) if len(source.classes) > 1 else None
        tiles, threads = _blocks(source, islands, options.max_memory)
        crs = layer_crs(options.crs, grid.crs, out) or grid.crs
        facts = {"geoseg_raster": scene.uri, "geoseg_options": json.dumps(options.model_dump(mode="json"))}
        schema = LayerSchema(out.stem, crs, source.classes, facts, rules.metres_per_pixel)
        with (
            VectorSink(out, schema, overwrite=options.overwrite) as sink,
            SortedSink(sink, schema, out.absolute().parent) as ordered,
        ):
            layer = (tiles, grid, without_islands(rules) if islands else rules, schema)
            stream = _traced(source, tiles, islands, threads)
            shaper, _ = feed_sinks(layer, Joiner(grid.shape), stream, ordered, on_event=told)
    finally:
        close_scene(scene)
    names = tuple(info.name for info in source.classes)
    content = "class" if source.scale is None else "probability"
    seconds = time.monotonic() - started
    return VectorizeReport(scene.uri, str(out), content, names, shaper.features, shaper.area_m2, seconds)


def _traced(
    source: ClassRaster, tiles: TileGrid, islands: IslandRule | None, threads: int
) -> Iterator[BlockResult]:
    """Trace blocks on threads, a bounded number ahead; yield them in order."""
    waiting: deque[tuple[BlockIndex, Future[Pieces]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for index in tiles.blocks():
                waiting.append((index, pool.submit(source.trace, tiles, index, islands)))
                if len(waiting) > threads:
                    first, traced = waiting.popleft()
                    yield BlockResult(first, traced.result())
            for first, traced in waiting:
                yield BlockResult(first, traced.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _blocks(source: ClassRaster, islands: IslandRule | None, max_memory: int) -> tuple[TileGrid, int]:
    """Return the largest blocks, and threads for them, that fit the memory.

    Raises
    ------
    InvalidOption
        If the smallest do not.
    """
    height, width = source.scene.geobox.shape
    stored = sum(
        np.dtype(band.read_dtype).itemsize for band in source.scene.bands if band.index in source.bands
    )
    channels, margin = len(source.rule.channels), 1 if source.split is None else PART_MARGIN
    margin = max(margin, islands.reach if islands else 0)
    pixel = 2 * stored + 8 * len(source.bands) * (source.scale is not None) + 4 * channels + 24 + OUTLINE
    fixed = LIBRARIES + WRITING + BATCH + PART * width
    down, across = Axis(height, TILE, 0), Axis(width, TILE, 0)
    for side in SIDES:
        largest = side + TILE  # a lone last tile joins the block before it
        block = math.prod(min(largest, n) + 2 * margin + 6 for n in (height, width))
        for threads in range(min(usable_cores(), 8), 0, -1):
            need = fixed + (threads + 1) * pixel * block
            if need <= max_memory:
                return TileGrid(down, across, side // TILE, margin=margin), threads
    raise InvalidOption(
        f"--max-memory {max_memory / 1e6:.0f}MB: {source.scene.name} needs {need / 1e6:.0f}MB at least"
    )
