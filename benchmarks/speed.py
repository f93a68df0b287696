"""A whole run against the forward passes alone: same model, backend, tiles and batch, in one process.

uv run python benchmarks/speed.py --side 4096
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from scenes import make_scene

from geoseg.prediction.options import PredictOptions
from geoseg.prediction.run import predict_scene
from geoseg.prediction.survey import survey


def forward_seconds(scene: Path, options: PredictOptions, tiles: int) -> tuple[float, str]:
    """Return the seconds of the forward passes for so many tiles, and the backend's name."""
    work, _ = survey(scene, options)
    predictor = work.load()
    size, bands = work.plan.tiles.rows.size, len(work.plan.bands)
    random = np.random.default_rng(0)
    batch = random.normal(0, 1, (work.batch, bands, size, size)).astype(np.float32)
    for _ in range(3):
        predictor(batch)
    started = time.perf_counter()
    for _ in range(-(-tiles // work.batch)):
        predictor(batch)
    return time.perf_counter() - started, predictor.name


def main() -> None:
    """Print the table of one scene."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--scene", type=Path, help="a scene of your own")
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options = PredictOptions(model=arguments.model, backend=arguments.backend, overwrite=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = arguments.scene or make_scene(folder / "scene.tif", arguments.side, arguments.side)
        report = predict_scene(scene, folder / "out.gpkg", options)
        forward, backend = forward_seconds(scene, options, report.tally.inferred)
    megapixels = report.pixels / 1e6
    row = {
        "backend": backend,
        "megapixels": megapixels,
        "tiles": report.tally.inferred,
        "features": report.features,
        "run_seconds": report.seconds,
        "forward_seconds": forward,
        "run_MPix_s": megapixels / report.seconds,
        "forward_MPix_s": megapixels / forward,
        "ratio": report.seconds / forward,
        "peak_memory_MB": (report.peak_memory or 0) / 1e6,
    }
    for key, value in row.items():
        print(f"{key:16} {value if isinstance(value, str | int) else f'{value:.3f}'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
