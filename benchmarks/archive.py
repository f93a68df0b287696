"""Many scenes: `geoseg batch` beside loops, two workers beside one, manifest and journal, 10 000 entries.

    python benchmarks/archive.py
    python benchmarks/archive.py --scenes 200 --side 1000 --entries 10000 --model buildings

Scenes hold no building. Rows, for a model and for one that looks at single pixels: a shell loop of
``geoseg predict`` (over a few of the scenes), a loop of `geoseg.predict` in one process, ``geoseg batch``
with one worker of one thread and with two. Seconds are of the whole command; at work is without starting,
the model's loading included; steady is the pace of the middle three fifths of the scenes. Then: the share
of the time that manifest, lease and journal take where one process does everything; and an archive of links
to a few tiny scenes, with ten entries and with many: memory of the coordinator (the scheduler is in it) when
a fifth is done and at the end, and the time of ``--status``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import Columns, Row, parser, predict, report, run_child

from geoseg.testing import make_model, make_scene

COLUMNS: Columns = {
    "what": ("", "s"),
    "scenes": ("scenes", "d"),
    "seconds": ("seconds", ".1f"),
    "done": ("at work, s", ".1f"),
    "each_ms": ("a scene, ms", ".0f"),
    "steady_ms": ("steady, ms", ".0f"),
    "ratio": ("batch of 1 worker = 1", ".2f"),
    "steady_ratio": ("steady", ".2f"),
    "share": ("manifest and journal", ".1%"),
    "peak_MB": ("peak, MB", ".0f"),
    "fifth_MB": ("after a fifth, MB", ".0f"),
    "end_MB": ("at the end, MB", ".0f"),
    "status_seconds": ("--status, s", ".2f"),
}
FEW = 4
"""Scenes of the shell loop, which are enough."""


def main() -> None:
    """Run in a child where ``--child`` says what, else run all children."""
    options = arguments()
    if options.child:
        given = json.loads(options.child)
        print(json.dumps(CHILDREN[given.pop("what")](**given)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = make_scenes(folder / "scenes", options.scenes, options.side)
        pixels = str(make_model(folder / "pixels", tile=512, overlap=64))
        rows = [row for model in (options.model, pixels) for row in compared(folder, scenes, model)]
        rows += measure_entries(folder, options.entries, pixels)
    report("archive", COLUMNS, rows, options)


def compared(folder: Path, scenes: list[Path], model: str) -> list[Row]:
    """Measure everything over scenes with a model, and compare it with a batch of one worker."""
    rows = list(measure(folder, scenes, model))
    one = next(row for row in rows if "1 worker" in row["what"])
    for row in rows:
        row["ratio"] = one["each_ms"] / row["each_ms"]
        if "steady_ms" in row:
            row["steady_ratio"] = one["steady_ms"] / row["steady_ms"]
    return rows


def arguments() -> argparse.Namespace:
    """Read the options."""
    made = parser(__doc__)
    made.add_argument("--scenes", type=int, default=60)
    made.add_argument("--side", type=int, default=1000, help="pixels")
    made.add_argument("--entries", type=int, default=10_000)
    made.add_argument("--model", default="buildings")
    made.add_argument("--child", help=argparse.SUPPRESS)
    return made.parse_args()


def measure(folder: Path, scenes: list[Path], model: str) -> Iterator[Row]:
    """Measure everything over scenes with a model."""
    few, name = scenes[:FEW], Path(model).name
    seconds = [predict(one, folder / "out.parquet", "--model", model).seconds for one in few]
    yield row(f"{name}: shell loop of geoseg predict", len(few), sum(seconds), sum(seconds))
    shared = {"folder": str(folder), "model": model}
    for what, given in (
        ("loop of geoseg.predict", {"what": "loop"}),
        ("batch, 1 worker", {"what": "batch", "workers": 1}),
        ("batch, 2 workers", {"what": "batch", "workers": 2}),
        ("batch in one process", {"what": "shares"}),
    ):
        child = run_child([sys.executable, __file__, "--child", json.dumps({**given, **shared})])
        yield {**row(f"{name}: {what}", len(scenes), child.seconds, child.answer.pop("done")), **child.answer}


def measure_entries(folder: Path, most: int, model: str) -> Iterator[Row]:
    """Measure archives of links, one of ten entries and one of many."""
    for entries in sorted({10, most}):
        given = {"what": "entries", "entries": entries, "folder": str(folder), "model": model}
        child = run_child([sys.executable, __file__, "--child", json.dumps(given)])
        yield {"what": f"{entries:,} entries", "scenes": entries, "seconds": child.seconds, **child.answer}


def row(what: str, scenes: int, seconds: float, done: float) -> Row:
    """Return a row of times."""
    return {"what": what, "scenes": scenes, "seconds": seconds, "done": done, "each_ms": 1e3 * done / scenes}


def make_scenes(folder: Path, count: int, side: int) -> list[Path]:
    """Write scenes of dark noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    return [
        make_scene(
            folder / f"{number:05d}.tif",
            pixels=random.integers(20, 40, (3, side, side), np.uint8),
            compress="deflate",
        )
        for number in range(count)
    ]


