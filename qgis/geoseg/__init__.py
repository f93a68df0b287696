"""The QGIS plugin of geoseg: its commands as Processing algorithms, each run as a process of its own."""


def classFactory(iface):
    """Return the plugin; `iface` is None in qgis_process."""
    from .provider import Plugin

    return Plugin(iface)
