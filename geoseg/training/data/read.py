"""Reading all that a recipe names, and refusing, before the first epoch, what cannot be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption, suggest
from geoseg.labels.classes import ClassTable
from geoseg.labels.footprints import Footprints
from geoseg.labels.masks import Mask, check_placeable, open_mask
from geoseg.labels.places import Box, carry, check_overlap
from geoseg.labels.polygons import is_vector, need_polygons, read_labelled, read_polygons
from geoseg.labels.verdicts import read_verdicts
from geoseg.prediction.view import choose_bands
from geoseg.raster.describe import SceneInfo
from geoseg.raster.drivers import remote_uri
from geoseg.raster.scene import open_scene, stretch_to_bytes
from geoseg.training.data.chips import read_chips
from geoseg.training.data.ground import MOST_MIRRORED, Ground, Labels, Located, SceneGround, within
from geoseg.training.data.holdout import Split, hold_out
from geoseg.training.data.sampler import permitted
from geoseg.training.data.spec import DataSpec, Draws, SceneSpec, ValidationSpec
from geoseg.values import GeoBox, Window

__all__ = ["Split", "read_data"]


def read_data(data: DataSpec, validation: ValidationSpec, draws: Draws, base: Path) -> Split:
    """Open the scenes, read the chips, and set the validation ground apart.

    Parameters
    ----------
    data, validation, draws
        Sections of a recipe.
    base : Path
        Folder that paths are relative to.

    Raises
    ------
    UnreadableScene
        If a picture or mask is missing or broken.
    InvalidOption
        If labels are empty, without or with a wrong CRS, elsewhere than their scene, beyond repair or
        of an unknown class; a mask has another size or an unknown value; a scene is smaller than a
        window; a validation place or tier is not there; or nothing with objects is left to train on.
    """
    table = data.table
    located: list[Located] = []
    notes: list[str] = []
    for scene in data.scenes:
        one, said = open_labelled(scene, data, draws, base, table)
        located.append(one)
        notes += said
    for chips in data.chips:
        found, said = read_chips(chips, data, base, table)
        located += found
        notes += said
    split = hold_out(located, validation)
    training, small = _large_enough(_of_tiers(split.training, data.tiers), draws)
    for ground in training:
        _check_room(ground, draws)
    if not any(ground.has_objects for ground in training):
        raise InvalidOption("no ground with objects is left for training: all labels are held out or empty")
    return Split(training, split.validation, (*notes, *split.notes, *small))


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
    limits = stretch_to_bytes(scene, bands)
    labels, notes = _labels(spec, data, base, table, scene)
    known = _known(spec, base, scene, labels)
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
    if not is_vector(path):
        if spec.verdicts is not None:
            raise InvalidOption(f"{path}: is a mask, and verdicts are on polygons; leave out the verdicts")
        mask = open_mask(path, table, spec.mask_values, "mask_values", zero=True)
        return MaskLabels.over(mask, scene.geobox, scene.name), []
    said = None if spec.verdicts is None else read_verdicts(base / spec.verdicts)
    polygons, ids = read_labelled(path, table, spec.class_attribute, spec.labels_layer, verdicts=said)
    polygons.check_overlap(scene.geobox, scene.name)
    placed = polygons.over(ids, scene.geobox, scene.resolution, data.touching_gap_m)
    return placed, list(polygons.notes)


def _known(spec: SceneSpec, base: Path, scene: SceneInfo, labels: Labels) -> Footprints | None:
    if spec.verdicts is not None and isinstance(labels, Footprints):
        return Footprints(labels.polygons, np.ones(len(labels.polygons), np.uint8), labels.pixel_m)
    if spec.labelled_area is None:
        return None
    assert scene.resolution is not None
    path, layer = base / spec.labelled_area, spec.labelled_area_layer
    areas = need_polygons(read_polygons(path, layer=layer, option="--labelled-area-layer"))
    areas.check_overlap(scene.geobox, scene.name)
    return areas.over(np.ones(len(areas.parts), np.uint8), scene.geobox, scene.resolution, 0.0)


def _check_size(scene: SceneInfo, pixel_m: tuple[float, float], draws: Draws) -> None:
    box = scene.geobox
    sides = box.width * pixel_m[0], box.height * pixel_m[1]
    needed = draws.crop * draws.smallest_m
    if needed > MOST_MIRRORED * min(sides):
        raise InvalidOption(
            f"{scene.name}: covers {sides[0]:.0f} x {sides[1]:.0f} m, a window of {draws.crop} pixels at "
            f"{draws.smallest_m:g} m needs {needed:.0f} m; give a smaller crop or a larger scene"
        )


def _of_tiers(grounds: tuple[Ground, ...], tiers: tuple[str, ...]) -> tuple[Ground, ...]:
    there = {ground.facts.get("tier", "") for ground in grounds}
    for word in tiers:
        if word not in there:
            raise InvalidOption(
                f"data.tiers: nothing to train on has tier {word!r}; {suggest(word, sorted(there))}"
            )
    return tuple(one for one in grounds if not tiers or one.facts.get("tier", "") in tiers)


def _large_enough(grounds: tuple[Ground, ...], draws: Draws) -> tuple[tuple[Ground, ...], list[str]]:
    """Leave out the pictures that a window would mostly mirror."""
    needed = draws.crop * draws.smallest_m / MOST_MIRRORED
    small = [
        ground
        for ground in grounds
        if min(ground.shape[0] * ground.pixel_m[1], ground.shape[1] * ground.pixel_m[0]) < needed
    ]
    if not small:
        return grounds, []
    sources = ", ".join(f"{name} ({n})" for name, n in Counter(one.source for one in small).items())
    note = f"{len(small)} chips are smaller than {needed:.0f} m, too small for a window, and are left out"
    left = {id(one) for one in small}
    return tuple(one for one in grounds if id(one) not in left), [f"{note}: {sources}"]


def _check_room(ground: Ground, draws: Draws) -> None:
    if not isinstance(ground, SceneGround) or not ground.narrowed:
        return
    if not permitted(ground, ground.grid(draws.smallest_m), draws.crop):
        size = f"a window of {draws.crop * draws.smallest_m:.0f} m"
        raise InvalidOption(
            f"{ground.name}: what is held out or not labelled leaves no room for {size} in "
            f"{min(ground.shape) * ground.gsd_m:.0f} m; hold out less, give larger blocks or a smaller crop"
        )


_CELL = 32
"""Side in pixels of the squares of a mask that are looked at for objects."""

_STRIP = 1 << 22
"""Pixels of a mask that are held at a time while it is looked through."""


@dataclass(frozen=True, eq=False, slots=True)
class MaskLabels:
    """A mask as the truth over a scene."""

    mask: Mask
    """Class ids by value."""
    scene: GeoBox
    """Native pixels of the scene."""
    spots: NDArray[np.float64]
    """float64, shape (n, 2). Centres of squares of the mask with objects, native pixels of the scene (col,
    row)."""

    @classmethod
    def over(cls, mask: Mask, scene: GeoBox, name: str) -> MaskLabels:
        """Look a mask through, once, in strips.

        Raises
        ------
        InvalidOption
            If it has a CRS and the scene has none, or the other way round, and another size; or a
            value that stands for no class; or if they do not meet.
        """
        check_placeable(mask.geobox, scene, mask.name, name)
        if mask.geobox.crs is not None and scene.crs is not None:
            check_overlap(mask.name, mask.geobox, scene, name)
        found = [carry(cells, mask.geobox, scene) for cells in _objects(mask)]
        spots = np.concatenate([np.empty((0, 2)), *found])
        inside = ((spots >= 0) & (spots < (scene.width, scene.height))).all(axis=1)
        return cls(mask, scene, spots[inside])

    def burn(self, box: Box, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the mask's classes under the centres of pixels that part the box; `IGNORE` beyond it."""
        return self.mask.over(self.scene, box, shape).astype(np.uint8)  # UNKNOWN becomes IGNORE


def _objects(mask: Mask) -> Iterator[NDArray[np.float64]]:
    """Yield centres (col, row) of cells with objects, strip by strip."""
    height, width = mask.geobox.shape
    rows = max(1, _STRIP // (width * _CELL)) * _CELL
    for top in range(0, height, rows):
        labels = mask.read(Window(top, 0, min(rows, height - top), width))
        row, col = np.nonzero(labels > 0)
        cells = np.unique(np.column_stack([col // _CELL, row // _CELL]), axis=0)
        yield np.asarray((cells + 0.5) * _CELL + (0, top), np.float64)
