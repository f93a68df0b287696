"""One command of geoseg as an algorithm of Processing."""

from __future__ import annotations

import json

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsFillSymbol,
    QgsGradientColorRamp,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingOutputNumber,
    QgsProperty,
    QgsRendererCategory,
    QgsSingleBandPseudoColorRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

from .arguments import arguments
from .environment import NoGeoseg
from .messages import NUMBERS, Listener, by_labels, numbers, sentences
from .parameters import DESTINATIONS, definitions, value
from .process import run

COLORS = ("228,87,46", "46,134,171", "76,159,112", "243,167,18", "162,59,114", "150,150,150")
"""Of classes, where the file carries no style."""

_stopped = {}
"""By what was typed besides: temporary outputs of runs that were stopped, where they go on."""

_styling = {}
"""By path: post-processors, which QGIS does not keep alive."""


class Algorithm(QgsProcessingAlgorithm):
    """Runs a command of geoseg.

    Parameters
    ----------
    described : dict
        Of parameters.json.
    """

    def __init__(self, described):
        super().__init__()
        self._described = described
        self._values, self._made, self._summary, self._refused = {}, {}, {}, None

    def createInstance(self):
        """Return another one of the kind; QGIS runs each once."""
        return Algorithm(self._described)

    def name(self):
        """Return the name behind ``geoseg:``."""
        return self._described["name"]

    def displayName(self):
        """Return the name in the toolbox."""
        return self._described["title"]

    def shortHelpString(self):
        """Return the help beside the dialog: what it does, and what the first parameters are for."""
        told = [
            f"<b>{one['label']}</b>: {by_labels(self._described, one['help'])}"
            for one in self._described["parameters"]
            if one["help"] and not one["advanced"]
        ]
        about = by_labels(self._described, self._described["help"])
        return "<br><br>".join([about, *told])

    def icon(self):
        """Return the icon of the provider."""
        return self.provider().icon()

    def initAlgorithm(self, configuration=None):
        """Declare parameters and outputs."""
        for parameter in self._described["parameters"]:
            for definition in definitions(parameter):
                self.addParameter(definition)
        for name, (label, _) in NUMBERS.get(self.name(), {}).items():
            self.addOutput(QgsProcessingOutputNumber(name, label))

    def prepareAlgorithm(self, given, context, feedback):
        """Take the values, in the thread that the layers belong to; what is wrong is told when it runs."""
        try:
            self._values = self._take(False, given, context, feedback)
        except QgsProcessingException as error:
            self._refused = error
        return True

    def _take(self, destinations, given, context, feedback):
        """Return the values of all parameters that are destinations, or of all others."""
        return {
            one["name"]: value(self, one, given, context, feedback)
            for one in self._described["parameters"]
            if (one["kind"] in DESTINATIONS) == destinations
        }

    def processAlgorithm(self, given, context, feedback):
        """Run geoseg; what it refuses is one line."""
        if self._refused is not None:
            raise self._refused
        temporary = [name for name in given if _is_temporary(given[name])]
        key = repr(
            [self.name(), *sorted((name, repr(given[name])) for name in given if name not in temporary)]
        )
        given = {
            **given,
            **{name: _placed(given[name], path) for name, path in _stopped.pop(key, {}).items()},
        }
        places = self._take(True, given, context, feedback)
        self._made = {name.upper(): path for name, path in places.items() if path}
        code, printed, listener = self._run(arguments(self._described, {**self._values, **places}), feedback)
        if feedback.isCanceled():
            _stopped[key] = {name: self._made[name] for name in temporary}
            resumed = " Run it again to go on from there." if self.name() in {"predict", "batch"} else ""
            raise QgsProcessingException(f"Canceled.{resumed}")
        if code not in {0, 1}:
            killed = "; if memory ran out, give “Most memory”" if code < 0 else ""
            raise QgsProcessingException(listener.error or f"geoseg stopped with exit code {code}{killed}")
        listener.end(printed)
        if code:
            feedback.reportError("Done in part: what is missing is named above.")
        self._summary = listener.summary
        return {**self._made, **numbers(self.name(), self._summary)}

    def _run(self, typed, feedback):
        listener = Listener(self._described, feedback)
        try:
            command = [self.provider().program(feedback), *typed]
            feedback.pushCommandInfo(" ".join(command))
            return (*run(command, listener, feedback.isCanceled), listener)
        except (NoGeoseg, OSError) as error:
            raise QgsProcessingException(str(error)) from error

    def postProcessAlgorithm(self, context, feedback):
        """Have layers styled once they are loaded."""
        text = "\n".join(sentences(self.name(), self._summary)) if self._summary else ""
        for path in self._made.values():
            if context.willLoadLayerOnCompletion(path):
                _styling[path] = Loaded(text, self._summary)
                context.layerToLoadOnCompletionDetails(path).setPostProcessor(_styling[path])
        return {}


def _is_temporary(value):
    sink = value.sink.staticValue() if isinstance(value, QgsProcessingOutputLayerDefinition) else value
    return sink == QgsProcessing.TEMPORARY_OUTPUT


def _placed(value, path):
    """Return the value of an output that is to lie at `path`."""
    if not isinstance(value, QgsProcessingOutputLayerDefinition):
        return path
    placed = QgsProcessingOutputLayerDefinition(value)
    placed.sink = QgsProperty.fromValue(path)
    return placed


class Loaded(QgsProcessingLayerPostProcessorInterface):
    """Gives a layer its style, and metadata that say how it came to be."""

    def __init__(self, text, summary):
        super().__init__()
        self._text, self._summary = text, summary

    def postProcessLayer(self, layer, context, feedback):
        """Style a layer, once it is loaded."""
        metadata = layer.metadata()
        metadata.setAbstract(self._text)
        metadata.setHistory([json.dumps(self._summary, ensure_ascii=False)])
        layer.setMetadata(metadata)
        if isinstance(layer, QgsVectorLayer):
            _, styled = layer.loadDefaultStyle()
            if not styled:
                style(layer)
        elif layer.bandCount() == 1 and not layer.dataProvider().colorTable(1):
            shade(layer)
        layer.triggerRepaint()


def style(layer):
    """Give a layer of polygons a colour for each class, or what became of it."""
    field = next((one for one in ("class_name", "status") if layer.fields().indexOf(one) >= 0), None)
    values = [] if field is None else sorted(layer.uniqueValues(layer.fields().indexOf(field)), key=str)
    categories = [
        QgsRendererCategory(one, _symbol(COLORS[number % len(COLORS)]), str(one))
        for number, one in enumerate(values)
    ]
    if len(categories) > 1:
        layer.setRenderer(QgsCategorizedSymbolRenderer(field, categories))
    else:
        layer.renderer().setSymbol(_symbol(COLORS[0]))


def shade(layer):
    """Show probabilities from clear, 0, to the first colour, 1."""
    red, green, blue = map(int, COLORS[0].split(","))
    ramp = QgsGradientColorRamp(QColor(red, green, blue, 0), QColor(red, green, blue, 160))
    renderer = QgsSingleBandPseudoColorRenderer(layer.dataProvider(), 1)
    renderer.setClassificationMin(0.0)
    renderer.setClassificationMax(1.0)
    renderer.createShader(ramp)
    layer.setRenderer(renderer)


def _symbol(color):
    return QgsFillSymbol.createSimple(
        {"color": f"{color},90", "outline_color": f"{color},255", "outline_width": "0.4"}
    )
