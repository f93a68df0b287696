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


NAMED = 420_000_000


def peak(scene: Path) -> float:
    command = [
        sys.executable, "-m", "geoseg", "predict", str(scene), "--out", str(scene.with_suffix(".gpkg")),
        "--model", str(bright_model()), "--tile", "256", "--json", "--quiet", "--max-memory", str(NAMED),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout)
    assert summary["features"] > 5000
    return float(summary["peak_memory_bytes"])


def test_three_times_the_length_takes_no_more_memory(tmp_path: Path) -> None:
    """Of a scene long enough for full batches of polygons, as wide, with objects that grow no larger."""
    peaks = []
    for height in (7500, 22500):
        rows, cols = np.indices((height, 2000), dtype=np.float32)
        waves = np.clip(100 + 60 * np.sin(rows / 11) * np.cos(cols / 13), 0, 255).astype(np.uint8)
        pixels = np.broadcast_to(waves, (3, height, 2000))
        peaks.append(
            peak(make_scene(tmp_path / f"{height}.tif", pixels=pixels, block=256, compress="deflate"))
        )
    assert max(peaks) <= NAMED
    assert peaks[1] <= 1.1 * peaks[0]
