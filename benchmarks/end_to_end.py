"""Whole runs beside the limit: ``geoseg predict`` in fresh processes, and forward passes alone.

    python benchmarks/end_to_end.py --sides 4096 8192 12288 --rounds 3

Rounds alternate: forward passes in this process, then a run in a process of its own, so that both
meet the same load. The ratio is that of a round: seconds of the whole process (imports, reading, polygons
on disk) over the seconds that the run's tiles take in the forward passes alone. *Cold* is the first
run, with an empty cache of the user (networks are compiled, INT8 is tried); *warm* are those after it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import common
from limit import Candidate, candidate, rate, tiles_for
from scenes import make_scene

from geoseg.prediction.options import PredictOptions

STAGES = Path(__file__).with_name("stages.py")

COLUMNS: common.Columns = {
    "side": ("side px", "d"),
    "backend": ("backend", ""),
    "tiles": ("tiles", "d"),
    "forward_pixels": ("forward px / scene px", ".2f"),
    "limit_seconds": ("limit s", ".1f"),
    "cold_seconds": ("cold s", ".1f"),
    "warm_seconds": ("warm s", ".1f"),
    "ratio": ("run / limit", ".3f"),
    "ratio_spread": ("spread %", ".0f"),
    "MPix_s": ("scene MPix/s", ".2f"),
    "busy": ("busy share", ".2f"),
    "cpu_seconds": ("CPU s", ".1f"),
    "peak_MB": ("peak MB", ".0f"),
    "features": ("polygons", "d"),
}


def measure(side: int, folder: Path, options: argparse.Namespace) -> common.Row:
    """Measure one size of scene."""
    scene, out = make_scene(folder / "scene.tif", side, side), folder / "out.gpkg"
    model = ["--model", options.model, "--backend", options.backend, "--precision", options.precision]
    one = candidate(
        scene, PredictOptions(model=options.model, backend=options.backend, precision=options.precision)
    )
    caches = {"XDG_CACHE_HOME": str(folder / f"cache-{side}")}
    Path(caches["XDG_CACHE_HOME"]).mkdir()
    cold = common.predict(scene, out, *model, environment=caches)
    if (ran := cold.answer["options"]["backend"]) != one.name:
        raise SystemExit(f"the limit was measured in {one.name}, the run took {ran}; give --precision")
    tiles = cold.answer["tiles"]["inferred"]
    count = min(tiles_for(one.forward, options.seconds, one.batch), max(tiles, one.batch))
    limits, runs = [], []
    for _ in range(options.rounds):
        limits.append(tiles / rate(one.forward, count))
        runs.append(common.predict(scene, out, *model, environment=caches))
    row = _row(one, side, limits, runs)
    profile = common.run_child([sys.executable, STAGES, scene, *model, "--one-line"], caches).answer
    stages = profile["cpu_by_stage"]
    note = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
    return row | {
        "cold_seconds": cold.seconds,
        "busy": profile["busy"],
        "cpu_by_stage": stages,
        "note": f"CPU seconds by stage, {side} px: {note}.",
    }


def _row(one: Candidate, side: int, limits: list[float], runs: list[common.Child]) -> common.Row:
    ratios = [run.seconds / limit for run, limit in zip(runs, limits, strict=True)]
    answer = runs[-1].answer
    tiles, warm = answer["tiles"]["inferred"], common.median([run.seconds for run in runs])
    return {
        "side": side,
        "backend": one.name,
        "tiles": tiles,
        "forward_pixels": tiles * one.tile_megapixels / (side**2 / 1e6),
        "limit_seconds": common.median(limits),
        "warm_seconds": warm,
        "ratio": common.median(ratios),
        "ratio_spread": common.spread(ratios),
        "MPix_s": side**2 / 1e6 / warm,
        "cpu_seconds": common.median([run.cpu_seconds for run in runs]),
        "peak_MB": max(run.answer["peak_memory_bytes"] for run in runs) / 1e6,
        "features": answer["features"],
    }


def main() -> None:
    """Print one line for each size."""
    parser = common.parser(__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 8192, 12288])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement of the limit")
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(side, Path(folder), options) for side in options.sides]
    common.report("end_to_end", COLUMNS, rows, options)


if __name__ == "__main__":
    main()
