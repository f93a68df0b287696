"""Opening what is compared: truth, prediction, probabilities, scene, labelled area on one grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.evaluation import DEFAULT_RESOLUTION_M, EvaluateOptions
from geoseg.evaluation.layers import (
    Layer,
    Sources,
    find_classes,
    open_source,
    prediction_layer,
    probabilities,
    truth_layer,
)
from geoseg.labels.masks import ProbabilityMap, read_nearest
from geoseg.labels.places import box_of
from geoseg.labels.polygons import Polygons, read_polygons
from geoseg.raster.pixels import rgb_bands
from geoseg.raster.scene import open_scene, read_validity
from geoseg.values import ClassInfo, GeoBox, Window
from geoseg.vectorfiles.aoi import aoi_mask, read_aoi
from geoseg.vectorfiles.crs import check_degrees, way, without_crs

if TYPE_CHECKING:
    import pyproj
    from shapely.geometry.base import BaseGeometry

    from geoseg.raster.describe import SceneInfo

__all__ = ["Compared", "Inputs", "Sources", "open_inputs", "open_truth", "tile_layers"]


@dataclass(frozen=True, eq=False, slots=True)
class Compared:
    """What lies in one window of the grid."""

    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    """`truth`, `prediction`: uint8, shape (rows, cols). Class ids, 0 is the background."""
    known: NDArray[np.bool_]
    """bool, shape (rows, cols). In the truth and in the prediction, inside what is in question."""
    levels: NDArray[np.uint8] | None = None
    """uint8, shape (bands, rows, cols), or None. Probabilities in steps of 1/250."""
    scene: NDArray[np.uint8] | None = None
    """uint8, shape (3, rows, cols), or (1, rows, cols) where it is grey, or None. Red, green, blue; None
    without a scene, or where it was not asked for."""


@dataclass(frozen=True, eq=False, slots=True)
class Inputs:
    """Everything on one grid, ready to be read window by window."""

    sources: Sources
    grid: GeoBox
    classes: tuple[ClassInfo, ...]
    truth: Layer
    prediction: Layer
    probability: ProbabilityMap | None
    area: BaseGeometry | None
    """Where the truth is complete, in pixels of the grid; None: everywhere."""
    scene: SceneInfo | None
    notes: tuple[str, ...]

    def read(self, window: Window) -> Compared:
        """Read everything over a window of the grid.

        Raises
        ------
        UnreadableScene
        InvalidOption
            If a raster holds values without a meaning.
        """
        truth, known = self.truth.read(window)
        prediction, predicted = self.prediction.read(window)
        known = known & predicted & self._in_question(window)
        levels = None
        if self.probability is not None:  # nothing was predicted where there is no probability
            levels, rated = self.probability.levels(window)
            known &= rated
        return Compared(truth, prediction, known, levels)

    def _in_question(self, window: Window) -> NDArray[np.bool_]:
        """Return True where pixels lie in the labelled area and in the scene's valid part."""
        known = np.ones(window.shape, bool)
        if self.area is not None:
            known &= aoi_mask(self.area, window)
        if self.scene is not None and known.any():
            known &= read_validity(self.scene, window, [band.index for band in self.scene.bands])
        return known


def open_inputs(sources: Sources, options: EvaluateOptions) -> Inputs:
    """Open what is compared and put it on one grid.

    The grid is the scene's; without a scene that of a raster prediction, else that of a raster
    truth; of two vector files one of ``options.resolution`` over the labelled area, or over the
    bounding box of the truth.

    Raises
    ------
    GeosegError
        For whatever cannot be read or does not fit together; one line.
    """
    scene = None if sources.scene is None else open_scene(sources.scene)
    prediction = open_source(
        sources.prediction,
        "--prediction-layer",
        options.prediction_layer,
        ("class", "class_name", "confidence"),
    )
    truth = open_truth(sources.truth, options)
    grid, notes = _grid(scene, prediction, truth, options)
    table, more = find_classes(sources, options, prediction, truth)
    notes += more
    if options.labelled_area is None:
        area = None
        notes.append(_where(scene, prediction, truth))
    else:
        layer, option = options.labelled_area_layer, "--labelled-area-layer"
        area = read_aoi(options.labelled_area, grid, layer=layer, option=option)
    return Inputs(
        sources=sources,
        grid=grid,
        classes=table.classes,
        truth=truth_layer(truth, sources.truth, table, grid, options, notes),
        prediction=prediction_layer(prediction, table, grid, sources, options, notes),
        probability=probabilities(sources, prediction, table, grid),
        area=area,
        scene=scene,
        notes=tuple(notes),
    )


def open_truth(path: str, options: EvaluateOptions) -> Polygons | SceneInfo:
    """Open the truth.

    Raises
    ------
    GeosegError
        If it cannot be read, or has no such layer or attribute.
    """
    columns = () if options.class_attribute is None else (options.class_attribute,)
    truth = open_source(path, "--truth-layer", options.truth_layer, columns, options.ignore_layer)
    if isinstance(truth, Polygons):
        for column in columns:
            truth.values(column)
    return truth


