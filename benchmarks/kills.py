"""Archives whose processes are killed at random instants, and one large scene in the midst of each step.

    python -m benchmarks.kills
    python -m benchmarks.kills --kills 20 --scenes 200 --side 20000

First small scenes and one of many blocks, on a cluster of separate processes, two workers: the coordinator,
the scheduler or a worker is killed (SIGKILL), again and again, each time the same command goes on; when an
archive is done, the next is begun until there were enough kills. Then one large scene, whose coordinator and
workers are all killed while half of its blocks are inferred, are traced, and half of its features written.
Results have to be those of a run that nobody disturbed, to the byte, finished scenes are not to be
done again, and of the others no more blocks than were in hand.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import rasterio

from geoseg.testing import make_model, make_scene
from tests.archive.clusters import Cluster, Preload, cluster, ended, start_batch
from tests.runs import picture

MEMORY = ("--batch", "1", "--max-memory", "400MB")
"""Of each worker: it leaves many blocks to the larger scene."""

IN_HAND = 6
"""Blocks that two workers have in hand at a time, at most."""

DEADLY = """
import os, signal
from geoseg.prediction import blocks
from geoseg.prediction.tasks import Probabilities
from geoseg.vector.sink import VectorSink

def deadly(plain, step):
    def call(*given):
        with open({log!r} + step, "ab") as file:
            file.write(b".")
            if step == os.environ.get("STEP") and file.tell() == int(os.environ["AT"]):
                os.killpg(0, signal.SIGKILL)
        return plain(*given)
    return call

if blocks.trace.__name__ != "call":  # it is loaded more than once
    Probabilities.infer = staticmethod(deadly(Probabilities.infer, "infer"))
    blocks.trace = deadly(blocks.trace, "trace")
    VectorSink.write = deadly(VectorSink.write, "write")
"""


def main() -> None:
    """Kill, resume, compare."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--kills", type=int, default=20)
    made.add_argument("--scenes", type=int, default=100)
    made.add_argument("--side", type=int, default=20_000, help="pixels of the large scene; 0: none")
    made.add_argument("--seed", type=int, default=0)
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.kills:
            kill_at_random(Path(name), options.kills, options.scenes, random.Random(options.seed))
        if options.side:
            kill_in_each_step(Path(name), options.side)


def kill_at_random(folder: Path, kills: int, count: int, chance: random.Random) -> None:
    """Kill the coordinator, the scheduler or a worker until there were so many kills."""
    scenes = folder / "scenes"
    scenes.mkdir()
    for number in range(count):
        size = (60 + number % 97, 200 - number % 89)
        make_scene(scenes / f"s{number}.tif", pixels=picture((10, 20, 30, 40 + number % 20), size=size))
    write_large(scenes / "large.tif", 1500)
    preload = Preload.write(folder / "preload")
    with cluster(folder / "cluster", 2, preload) as made:
        began = time.monotonic()
        done = start_batch(scenes, "--out", folder / "whole", "--scheduler", made.address, *MEMORY)
        ended(done, 0)
        usual, whole = time.monotonic() - began, contents(folder / "whole")
        killed: Counter[str] = Counter()
        archives, again = 0, 0
        while killed.total() < kills:
            archives += 1
            preload.log.unlink()
            before = killed.total()
            out = folder / f"out{archives}"
            done_again = killed_until_done(made, scenes, out, usual, (killed, kills, chance))
            assert not done_again, f"finished, and done again: {done_again}"
            assert contents(out) == whole, "other results than undisturbed"
            twice = sum(times - 1 for times in preload.counts.values())
            assert twice <= (killed.total() - before) * IN_HAND, f"{twice} blocks were inferred twice"
            again += twice
            print(f"archive {archives}: the same bytes; killed so far: {dict(killed)}", flush=True)
    print(f"{killed.total()} kills {dict(killed)}, {archives} archives of {count + 1} scenes: all the same "
          f"bytes, no finished scene done again, {again} blocks inferred again")  # fmt: skip


