"""``geoseg plan``: all that a run would decide, and nothing of it done."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.cli import run
from geoseg.prediction.decide import decide
from geoseg.prediction.estimate import measure_pace
from geoseg.prediction.options import PredictOptions
from geoseg.testing import NORTH_UP, make_scene
from tests.runs import REPOSITORY, bright_model, least_memory, picture, predict

SAMPLE = REPOSITORY / "sample_data" / "scene.tif"
PIXEL, _, WEST, _, _, NORTH = NORTH_UP

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass or two are measurement enough here."""
    monkeypatch.setattr("geoseg.prediction.estimate.measure_pace", partial(measure_pace, budget=0.0))


def planned(capfd: Capture, scene: Path, *arguments: object) -> dict[str, Any]:
    """Return what the plan says as JSON, by the bright model: tiles of 64 pixels, 16 overlap."""
    code, out, err = said(capfd, scene, "--model", bright_model(), "--json", *arguments)
    assert code == 0, err
    return dict(json.loads(out))


def said(capfd: Capture, scene: Path | str, *arguments: object) -> tuple[int, str, str]:
    capfd.readouterr()
    code = run(["plan", str(scene), *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def box_of(row: float, col: float, height: float, width: float) -> tuple[float, float, float, float]:
    """Return pixels of a scene of `make_scene` as WEST SOUTH EAST NORTH."""
    west, north = WEST + PIXEL * col, NORTH - PIXEL * row
    return west, north - PIXEL * height, west + PIXEL * width, north


@pytest.mark.slow
def test_all_that_a_user_asks_for_is_on_one_screen(capfd: Capture) -> None:
    code, out, err = said(capfd, SAMPLE, "--quiet")
    assert (code, err) == (0, "")
    lines = [line.split(None, 1) for line in out.splitlines()]
    assert len(lines) < 24
    told = {label: value for label, value in lines if label != "works"}
    assert str(SAMPLE) in told["scene"]
    assert told["size"] == "1,500 × 1,500 px of 0.3 m"
    assert told["CRS"] == "WGS 84 / UTM zone 32N (EPSG:32632)"
    assert told["bands"] == "red 1, green 2, blue 3"
    assert "overlap" in told["tiles"]
    assert "to infer" in told["skipped"]
    assert "pixels" in told["forward"]
    assert "at once" in told["blocks"]
    assert told["model"] == "buildings"
    assert "openvino" in told["backend"]
    assert "(" in told["backend"]
    assert "tiles" in told["batch"]
    assert "MB: " in told["memory"]
    assert told["time"].startswith("about ")
    assert "warning" not in told


def test_json_says_it_all_and_agrees_with_info(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=picture((20, 30, 40, 60)))
    facts = planned(capfd, scene)
    assert run(["info", str(scene), "--json"]) == 0
    seen = json.loads(capfd.readouterr().out)
    assert facts["scene"] == seen["scene"]
    assert facts["size"] == [seen["width"], seen["height"]]
    assert facts["crs"] == seen["crs"]
    assert facts["resolution_m"] == seen["resolution_m"]
    assert facts["tiles"] == {"rows": 2, "cols": 3, "skipped": 0, "skipped_exact": True, "to_infer": 6}
    assert facts["forward_pixels_per_pixel"] == pytest.approx(6 * 64 * 64 / (100 * 120), abs=1e-4)
    assert facts["memory_bytes"]["total"] == pytest.approx(
        sum(size for name, size in facts["memory_bytes"].items() if name != "total"), rel=0.01
    )
    assert facts["predicted_seconds"] > 0
    assert facts["device"] == "cpu"
    assert facts["batch"] >= 1
    assert facts["blocks_in_flight"] >= 1
    assert facts["backend"]
    assert facts["backend_reason"]
    assert facts["blocks"]["rows"] >= 1


def test_the_format_of_the_output_has_a_say(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=picture((20, 30, 40, 60)))
    options = ("--outline", "pixel", "--min-area", 0)
    done = predict(capfd, scene, *options, out="polygons.geojson")
    facts = planned(capfd, scene, *options, "--out", done.path, "--overwrite")
    assert facts["plan_digest"] == done.summary["plan_digest"]
    code, _, err = said(capfd, scene, "--out", tmp_path / "other.geojson", "--crs", "EPSG:3857")
    assert code == 2
    assert "GeoJSON" in err


def test_it_is_what_the_run_then_does(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=picture((20, 30, 40, 60)))
    options = ("--outline", "pixel", "--min-area", 0, "--threshold", 0.4)
    facts = planned(capfd, scene, *options)
    done = predict(capfd, scene, *options).summary
    assert facts["plan_digest"] == done["plan_digest"]
    assert facts["options"] == done["options"]
    assert facts["warnings"] == done["warnings"]
    assert done["tiles"]["inferred"] == facts["tiles"]["to_infer"]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.tuples(st.integers(0, 150), st.integers(0, 190), st.integers(1, 160), st.integers(1, 200)),
    angle=st.sampled_from([0, 0, 30, 45]),
)
def test_an_area_skips_as_many_tiles_as_the_run_does(
    place: tuple[int, int, int, int], angle: float, capfd: Capture, tmp_path: Path
) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(160, 200), block=16)
    area = shapely.affinity.rotate(shapely.box(*box_of(*place)), angle)
    assume(area.intersects(shapely.box(*box_of(0, 0, 160, 200))))  # what lies outside is refused
    aoi = tmp_path / "aoi.geojson"
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    aoi.write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "crs": crs,
                "features": [
                    {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(area))}
                ],
            }
        )
    )
    tiles = planned(capfd, scene, "--aoi", aoi)["tiles"]
    assert tiles["skipped_exact"]
    done = predict(capfd, scene, "--aoi", aoi, "--overwrite").summary["tiles"]
    assert (tiles["skipped"], tiles["to_infer"]) == (done["skipped"], done["inferred"])


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 999), filled=st.sampled_from([0.05, 0.2, 0.5]), holes=st.booleans())
def test_a_sparse_scene_skips_at_least_as_many_tiles_as_the_plan_knows(
    seed: int, filled: float, holes: bool, capfd: Capture, tmp_path: Path
) -> None:
    blocks = np.random.default_rng(seed).random((12, 16)) < filled
    blocks[0, 0] = True
    valid = np.kron(blocks, np.ones((16, 16), bool))
    if holes:  # what is there holds nodata, too
        valid &= np.random.default_rng(seed).random(valid.shape) < 0.01
    scene = sparse(tmp_path, valid)
    tiles = planned(capfd, scene)["tiles"]
    assert not tiles["skipped_exact"]
    done = predict(capfd, scene, "--overwrite").summary["tiles"]
    assert tiles["skipped"] <= done["skipped"]
    assert holes or tiles["skipped"] == done["skipped"]


