"""Running predictions: scenes, a model and options become files."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from geoseg.errors import InvalidOption, UnwritableOutput
from geoseg.files import check_writable
from geoseg.prediction.blocks import BlockResult, Tally
from geoseg.prediction.decide import Decision, Model, decide
from geoseg.prediction.journal import Journal
from geoseg.prediction.memory import memory_use
from geoseg.prediction.options import AUTO, PredictOptions
from geoseg.prediction.plan import Plan
from geoseg.prediction.report import Event, Planned, Progress, RunReport, peak_memory
from geoseg.prediction.schedulers import Scheduler
from geoseg.prediction.tasks import DrawingSink, task_of
from geoseg.values import ProbabilityBlock

if TYPE_CHECKING:
    from geoseg.raster.sink import RasterSink
    from geoseg.vector.shaper import FeatureSink, Shaper

SHARED = ("model", "backend", "device", "precision", "tta", "workers", "scheduler")
"""Options that are those of a session; all others are a scene's own."""


class BlockSink(Protocol):
    """Where blended probabilities go."""

    def write(self, block: ProbabilityBlock) -> None:
        """Take a block; blocks are disjoint."""


def ignore(_event: Event) -> None:
    """Do nothing with an event."""


def in_place(path: Path) -> Path:
    """Return the path: an output is written where it is to be."""
    return path


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

    def results(
        self, decision: Decision, journal: Journal | None = None
    ) -> contextlib.AbstractContextManager[Iterator[BlockResult]]:
        """Begin the work that was decided and yield the iterator of block results."""
        return self._scheduler.results(replace(decision.work, journal=journal), decision.resources)

    def predict(
        self,
        source: str | os.PathLike[str],
        out: Path,
        options: PredictOptions | None = None,
        on_event: Callable[[Event], None] = ignore,
        staging: Callable[[Path], Path] = in_place,
    ) -> RunReport:
        """Predict one scene and write its polygons, see `predict_scene`.

        Parameters
        ----------
        staging : callable
            Says where the file of an output is written, for others to move into its place; the journal
            lies beside that place all the same, and stays until then.
        """
        from geoseg.raster.scene import close_scene
        from geoseg.vector.order import SortedSink
        from geoseg.vector.sink import VectorSink

        started = time.monotonic()
        options = self._options_of(options)
        check_outputs(source, out, options)
        decision = self.decide(source, options, out)
        plan = decision.plan
        # Of many scenes, one that is a single block begins again: it costs less than a record of it.
        single = staging is not in_place and plan.tiles.block_shape == (1, 1)
        journal = Journal.beside(out, plan.digest) if options.resume and not single else None
        known = journal.begin() if journal else 0
        with contextlib.ExitStack() as stack:
            stack.callback(close_scene, plan.scene)
            if journal is not None:
                stack.callback(journal.remove_if_empty)
                stack.enter_context(journal.telling_what_is_kept())
            on_event(Planned(plan, decision.remarks, known, resumable=journal is not None))
            # Inference begins while what writes is loaded and the output is opened.
            stream = stack.enter_context(self.results(decision, journal))
            _load_writers()
            vector = stack.enter_context(VectorSink(staging(out), plan.schema, overwrite=options.overwrite))
            raster = stack.enter_context(_raster_sink(plan, options, staging))
            folder = staging(out).absolute().parent if journal is None else journal.folder
            drawn = DrawingSink(plan, vector, raster) if raster and plan.task == "instance" else None
            with SortedSink(drawn or vector, plan.schema, folder) as ordered:
                shaper, tally = feed_sinks(plan, stream, ordered, raster, on_event)
            if drawn is not None:
                drawn.finish()
            report = RunReport(
                plan,
                decision.remarks,
                shaper.features,
                shaper.area_m2,
                tally,
                files=tuple(map(str, filter(None, (out, options.raster)))),
                alone=decision.resources.alone,
                planned_memory=sum(memory_use(plan, decision.resources).values()),
                blocks_known=known,
                deviation_px=shaper.deviation_px,
            )
            vector.set_metadata(layer_metadata(report))
        if journal is not None and staging is in_place:
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
    plan: Plan,
    stream: Iterable[BlockResult],
    vector: FeatureSink,
    raster: BlockSink | None,
    on_event: Callable[[Event], None] = ignore,
) -> tuple[Shaper, Tally]:
    """Feed the sinks with the results of all blocks of a plan as they come in.

    Returns
    -------
    shaper : Shaper
        Knows how many polygons were written, and their area.
    tally : Tally
    """
    from geoseg.vector.islands import without_islands
    from geoseg.vector.shaper import Frontier, Shaper

    started = time.monotonic()
    merger, tally, pixels = task_of(plan).merger(plan), Tally(), 0
    frontier = Frontier(plan.tiles, merger.open_boxes)
    rules = replace(without_islands(plan.shape_rules, plan.islands), within=plan.aoi)
    shaper = Shaper(plan.grid, rules, plan.schema, vector, frontier)
    blocks_total, pixels_total = math.prod(plan.tiles.block_shape), math.prod(plan.grid.shape)
    for number, result in enumerate(stream, 1):
        pieces = merger.add(result.pieces)
        frontier.pass_region(result.block)
        shaper.add(pieces)
        if raster is not None and result.raster is not None:
            raster.write(result.raster)
        tally += result.tally
        pixels += math.prod(plan.tiles.core(result.block).shape)
        on_event(Progress(number, blocks_total, pixels, pixels_total, time.monotonic() - started))
    merger.finish()
    shaper.flush()
    return shaper, tally


def layer_metadata(report: RunReport) -> dict[str, str]:
    """Return what a layer should say about how it came to be."""
    facts, metadata = report.as_json(), {}
    for key in "scene", "model", "model_digest", "plan_digest", "coverage", "failed", "warnings", "options":
        metadata[f"geoseg_{key}"] = facts[key] if isinstance(facts[key], str) else json.dumps(facts[key])
    return metadata


def _raster_sink(
    plan: Plan, options: PredictOptions, staging: Callable[[Path], Path]
) -> contextlib.AbstractContextManager[RasterSink | None]:
    if options.raster is None:
        return contextlib.nullcontext()
    from geoseg.raster.sink import RasterSink

    drawn, content = plan.task == "instance", options.raster_content
    if content == AUTO:
        content = "instance" if drawn else "probability"
    return RasterSink(
        staging(options.raster),
        plan.scene.geobox if drawn else plan.grid,
        scene=plan.scene,
        schema=plan.schema,
        rule=plan.rule,
        content=content,
        resolution=options.raster_resolution,
        overwrite=options.overwrite,
        bands=plan.bands,
    )


def _load_writers() -> None:
    """Import what writes polygons, which takes half a second.

    In a thread of its own because extension modules forget a Ctrl-C that arrives while they are
    imported. What fails here fails again, and is told, where it is used.
    """

    def load() -> None:
        with contextlib.suppress(Exception):
            import pyogrio  # noqa: F401

    writers = threading.Thread(target=load, daemon=True)
    with short_turns(0.0005):  # the first tiles are not to wait for the interpreter
        writers.start()
        writers.join()


_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def short_turns(seconds: float) -> Iterator[None]:
    """Let Python's threads take shorter turns; usually one may keep the interpreter for 5 ms."""
    with _one_at_a_time:  # or runs side by side would take each other's for the usual
        usual = sys.getswitchinterval()
        sys.setswitchinterval(seconds)
        try:
            yield
        finally:
            sys.setswitchinterval(usual)