def _grid(
    scene: SceneInfo | None,
    prediction: Polygons | SceneInfo,
    truth: Polygons | SceneInfo,
    options: EvaluateOptions,
) -> tuple[GeoBox, list[str]]:
    rasters = [source for source in (scene, prediction, truth) if not isinstance(source, Polygons | None)]
    if rasters:
        if options.resolution is not None:
            raise InvalidOption(
                f"--resolution is for two vector files; here the grid is that of {rasters[0].name}"
            )
        return rasters[0].geobox, []
    assert isinstance(truth, Polygons)
    resolution = options.resolution or DEFAULT_RESOLUTION_M
    ground = truth
    if options.labelled_area is not None:
        layer, option = options.labelled_area_layer, "--labelled-area-layer"
        ground = read_polygons(options.labelled_area, layer=layer, option=option)
    note = f"pixels of {resolution:g} m are compared, since both files are polygons (--resolution)"
    return grid_over(ground, resolution), [note]


def _where(scene: SceneInfo | None, prediction: Polygons | SceneInfo, truth: Polygons | SceneInfo) -> str:
    """Say where the truth is taken to be complete."""
    if scene is not None:
        place = f"in all of {scene.name}"
    elif not isinstance(prediction, Polygons):
        place = f"wherever {prediction.name} has values"
    elif not isinstance(truth, Polygons):
        place = "wherever it has values"
    else:
        place = "inside its bounding box"
    return f"no --labelled-area: the truth is taken to be complete {place}"


def grid_over(file: Polygons, resolution_m: float) -> GeoBox:
    """Return a grid over the bounding box of polygons, in the UTM zone (or UPS) of its centre.

    Parameters
    ----------
    file : Polygons
        The labelled area, or the truth.
    resolution_m : float
        Side of a pixel in metres of the projection: within 0.1 % of the ground's inside the zone.

    Raises
    ------
    InvalidOption
        If there are no polygons, no CRS, or the box cannot be projected.
    """
    import pyproj

    if not len(file.parts):
        raise InvalidOption(f"{file.name}: holds no polygons, so it does not say where to compare")
    if file.crs is None:
        raise without_crs(Path(file.name))
    check_degrees(file.parts, file.crs, None, file.name)
    bounds = shapely.total_bounds(file.parts)
    geodetic = pyproj.CRS.from_epsg(4326)
    west, south, east, north = _bounds(bounds, file.crs, geodetic, file.name)
    target = _metric_crs((west + east) / 2, (south + north) / 2)
    left, bottom, right, top = _bounds(bounds, file.crs, target, file.name)
    width = max(1, math.ceil((right - left) / resolution_m))
    height = max(1, math.ceil((top - bottom) / resolution_m))
    transform = (resolution_m, 0.0, left, 0.0, -resolution_m, top)
    return GeoBox(height, width, transform, target.to_wkt())


def _bounds(
    bounds: np.ndarray[tuple[int], np.dtype[np.float64]], crs: pyproj.CRS, target: pyproj.CRS, name: str
) -> tuple[float, float, float, float]:
    change = way(crs, target)
    west, south, east, north = bounds.tolist()
    moved = change.transform_bounds(west, south, east, north)
    if not np.isfinite(moved).all():
        raise InvalidOption(f"{name}: lies where its CRS ({crs.name}) is not defined")
    return moved


def _metric_crs(longitude: float, latitude: float) -> pyproj.CRS:
    import pyproj

    if abs(latitude) > 84:
        return pyproj.CRS.from_epsg(32661 if latitude > 0 else 32761)
    zone = min(int((longitude + 180) // 6) % 60, 59) + 1
    return pyproj.CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)


def tile_layers(inputs: Inputs, window: Window) -> Compared:
    """Read what was compared in one window inside the grid, and the scene for people to look at.

    Raises
    ------
    UnreadableScene
    """
    return replace(inputs.read(window), scene=_scene_rgb(inputs, window))


def _scene_rgb(inputs: Inputs, window: Window) -> NDArray[np.uint8] | None:
    """Return the scene over a window for people to look at, uint8, shape (1 or 3, rows, cols)."""
    if inputs.scene is None:
        return None
    pixels, valid = read_nearest(inputs.scene, inputs.grid, box_of(window), window.shape)
    shown = pixels[list(rgb_bands([band.color for band in inputs.scene.bands], range(len(pixels))))]
    if shown.dtype != np.uint8 and valid.any():  # between its 2nd and 98th percentile
        values = shown.astype(np.float64)
        low, high = np.percentile(values[:, valid], [2, 98])
        shown = np.clip((values - low) / max(high - low, 1e-12) * 255, 0, 255)
    return np.where(valid, shown, 0).astype(np.uint8)
