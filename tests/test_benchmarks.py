"""The benchmarks run on tiny scenes and say what they promise to; no figure decides anything here."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from tests.runs import bright_model

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = {
    "limit": (
        "--side 640 --rounds 1 --seconds 0.01 --backends auto openvino:none",
        {"forward_MPix_s", "kept"},
    ),
    "end_to_end": ("--sides 700 --rounds 1 --seconds 0.01", {"ratio", "busy", "cpu_by_stage", "peak_MB"}),
    "memory": ("--sides 700 --max-memory 1GB", {"peak_MB", "above_MB", "growth"}),
    "sparse": ("--side 4096 --patch 512 --filled 0", {"first_seconds", "skipped_GPix_s"}),
    "vectorize": ("--side 600 --rounds 1", {"trace_seconds", "MPix_s", "vertices", "ratio"}),
    "archive": ("--scenes 1 --side 200 --entries 10", {"done", "each_ms", "ratio"}),
    "serve": ("--side 600 --views 1", {"median_ms", "p95_ms", "per_second"}),
    "peers": (
        "--side 700 --no-untiled --peers monai --python no-such-python",
        {"ratio", "truth_50", "truth_90"},
    ),
}


@pytest.fixture(scope="module")
def modules() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.mark.parametrize("name", SCRIPTS)
def test_one_table_and_one_json(name: str, tmp_path: Path) -> None:
    arguments, keys = SCRIPTS[name]
    # What these do with a model does not depend on which.
    if name in {"limit", "end_to_end", "memory", "archive", "serve"}:
        arguments += f" --model {bright_model()}"
    path = tmp_path / "rows.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments.split(), "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(path.read_text())
    assert document["benchmark"] == name
    assert document["machine"]["versions"]["openvino"]
    complete = [row for row in document["rows"] if keys <= row.keys()]
    assert complete
    assert all(row[key] is not None for row in complete for key in keys)
    notes = [row["note"] for row in document["rows"] if "note" in row]
    lines = done.stdout.splitlines()
    assert sum(line.startswith("| ") for line in lines) == len(document["rows"]) + 2
    assert all(note in lines for note in notes)
    if name in {"limit", "peers"}:  # what is not there is named, with its reason
        assert any(("none" if name == "limit" else "no-such-python") in note for note in notes)


def test_scenes_are_the_sample_mirrored(modules: Any) -> None:
    scenes = modules("scenes")
    side = 1500
    whole = scenes.pixels(0, 0, 2 * side + 10, 2 * side + 10)
    assert np.array_equal(whole[:, :side, :side], whole[:, 2 * side - 1 : side - 1 : -1, :side])
    assert np.array_equal(whole[:, :10], whole[:, 2 * side :])
    assert np.array_equal(scenes.pixels(1400, 90, 300, 40), whole[:, 1400:1700, 90:130])
    outlines = scenes.true_outlines(1600, 1700)
    mask = rasterio.features.rasterize(outlines, out_shape=(1600, 1700), dtype=np.uint8)
    assert np.array_equal(mask[1400:1500], mask[1599:1499:-1])
    assert np.array_equal(mask[:, 1300:1500], mask[:, 1699:1499:-1])


def test_sparse_scenes_are_filled_where_they_say(modules: Any, tmp_path: Path) -> None:
    scenes = modules("scenes")
    path = scenes.make_sparse_scene(tmp_path / "scene.tif", 3000, 5000, 0.1, 512)
    expected = np.zeros((3000, 5000), bool)
    for row, col in scenes.patches(3000, 5000, 0.1, 512):
        expected[row : row + 512, col : col + 512] = True
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.dataset_mask() > 0, expected)
    assert 0.05 < expected.mean() < 0.15
    assert path.stat().st_size < 1_000_000


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=12))
def test_busy_time_is_that_of_the_union(modules: Any, calls: list[tuple[int, int]]) -> None:
    clock = modules("stages").Clock()
    clock.calls = [(float(began), float(began + length)) for began, length in calls]
    busy = {second for began, length in calls for second in range(began, began + length)}
    assert clock.busy_seconds() == len(busy)


def test_what_a_stage_calls_is_not_counted_twice(modules: Any) -> None:
    clock = modules("stages").Clock()

    def work() -> float:
        return float(sum(i**0.5 for i in range(300_000)))

    inner = clock.timed("inner", work)
    outer = clock.timed("outer", lambda: inner() + inner())
    outer()
    assert set(clock.cpu) == {"inner", "outer"}
    assert 0 <= clock.cpu["outer"] < clock.cpu["inner"]


def test_geodeep_gets_the_same_network(modules: Any, tmp_path: Path) -> None:
    import onnxruntime

    from geoseg.backends.onnx import OnnxPredictor
    from geoseg.models.bundle import find_model
    from geoseg.values import CERTAIN, Patch

    bundle = find_model("buildings")
    task = json.loads(modules("peers").describe(bundle, tmp_path).read_text())
    tile = modules("scenes").pixels(200, 300, task["tile"], task["tile"])
    session = onnxruntime.InferenceSession(task["onnx"], providers=["CPUExecutionProvider"])
    background, found = session.run(None, {"peer_image": tile[None].astype(np.float32) / 255})[0][0]
    inputs = bundle.card.inputs.prepare(Patch(tile, np.ones(tile.shape[1:], bool)))
    expected = OnnxPredictor(bundle.files["model.onnx"], "sigmoid")(inputs[None])[0, 0] / CERTAIN
    assert not background.any()
    assert np.abs(found - expected).max() < 1e-3
    assert expected.max() > 0.9


def test_tables_go_between_the_marks_of_the_page(modules: Any) -> None:
    everything = modules("all")
    page = (BENCHMARKS.parent / "docs/performance.md").read_text()
    assert all(page.count(f"<!-- {name} -->\n") == page.count(f"<!-- /{name} -->") == 1 for name in SCRIPTS)
    assert set(everything.HEADINGS) == set(everything.QUICK) == set(everything.FULL) == set(SCRIPTS)
    found = {name: f"table of {name}\n" for name in SCRIPTS}
    filled = everything.fill(page, found)
    assert all(table in filled for table in found.values())
    assert everything.fill(filled, found) == filled
    assert everything.fill("no marks", found) == "no marks"
    outside = everything.fill(page, dict.fromkeys(SCRIPTS, ""))
    assert everything.fill(filled, dict.fromkeys(SCRIPTS, "")) == outside
