"""Running a prediction: a scene, a model and options become files."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from geoseg.errors import InvalidOption, UnwritableOutput
from geoseg.files import check_writable
from geoseg.prediction.blocks import BlockResult, Tally
from geoseg.prediction.calibration import remember
from geoseg.prediction.journal import Journal
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.outlook import expect
from geoseg.prediction.plan import Plan
from geoseg.prediction.report import Event, Planned, Progress, RunReport, peak_memory
from geoseg.prediction.schedulers import Scheduler
from geoseg.prediction.shaping import FeatureSink, Shaper
from geoseg.prediction.survey import survey
from geoseg.values import ProbabilityBlock


class BlockSink(Protocol):
    """Where blended probabilities go."""

    def write(self, block: ProbabilityBlock) -> None:
        """Take a block; blocks are disjoint."""


def ignore(_event: Event) -> None:
    """Do nothing with an event."""


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
        Any raster that GDAL reads.
    out : Path
        Vector file; its suffix names the format.
    options : PredictOptions
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
    from geoseg.raster.scene import close_scene
    from geoseg.vector.sink import VectorSink, check_vector_path

    started = time.monotonic()
    check_vector_path(out, overwrite=options.overwrite)
    check_raster_path(options)
    check_no_input_is_replaced(source, out, options)
    work, resources = survey(source, options, out)
    plan = work.plan
    journal = Journal.beside(out, plan.digest) if options.resume else None
    known = journal.begin() if journal else 0
    on_event(Planned(plan, known, resumable=journal is not None))
    with contextlib.ExitStack() as stack:
        stack.callback(close_scene, plan.scene)
        if journal is not None:
            stack.callback(journal.remove_if_empty)
        # Inference begins while what writes is loaded and the output is opened.
        stream = stack.enter_context(
            stack.enter_context(Scheduler()).results(work.keeping(journal), resources)
        )
        _load_writers()
        vector = stack.enter_context(VectorSink(out, plan.schema, overwrite=options.overwrite))
        raster = stack.enter_context(_raster_sink(plan, options))
        forecast = expect(work, resources)
        shaper, tally = run_plan(plan, stream, vector, raster, on_event)
        report = RunReport(
            plan,
            shaper.features,
            shaper.area_m2,
            tally,
            _files(out, options),
            alone=resources.alone,
            forecast=forecast,
            blocks_known=known,
            deviation_px=shaper.deviation_px,
        )
        vector.set_metadata(layer_metadata(report))
    if journal is not None:
        journal.remove()
    report = report.closed(time.monotonic() - started, peak_memory())
    remember(report, resources)
    return report


def _load_writers() -> None:
    """Import what writes polygons, which takes half a second.

    In a thread of its own because extension modules forget a Ctrl-C that arrives while they are
    imported. What fails here fails again, and is told, where it is used.
    """

    def load() -> None:
        with contextlib.suppress(Exception):
            import pyogrio  # noqa: F401

    writers = threading.Thread(target=load, daemon=True)
    with _turns_of(0.0005):  # the first tiles are not to wait for the interpreter
        writers.start()
        writers.join()


_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def _turns_of(seconds: float) -> Iterator[None]:
    """Let Python's threads take shorter turns; usually one may keep the interpreter for 5 ms."""
    with _one_at_a_time:  # or runs side by side would take each other's for the usual
        usual = sys.getswitchinterval()
        sys.setswitchinterval(seconds)
        try:
            yield
        finally:
            sys.setswitchinterval(usual)


def check_raster_path(options: PredictOptions) -> None:
    """Refuse, before any work, a raster that cannot be written.

    Raises
    ------
    InvalidOption
        If the suffix is not that of a GeoTIFF.
    UnwritableOutput
        If the folder is missing or not writable, or the file exists.
    """
    if options.raster is None:
        return
    if options.raster.suffix.lower() not in {".tif", ".tiff"}:
        raise InvalidOption(f"{options.raster}: --raster writes a GeoTIFF; its name must end in .tif")
    if options.raster.is_dir():
        raise UnwritableOutput(f"{options.raster}: is a folder, not a file to replace")
    check_writable(options.raster, overwrite=options.overwrite)


def check_no_input_is_replaced(source: str | os.PathLike[str], out: Path, options: PredictOptions) -> None:
    """Refuse an output that is an input, or the other output.

    Raises
    ------
    InvalidOption
    """
    inputs = [Path(source), Path(options.model), *([options.aoi] if options.aoi else [])]
    if options.raster is not None:
        inputs.append(out)
    for path in [out, *([options.raster] if options.raster else [])]:
        for other in inputs:
            if other is not path and path.absolute() == other.absolute():
                raise InvalidOption(f"{path}: is asked for twice: as output, and as input or other output")
            if path.exists() and other is not path and other.exists() and path.samefile(other):
                raise InvalidOption(f"{path}: is {other}, which would be replaced by the result")


def run_plan(
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
    from geoseg.vector.join import Joiner

    started = time.monotonic()
    joiner = Joiner(plan.tiles.window.shape)
    tally, progress = Tally(), Progress.begin(plan)
    shaper = Shaper(plan, vector)
    for result in stream:
        shaper.add(joiner.add(result.pieces))
        if raster is not None and result.raster is not None:
            raster.write(result.raster)
        tally += result.tally
        progress = progress.after(_core_pixels(plan, result), time.monotonic() - started)
        on_event(progress)
    joiner.finish()
    shaper.flush()
    return shaper, tally


def layer_metadata(report: RunReport) -> dict[str, str]:
    """Return what a layer should say about how it came to be."""
    facts = report.as_json()
    keys = ("scene", "model", "model_digest", "plan_digest", "coverage", "failed", "warnings", "options")
    return {
        f"geoseg_{key}": facts[key] if isinstance(facts[key], str) else json.dumps(facts[key]) for key in keys
    }


def _core_pixels(plan: Plan, result: BlockResult) -> int:
    height, width = plan.tiles.core(result.block).shape
    return height * width


def _files(out: Path, options: PredictOptions) -> tuple[str, ...]:
    return (str(out),) if options.raster is None else (str(out), str(options.raster))


def _raster_sink(plan: Plan, options: PredictOptions) -> contextlib.AbstractContextManager[BlockSink | None]:
    if options.raster is None:
        return contextlib.nullcontext()
    from geoseg.raster.sink import RasterSink

    sink: contextlib.AbstractContextManager[BlockSink] = RasterSink(
        options.raster,
        plan.grid,
        scene=plan.scene,
        schema=plan.schema,
        rule=plan.rule,
        content=options.raster_content,
        resolution=options.raster_resolution,
        overwrite=options.overwrite,
        bands=plan.bands,
    )
    return sink