def loop(folder: str, model: str) -> dict[str, Any]:
    """Predict scene by scene in this process."""
    import geoseg

    began = time.perf_counter()
    for number, scene in enumerate(sorted(Path(folder, "scenes").iterdir())):
        geoseg.predict(scene, model=model, out=Path(folder, f"loop-{number}.parquet"), overwrite=True)
    return {"done": time.perf_counter() - began}


def batch(folder: str, model: str, workers: int) -> dict[str, Any]:
    """Run the archive with workers of one thread; say which pace the middle of the scenes had."""
    seen: list[tuple[float, int]] = []

    def watch(event: Any) -> None:
        if ended := getattr(event, "scenes", 0):
            seen.append((time.perf_counter(), ended))

    with cluster(workers, processes=True) as client:
        done = run(folder, "scenes", model, client, watch)
    first, last = (next(one for one in seen if one[1] >= share * seen[-1][1]) for share in (0.2, 0.8))
    if last[1] == first[1]:  # too few to tell
        return {"done": done}
    return {"done": done, "steady_ms": 1e3 * (last[0] - first[0]) / (last[1] - first[1])}


def shares(folder: str, model: str) -> dict[str, Any]:
    """Run the archive in this process, and say which share of the time manifest, lease and journal took."""
    from geoseg.archive.lease import Lease
    from geoseg.archive.manifest import Manifest
    from geoseg.prediction.journal import Journal

    spent = [0.0]
    for kind, names in (
        (Manifest, ("put", "get", "write_status")),
        (Lease, ("check",)),
        (Journal, ("begin", "store", "load", "remove")),
    ):
        for name in names:
            setattr(kind, name, timed(getattr(kind, name), spent))
    with cluster(1, processes=False) as client:
        done = run(folder, "scenes", model, client)
    return {"done": done, "share": spent[0] / done}


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """Return a function that adds up what it takes."""

    def call(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            spent[0] += time.perf_counter() - began

    return call


def entries(folder: str, model: str, entries: int) -> dict[str, Any]:
    """Run an archive of links to a few tiny scenes; say what memory and status take."""
    import psutil

    from geoseg.prediction.report import peak_memory

    tiny, links = Path(folder, f"tiny-{entries}"), Path(folder, f"links-{entries}")
    originals = make_scenes(tiny, 4, 64)
    links.mkdir()
    for number in range(entries):
        os.link(originals[number % len(originals)], links / f"{number:06d}.tif")
    process, sizes = psutil.Process(), dict[str, float]()

    def watch(event: Any) -> None:
        if getattr(event, "scenes", 0) * 5 >= entries:
            sizes.setdefault("fifth", process.memory_info().rss)

    with cluster(2, processes=True) as client:
        run(folder, links.name, model, client, watch)
        sizes["end"] = process.memory_info().rss
    began = time.perf_counter()
    command = [sys.executable, "-m", "geoseg", "batch", "--status", str(Path(folder, f"out-{links.name}"))]
    status = run_child([*command, "--json"])
    assert status.answer["state"] == "done"
    return {
        "peak_MB": (peak_memory() or 0) / 1e6,
        "fifth_MB": sizes.get("fifth", sizes["end"]) / 1e6,
        "end_MB": sizes["end"] / 1e6,
        "status_seconds": time.perf_counter() - began,
    }


@contextmanager
def cluster(workers: int, *, processes: bool) -> Iterator[Any]:
    """Yield a client of a cluster of workers of one thread."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, processes=processes, threads_per_worker=1, dashboard_address=None
        ) as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


def run(
    folder: str, scenes: str, model: str, client: Any, on_event: Callable[[Any], None] = lambda _: None
) -> float:
    """Run an archive anew; return its seconds, the model's loading among them."""
    import shutil

    from geoseg.archive.run import run_batch
    from geoseg.prediction.options import PredictOptions

    out = Path(folder, f"out-{scenes}")
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    options = PredictOptions(model=model)
    summary = run_batch([str(Path(folder, scenes))], out, options, client=client, on_event=on_event)
    assert not summary.troubles, summary.troubles[0]
    return time.perf_counter() - began


CHILDREN: dict[str, Callable[..., Row]] = {"loop": loop, "batch": batch, "shares": shares, "entries": entries}

if __name__ == "__main__":
    main()
