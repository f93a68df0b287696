"""The page that a result is checked on: pictures, outlines and keys in one HTML file that loads nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.evaluation.report.page import scene_picture
from geoseg.files import check_not_read, check_writable, replacing
from geoseg.labels.classes import text_of
from geoseg.labels.verdicts import keys_of
from geoseg.raster.pixels import apply_stretch, rgb_bands
from geoseg.raster.scene import close_scene, open_scene, read_patch, stretch_to_bytes
from geoseg.review import ReviewOptions
from geoseg.review.choice import Evidence, agreement, draw_sample
from geoseg.values import GeoBox, Window
from geoseg.vector.samples import Floats, Index
from geoseg.vectorfiles.crs import extents, place_in_pixels, way
from geoseg.vectorfiles.layers import VectorLayer, read_layer, repair

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

SIDE = 300
"""Rows of a picture at most, and a third more columns: larger objects are shown at a coarser resolution."""

ROOM, LEAST = 0.6, 96
"""Ground shown around an object, as a share of its larger side on either, and rows shown at least."""

_COLUMNS = ("id", "class_name", "confidence", "area_m2", "touches_edge")


@dataclass(frozen=True, slots=True)
class ReviewReport:
    """What was written."""

    file: str
    shown: int
    polygons: int
    outside: int

    @property
    def lines(self) -> list[str]:
        """Say it, one fact a line."""
        outside = f"; {self.outside:,} lie outside the scene" if self.outside else ""
        return [
            f"{self.shown:,} of {self.polygons:,} polygons to look at{outside}",
            f"wrote      {self.file}",
        ]


@dataclass(frozen=True, eq=False, slots=True)
class _Features:
    """The polygons of a layer that lie on the scene; all arrays have the shape (n,)."""

    keys: list[str]
    column: str
    placed: NDArray[np.object_]
    """In pixels of the scene."""
    degrees: NDArray[np.object_] | None
    """In longitude and latitude, where that is known."""
    points: NDArray[np.object_]
    """In each polygon, as `degrees`."""
    columns: dict[str, NDArray[Any]]
    outside: int


def write_review(
    path: Path,
    scene: str,
    out: Path,
    options: ReviewOptions,
    on_step: Callable[[float], None] = lambda done: None,
) -> ReviewReport:
    """Write a page on which the polygons of a layer are looked at one by one, and judged by a key.

    Parameters
    ----------
    path : Path
        Any vector file of polygons.
    scene : str
        What they are of: a raster that `open_scene` reads.
    out : Path
        ``*.html``; everything is in it, and it asks no network for anything.
    on_step : callable
        Called with the share that is done.

    Raises
    ------
    GeosegError
        If a file cannot be read or written, or no polygon lies on the scene.
    """
    if out.suffix.lower() not in {".html", ".htm"}:
        raise InvalidOption(f"{out}: review writes a page; its name must end in .html")
    check_writable(out, overwrite=options.overwrite)
    check_not_read(out, path)
    info = open_scene(scene)
    try:
        features = _read(path, info, options.layer)
        chosen, facts = _choose(features, info, options)
        items = []
        for number, item in enumerate(_items(features, info, chosen, facts), 1):
            items.append(item)
            on_step(number / len(chosen))
    finally:
        close_scene(info)
    page: dict[str, Any] = {
        "layer": path.name,
        "scene": info.name.rpartition("/")[2],
        "column": features.column,
        "polygons": len(features.keys),
        "random": options.sample is not None,
        "placed": features.degrees is not None,
        "items": items,
    }
    text = json.dumps(page, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    with replacing(out, overwrite=options.overwrite) as temporary:
        temporary.write_text(_rendered(page["layer"], text, digest), encoding="utf-8", newline="\n")
    return ReviewReport(str(out), len(items), len(features.keys), features.outside)


def _rendered(layer: str, data: str, digest: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(__package__, "templates"), autoescape=True, undefined=StrictUndefined
    )
    # Within a script only "<" can end it, or begin a comment.
    script = Markup(data.replace("<", "\\u003c"))
    page = environment.get_template("review.html.j2").render(layer=layer, data=script, digest=digest)
    return page.encode("utf-8", "replace").decode("utf-8")


def _read(path: Path, scene: SceneInfo, layer: str | None) -> _Features:
    found = read_layer(path, str(path), layer=layer, columns=_COLUMNS)
    whole, areal, _ = repair(found.geometries)
    whole[~areal] = shapely.Polygon()
    placed = _placed(found, whole, scene.geobox, str(path))
    box = scene.geobox
    inside = areal & shapely.intersects(placed, shapely.box(0, 0, box.width, box.height))
    if not inside.any():
        where = extents(whole[areal], found.crs, box) if areal.any() else "it holds none"
        raise InvalidOption(f"{path}: no polygon lies on {scene.name}: {where}")
    column, keys = keys_of(found.columns.get("id"), len(whole))
    kept = np.flatnonzero(inside)
    inner = shapely.point_on_surface(whole[kept])
    return _Features(
        [keys[i] for i in kept],
        column,
        placed[kept],
        None if found.crs is None else _in_degrees(whole[kept], found.crs),
        inner if found.crs is None else _in_degrees(inner, found.crs),
        {name: values[kept] for name, values in found.columns.items()},
        int(areal.sum()) - len(kept),
    )


def _placed(found: VectorLayer, whole: NDArray[np.object_], grid: GeoBox, name: str) -> NDArray[np.object_]:
    if (found.crs is None) != (grid.crs is None):
        raise InvalidOption(
            f"{name}: cannot be placed, since {'it' if found.crs is None else 'the scene'} has no CRS"
        )
    if found.crs is None:
        return np.asarray(shapely.transform(whole, grid.to_pixels), object)
    return np.asarray(place_in_pixels(whole, found.crs, grid, name), object)


def _in_degrees(polygons: NDArray[np.object_], crs: Any) -> NDArray[np.object_]:
    change = way(crs, "OGC:CRS84")
    return np.asarray(
        shapely.transform(polygons, lambda points: np.column_stack(change.transform(*points.T))), object
    )


def _choose(
    features: _Features, scene: SceneInfo, options: ReviewOptions
) -> tuple[Index, list[dict[str, Any]]]:
    """Return the polygons that are shown, in their order, and what the page says of why they are."""
    if options.sample is not None:
        chosen, stratum = draw_sample(shapely.area(features.placed), options.sample, options.seed)
        sizes = np.bincount(stratum)
        return chosen, [{"stratum": int(stratum[i]), "of": int(sizes[stratum[i]])} for i in chosen]
    evidence = _evidence(features, scene, options.older)
    chosen = np.argsort(-evidence.doubts(), kind="stable")[: options.count]
    reasons = evidence.reasons()
    return chosen, [{"reasons": reasons[i]} for i in chosen.tolist()]


def _evidence(features: _Features, scene: SceneInfo, older: Path | None) -> Evidence:
    total = len(features.keys)
    like = np.ones(total)
    if older is not None:
        found = read_layer(older, str(older), option=f"ogr2ogr older.gpkg {older}")
        whole, areal, _ = repair(found.geometries)
        like = agreement(features.placed, _placed(found, whole[areal], scene.geobox, str(older)))
    confidence = features.columns.get("confidence", np.full(total, np.nan))
    edge = features.columns.get("touches_edge", np.zeros(total, bool))
    return Evidence(features.placed, _numbers(confidence), np.array([bool(one) for one in edge]), like)


def _numbers(values: NDArray[Any]) -> Floats:
    """Return numbers; NaN for what is none."""

    def number(value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError):
            return float("nan")

    return np.array([number(value) for value in values], float)


def _items(
    features: _Features, scene: SceneInfo, chosen: Index, facts: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield what the page holds of each polygon."""
    bands = rgb_bands([band.color for band in scene.bands], [band.index for band in scene.bands])
    limits = stretch_to_bytes(scene, bands)
    tree = shapely.STRtree(features.placed)
    texts = {
        name: list(map(text_of, features.columns[name])) if name in features.columns else [""] * len(tree)
        for name in ("class_name", "confidence", "area_m2")
    }
    for i, more in zip(chosen.tolist(), facts, strict=True):
        grid, window = _view(features.placed[i], scene.geobox)
        patch = read_patch(scene, window, grid, bands)
        pixels = patch.pixels if limits is None else apply_stretch(patch.pixels, limits)
        scale = np.array([grid.width / scene.geobox.width, grid.height / scene.geobox.height])
        corners = np.array([window.col, window.row, window.col_stop, window.row_stop]) / np.tile(scale, 2)
        others = [features.placed[k] for k in tree.query(shapely.box(*corners)).tolist() if k != i]
        item = {
            "key": features.keys[i],
            "class": texts["class_name"][i],
            "confidence": texts["confidence"][i],
            "area": texts["area_m2"][i],
            "picture": scene_picture(np.where(patch.valid, pixels, 0).astype(np.uint8)),
            "size": [window.width, window.height],
            "outline": _drawn([features.placed[i]], scale, window),
            "others": _drawn(others, scale, window),
            **more,
        }
        if features.degrees is not None:
            rounded = shapely.set_precision(features.degrees[i], 1e-8)
            item["geometry"] = json.loads(shapely.to_geojson(rounded))
            item["place"] = shapely.get_coordinates(features.points[i])[0].round(7).tolist()
        yield item


