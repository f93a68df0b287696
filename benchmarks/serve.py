"""The live map: how soon tiles come to one client that pans and zooms, cold and warm, on loopback.

    python benchmarks/serve.py
    python benchmarks/serve.py --side 8192 --views 12 --concurrent 6 --model buildings

Starts ``geoseg serve`` on a scene, and asks as a browser does: six requests at a time, for the tiles of
a view of 1280 × 800 pixels at the zoom of the model's resolution; then the view moves by half its width
or height, now and then a zoom out and in again. *Start* is from starting the process to its first tile
of predictions. *Cold* are views that nobody has seen, *warm* the same again (what was inferred is kept,
tiles are drawn anew). The goals: a prediction tile in 150 ms at the median and 400 ms at the 95th
percentile, 10 tiles a second, the first tile 3 s after the start.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import Columns, Row, parser, report
from scenes import make_scene

from geoseg.serve.mercator import SIDE, MapTile, from_degrees

COLUMNS: Columns = {
    "what": ("", "s"),
    "tiles": ("tiles", "d"),
    "median_ms": ("median, ms", ".0f"),
    "p95_ms": ("95th percentile, ms", ".0f"),
    "per_second": ("tiles a second", ".1f"),
    "start_s": ("first tile after start, s", ".1f"),
    "cpu_s": ("server's CPU, s", ".1f"),
    "peak_MB": ("server's peak, MB", ".0f"),
}
VIEW = (1280, 800)


def main() -> None:
    """Measure and report."""
    made = parser(__doc__)
    made.add_argument("--side", type=int, default=8192, help="pixels of the scene")
    made.add_argument("--views", type=int, default=12)
    made.add_argument("--concurrent", type=int, default=6, help="requests at a time")
    made.add_argument("--model", default="buildings")
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scene = Path(name) / "scene.tif"
        make_scene(scene, options.side, options.side)
        report("serve", COLUMNS, list(measure(scene, options)), options)


def measure(scene: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for the start and for each kind of tile, cold and warm."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "geoseg", "serve", scene, "--port", "0", "--read-only"]
    command += ["--model", options.model]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            port = next(int(found[1]) for line in server.stderr if (found := re.search(r":(\d+)/ ", line)))
            (facts,) = json.loads(ask(port, "/scenes"))["scenes"]
            views = list(walk(facts, options.views))
            first = views[0][0]
            ask(port, address("prediction", first))
            yield {"what": "start", "start_s": time.perf_counter() - begun, **used(server.pid)}
            for turn in ("cold", "warm"):
                for kind in ("prediction", "tiles"):
                    before = used(server.pid)
                    row = timed(port, kind, views, options.concurrent)
                    after = used(server.pid)
                    yield {
                        "what": f"{kind}, {turn}",
                        **row,
                        **after,
                        "cpu_s": after["cpu_s"] - before["cpu_s"],
                    }
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def walk(facts: dict[str, Any], count: int) -> Iterator[list[MapTile]]:
    """Yield the tiles of views of one who pans, and now and then zooms out; always the same ones."""
    chance = random.Random(7)
    zoom = facts["zoom"]
    (west, south), (east, north) = from_degrees(np.array(facts["bounds"]).reshape(2, 2)).tolist()
    x, y = (west + east) / 2, (south + north) / 2
    for number in range(count):
        z = zoom - (number % 4 == 3)
        pixel = MapTile(z, 0, 0).box.transform[0]
        width, height = VIEW[0] * pixel, VIEW[1] * pixel
        yield tiles_of((x - width / 2, y - height / 2, x + width / 2, y + height / 2), z)
        x, y = x + chance.choice((-0.5, 0.5)) * width, y + chance.choice((-0.5, 0, 0.5)) * height
        x = min(max(x, west + width / 2), east - width / 2) if east - west > width else x
        y = min(max(y, south + height / 2), north - height / 2) if north - south > height else y


def tiles_of(bounds: tuple[float, float, float, float], zoom: int) -> list[MapTile]:
    """Return the tiles that meet a box of Web Mercator."""
    pixel, _, left, _, _, top = MapTile(zoom, 0, 0).box.transform
    side = pixel * SIDE
    west, south, east, north = bounds
    cols = range(int((west - left) / side), int((east - left) / side) + 1)
    rows = range(int((top - north) / side), int((top - south) / side) + 1)
    return [MapTile(zoom, x, y) for y in rows for x in cols]


def timed(port: int, kind: str, views: list[list[MapTile]], concurrent: int) -> Row:
    """Ask for the tiles of each view, so many at a time, each once; the next view when all are there."""
    seen: set[MapTile] = set()
    milliseconds: list[float] = []
    local = threading.local()

    def one(tile: MapTile) -> None:
        began = time.perf_counter()
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port)
        local.connection.request("GET", address(kind, tile))
        answer = local.connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{address(kind, tile)}: {answer.status}")
        milliseconds.append(1000 * (time.perf_counter() - began))

    began = time.perf_counter()
    with ThreadPoolExecutor(concurrent) as pool:
        for view in views:
            new = [tile for tile in view if tile not in seen]
            seen.update(new)
            list(pool.map(one, new))
    seconds = time.perf_counter() - began
    return {
        "tiles": len(milliseconds),
        "median_ms": float(np.median(milliseconds)),
        "p95_ms": float(np.percentile(milliseconds, 95)),
        "per_second": len(milliseconds) / seconds,
    }


def address(kind: str, tile: MapTile) -> str:
    """Return where a tile is; predictions as the page asks for them."""
    raw = "?raw" if kind == "prediction" else ""
    return f"/{kind}/scene/{tile.z}/{tile.x}/{tile.y}.png{raw}"


def ask(port: int, path: str) -> bytes:
    """Return the answer to one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    return connection.getresponse().read()


def used(process: int) -> dict[str, float]:
    """Return the CPU seconds and the peak of memory of a process."""
    import psutil

    times = psutil.Process(process).cpu_times()
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
    return {"cpu_s": times.user + times.system, "peak_MB": peak / 1000}


if __name__ == "__main__":
    main()