def sparse(folder: Path, valid: NDArray[np.bool_]) -> Path:
    return make_scene(
        folder / "scene.tif",
        pixels=np.full((3, *valid.shape), 200, np.uint8),
        validity="nodata",
        valid=valid,
        block=16,
        sparse_ok=True,
    )


def test_a_tile_that_the_box_only_touches_is_skipped(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(64, 160))
    # Tiles begin at columns 0, 48 and 96; the box ends where the second does.
    tiles = planned(capfd, scene, "--bbox", *box_of(0, 0, 64, 48))["tiles"]
    assert (tiles["cols"], tiles["skipped"]) == (3, 2)


def test_what_is_known_of_a_sparse_scene_is_said_as_the_least(capfd: Capture, tmp_path: Path) -> None:
    valid = np.zeros((192, 256), bool)
    valid[:16, :16] = True
    out = said(capfd, sparse(tmp_path, valid), "--model", bright_model())[1]
    assert "at least 19 tiles" in out
    assert "1 to infer at most" in out
    full = make_scene(tmp_path / "full.tif", validity="nodata", valid=np.ones((64, 64), bool))
    assert "none known beforehand; 1 to infer at most" in said(capfd, full, "--model", bright_model())[1]
    sure = make_scene(tmp_path / "sure.tif")
    assert "none; 1 to infer\n" in said(capfd, sure, "--model", bright_model())[1]


