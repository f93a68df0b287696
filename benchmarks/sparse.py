"""A vast scene that is almost empty: how soon a run starts, and how fast it passes over empty ground.

    python benchmarks/sparse.py --side 200000 --filled 0 0.02

Each run is a process of its own, with a model of one operation, so that inference does not hide
what is measured. *First block* is counted from the start of the process. *Skipped ground* is the
rate at which pixels went by between the plan and the end of the run; it is given where nothing is
filled, as else that time would be that of inference.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import common
from scenes import PATCH, make_sparse_scene

from geoseg.prediction.options import PredictOptions
from geoseg.prediction.report import Event, Planned, peak_memory
from geoseg.prediction.session import predict_scene
from geoseg.testing import make_model

COLUMNS: common.Columns = {
    "side": ("side px", "d"),
    "filled": ("filled %", ".1f"),
    "tiles": ("tiles inferred", "d"),
    "skipped": ("tiles skipped", "d"),
    "planned_seconds": ("planned after s", ".1f"),
    "first_seconds": ("first block after s", ".1f"),
    "seconds": ("whole s", ".1f"),
    "skipped_GPix_s": ("skipped ground GPix/s", ".2f"),
    "peak_MB": ("peak MB", ".0f"),
    "features": ("polygons", "d"),
}


def watch(scene: Path, model: str, out: Path) -> common.Row:
    """Run in this process and note when things happened, in seconds on the system's clock."""
    times: dict[str, float] = {}

    def note(event: Event) -> None:
        times.setdefault("planned" if isinstance(event, Planned) else "first", time.time())

    done = predict_scene(scene, out, PredictOptions(model=model, resume=False, overwrite=True), note)
    facts = {"tiles": done.tally.inferred, "skipped": done.tally.skipped, "features": done.features}
    return {**times, **facts, "ended": time.time(), "peak_memory_bytes": peak_memory()}


def measure(side: int, filled: float, folder: Path, options: argparse.Namespace) -> common.Row:
    """Measure one scene in a process of its own."""
    scene = make_sparse_scene(folder / "scene.tif", side, side, filled, options.patch)
    model = options.model or make_model(folder / "model", tile=512, overlap=64)
    command = [sys.executable, __file__, "--child", scene, "--model", model]
    started = time.time()
    child = common.run_child(command)
    answer = child.answer
    rate = side**2 / 1e9 / (answer["ended"] - answer["planned"])
    return {
        "side": side,
        "filled": 100 * filled,
        "tiles": answer["tiles"],
        "skipped": answer["skipped"],
        "planned_seconds": answer["planned"] - started,
        "first_seconds": answer["first"] - started,
        "seconds": child.seconds,
        "skipped_GPix_s": None if answer["tiles"] else rate,
        "peak_MB": answer["peak_memory_bytes"] / 1e6,
        "features": answer["features"],
    }


def main() -> None:
    """Print one line for each share that is filled."""
    parser = common.parser(__doc__)
    parser.add_argument("--side", type=int, default=200_000)
    parser.add_argument("--filled", type=float, nargs="+", default=[0.0, 0.02], help="share, 0 … 1")
    parser.add_argument("--patch", type=int, default=PATCH, help="side of a filled patch")
    parser.add_argument("--model", help="another model than that of one operation")
    parser.add_argument("--child", type=Path, metavar="SCENE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.child is not None:
            print(json.dumps(watch(options.child, options.model, Path(folder) / "out.gpkg")))
            return
        rows = [measure(options.side, filled, Path(folder), options) for filled in options.filled]
    common.report("sparse", COLUMNS, rows, options)


if __name__ == "__main__":
    main()
