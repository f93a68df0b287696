"""From a scene and its labels to ground, with every check that can be made before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely

from geoseg.errors import InvalidOption
from geoseg.prediction.fit import choose_bands
from geoseg.raster.drivers import HEAD, driver_of, remote_uri
from geoseg.raster.scene import SceneInfo, open_scene
from geoseg.raster.stretch import estimate_stretch
from geoseg.training.data.classes import ClassTable
from geoseg.training.data.footprints import Footprints, Labels
from geoseg.training.data.ground import MOST_MIRRORED, within
from geoseg.training.data.located import Located
from geoseg.training.data.masks import MaskFile, MaskLabels
from geoseg.training.data.scenes import SceneGround
from geoseg.training.data.spec import DataSpec, Draws, SceneSpec
from geoseg.training.data.vectors import read_polygons


def open_labelled(
    spec: SceneSpec, data: DataSpec, draws: Draws, base: Path, table: ClassTable
) -> tuple[Located, list[str]]:
    """Open a scene with its labels.

    Returns
    -------
    scene : Located
        A `SceneGround` over the whole scene.
    notes : list of str
        What a user should know, one line each.

    Raises
    ------
    UnreadableScene, InvalidOption
        If files cannot be read or do not fit together; see the package's ``read_data``.
    """
    source = spec.scene if remote_uri(spec.scene) else str(base / spec.scene)
    scene = open_scene(source)
    if scene.resolution is None:
        raise InvalidOption(
            f"{source}: has no CRS, or none with a place on the Earth: its ground resolution is unknown; "
            "write it again with its CRS, or use it as a chip with gsd_m"
        )
    _check_size(scene, scene.resolution, draws)
    how = ",".join(f"{name}={number}" for number, name in enumerate(data.bands, 1))
    bands = choose_bands(scene, data.bands, spec.bands, how)
    narrow = all(band.read_dtype == "uint8" for band in scene.bands if band.index in bands)
    limits = None if narrow else estimate_stretch(scene, bands)
    labels, notes = _labels(spec, data, base, table, scene)
    known = None if spec.labelled_area is None else _known(base / spec.labelled_area, scene)
    box = scene.geobox
    spots = within(labels.spots, box.window)
    if known is not None:
        spots = spots[known.touched(np.asarray(shapely.points(spots), object))]
    if spec.labels is not None and not len(spots):
        notes.append(f"{spec.title}: no label of an object lies on it; all of it counts as background")
    ground = SceneGround(
        spec.title, spec.title, scene, bands, limits, scene.resolution, labels, spots,
        box.window, known, weight=spec.weight,
    )  # fmt: skip
    return Located(ground, scene.uri, box), notes


def _labels(
    spec: SceneSpec, data: DataSpec, base: Path, table: ClassTable, scene: SceneInfo
) -> tuple[Labels, list[str]]:
    assert scene.resolution is not None
    if spec.labels is None:
        empty = Footprints(np.empty(0, object), np.empty(0, np.uint8), scene.resolution)
        return empty, []
    path = base / spec.labels
    if is_raster(path):
        mask = MaskFile.open(path, table, spec.mask_values)
        return MaskLabels.over(mask, scene.geobox, scene.name), []
    polygons = read_polygons(path, table, attribute=spec.class_attribute, layer=spec.layer)
    polygons.check_overlap(scene.geobox, scene.name)
    placed = polygons.over(scene.geobox, scene.resolution, data.touching_gap_m)
    return placed, list(polygons.notes)


def _known(path: Path, scene: SceneInfo) -> Footprints:
    assert scene.resolution is not None
    areas = read_polygons(path, None)
    areas.check_overlap(scene.geobox, scene.name)
    return areas.over(scene.geobox, scene.resolution, 0.0)


def is_raster(path: Path) -> bool:
    """Return whether labels are a mask, by the file's first bytes."""
    try:
        with path.open("rb") as file:
            return driver_of(file.read(HEAD)) is not None
    except OSError:
        return False  # the reader of vector files says what is wrong


def _check_size(scene: SceneInfo, pixel_m: tuple[float, float], draws: Draws) -> None:
    box = scene.geobox
    sides = box.width * pixel_m[0], box.height * pixel_m[1]
    needed = draws.crop * draws.smallest_m
    if needed > MOST_MIRRORED * min(sides):
        raise InvalidOption(
            f"{scene.name}: covers {sides[0]:.0f} x {sides[1]:.0f} m, a window of {draws.crop} pixels at "
            f"{draws.smallest_m:g} m needs {needed:.0f} m; give a smaller crop or a larger scene"
        )
