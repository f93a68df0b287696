"""Runs in QGIS's own Python: does what the JSON on stdin says, and prints what came of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "qgis"
sys.path[:0] = [str(FOLDER), "/usr/share/qgis/python/plugins"]

from qgis.core import (  # noqa: E402
    QgsApplication,
    QgsFeature,
    QgsGeometry,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)

application = QgsApplication([], False)
application.initQgis()

import processing  # noqa: E402
from processing.core.Processing import Processing  # noqa: E402

import geoseg  # noqa: E402


class Feedback(QgsProcessingFeedback):
    """Keeps what is told; may be canceled from the start."""

    def __init__(self, canceled: bool) -> None:
        super().__init__(False)
        self.told: list[str] = []
        self.command = ""
        if canceled:
            self.cancel()

    def pushCommandInfo(self, text: str) -> None:
        self.command = text

    def pushInfo(self, text: str) -> None:
        self.told.append(text)


def layer(wanted: dict) -> object:
    """Return a layer of the project: a raster, a map service, an edited file, or squares in memory."""
    if "edited" in wanted:
        made = QgsVectorLayer(wanted["edited"], "edited")
        made.startEditing()
        made.deleteFeature(next(made.getFeatures()).id())
        return QgsProject.instance().addMapLayer(made, False)
    if "squares" not in wanted:
        made = QgsRasterLayer(wanted["source"], "a layer", wanted.get("provider", "gdal"))
        return QgsProject.instance().addMapLayer(made, False) and made
    made = QgsVectorLayer(f"Polygon?crs={wanted['crs']}", "squares", "memory")
    for bounds in wanted["squares"]:
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(*bounds)))
        made.dataProvider().addFeature(feature)
    made.updateExtents()
    made.selectByIds([1])
    QgsProject.instance().addMapLayer(made, False)
    return QgsProcessingFeatureSourceDefinition(made.id(), wanted["selected"])


def do(wanted: dict) -> dict:
    """Run an algorithm and return its results, and of loaded layers what a user sees of them."""
    feedback = Feedback(wanted.get("canceled", False))
    parameters = {
        name: layer(value) if isinstance(value, dict) else value
        for name, value in wanted["parameters"].items()
    }
    try:
        results = processing.runAndLoadResults(wanted["algorithm"], parameters, feedback=feedback)
    except QgsProcessingException as error:
        return {"error": str(error), "told": feedback.told, "command": feedback.command}
    layers = QgsProject.instance().mapLayers().values()
    loaded = [one for one in layers if one.source().partition("|")[0] == results.get("OUT")]
    return {
        "results": results,
        "told": feedback.told,
        "command": feedback.command,
        "loaded": [
            {
                "features": one.featureCount(),
                "renderer": one.renderer().type(),
                "color": one.renderer().symbol().color().name(),
                "abstract": one.metadata().abstract(),
                "source": one.source(),
            }
            for one in loaded
        ],
    }


Processing.initialize()
plugin = geoseg.classFactory(None)
plugin.initProcessing()
print(json.dumps([do(wanted) for wanted in json.load(sys.stdin)]))
plugin.unload()
