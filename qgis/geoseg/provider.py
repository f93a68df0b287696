"""The plugin: it registers a provider of Processing, with an algorithm for each command."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithm import Algorithm
from .environment import check_version, find

HERE = Path(__file__).parent
FOLDER, UV = "GEOSEG_FOLDER", "GEOSEG_UV"


class Plugin:
    """What QGIS loads and unloads."""

    def __init__(self, iface):
        self._provider = None

    def initProcessing(self):
        """Register the provider; all that qgis_process asks for."""
        self._provider = Provider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self):
        """Register the provider in the desktop."""
        self.initProcessing()

    def unload(self):
        """Take the provider away."""
        QgsApplication.processingRegistry().removeProvider(self._provider)


class Provider(QgsProcessingProvider):
    """The algorithms ``geoseg:…``, and the settings of where geoseg is."""

    def id(self):
        """Return what stands before the colon."""
        return "geoseg"

    def name(self):
        """Return the name in the toolbox."""
        return "geoseg"

    def icon(self):
        """Return the icon of all algorithms."""
        return QIcon(str(HERE / "icon.svg"))

    def load(self):
        """Add the settings and the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        folder, uv = (Setting.FOLDER, Setting.FILE)
        for key, label, kind in (
            (FOLDER, "Folder of geoseg (unless given, the PATH)", folder),
            (UV, "uv, which installs geoseg where there is none (unless given, the PATH)", uv),
        ):
            ProcessingConfig.addSetting(Setting(self.name(), key, label, "", valuetype=kind))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        """Remove the settings."""
        for key in (FOLDER, UV):
            ProcessingConfig.removeSetting(key)

    def loadAlgorithms(self):
        """Add an algorithm for each command."""
        for described in json.loads((HERE / "parameters.json").read_text(encoding="utf-8")):
            self.addAlgorithm(Algorithm(described))

    def supportedOutputVectorLayerExtensions(self):
        """Return the formats that geoseg writes, the default first."""
        return ["gpkg", "fgb", "parquet", "geojson", "geojsonl", "shp", "pmtiles"]

    def supportedOutputRasterLayerExtensions(self):
        """Return the one raster format that geoseg writes."""
        return ["tif"]

    def supportsNonFileBasedOutput(self):
        """Return that a process writes files alone."""
        return False

    def program(self, feedback):
        """Return the path of geoseg; see `environment`."""
        about = configparser.ConfigParser()
        about.read(HERE / "metadata.txt", encoding="utf-8")
        found = find(
            ProcessingConfig.getSetting(FOLDER) or "",
            Path(QgsApplication.qgisSettingsDirPath(), "geoseg"),
            next(HERE.glob("geoseg-*.whl"), None),
            ProcessingConfig.getSetting(UV) or "",
            feedback,
        )
        check_version(found, about["general"]["version"])
        return found
