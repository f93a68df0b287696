"""What ends up in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_the_package_and_the_model_and_nothing_else(tmp_path: Path) -> None:
    script = f"import hatchling.build; hatchling.build.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"geoseg", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    for part in ("model.json", "model.safetensors", "config.json", "model.onnx"):
        assert f"geoseg/models/builtin/buildings/{part}" in names
    for part in ("report.html.j2", "report.css", "plots.svg.j2"):
        assert f"geoseg/evaluation/report/templates/{part}" in names
    assert "geoseg/py.typed" in names
    assert sum(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 30e6
