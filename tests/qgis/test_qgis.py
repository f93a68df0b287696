"""The algorithms in QGIS itself: by ``qgis_process``, and in a session of its Python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyogrio
import pytest

from geoseg.testing import make_scene
from tests.qgis.plugin import FOLDER
from tests.runs import REPOSITORY, bright_model, picture

SAMPLE = REPOSITORY / "sample_data/buildings.gpkg"

# Debian's wrapper gives an option that qgis_process does not know.
PROGRAM = shutil.which("qgis_process.bin") or shutil.which("qgis_process")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="QGIS is not installed"),
]


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user whose profile has the plugin, and geoseg on the PATH."""
    settings = tmp_path / "home/QGIS/QGIS3/profiles/default/QGIS/QGIS3.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text("[PythonPlugins]\ngeoseg=true\n", "utf-8")
    (tmp_path / "home").chmod(0o700)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/geoseg").symlink_to(Path(sys.executable).with_name("geoseg"))
    return {
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_PLUGINPATH": str(FOLDER),
        **dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"), str(tmp_path / "home")),
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
    }


def run(variables: dict[str, str], *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=variables, input=given, capture_output=True, text=True, check=False, timeout=180
    )


def scene_in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return make_scene(folder / "scene ä.tif", pixels=picture((10, 10, 20, 30), (60, 70, 20, 30)))


def test_qgis_process_predicts(tmp_path: Path, variables: dict[str, str]) -> None:
    folder = tmp_path / 'it\'s "odd" ü'
    out = folder / "out put.gpkg"
    done = run(
        variables,
        str(PROGRAM),
        "run",
        "geoseg:predict",
        f"--SCENE={scene_in(folder)}",
        f"--MODEL={bright_model()}",
        "--MIN_AREA=0",
        "--BBOX=500000,500018,4999985,5000000 [EPSG:32633]",
        f"--OUT={out}",
    )
    assert done.returncode == 0, done.stderr
    assert out.exists()
    assert "1 polygon" in done.stdout
    assert "FEATURES:\t1" in done.stdout


def test_a_session(tmp_path: Path, variables: dict[str, str]) -> None:
    """Layers in memory, a selection, a map service, a canceled run that goes on, unsaved edits."""
    scene, model = scene_in(tmp_path), str(bright_model())
    buildings = str(shutil.copy(SAMPLE, tmp_path))  # QGIS writes into what it edits
    squares = [[500_000, 4_999_980, 500_015, 5_000_000], [500_015, 4_999_970, 500_036, 4_999_985]]
    area = {"squares": squares, "crs": "EPSG:32633", "selected": True}
    plain = {"SCENE": {"source": str(scene)}, "MODEL": model, "MIN_AREA": 0}
    temporary = {**plain, "OUT": "TEMPORARY_OUTPUT"}
    places = {"OUT": str(tmp_path / "a.fgb"), "RASTER": str(tmp_path / "a.tif")}
    service = {
        "source": "url=http://127.0.0.1:9/wms&layers=a&format=image/png&crs=EPSG:3857&styles=",
        "provider": "wms",
    }
    asked: list[dict[str, Any]] = [
        {"algorithm": "geoseg:predict", "parameters": {**plain, "AOI": area, **places}},
        {"algorithm": "geoseg:predict", "parameters": temporary, "canceled": True},
        {"algorithm": "geoseg:predict", "parameters": temporary},
        {"algorithm": "geoseg:predict", "parameters": {**temporary, "SCENE": service}},
        {"algorithm": "geoseg:predict", "parameters": {**temporary, "THRESHOLD": 3}},
        {
            "algorithm": "geoseg:regularize",
            "parameters": {"FILE": {"edited": buildings}, "OUT": "TEMPORARY_OUTPUT"},
        },
    ]
    script = str(Path(__file__).with_name("session.py"))
    done = run(variables, "/usr/bin/python3", script, given=json.dumps(asked))
    assert done.returncode == 0, done.stderr
    within, canceled, resumed, mapped, refused, edited = json.loads(done.stdout.splitlines()[-1])
    assert within["results"]["FEATURES"] == 1
    layer, raster = within["loaded"]
    assert raster["renderer"] == "singlebandpseudocolor"
    assert layer["features"] == 1
    assert "1 polygon" in layer["abstract"]
    assert (layer["renderer"], layer["color"]) == ("singleSymbol", "#e4572e")
    assert canceled["errors"] == ["Canceled. Run it again to go on from there."]
    assert not canceled["told"]
    assert resumed["command"] == canceled["command"]
    assert resumed["loaded"][0]["features"] == 2
    (mistake,) = mapped["errors"]
    assert "comes from a map service; save" in mistake
    assert not mapped["told"]
    assert refused["errors"] == ["“Threshold” must be less than 1 or auto, not '3.0'"]
    assert edited["results"]["FEATURES"] == len(pyogrio.read_dataframe(SAMPLE)) - 1
