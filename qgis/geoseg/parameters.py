"""Parameters of parameters.json as QGIS's own, and their values as plain ones."""

from __future__ import annotations

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsMapLayerType,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingUtils,
    QgsProviderRegistry,
)

DESTINATIONS = ("new polygons", "new raster", "new page", "new folder")
SWITCH = ("yes", "no")
FORMATS = ["gpkg", "fgb", "geojson", "shp", "parquet"]
"""Vector files that geoseg reads as they are; of layers of other kinds a GeoPackage is made."""


def definitions(parameter):
    """Return the definitions of one parameter: one, but for the sources of a batch."""
    made = _MADE.get(parameter["kind"], _text)(parameter, parameter["name"].upper(), parameter["label"])
    made = made if isinstance(made, list) else [made]
    for one in made:
        one.setHelp(parameter["help"])
        if parameter["advanced"]:
            one.setFlags(one.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
    return made


def _text(one, name, label):
    return QgsProcessingParameterString(name, label, one["default"], optional=one["optional"])


def _flag(one, name, label):
    if one["default"] is None:
        return _choice({**one, "choices": SWITCH}, name, label)
    return QgsProcessingParameterBoolean(name, label, one["default"], optional=True)


def _choice(one, name, label):
    shared = {"defaultValue": one["default"], "optional": one["optional"], "usesStaticStrings": True}
    return QgsProcessingParameterEnum(name, label, list(one["choices"]), **shared)


def _sources(one, name, label):
    folder = QgsProcessingParameterFile.Folder
    return [
        QgsProcessingParameterMultipleLayers("LAYERS", "Scenes", QgsProcessing.TypeRaster, optional=True),
        QgsProcessingParameterFile("FOLDER", "Folder of scenes", folder, optional=True),
        QgsProcessingParameterFile("LIST", "List or index of scenes, or STAC file", optional=True),
    ]


_MADE = {
    "sources": _sources,
    "raster": lambda one, *names: QgsProcessingParameterRasterLayer(*names, optional=one["optional"]),
    "polygons": lambda one, *names: QgsProcessingParameterFeatureSource(
        *names, [QgsProcessing.TypeVectorPolygon], optional=one["optional"]
    ),
    "layer": lambda one, *names: QgsProcessingParameterMapLayer(*names, optional=one["optional"]),
    "new polygons": lambda one, *names: QgsProcessingParameterVectorDestination(
        *names, QgsProcessing.TypeVectorPolygon
    ),
    "new raster": lambda one, *names: QgsProcessingParameterRasterDestination(
        *names, None, optional=True, createByDefault=False
    ),
    "new page": lambda one, *names: QgsProcessingParameterFileDestination(
        *names, "HTML (*.html)", None, optional=True
    ),
    "new folder": lambda one, *names: QgsProcessingParameterFolderDestination(*names),
    "folder": lambda one, *names: QgsProcessingParameterFile(
        *names, QgsProcessingParameterFile.Folder, optional=True
    ),
    "extent": lambda one, *names: QgsProcessingParameterExtent(*names, None, True),
    "crs": lambda one, *names: QgsProcessingParameterCrs(*names, None, True),
    "flag": _flag,
    "choice": _choice,
    "number": lambda one, *names: QgsProcessingParameterNumber(
        *names, QgsProcessingParameterNumber.Double, one["default"], one["optional"]
    ),
    "integer": lambda one, *names: QgsProcessingParameterNumber(
        *names, QgsProcessingParameterNumber.Integer, one["default"], one["optional"]
    ),
}
"""How a parameter of each kind is made; others are text."""


def value(algorithm, parameter, given, context, feedback):
    """Return the value of a parameter as `arguments` takes it; None where it is not given.

    Raises
    ------
    QgsProcessingException
        If a layer is no file, and none can be made of it.
    """
    name, kind = parameter["name"].upper(), parameter["kind"]
    if kind != "sources" and given.get(name) in (None, ""):
        return None
    if kind == "polygons":
        layer = algorithm.parameterAsVectorLayer(given, name, context)
        found = algorithm.parameterAsCompatibleSourceLayerPathAndLayerName(
            given, name, context, _formats(layer), "gpkg", feedback
        )
        return _named(layer, *found)
    if kind == "layer":
        return layer_file(algorithm.parameterAsLayer(given, name, context), context, feedback)
    if kind == "flag" and parameter["default"] is None:
        return algorithm.parameterAsEnumString(given, name, context) == "yes"
    return _TAKEN.get(kind, QgsProcessingAlgorithm.parameterAsString)(algorithm, given, name, context)


def _taken_sources(algorithm, given, name, context):
    layers = algorithm.parameterAsLayerList(given, "LAYERS", context)
    places = (algorithm.parameterAsString(given, one, context) for one in ("FOLDER", "LIST"))
    found = [*(raster_file(layer) for layer in layers), *(place for place in places if place)]
    if not found and not algorithm.parameterAsBoolean(given, "MERGE", context):
        raise QgsProcessingException("give scenes: as layers, as a folder, or as a list")
    return found


def _taken_raster(algorithm, given, name, context):
    layer = algorithm.parameterAsRasterLayer(given, name, context)
    return algorithm.parameterAsString(given, name, context) if layer is None else raster_file(layer)


def _taken_crs(algorithm, given, name, context):
    crs = algorithm.parameterAsCrs(given, name, context)
    return crs.authid() or crs.toWkt()


def _taken_extent(algorithm, given, name, context):
    """Return W, S, E, N in the CRS of the scene, or in longitude and latitude where there are many."""
    crs = QgsCoordinateReferenceSystem("EPSG:4326")
    if algorithm.parameterDefinition("SCENE") is not None:
        scene = algorithm.parameterAsRasterLayer(given, "SCENE", context)
        crs = QgsCoordinateReferenceSystem() if scene is None else scene.crs()
        if not crs.isValid():
            raise QgsProcessingException("the scene has no CRS: an extent cannot be placed on it")
    box = algorithm.parameterAsExtent(given, name, context, crs)
    return None if box.isNull() else (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())


_TAKEN = {
    "sources": _taken_sources,
    "raster": _taken_raster,
    "extent": _taken_extent,
    "crs": _taken_crs,
    "flag": QgsProcessingAlgorithm.parameterAsBoolean,
    "choice": QgsProcessingAlgorithm.parameterAsEnumString,
    "number": QgsProcessingAlgorithm.parameterAsDouble,
    "integer": QgsProcessingAlgorithm.parameterAsInt,
    "new page": QgsProcessingAlgorithm.parameterAsFileOutput,
    "new polygons": QgsProcessingAlgorithm.parameterAsOutputLayer,
    "new raster": QgsProcessingAlgorithm.parameterAsOutputLayer,
}
"""How the value of a parameter of each kind is taken; of others as text."""


def raster_file(layer):
    """Return the file, or the URL, that a raster layer shows.

    Raises
    ------
    QgsProcessingException
        If it shows none.
    """
    kind = layer.dataProvider().name() if layer.dataProvider() else layer.providerType()
    path = QgsProviderRegistry.instance().decodeUri("gdal", layer.source()).get("path", "")
    path = path[len("/vsicurl/") :] if path.startswith("/vsicurl/") else path
    if kind == "gdal" and path and not path.startswith("/vsi"):
        return path
    what = "a map service" if kind in {"wms", "wcs"} else f"no file ({kind})"
    raise QgsProcessingException(
        f"{layer.name()}: comes from {what}; save what you need as GeoTIFF (Layer → Save As…) and take that"
    )


def _formats(layer):
    """Return the formats that a layer may have to be read as it is: none with edits that are not saved."""
    return [] if layer is not None and layer.isModified() else FORMATS


def _named(layer, path, name):
    """Return the path, and the name of the layer; a file that was made of it holds nothing else."""
    made = layer is not None and not layer.source().startswith(path)
    return path, None if made else name or None


def layer_file(layer, context, feedback):
    """Return the file of a layer, and of a vector layer its name in there."""
    if layer is None or layer.type() not in {QgsMapLayerType.VectorLayer, QgsMapLayerType.RasterLayer}:
        raise QgsProcessingException("takes a layer of polygons or a raster")
    if layer.type() == QgsMapLayerType.RasterLayer:
        return raster_file(layer)
    found = QgsProcessingUtils.convertToCompatibleFormatAndLayerName(
        layer, False, "layer", _formats(layer), "gpkg", context, feedback
    )
    return _named(layer, *found)
