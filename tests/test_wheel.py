"""What ends up in the wheel, and what runs where it alone is installed: without PyTorch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pyogrio
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "sample_data"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    script = f"import hatchling.build; hatchling.build.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_the_model_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"geoseg", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    for part in ("model.json", "model.safetensors", "config.json", "model.onnx"):
        assert f"geoseg/models/builtin/buildings/{part}" in names
    for part in ("report.html.j2", "report.css", "plots.svg.j2"):
        assert f"geoseg/evaluation/report/templates/{part}" in names
    assert "geoseg/py.typed" in names
    for part in ("pipelines/buildings.yaml", "sample_data/scene.tif"):
        assert f"geoseg/examples/{part}" in names
    assert sum(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 30e6


def needed(requirements: list[str]) -> dict[str, Distribution]:
    """Return the distributions that these requirements bring, by name, without any extra."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found[name] = distribution(name)
            waiting += [Requirement(text) for text in found[name].requires or ()]
    return found


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of packages as ``pip install geoseg`` makes it: the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("core")
    zipfile.ZipFile(wheel).extractall(folder)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package in needed(project["dependencies"]).values():
        for top in {file.parts[0] for file in package.files or () if file.parts[0] != ".."}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))
    return folder


def geoseg(core: Path, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-W", "error", "-m", "geoseg", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(core)},
        cwd=cwd or core,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_extras_a_scene_is_planned_predicted_and_evaluated(core: Path, tmp_path: Path) -> None:
    scene, out, report = SAMPLE / "scene.tif", tmp_path / "out.gpkg", tmp_path / "report.html"
    for arguments in (
        ("plan", scene),
        ("predict", scene, "--out", out, "--raster", tmp_path / "out.tif"),
        ("evaluate", SAMPLE / "buildings.gpkg", "--prediction", out, "--scene", scene, "--report", report),
        ("info", scene),
        ("models", "list"),
        ("models", "show", "buildings"),
    ):
        done = geoseg(core, *arguments)
        assert done.returncode == 0, done.stderr
    assert len(pyogrio.read_dataframe(out, layer="buildings")) > 100
    assert report.stat().st_size > 10_000


def test_an_example_is_written_and_runs(core: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for arguments in (("--example", "buildings"), ("buildings.yaml",)):
        done = geoseg(core, "run", *arguments, cwd=tmp_path / "mine")
        assert done.returncode == 0, done.stderr
    assert len(pyogrio.read_dataframe(tmp_path / "mine/build/buildings.gpkg", layer="buildings")) > 100


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "--scene", "a.tif", "--labels", "a.gpkg", "--out", "m"), "train"),
        (("predict", SAMPLE / "scene.tif", "--out", "o.gpkg", "--backend", "pytorch"), "torch"),
    ],
)
def test_what_needs_an_extra_says_how_to_install_it(
    arguments: tuple[object, ...], extra: str, core: Path
) -> None:
    done = geoseg(core, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("geoseg: error: ")
    assert done.stderr.endswith(f"needs geoseg[{extra}]: pip install 'geoseg[{extra}]'\n")
    assert done.stderr.count("\n") == 1
