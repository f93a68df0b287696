"""Opening what is compared: truth, prediction, probabilities, scene, labelled area on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.evaluation.ground import grid_over
from geoseg.evaluation.layers import (
    Layer,
    Sources,
    attribute_words,
    open_source,
    prediction_layer,
    probabilities,
    settle_classes,
    truth_layer,
)
from geoseg.evaluation.options import DEFAULT_RESOLUTION_M, EvaluateOptions
from geoseg.evaluation.rasters import ProbabilityMap
from geoseg.evaluation.vectors import VectorFile, read_vector
from geoseg.values import ClassInfo, GeoBox, Window

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoseg.raster.describe import SceneInfo

__all__ = ["Compared", "Inputs", "Sources", "open_inputs"]


@dataclass(frozen=True, eq=False, slots=True)
class Compared:
    """What lies in one window of the grid.

    Parameters
    ----------
    truth, prediction : ndarray of uint8, shape (rows, cols)
        Class ids, 0 is the background.
    known : ndarray of bool, shape (rows, cols)
        In the truth and in the prediction, inside what is in question.
    levels : ndarray of uint8, shape (bands, rows, cols), or None
        Probabilities in steps of 1/250.
    """

    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    known: NDArray[np.bool_]
    levels: NDArray[np.uint8] | None


@dataclass(frozen=True, eq=False, slots=True)
class Inputs:
    """Everything on one grid, ready to be read window by window.

    Parameters
    ----------
    sources : Sources
    grid : GeoBox
    classes : tuple of ClassInfo
    truth, prediction : Layer
    probability : ProbabilityMap or None
    area : BaseGeometry or None
        Where the truth is complete, in pixels of the grid; None: everywhere.
    scene : SceneInfo or None
    notes : tuple of str
    """

    sources: Sources
    grid: GeoBox
    classes: tuple[ClassInfo, ...]
    truth: Layer
    prediction: Layer
    probability: ProbabilityMap | None
    area: BaseGeometry | None
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
            from geoseg.vectorfiles.aoi import aoi_mask

            known &= aoi_mask(self.area, window)
        if self.scene is not None and known.any():
            from geoseg.raster.scene import read_validity

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
    from geoseg.raster.scene import open_scene
    from geoseg.vectorfiles.aoi import read_aoi

    scene = None if sources.scene is None else open_scene(sources.scene)
    prediction = open_source(sources.prediction, None, ("class", "class_name"))
    truth = open_truth(sources.truth, options)
    grid, notes = _grid(scene, prediction, truth, options)
    words, table, more = settle_classes(sources, options, prediction, truth)
    notes += more
    if options.labelled_area is None:
        notes.append(_where(scene, prediction, truth))
    return Inputs(
        sources=sources,
        grid=grid,
        classes=table.classes,
        truth=truth_layer(truth, words, table, grid, options, notes),
        prediction=prediction_layer(prediction, table, grid, sources, options, notes),
        probability=probabilities(sources, prediction, table, grid),
        area=None if options.labelled_area is None else read_aoi(options.labelled_area, grid),
        scene=scene,
        notes=tuple(notes),
    )


def open_truth(path: str, options: EvaluateOptions) -> VectorFile | SceneInfo:
    """Open the truth.

    Raises
    ------
    GeosegError
        If it cannot be read, or has no such layer or attribute.
    """
    attribute = () if options.class_attribute is None else (options.class_attribute,)
    truth = open_source(path, options.layer, attribute)
    attribute_words(truth, options)
    return truth


def _grid(
    scene: SceneInfo | None,
    prediction: VectorFile | SceneInfo,
    truth: VectorFile | SceneInfo,
    options: EvaluateOptions,
) -> tuple[GeoBox, list[str]]:
    rasters = [source for source in (scene, prediction, truth) if not isinstance(source, VectorFile | None)]
    if rasters:
        if options.resolution is not None:
            raise InvalidOption(
                f"--resolution is for two vector files; here the grid is that of {rasters[0].name}"
            )
        return rasters[0].geobox, []
    assert isinstance(truth, VectorFile)
    resolution = options.resolution or DEFAULT_RESOLUTION_M
    ground = truth if options.labelled_area is None else read_vector(options.labelled_area)
    note = f"pixels of {resolution:g} m are compared, since both files are polygons (--resolution)"
    return grid_over(ground, resolution), [note]


def _where(scene: SceneInfo | None, prediction: VectorFile | SceneInfo, truth: VectorFile | SceneInfo) -> str:
    """Say where the truth is taken to be complete."""
    if scene is not None:
        place = f"in all of {scene.name}"
    elif not isinstance(prediction, VectorFile):
        place = f"wherever {prediction.name} has values"
    elif not isinstance(truth, VectorFile):
        place = "wherever it has values"
    else:
        place = "inside its bounding box"
    return f"no --labelled-area: the truth is taken to be complete {place}"
