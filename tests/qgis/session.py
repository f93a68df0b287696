"""Runs in QGIS's own Python: does what the JSON on stdin says, and prints what came of it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "qgis"
sys.path[:0] = [str(FOLDER), "/usr/share/qgis/python/plugins"]

from qgis.core import (  # noqa: E402
    QgsApplication,
    QgsFeature,
    QgsGeometry,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingOutputLayerDefinition,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)

application = QgsApplication([], False)
application.initQgis()

from processing.core.Processing import Processing  # noqa: E402
from processing.gui.Postprocessing import handleAlgorithmResults  # noqa: E402

import geoseg  # noqa: E402


class Feedback(QgsProcessingFeedback):
    """Keeps what is told; may be canceled from the start."""

    def __init__(self, canceled: bool) -> None:
        super().__init__(False)
        self.told: list[str] = []
        self.errors: list[str] = []
        self.command = ""
        if canceled:
            self.cancel()

    def pushCommandInfo(self, text: str) -> None:
        self.command = text

    def pushInfo(self, text: str) -> None:
        self.told.append(text)

    def reportError(self, text: str, fatalError: bool = False) -> None:
        self.errors.append(text)


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
    """Run an algorithm as the dialog does, and return what a user sees of it."""
    feedback, context, ended = Feedback(wanted.get("canceled", False)), QgsProcessingContext(), []
    context.setProject(QgsProject.instance())
    parameters = {
        name: layer(one) if isinstance(one, dict) else one for name, one in wanted["parameters"].items()
    }
    for name in {"OUT", "RASTER"} & parameters.keys():
        parameters[name] = QgsProcessingOutputLayerDefinition(parameters[name], context.project())
    algorithm = QgsApplication.processingRegistry().createAlgorithmById(wanted["algorithm"])
    task = QgsProcessingAlgRunnerTask(algorithm, parameters, context, feedback)
    task.executed.connect(lambda successful, results: ended.append((successful, results)))
    QgsApplication.taskManager().addTask(task)
    while not ended:
        application.processEvents()
        time.sleep(0.02)
    ((successful, results),) = ended
    before = set(QgsProject.instance().mapLayers())
    if successful:
        handleAlgorithmResults(algorithm, context, feedback)
    layers = QgsProject.instance().mapLayers().values()
    return {
        "results": results,
        "told": feedback.told,
        "errors": feedback.errors,
        "command": feedback.command,
        "loaded": [
            {
                "name": one.name(),
                "features": one.featureCount() if isinstance(one, QgsVectorLayer) else None,
                "color": one.renderer().symbol().color().name() if isinstance(one, QgsVectorLayer) else None,
                "renderer": one.renderer().type(),
                "abstract": one.metadata().abstract(),
            }
            for one in sorted(layers, key=lambda one: one.name())
            if one.id() not in before
        ],
    }


Processing.initialize()
plugin = geoseg.classFactory(None)
plugin.initProcessing()
print(json.dumps([do(wanted) for wanted in json.load(sys.stdin)]))
plugin.unload()