def killed_until_done(
    made: Cluster, scenes: Path, out: Path, usual: float, plan: tuple[Counter[str], int, random.Random]
) -> set[str]:
    """Run an archive to its end; return finished scenes that were done again."""
    killed, kills, chance = plan
    finished: dict[str, int] = {}
    while True:
        process = start_batch(scenes, "--out", out, "--scheduler", made.address, *MEMORY)
        instant = time.monotonic() + chance.uniform(0.2, 0.9) * usual
        while process.poll() is None and (killed.total() >= kills or time.monotonic() < instant):
            time.sleep(0.02)
        if process.poll() is None:
            victim = chance.choice(("coordinator", "scheduler", "worker"))
            killed[victim] += 1
            if victim == "worker":
                made.kill_worker()
                made.join()
            elif victim == "scheduler":
                made.stop()
                ended(process, 2)
                made.start(2)
            else:
                process.kill()
        process.communicate()
        finished |= {name: when for name, when in written(out).items() if name not in finished}
        if process.returncode == 0:
            now = written(out)
            return {name for name, when in finished.items() if now[name] != when}


def kill_in_each_step(folder: Path, side: int) -> None:
    """Kill all processes of a run over a large scene in the midst of inferring, tracing and writing."""
    scene = write_large(folder / "large.tif", side)
    preload = Preload.write(folder / "deadly", DEADLY)
    model = make_model(folder / "model", tile=512, overlap=64)
    usual = [sys.executable, "-m", "geoseg", "batch", str(scene), "--model", str(model), "--quiet",
             "--workers", "2", "--max-memory", "2GB", "--batch", "1"]  # fmt: skip
    run_large(usual, folder / "large", preload)
    whole, steps = contents(folder / "large"), {}
    for step in ("infer", "trace", "write"):
        log = Path(f"{preload.log}{step}")
        steps[step] = log.stat().st_size
    for step, times in steps.items():
        out = folder / f"large-{step}"
        for name in steps:
            Path(f"{preload.log}{name}").unlink()
        at = max(times // 2, 1)
        run_large(usual, out, preload, {"STEP": step, "AT": str(at)})
        assert not contents(out), "it was over before it was killed"
        run_large(usual, out, preload)
        assert contents(out) == whole, "other results than undisturbed"
        again = Path(f"{preload.log}infer").stat().st_size - steps["infer"]
        print(f"{side}², killed in {step} {at} of {times}: the same bytes, "
              f"{again} of {steps['infer']} blocks inferred again", flush=True)  # fmt: skip


def run_large(command: list[str], out: Path, preload: Preload, more: dict[str, str] | None = None) -> None:
    """Run the archive of the large scene on two workers in a process group of its own."""
    process = subprocess.run(
        [*command, "--out", str(out)],
        env={**preload.environment, **(more or {})},
        start_new_session=True,
        check=False,
    )
    assert process.returncode == (-9 if more else 0)


def write_large(path: Path, side: int) -> Path:
    """Write a square scene of blobs, strip by strip."""
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32633",
        "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000),
        "tiled": True, "compress": "deflate", "interleave": "pixel",
    }  # fmt: skip
    cols = np.arange(side, dtype=np.float32)
    with rasterio.open(path, "w", **profile) as file:
        for first in range(0, side, 512):
            rows = np.arange(first, min(first + 512, side), dtype=np.float32)[:, None]
            waves = np.sin(rows / 17) * np.cos(cols / 23) + 0.3 * np.sin((rows + cols) / 61)
            pixels = np.clip(100 + 60 * waves, 0, 255).astype(np.uint8)
            window = rasterio.windows.Window(0, first, side, len(rows))
            file.write(np.broadcast_to(pixels, (3, *pixels.shape)), window=window)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return the results of an archive."""
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def written(folder: Path) -> dict[str, int]:
    """Return when each result was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


if __name__ == "__main__":
    main()
