"""Peak memory of whole runs over growing scenes, each in a process of its own.

    python benchmarks/memory.py --sides 4096 12288 24576 --strip 4000 200000 --max-memory auto 1GB

The first lines are what there is before any scene: the imports of a run alone, and a run over a
single tile (imports, model and backend). Growth is that of the peak against the scene before it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import common
from scenes import make_scene

from geoseg.models.bundle import find_model

IMPORTS = """
import json, openvino, rasterio, pyogrio, geopandas, shapely, dask.threaded
import geoseg.prediction.session, geoseg.raster.scene, geoseg.vector.sink, geoseg.vector.pieces
from geoseg.prediction.report import peak_memory
print(json.dumps({"peak_memory_bytes": peak_memory()}))
"""

COLUMNS: common.Columns = {
    "what": ("scene", ""),
    "budget": ("--max-memory", ""),
    "gigapixels": ("GPix", ".3f"),
    "peak_MB": ("peak MB", ".0f"),
    "above_MB": ("above imports MB", ".0f"),
    "growth": ("growth %", "+.1f"),
    "seconds": ("seconds", ".1f"),
    "features": ("polygons", "d"),
}


def measure(folder: Path, options: argparse.Namespace) -> list[common.Row]:
    """Run every size under every budget."""
    imports = common.run_child([sys.executable, "-c", IMPORTS]).answer["peak_memory_bytes"] / 1e6
    rows: list[common.Row] = [{"what": "imports alone", "peak_MB": imports}]
    tile = find_model(options.model).card.tile
    sizes = [
        (tile, tile),
        *((side, side) for side in options.sides),
        *([tuple(options.strip)] if options.strip else []),
    ]
    last: dict[str, float] = {}
    for height, width in sizes:
        scene = make_scene(folder / "scene.tif", height, width)
        for budget in options.max_memory:
            row = _run(scene, budget, folder, options)
            row |= {"gigapixels": height * width / 1e9, "above_MB": row["peak_MB"] - imports}
            row["what"] = f"{height} × {width}" + (" (one tile)" if height == tile else "")
            if budget in last and height != tile:
                row["growth"] = 100 * (row["peak_MB"] / last[budget] - 1)
            last[budget] = row["peak_MB"]
            rows.append(row)
    return rows


def _run(scene: Path, budget: str, folder: Path, options: argparse.Namespace) -> common.Row:
    arguments: list[str | Path] = ["--model", options.model]
    arguments += [] if budget == "auto" else ["--max-memory", budget]
    arguments += ["--raster", folder / "raster.tif"] if options.raster else []
    done = common.predict(scene, folder / "out.gpkg", *arguments)
    return {
        "budget": budget,
        "peak_MB": done.answer["peak_memory_bytes"] / 1e6,
        "seconds": done.seconds,
        "features": done.answer["features"],
    }


def main() -> None:
    """Print one line for each scene and budget."""
    parser = common.parser(__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 12288, 24576])
    parser.add_argument("--strip", type=int, nargs=2, metavar=("ROWS", "COLS"), help="one more size, last")
    parser.add_argument("--max-memory", nargs="+", default=["auto"], metavar="SIZE")
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--raster", action="store_true", help="also write the probability raster")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options)
    common.report("memory", COLUMNS, rows, options)


if __name__ == "__main__":
    main()
