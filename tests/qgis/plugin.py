"""The plugin's modules that know nothing of QGIS, and the script that makes its zip."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "qgis"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


package = load("qgis_package", FOLDER / "package.py")
plugin = load("geoseg_plugin", FOLDER / "geoseg/__init__.py")
arguments, messages, process, environment = (
    importlib.import_module(f"geoseg_plugin.{name}")
    for name in ("arguments", "messages", "process", "environment")
)


class Feedback:
    """Keeps what a QgsProcessingFeedback is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warned: list[str] = []
        self.share = 0.0
        self.text = ""
        self.canceled = False

    def pushInfo(self, text: str) -> None:
        self.told.append(text)

    def pushWarning(self, text: str) -> None:
        self.warned.append(text)

    def setProgress(self, share: float) -> None:
        self.share = share

    def setProgressText(self, text: str) -> None:
        self.text = text

    def isCanceled(self) -> bool:
        return self.canceled
