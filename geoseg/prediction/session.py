"""Running predictions: scenes, a model and options become files."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from geoseg.errors import InvalidOption, UnwritableOutput
from geoseg.files import check_writable
from geoseg.grid import TileGrid
from geoseg.prediction.blocks import BlockResult, Tally
from geoseg.prediction.decide import Decision, Model, decide
from geoseg.prediction.journal import Journal
from geoseg.prediction.options import AUTO, PredictOptions
from geoseg.prediction.plan import Plan
from geoseg.prediction.report import Event, Planned, Progress, RunReport, peak_memory
from geoseg.prediction.resources import memory_use
from geoseg.prediction.schedulers import Scheduler
from geoseg.prediction.tasks import TASKS, DrawingSink, Merger
from geoseg.values import GeoBox, LayerSchema, ProbabilityBlock

if TYPE_CHECKING:
    from geoseg.raster.sink import RasterSink
    from geoseg.vector.shape import ShapeRules
    from geoseg.vector.shaper import FeatureSink, Shaper

SHARED = ("model", "backend", "device", "precision", "tta", "workers", "scheduler")
"""Options that are those of a session; all others are a scene's own."""


class BlockSink(Protocol):
    """Where blended probabilities go."""

    def write(self, block: ProbabilityBlock) -> None:
        """Take a block; blocks are disjoint."""


def ignore(_event: Event) -> None:
    """Do nothing with an event."""


class Session(contextlib.AbstractContextManager["Session"]):
    """A model and a scheduler that are opened once, for any number of scenes, one after the other.

    Both are opened when the first scene needs them; leaving the session closes them.

    Parameters
    ----------
    options : PredictOptions
        Those named in `SHARED` hold for the session, the others for scenes that bring none of their own.
    model : Model, optional
        That is open already; it must be the one that the options name.
    client : distributed.Client, optional
        Of a cluster that works the blocks of all scenes; it stays open.
    """

    def __init__(self, options: PredictOptions, model: Model | None = None, client: Any = None) -> None:
        self._options = options
        self._model = model or Model(options)
        self._scheduler = Scheduler(client)

    def __exit__(self, *_: object) -> None:
        self._scheduler.close()

    def decide(
        self, source: str | os.PathLike[str], options: PredictOptions | None = None, out: Path | None = None
    ) -> Decision:
        """Decide the run of a scene, see `geoseg.prediction.decide.decide`."""
        return decide(source, self._options_of(options), self._model, out)

    def predict(
        self,
        source: str | os.PathLike[str],
        out: Path,
        options: PredictOptions | None = None,
        on_event: Callable[[Event], None] = ignore,
        staging: Callable[[Path], Path] | None = None,
    ) -> RunReport:
        """Predict one scene and write its polygons, see `predict_scene`.

        Parameters
        ----------
        staging : callable, optional
            Says where the file of an output is written, for others to move into its place; the journal
            lies beside that place all the same, and stays until then.
        """
        from geoseg.raster.scene import close_scene
        from geoseg.vector.order import SortedSink
        from geoseg.vector.sink import VectorSink

        started = time.monotonic()
        options = self._options_of(options)
        check_outputs(source, out, options)
        decision = decide(source, options, self._model, out)
        plan = decision.plan
        staged = staging or Path
        # Of many scenes, one that is a single block begins again: it costs less than a record of it.
        single = staging is not None and plan.tiles.block_shape == (1, 1)
        journal = Journal.beside(out, plan.digest) if options.resume and not single else None
        known = journal.begin() if journal else 0
        with contextlib.ExitStack() as stack:
            stack.callback(close_scene, plan.scene)
            if journal is not None:
                stack.enter_context(journal.kept())
            on_event(Planned(plan, decision.remarks, known, resumable=journal is not None))
            # Inference begins while what writes is loaded and the output is opened.
            work = replace(decision.work, journal=journal)
            stream = stack.enter_context(self._scheduler.results(work, decision.resources))
            load_writers()
            vector = stack.enter_context(VectorSink(staged(out), plan.schema, overwrite=options.overwrite))
            raster = None
            if options.raster is not None:
                raster = stack.enter_context(_raster_sink(plan, options, staged(options.raster)))
            folder = staged(out).absolute().parent if journal is None else journal.folder
            drawn = DrawingSink(plan, vector, raster) if raster and plan.task == "instance" else None
            with SortedSink(drawn or vector, plan.schema, folder) as ordered:
                merger = TASKS[plan.task].merger(plan)
                shaper, tally = feed_sinks(plan.layer, merger, stream, ordered, raster, on_event)
            if drawn is not None:
                drawn.finish()
            files = tuple(map(str, filter(None, (out, options.raster))))
            report = _report(decision, shaper, tally, known, files)
            vector.set_metadata(layer_metadata(report))
        if journal is not None and staging is None:
            journal.remove()
        return replace(report, seconds=time.monotonic() - started, peak_memory=peak_memory())

    def _options_of(self, options: PredictOptions | None) -> PredictOptions:
        """Return the options of a scene."""
        if options is None:
            return self._options
        for name in SHARED:
            here, there = getattr(self._options, name), getattr(options, name)
            if here != there:
                raise InvalidOption(f"{name} {there}: this session was opened with {here}; open another")
        return options


def _report(
    decision: Decision, shaper: Shaper, tally: Tally, known: int, files: tuple[str, ...]
) -> RunReport:
    """Return what a run came to, but for its time."""
    return RunReport(
        decision.plan,
        decision.remarks,
        shaper.features,
        shaper.area_m2,
        tally,
        files=files,
        alone=decision.resources.alone,
        planned_memory=sum(memory_use(decision.plan, decision.resources).values()),
        blocks_known=known,
        deviation_px=shaper.deviation_px,
    )


