"""Where something is, in words: a CRS by its name, a place by its coordinates."""

from __future__ import annotations

import math
import re

from geoseg.evaluation.report.numbers import count, figure
from geoseg.evaluation.result import Evaluation, WorstTile


def crs_name(crs: str | None) -> str:
    """Return a CRS as ``EPSG:32632, WGS 84 / UTM zone 32N``; without a code, its name alone.

    Parameters
    ----------
    crs : str or None
        As in `geoseg.values.GeoBox`; None: pixel coordinates.
    """
    if crs is None:
        return "none: pixel coordinates"
    import pyproj

    system = pyproj.CRS.from_user_input(crs)
    authority = system.to_authority()
    return f"{':'.join(authority)}, {system.name}" if authority else system.name


def last_name(path: str) -> str:
    """Return the last part of a path of any system; a name without parts as it is."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def center(evaluation: Evaluation, tile: WorstTile) -> str:
    """Return the middle of a tile in the grid's CRS, with decimals for a tenth of a pixel.

    Enough to find it with a GIS; a geographic CRS is given as x, y too, in this order.
    """
    a, b, _, d, e, _ = evaluation.grid.transform
    step = max(math.hypot(a, d), math.hypot(b, e))
    digits = min(9, max(0, 1 - math.floor(math.log10(step)))) if step > 0 and math.isfinite(step) else 2
    x, y = tile.center
    return f"x {x:.{digits}f}, y {y:.{digits}f}"


def ground(evaluation: Evaluation, pixels: int) -> str:
    """Return a number of pixels in words, with their ground in square metres if that is known."""
    text = f"{count(pixels)}\u00a0px"
    if evaluation.resolution_m is None or not pixels:
        return text
    across, down = evaluation.resolution_m
    return f"{text} ({figure(pixels * across * down, digits=0, unit='m²').text})"
