"""``geoseg predict``, ``plan`` and ``info``: one scene to polygons, what that would take, what a scene is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.cli.events import events, progress_option
from geoseg.cli.options import debug_option, json_option, one_scene, options_of, out_option, quiet_option
from geoseg.prediction.options import PredictOptions

if TYPE_CHECKING:
    from geoseg.prediction.estimate import Estimate
    from geoseg.raster.describe import SceneInfo
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
    from geoseg.raster.scene import sample

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


@click.command()
@one_scene
@out_option(
    "Polygons: .gpkg, .fgb, .parquet, .geojson, .geojsonl, .shp or .pmtiles; missing folders are made."
)
@options_of(PredictOptions)
@json_option
@progress_option
@quiet_option
@debug_option
def predict(scene: str, out: Path, as_json: bool, quiet: bool, **options: Any) -> int:
    """Segment SCENE and write georeferenced polygons.

    SCENE is a GeoTIFF or one of the other rasters of plain pixels that GDAL reads: a file, or a URL that you
    trust.

    \b
    Examples:
      geoseg predict scene.tif --out buildings.gpkg
      geoseg predict scene.tif --out roofs.parquet --aoi district.gpkg --threshold 0.4
      geoseg predict scene.tif --out land.gpkg --model models/mine --raster land.tif
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    chosen = PredictOptions(**options)
    return predict_file(scene, out, chosen, as_json=as_json, quiet=quiet)


def predict_file(scene: str, out: Path, options: PredictOptions, *, as_json: bool, quiet: bool) -> int:
    """Predict one scene, show how it goes, and return the exit code."""
    lines = events(quiet=quiet)
    from geoseg.prediction.session import predict_scene

    if lines is None:
        from geoseg.cli.progress import ProgressDisplay
    with lines or ProgressDisplay() as display:
        report = predict_scene(scene, out, options, on_event=display)
    display.summarize(report)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    return report.exit_code


@click.command()
@one_scene
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check that the polygons could be written there; nothing is.",
)
@options_of(PredictOptions)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@progress_option
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@debug_option
def plan(scene: str, out: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Show what geoseg predict would do with SCENE, and what it would take, without running it.

    The options are those of geoseg predict: give the same ones.

    \b
    Examples:
      geoseg plan scene.tif
      geoseg plan scene.tif --aoi district.gpkg --max-memory 1GB
    """  # noqa: D301 (click reads the escape, as the letter that it stands for)
    from geoseg.cli.progress import StatusDisplay
    from geoseg.prediction.estimate import estimate
    from geoseg.prediction.session import check_outputs

    chosen = PredictOptions(**options)
    check_outputs(scene, out, chosen)
    lines = events(quiet=quiet)
    with lines or StatusDisplay() as display:
        estimated = estimate(scene, chosen, display, out)
    if lines:
        lines.summarize(estimated)
    if as_json:
        click.echo(json.dumps({**estimated.as_json(), "crs": crs_facts(estimated.plan.scene.geobox)}))
    else:
        print_rows(rows(estimated))


def rows(estimated: Estimate) -> list[tuple[str, str]]:
    """Return labels and values for people."""
    plan, scene = estimated.plan, estimated.plan.scene
    down, across = plan.tiles.block_shape
    side, rows, cols = plan.tiles.block, len(plan.tiles.rows), len(plan.tiles.cols)
    bands = ", ".join(f"{name} {band}" for name, band in zip(plan.inputs.bands, plan.bands, strict=True))
    found = [
        ("scene", f"{scene.uri} ({scene.driver})"),
        ("size", f"{scene.geobox.width:,} × {scene.geobox.height:,} px{_of(scene.resolution)}"),
        ("CRS", crs_name(crs_facts(scene.geobox))),
        ("bands", bands),
        ("works on", _grid(estimated)),
        ("tiles", f"{cols:,} × {rows:,} of {plan.tiles.rows.size} px, {plan.tiles.rows.overlap} px overlap"),
        ("skipped", _skipped(estimated)),
        ("forward", f"{estimated.forward_ratio:.2f} pixels seen by the model for each pixel worked on"),
        ("blocks", f"{across:,} × {down:,} of up to {side} × {side} tiles, {_parallel(estimated)}"),
        ("model", plan.model_name),
        ("backend", f"{plan.precision} on {estimated.device} ({estimated.remarks.reason})"),
        ("batch", _count(estimated.resources.batch, "tile")),
        ("memory", _memory(estimated)),
        ("time", _time(estimated.seconds)),
    ]
    if plan.stretch is not None:
        pairs = ", ".join(f"{low:g}–{high:g}" for low, high in plan.stretch)
        found.insert(4, ("stretch", f"{pairs} to 0–255"))
    return [*found, *(("warning", text) for text in estimated.remarks.warnings)]


def _of(resolution: tuple[float, float] | None) -> str:
    if resolution is None:
        return ""
    across, down = (f"{metres:.3g}" for metres in resolution)
    return f" of {across} m" if across == down else f" of {across} × {down} m"


def _grid(estimated: Estimate) -> str:
    from geoseg.prediction.view import grid_resolution

    plan, scene = estimated.plan, estimated.plan.scene
    if plan.grid.shape == scene.geobox.shape:
        return "the scene's own pixels"
    resolution = grid_resolution(scene, plan.grid)
    return f"{plan.grid.width:,} × {plan.grid.height:,} px{_of(resolution)}, resampled"


def _skipped(estimated: Estimate) -> str:
    least, most = ("", "") if estimated.empty_is_all else ("at least ", " at most")
    empty = f"{least}{_count(estimated.empty, 'tile')} without data or outside" if estimated.empty else "none"
    known = " known beforehand" if most and not estimated.empty else ""
    return f"{empty}{known}; {estimated.tiles:,} to infer{most}"


def _count(number: int, thing: str, plural: str = "s") -> str:
    return f"{number:,} {thing}{'' if number == 1 else plural}"


def _parallel(estimated: Estimate) -> str:
    resources = estimated.resources
    if resources.scheduler is not None:
        return f"on the cluster at {resources.scheduler}"
    processes = "" if resources.workers is None else f"{_count(resources.workers, 'process', 'es')} of "
    return f"up to {resources.in_flight} at once on {processes}{_count(resources.threads, 'thread')}"


def _memory(estimated: Estimate) -> str:
    from geoseg.cli.progress import megabytes

    parts = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in estimated.memory.items())
    return f"{megabytes(sum(estimated.memory.values()))}: {parts}"


def _time(seconds: float | None) -> str:
    from geoseg.cli.progress import duration

    if seconds is None:
        return "unknown on a cluster"
    return f"about {duration(seconds)}, by a few tiles measured on this machine"
