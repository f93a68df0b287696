"""Peak memory of whole runs over growing scenes, each in a process of its own.

uv run python benchmarks/memory.py --sides 4000 12000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from scenes import make_scene

from geoseg.testing import make_model


def run(arguments: list[str]) -> dict[str, object]:
    """Run geoseg in a child and return its summary."""
    command = [sys.executable, "-m", "geoseg", "predict", *arguments, "--json", "--quiet", "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print one line a scene and the ratio to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[4000, 12000])
    parser.add_argument("--raster", action="store_true", help="also write the probability raster")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_model(folder / "model", tile=512, overlap=64)
        print(f"{'side px':>8} {'peak MB':>8} {'ratio':>6} {'seconds':>8} {'MPix/s':>7} {'features':>9}")
        for side in options.sides:
            scene = make_scene(folder / "scene.tif", side, side)
            raster = ["--raster", str(folder / "raster.tif")] if options.raster else []
            summary = run([str(scene), "--out", str(folder / "out.gpkg"), "--model", str(model), *raster])
            rows.append({"side": side, **summary})
            peak, first = (float(str(row["peak_memory_bytes"])) / 1e6 for row in (rows[-1], rows[0]))
            print(
                f"{side:8} {peak:8.0f} {peak / first:6.2f} {summary['seconds']:8} "
                f"{summary['megapixels_per_second']:7} {summary['features']:9}"
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"largest child as the system saw it: {children / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
