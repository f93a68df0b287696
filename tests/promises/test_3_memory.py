"""Promise 3: memory does not grow with the scene's area. Measured in child processes.

Without a raster output: its sink fills a cache of fixed size, which these small scenes would not
fill alike; that it does not grow either is tested in tests/raster/test_sink.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geoseg.testing import make_scene
from tests.runs import bright_model

pytestmark = pytest.mark.slow  # processes of their own


def peak(scene: Path) -> float:
    command = [
        sys.executable, "-m", "geoseg", "predict", str(scene), "--out", str(scene.with_suffix(".gpkg")),
        "--model", str(bright_model()), "--tile", "256", "--json", "--quiet", "--max-memory", "420MB",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout)
    assert summary["features"] > 10
    return float(summary["peak_memory_bytes"])


def test_nine_times_the_area_takes_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for side in (1500, 4500):
        rows, cols = np.indices((side, side), dtype=np.float32)
        waves = np.sin(rows / 37) * np.cos(cols / 53) + np.sin((rows + cols) / 161)
        pixels = np.broadcast_to(np.clip(128 + 60 * waves, 0, 255).astype(np.uint8), (3, side, side))
        peaks.append(peak(make_scene(tmp_path / f"{side}.tif", pixels=pixels, block=256, compress="deflate")))
    assert peaks[1] <= 1.15 * peaks[0]
