"""What is typed for the values of an algorithm's parameters; knows nothing of QGIS."""

from __future__ import annotations


def arguments(algorithm, values):
    """Return the words after ``geoseg``.

    Parameters
    ----------
    algorithm : dict
        Of parameters.json.
    values : dict
        By the name of the parameter; what is None, or the default, is not typed. An extent is (W, S, E, N),
        a layer (path, its name in there or None), several sources a list of texts.

    Examples
    --------
    >>> threshold = {"name": "threshold", "flag": "--threshold", "kind": "number", "default": None}
    >>> scene = {"name": "scene", "flag": None, "kind": "raster", "default": None}
    >>> algorithm = {"name": "predict", "parameters": [scene, threshold], "overwrite": True}
    >>> arguments(algorithm, {"scene": "-a.tif", "threshold": 0.4})
    ['predict', '--progress=json', '--overwrite', '--threshold=0.4', '--', '-a.tif']
    """
    typed = [algorithm["name"], "--progress=json", *(["--overwrite"] if algorithm["overwrite"] else [])]
    bare = []
    for parameter in algorithm["parameters"]:
        value = values.get(parameter["name"])
        if value is None or value == parameter["default"] or value in ("", []):
            continue
        if "layer" in parameter:
            value, layer = value if isinstance(value, tuple) else (value, None)
            typed += [] if layer is None else [f"{parameter['layer']}={layer}"]
        if parameter["flag"] is None:
            bare += value if isinstance(value, list) else [value]
        else:
            typed += _option(parameter, value)
    return [*typed, "--", *bare]


def _option(parameter, value):
    flag, kind = parameter["flag"], parameter["kind"]
    if kind == "flag":
        return [flag if value else parameter["off"]]
    if kind == "extent":
        return [flag, *(repr(float(edge)) for edge in value)]
    if kind == "several":
        return [f"{flag}={one}" for one in value.replace(",", " ").split()]
    return [f"{flag}={value}"]