def predict_scene(
    source: str | os.PathLike[str],
    out: Path,
    options: PredictOptions,
    on_event: Callable[[Event], None] = ignore,
) -> RunReport:
    """Predict one scene and write its polygons.

    Parameters
    ----------
    source : path or URL
        A raster: GeoTIFF, VRT, JPEG 2000 and others, see ``docs/predict.md``.
    out : Path
        Vector file; its suffix names the format.
    on_event : callable
        Called with `Planned` before the work, and with `Progress` after every block.

    Returns
    -------
    RunReport
        Tiles that could not be read are named in it; everything else was done.

    Raises
    ------
    GeosegError
        For every foreseeable failure, before any work where that is possible.
    """
    with Session(options) as session:
        return session.predict(source, out, on_event=on_event)


def check_outputs(source: str | os.PathLike[str], out: Path | None, options: PredictOptions) -> None:
    """Refuse, before any work, outputs that cannot be written, or that are an input or the other output.

    Raises
    ------
    InvalidOption
        If a suffix is not that of a format, or a path is named twice.
    UnwritableOutput
        If the folder is missing or not writable, or the file exists.
    """
    from geoseg.vector.sink import check_vector_path, written_beside

    raster = options.raster
    if out is not None:
        check_vector_path(out, overwrite=options.overwrite)
    if raster is not None:
        if raster.suffix.lower() not in {".tif", ".tiff"}:
            raise InvalidOption(f"{raster}: --raster writes a GeoTIFF; its name must end in .tif")
        if raster.is_dir():
            raise UnwritableOutput(f"{raster}: is a folder, not a file to replace")
        check_writable(raster, overwrite=options.overwrite)
    outputs = list(filter(None, (out, raster)))
    inputs = [Path(source), Path(options.model), *([options.aoi] if options.aoi else [])]
    for number, path in enumerate(outputs):
        for other in (*inputs, *outputs[:number]):
            if path.absolute() == other.absolute():
                raise InvalidOption(f"{path}: is asked for twice: as output, and as input or other output")
            if path.exists() and other.exists() and path.samefile(other):
                raise InvalidOption(f"{path}: is {other}, which would be replaced by the result")
    for path in () if out is None else written_beside(out):
        for other in filter(os.path.exists, inputs):
            if path.exists() and path.absolute() == other.absolute().with_suffix(path.suffix):
                raise InvalidOption(
                    f"{out}: would replace {path}, which belongs to {other}; choose another name"
                )


def feed_sinks(
    layer: tuple[TileGrid, GeoBox, ShapeRules, LayerSchema],
    merger: Merger,
    stream: Iterable[BlockResult],
    vector: FeatureSink,
    raster: BlockSink | None = None,
    on_event: Callable[[Event], None] = ignore,
) -> tuple[Shaper, Tally]:
    """Feed the sinks with the results of all blocks of a layer as they come in.

    Parameters
    ----------
    layer : tuple of TileGrid, GeoBox, ShapeRules and LayerSchema
        The blocks, the grid that they lie on, how polygons are shaped, and the layer that they are for.
    merger : Merger
        Makes polygons of the pieces that blocks return.

    Returns
    -------
    shaper : Shaper
        Knows how many polygons were written, and their area.
    tally : Tally
    """
    from geoseg.vector.shaper import Frontier, Shaper

    started = time.monotonic()
    tiles, tally, pixels = layer[0], Tally(), 0
    frontier = Frontier(tiles, merger.open_boxes)
    shaper = Shaper(*layer[1:], vector, frontier)
    blocks_total, pixels_total = math.prod(tiles.block_shape), math.prod(tiles.window.shape)
    for number, result in enumerate(stream, 1):
        pieces = merger.add(result.pieces)
        frontier.pass_region(result.block)
        shaper.add(pieces)
        if raster is not None and result.raster is not None:
            raster.write(result.raster)
        tally += result.tally
        pixels += math.prod(tiles.core(result.block).shape)
        on_event(Progress(number, blocks_total, pixels, pixels_total, time.monotonic() - started))
    merger.finish()
    shaper.flush()
    return shaper, tally


def layer_metadata(report: RunReport) -> dict[str, str]:
    """Return what a layer should say about how it came to be.

    Of what could not be read the windows alone: GDAL has other words for the reason on more threads.
    """
    facts, metadata = report.as_json(), {}
    facts["failed"] = [failure["window"] for failure in facts["failed"]]
    for key in "scene", "model", "model_digest", "plan_digest", "coverage", "failed", "warnings", "options":
        metadata[f"geoseg_{key}"] = facts[key] if isinstance(facts[key], str) else json.dumps(facts[key])
    return metadata


def _raster_sink(plan: Plan, options: PredictOptions, path: Path) -> RasterSink:
    from geoseg.raster.sink import RasterSink

    drawn, content = plan.task == "instance", options.raster_content
    if content == AUTO:
        content = "instance" if drawn else "probability"
    return RasterSink(
        path,
        plan.scene.geobox if drawn else plan.grid,
        scene=plan.scene,
        schema=plan.schema,
        rule=plan.rule,
        content=content,
        resolution=options.raster_resolution,
        overwrite=options.overwrite,
        bands=plan.bands,
    )


def load_writers() -> None:
    """Import what writes polygons, which takes half a second, in short turns: no tile is to wait.

    In a thread of its own because extension modules forget a Ctrl-C that arrives while they are
    imported. What fails here fails again, and is told, where it is used.
    """
    with _one_at_a_time:  # or runs side by side would take each other's turns for the usual
        usual = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)  # instead of 5 ms
        try:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(import_module, "pyogrio")
        finally:
            sys.setswitchinterval(usual)


_one_at_a_time = threading.Lock()