def _view(polygon: shapely.Geometry, box: GeoBox) -> tuple[GeoBox, Window]:
    """Return the ground around an object, at a resolution at which it suits a picture."""
    left, top, right, bottom = shapely.bounds(polygon)
    side = max(LEAST, max(right - left, bottom - top) * (1 + 2 * ROOM))
    step = max(1, int(np.ceil(side / SIDE)))
    grid = box if step == 1 else box.resized(-(-box.height // step), -(-box.width // step))
    across, down = grid.width / box.width, grid.height / box.height
    rows = int(np.ceil(side / step))
    cols = rows * 4 // 3
    row, col = (top + bottom) / 2 * down - rows / 2, (left + right) / 2 * across - cols / 2
    window = Window(
        int(np.clip(row, 0, max(0, grid.height - rows))),
        int(np.clip(col, 0, max(0, grid.width - cols))),
        min(rows, grid.height),
        min(cols, grid.width),
    )
    return grid, window


def _drawn(polygons: Sequence[shapely.Geometry], scale: Floats, window: Window) -> str:
    """Return polygons as a path of SVG, in pixels of the picture.

    Examples
    --------
    >>> _drawn([shapely.box(2, 2, 4, 3)], np.ones(2), Window(1, 1, 9, 9))
    'M3 1L3 2L1 2L1 1Z'
    """
    rings = shapely.get_rings(shapely.get_parts(np.array(polygons, object)))
    paths = []
    for ring in rings:
        points = shapely.get_coordinates(ring)[:-1] * scale - (window.col, window.row)
        paths.append("M" + "L".join(f"{x:.1f} {y:.1f}".replace(".0", "") for x, y in points) + "Z")
    return "".join(paths)
