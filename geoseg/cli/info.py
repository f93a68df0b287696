"""``geoseg info``: what geoseg sees in a scene."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from geoseg.raster.scene import SceneInfo
    from geoseg.values import GeoBox


@click.command()
@click.argument("scene")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(scene: str, as_json: bool) -> None:
    """Show what geoseg sees in SCENE: CRS, resolution, bands, which pixels are data."""
    from geoseg.raster.scene import open_scene

    facts = _facts(open_scene(scene))
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    print_rows(_rows(facts))


def _facts(scene: SceneInfo) -> dict[str, Any]:
    """Return what there is to say, ready for JSON."""
    box = scene.geobox
    a, b, _, d, e, _ = box.transform
    return {
        "scene": scene.uri,
        "driver": scene.driver,
        "width": box.width,
        "height": box.height,
        "crs": crs_facts(box),
        "transform": list(box.transform),
        "pixel_size": [math.hypot(a, d), math.hypot(b, e)],
        "resolution_m": list(scene.resolution) if scene.resolution else None,
        "bands": [
            {
                "index": band.index,
                "dtype": band.dtype,
                "color": band.color,
                # JSON has no NaN or infinity.
                "nodata": band.nodata
                if band.nodata is None or math.isfinite(band.nodata)
                else str(band.nodata),
                "scale": band.scale,
                "offset": band.offset,
                "description": band.description,
            }
            for band in scene.bands
        ],
        "palette": scene.palette is not None,
        "validity": list(scene.validity),
        "valid_percent": _valid_percent(scene),
        "block_shape": list(scene.block_shape),
        "overviews": [list(shape) for shape in scene.overviews],
        "fingerprint": scene.fingerprint,
        "warnings": list(scene.warnings),
    }


def crs_facts(box: GeoBox) -> dict[str, str | None] | None:
    """Return name, authority and unit of a grid's CRS; None without one."""
    if box.crs is None:
        return None
    import pyproj

    crs = pyproj.CRS.from_user_input(box.crs)
    authority = crs.to_authority()
    return {
        "name": crs.name,
        "authority": ":".join(authority) if authority else None,
        "unit": crs.axis_info[0].unit_name if crs.axis_info else None,
    }


def crs_name(facts: dict[str, str | None] | None) -> str:
    """Return a CRS in a few words, from what `crs_facts` says."""
    if facts is None:
        return "none"
    authority = f"({facts['authority']})" if facts["authority"] else None
    return " ".join(filter(None, (facts["name"], authority)))


def _valid_percent(scene: SceneInfo) -> float:
    from geoseg.raster.stretch import sample

    if not scene.validity:
        return 100.0
    bands = [band.index for band in scene.bands[:3]]
    parts = [(int(patch.valid.sum()), patch.valid.size) for patch in sample(scene, bands)]
    return round(100 * sum(valid for valid, _ in parts) / sum(size for _, size in parts), 2)


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return labels and values for people."""
    crs, metres = facts["crs"], facts["resolution_m"]
    unit = (crs["unit"] or "") if crs else "pixels"
    height, width = facts["block_shape"]
    overviews = ", ".join(f"{cols} x {rows}" for rows, cols in facts["overviews"])
    sources = ", ".join(facts["validity"])
    return [
        ("scene", f"{facts['scene']} ({facts['driver']})"),
        ("size", f"{facts['width']} x {facts['height']} pixels"),
        ("CRS", crs_name(crs)),
        ("pixel", f"{_pair(facts['pixel_size'])} {unit}".rstrip()),
        ("resolution", f"{_pair(metres)} m on the ground" if metres else "unknown"),
        *((f"band {band['index']}", _band(band)) for band in facts["bands"]),
        (
            "validity",
            f"{facts['valid_percent']:g} % of the pixels are data ({sources or 'nothing excludes any'})",
        ),
        ("blocks", f"{width} x {height}"),
        ("overviews", overviews or "none"),
        *(("warning", text) for text in facts["warnings"]),
    ]


def _band(band: dict[str, Any]) -> str:
    parts = [band["dtype"], band["color"]]
    if band["description"]:
        parts.append(f'"{band["description"]}"')
    if band["nodata"] is not None:
        nodata = band["nodata"]
        parts.append(f"nodata {nodata if isinstance(nodata, str) else f'{nodata:g}'}")
    if (band["scale"], band["offset"]) != (1, 0):
        parts.append(f"x {band['scale']:g} + {band['offset']:g}")
    return ", ".join(parts)


def _pair(values: list[float]) -> str:
    across, down = (f"{value:.6g}" for value in values)
    return across if across == down else f"{across} x {down}"


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print labels and values on stdout; a label may repeat, warnings stand out."""
    width = max(len(label) for label, _ in rows)
    for label, value in rows:  # without colours where stdout is no terminal
        shown = click.style(f"{label:<{width}}", fg="yellow" if label == "warning" else None, bold=True)
        click.echo(f"{shown}  {value}")