def test_flips_count_as_passes(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    once, four = (planned(capfd, scene, *given) for given in ((), ("--tta",)))
    assert four["forward_pixels_per_pixel"] == pytest.approx(4 * once["forward_pixels_per_pixel"])


def test_processes_are_planned_and_not_started(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    one, two = (planned(capfd, scene, *given) for given in ((), ("--workers", 2)))
    assert (one["workers"], two["workers"]) == (None, 2)
    assert two["memory_bytes"]["total"] > one["memory_bytes"]["total"]
    out = said(capfd, scene, "--model", bright_model(), "--workers", 2)[1]
    assert "on 2 processes of" in out
    assert " 1 threads" not in out


def test_a_cluster_is_not_asked_and_its_time_unknown(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    nowhere = ("--scheduler", "tcp://127.0.0.1:9")
    facts = planned(capfd, scene, *nowhere)
    assert facts["predicted_seconds"] is None
    out = said(capfd, scene, "--model", bright_model(), *nowhere)[1]
    assert "unknown on a cluster" in out


def test_the_memory_that_is_planned_is_told_beside_what_was_taken(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(200, 300))
    facts, done = planned(capfd, scene), predict(capfd, scene).summary
    assert done["planned_memory_bytes"] == facts["memory_bytes"]["total"]
    assert "predicted_seconds" not in done


def test_warnings_are_told(capfd: Capture, tmp_path: Path) -> None:
    dark = make_scene(tmp_path / "dark.tif", pixels=np.full((3, 300, 300), 3, np.uint8), crs=None)
    small = ("--tile", 64, "--batch", 1)
    code, out, _ = said(capfd, dark, "--quiet", *small)
    assert code == 0
    found = [line for line in out.splitlines() if line.startswith("warning")]
    assert any("CRS" in line for line in found)
    assert any("darker than those of the training" in line for line in found)
    assert len(json.loads(said(capfd, dark, "--json", *small)[1])["warnings"]) == len(found)


def test_a_stretch_is_told(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", dtype="uint16")
    out = said(capfd, scene, "--model", bright_model(), "--stretch", "0,4000")[1]
    assert "0–4000" in out


def test_nothing_is_written(capfd: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    scene = make_scene(folder / "scene.tif")
    planned(capfd, scene, "--out", folder / "out.gpkg", "--raster", folder / "out.tif")
    assert [path.name for path in folder.iterdir()] == ["scene.tif"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-memory", "1MB"), "needs"),
        (("--bbox", 0, 0, 1, 1), "outside"),
        (("--out", "out.txt"), "out.txt"),
        (("--raster", "out.png"), ".tif"),
        (("--tile", 100), "--tile"),
        (("--model", "nowhere"), "nowhere"),
    ],
)
def test_what_a_run_refuses_is_refused_in_one_line(
    capfd: Capture, tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    model = () if "--model" in arguments else ("--model", bright_model())
    code, out, err = said(capfd, scene, *model, *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert words in err


def test_a_bad_scene_is_one_line(capfd: Capture, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*\0" + bytes(40))
    for scene in (bad, tmp_path / "missing.tif"):
        code, out, err = said(capfd, scene)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("geoseg: error: ")
        assert scene.name in line


def test_the_smallest_budget_that_is_named_is_taken(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(500, 700))
    least = least_memory(scene, model=str(bright_model()))
    facts = planned(capfd, scene, "--max-memory", least)
    assert facts["memory_bytes"]["total"] <= int(least.removesuffix("MB")) * 10**6


def test_help_has_examples_and_every_option_of_a_run(capfd: Capture) -> None:
    helps = {}
    for command in ("plan", "predict"):
        assert run([command, "--help"]) == 0
        helps[command] = capfd.readouterr().out
    assert "geoseg plan scene.tif" in helps["plan"]
    options = {word for word in helps["predict"].split() if word.startswith("--")}
    assert options - {"--progress"} <= set(helps["plan"].split())  # a plan has none to show


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_it_is_a_table_of_one_screen(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "geoseg", "plan", str(scene), "--model", str(bright_model())]
    plain = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE, env=plain) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 1 << 16)
            except OSError:  # the other end was closed
                break
            shown += part
            if not part:
                break
        assert process.wait() == 0
    os.close(master)
    lines = shown.decode().splitlines()
    assert 12 < len(lines) <= 24
    assert "\x1b[1m" in lines[0]


def test_the_plan_is_what_a_run_decides(capfd: Capture, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=(150, 150))
    decision = decide(scene, PredictOptions(model=str(bright_model())))
    resources = decision.resources
    facts = planned(capfd, scene)
    assert facts["plan_digest"] == decision.plan.result_digest
    assert (facts["batch"], facts["threads"]) == (resources.batch, resources.threads)
