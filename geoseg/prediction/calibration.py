"""Measuring how fast this machine works a model, and remembering it in the user's cache.

A cache that is missing, damaged or not writable costs a measurement, never a run.
"""

from __future__ import annotations

import contextlib
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import BatchSize, Predictor, predict_batches
from geoseg.backends.hardware import gpu_name
from geoseg.notes import Note
from geoseg.prediction.blocks import prepare
from geoseg.prediction.forecast import PIXEL_SECONDS, QUICKEST, START_SECONDS, Pace, learn
from geoseg.prediction.resources import Resources, cores_each
from geoseg.values import Patch

if TYPE_CHECKING:
    from geoseg.prediction.plan import Plan
    from geoseg.prediction.report import RunReport

BUDGET = 1.5
"""Seconds of forward passes that are measured, after the first one."""


def measure_pace(predictor: Predictor, plan: Plan, batch: int, *, budget: float = BUDGET) -> Pace:
    """Run the model on a few tiles of noise and return its pace.

    The first pass, which compiles the model, is timed on its own and counts as start.

    Parameters
    ----------
    predictor : Predictor
    plan : Plan
        Its tiles and inputs.
    batch : int
        Tiles in one forward pass; fewer where they do not fit on the device.
    budget : float
        Seconds after which no further pass is begun.

    Raises
    ------
    OutOfDeviceMemory
        If not even one tile fits on the device.
    """
    tiles = np.stack([prepare(plan, _noise(plan), predictor.normalizes)] * batch)
    size = BatchSize(batch)
    first = _timed(predictor, tiles, size)
    passes = [_timed(predictor, tiles, size)]
    while sum(passes) < budget:
        passes.append(_timed(predictor, tiles, size))
    steady = sum(passes) / len(passes)
    return Pace(START_SECONDS + max(0.0, first - steady), max(steady / batch, QUICKEST), PIXEL_SECONDS)


def _noise(plan: Plan) -> Patch:
    """Return a tile of noise, in the dtype and the number of bands that the scene is read in."""
    size = plan.tiles.rows.size
    chosen = [band.read_dtype for band in plan.scene.bands if band.index in plan.bands]
    noise = np.random.default_rng(0).integers(0, 256, (len(plan.bands), size, size))
    return Patch(noise.astype(np.result_type(*chosen)), np.ones((size, size), bool))


def _timed(predictor: Predictor, tiles: NDArray[Any], size: BatchSize) -> float:
    began = time.perf_counter()
    predict_batches(predictor, tiles, size)
    return time.perf_counter() - began


def recall(plan: Plan, resources: Resources) -> Pace | None:
    """Return what is remembered of a model's pace on this machine; None: nothing that can be used."""
    note = _note(plan, resources)
    if note is None:
        return None
    pace = note.read()
    try:
        return Pace(float(pace["start"]), float(pace["tile"]), float(pace["pixel"]), int(pace["runs"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def keep(plan: Plan, resources: Resources, pace: Pace) -> None:
    """Remember a pace; in vain where the cache cannot be written."""
    if note := _note(plan, resources):
        note.write(asdict(pace))


def remember(report: RunReport, resources: Resources) -> None:
    """Learn from a run that has ended; not from one that went on where another had stopped."""
    if report.blocks_known or report.failures:
        return
    plan, tally = report.plan, report.tally
    before = recall(plan, resources)
    after = learn(before, tally.inferred, tally.inferred * tile_pixels(plan), report.seconds)
    if after is not None and after != before:
        keep(plan, resources, after)


def tile_pixels(plan: Plan) -> int:
    """Return the pixels of the working grid that a tile adds to its neighbours'."""
    rows, cols = plan.tiles.rows, plan.tiles.cols
    return min(rows.stride, rows.n) * min(cols.stride, cols.n)


def _note(plan: Plan, resources: Resources) -> Note | None:
    """Return where the pace of a model on this machine is kept; None for a cluster: it changes."""
    return None if resources.scheduler is not None else Note("pace", _facts(plan, resources))


def _facts(plan: Plan, resources: Resources) -> dict[str, object]:
    """Return all that a pace depends on."""
    return {
        "geoseg": version("geoseg"),
        "model": plan.model_digest,
        "backend": plan.precision,
        "tile": plan.tiles.rows.size,
        "overlap": plan.tiles.rows.overlap,
        "batch": resources.batch,
        "threads": resources.threads,
        "workers": resources.workers,
        "cores": cores_each(1),
        "gpu": gpu_name(resources.device) if resources.gpu else None,
        "host": platform.node(),
        "cpu": _cpu(),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
