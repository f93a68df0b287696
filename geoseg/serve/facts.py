"""Scenes and layers as the page and other programs are told of them: plain values for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.serve.layers import Layer
from geoseg.serve.mercator import MOST_ZOOM, to_degrees
from geoseg.serve.scenes import LiveScene


def tilejson(
    name: str, url: str, bounds: tuple[float, float, float, float], least: int, most: int
) -> dict[str, Any]:
    """Return a TileJSON 3.0.0 of tiles within bounds in Web Mercator."""
    west, south, east, north = _degrees(bounds)
    center = [(west + east) / 2, (south + north) / 2, most]
    if west < -180 or east > 180:  # TileJSON knows no bounds across 180 degrees
        west, east, center[0] = -180.0, 180.0, (center[0] + 180) % 360 - 180
    return {
        "tilejson": "3.0.0",
        "name": name,
        "tiles": [url],
        "bounds": [west, south, east, north],
        "center": center,
        "minzoom": least,
        "maxzoom": max(least, min(MOST_ZOOM, most)),
    }


def scene_facts(live: LiveScene, base: str) -> dict[str, Any]:
    """Return what the page shows of a scene; addresses begin with `base`.

    Bounds of a scene across 180 degrees go on beyond them.
    """
    plan = live.plan
    return {
        "name": live.name,
        "size": [plan.scene.geobox.width, plan.scene.geobox.height],
        "resolution_m": plan.scene.resolution,
        "bounds": _degrees(live.place.bounds),
        "zoom": live.place.zoom,
        "imagery": f"{base}tiles/{live.name}.json",
        "prediction": f"{base}prediction/{live.name}.json",
        "model": plan.model_name,
        "classes": [{"id": one.id, "name": one.name, "color": list(one.color)} for one in plan.classes],
        "channels": list(plan.rule.channels),
        "threshold": plan.rule.threshold,
        "warnings": list(live.decision.remarks.warnings),
    }


def layer_facts(layer: Layer, base: str) -> dict[str, Any]:
    """Return what the page shows of a layer; addresses begin with `base`."""
    return {
        "name": layer.name,
        "features": layer.features,
        "bounds": layer.bounds and _degrees(layer.bounds),
        "tiles": f"{base}features/{layer.name}.json",
        "download": f"{base}features/{layer.name}/download",
    }


def _degrees(bounds: tuple[float, float, float, float]) -> list[float]:
    """Return bounds in Web Mercator as west, south, east, north in degrees."""
    degrees: list[float] = to_degrees(np.array(bounds).reshape(2, 2)).ravel().round(7).tolist()
    return degrees
