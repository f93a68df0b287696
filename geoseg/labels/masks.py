"""Rasters of class ids or probabilities: on their own grid or any other, the nearest value counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.labels.classes import UNKNOWN, ClassTable, Ids, text_of, translate
from geoseg.labels.places import Box, box_of, pixel_centers, same_grid
from geoseg.metrics.pixels import to_levels
from geoseg.raster.describe import Band, SceneInfo
from geoseg.raster.encoding import read_facts
from geoseg.raster.scene import open_scene, read_patch
from geoseg.values import GeoBox, Window

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

_PART = 512
"""Side of the windows that are looked up at a time."""

_MOST = 1 << 26
"""Source pixels read for one of them at most: a mask far finer than the grid is refused."""

_ROUNDING = 1e-6
"""Pixels: a centre on the border between two pixels belongs to the right or lower one."""


@dataclass(frozen=True, eq=False, slots=True)
class Mask:
    """A raster of class ids."""

    scene: SceneInfo
    """The raster, its palette put aside."""
    name: str
    """What the user called it."""
    meanings: Mapping[int, int]
    """What each value means: a class id, 0 for the background, or `UNKNOWN`."""
    advice: str
    """What to do about a value without a meaning."""

    @property
    def geobox(self) -> GeoBox:
        """Its own grid."""
        return self.scene.geobox

    def read(self, window: Window) -> Ids:
        """Return what lies in a window of its own grid; see `over`."""
        return self.over(self.geobox, box_of(window), window.shape)

    def over(self, grid: GeoBox, box: Box, shape: tuple[int, int]) -> Ids:
        """Return the class under the centres of pixels that part a box of any grid evenly.

        `UNKNOWN` where the raster is not, where it says nothing (nodata, mask, NaN), and where the
        meaning says so.

        Parameters
        ----------
        grid : GeoBox
            With a CRS if the raster has one, or of the raster's size.
        box : Box
            In pixels of `grid`.
        shape : (rows, cols)
            Of the result.

        Raises
        ------
        InvalidOption
            If the raster holds a value without a meaning.
        UnreadableScene
        """
        pixels, valid = read_nearest(self.scene, grid, box, shape)
        found = np.full(shape, UNKNOWN, np.int16)
        try:
            found[valid] = translate(pixels[0][valid], self.meanings)
        except ValueError as error:
            raise InvalidOption(
                f"{self.name}: holds the value {error}, which is no class; {self.advice}"
            ) from None
        return found


def open_mask(
    path: str | Path, table: ClassTable, values: Mapping[Any, Any] | None, option: str, *, zero: bool = False
) -> Mask:
    """Look at a raster whose values are class ids.

    Its nodata value says nothing, unless it is given a meaning.

    Parameters
    ----------
    path : str or Path
        Any raster that `open_scene` reads.
    table : ClassTable
        The classes.
    values : mapping or None
        What values mean, see `ClassTable.numbers`. None: 255 is the class where there is only one,
        else unknown, and the ids of classes stand for them.
    option : str
        Where `values` come from, for messages.
    zero : bool
        0 is background even where it is the nodata value: many tools tag it so.

    Raises
    ------
    UnreadableScene
        If GDAL cannot read it.
    InvalidOption
        If it has several bands, or `values` names a class that does not exist.
    """
    scene = open_labels(path)
    if len(scene.bands) > 1:
        raise InvalidOption(
            f"{path}: has {len(scene.bands)} bands, which is a picture; labels have one band of class ids "
            f"(gdal_translate -b 1 {scene.name} labels.tif takes the first)"
        )
    band = scene.bands[0]
    meanings = table.numbers(values or {}, option)
    if values is None:
        meanings = {255: table.ids[0] if len(table.ids) == 1 else UNKNOWN} | meanings
    named = {text_of(value) for value in values or ()} | ({"0"} if zero else set())
    if band.nodata is not None and text_of(band.nodata) in named:
        scene = dataclasses.replace(scene, bands=(dataclasses.replace(band, nodata=None),))
    known = ", ".join(str(value) for value in sorted(meanings))
    advice = (
        f"{option} knows {known} (classes: {table.text}); if values number objects, make polygons of them: "
    )
    return Mask(scene, str(path), meanings, f"{advice}geoseg labels import")


def open_labels(path: str | Path) -> SceneInfo:
    """Open a raster whose values are labels: a palette only colours them.

    Raises
    ------
    UnreadableScene
    """
    scene = open_scene(path)
    if scene.palette is None:
        return scene
    index = Band(1, "uint8", scene.bands[0].nodata, color="palette")
    return dataclasses.replace(scene, palette=None, bands=(index,))


def check_placeable(box: GeoBox, grid: GeoBox, name: str, other: str) -> None:
    """Check that a raster can be laid over a grid: by their CRSs, else pixel by pixel.

    Raises
    ------
    InvalidOption
        If only one of them has a CRS, and they differ in size.
    """
    if (box.crs is None) != (grid.crs is None) and box.shape != grid.shape:
        raise InvalidOption(
            f"{name}: has {'no' if box.crs is None else 'a'} CRS, unlike {other}, and another size "
            f"({box.width} x {box.height}, not {grid.width} x {grid.height} pixels)"
        )


def read_nearest(
    scene: SceneInfo, grid: GeoBox, box: Box, shape: tuple[int, int]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Read all bands of a raster under the centres of pixels that part a box of any grid evenly.

    Returns
    -------
    pixels : ndarray, shape (bands, rows, cols)
    valid : ndarray of bool, shape (rows, cols)
        False outside the raster.

    Raises
    ------
    InvalidOption
        If the raster has far more pixels in there than are asked for.
    UnreadableScene
    """
    bands = [band.index for band in scene.bands]
    own = scene.geobox
    window = _whole_pixels(box, shape)
    if window is not None and own.shape == grid.shape and _on_each_other(own, grid):
        patch = read_patch(scene, window, own, bands)
        return patch.pixels, patch.valid
    pixels = np.zeros((len(bands), *shape), np.result_type(*(band.read_dtype for band in scene.bands)))
    valid = np.zeros(shape, bool)
    for part, piece in _parts(box, shape):
        cols, rows = (
            np.floor(np.clip(np.nan_to_num(found, nan=-9.0), -9, 2**40) + _ROUNDING).astype(np.int64)
            for found in pixel_centers(piece, part.shape, grid, own)
        )
        inside = (rows >= 0) & (rows < own.height) & (cols >= 0) & (cols < own.width)
        if not inside.any():
            continue
        rows, cols = rows[inside], cols[inside]
        top, left = int(rows.min()), int(cols.min())
        source = Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
        if source.height * source.width > _MOST:
            raise InvalidOption(
                f"{scene.name}: is far finer than what it is compared with; resample it first"
            )
        patch = read_patch(scene, source, own, bands)
        pixels[:, *part.slices][:, inside] = patch.pixels[:, rows - top, cols - left]
        valid[part.slices][inside] = patch.valid[rows - top, cols - left]
    return pixels, valid


def _on_each_other(one: GeoBox, other: GeoBox) -> bool:
    return (one.crs is None) != (other.crs is None) or same_grid(one, other)


def _whole_pixels(box: Box, shape: tuple[int, int]) -> Window | None:
    """Return the window that a box is, if it is parted into the pixels of its grid."""
    left, top = int(box[0]), int(box[1])
    whole = box == (left, top, left + shape[1], top + shape[0])
    return Window(top, left, *shape) if whole else None


def _parts(box: Box, shape: tuple[int, int]) -> Iterator[tuple[Window, Box]]:
    """Part pixels into squares; yield each with its part of the box."""
    left, top, right, bottom = box
    across, down = (right - left) / shape[1], (bottom - top) / shape[0]
    whole = Window(0, 0, *shape)
    for row in range(0, shape[0], _PART):
        for col in range(0, shape[1], _PART):
            part = Window(row, col, _PART, _PART).intersection(whole)
            yield (
                part,
                (
                    left + part.col * across,
                    top + part.row * down,
                    left + part.col_stop * across,
                    top + part.row_stop * down,
                ),
            )


DEFAULT_THRESHOLD = 0.5
"""Of probabilities of which neither the user nor their file says which threshold is meant."""

_SLACK = 1e-6
"""By which a probability may miss 0 … 1, or the threshold, through rounding."""

Known = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class ProbabilityMap:
    """A raster of probabilities over the grid, one band a class."""

    scene: SceneInfo
    grid: GeoBox
    """Pixels of another grid take the value of the raster's pixel under their centre."""
    name: str
    ids: tuple[int, ...]
    """The class id of each band."""
    threshold: float
    """The largest probability is the pixel's class if it reaches this (``>=``)."""

    def read(self, window: Window) -> tuple[NDArray[np.uint8], Known]:
        """Return class ids and what is known, each of shape ``window.shape``."""
        probability, known = self._probability(window)
        winner = np.array(self.ids, np.uint8)[probability.argmax(axis=0)]
        reached = probability.max(axis=0) >= self.threshold - _SLACK
        return np.where(reached & known, winner, 0).astype(np.uint8), known

    def levels(self, window: Window) -> tuple[NDArray[np.uint8], Known]:
        """Return probabilities in steps of 1/250, shape (bands, rows, cols), and what is known.

        Raises
        ------
        InvalidOption
            If a value lies outside 0 … 1.
        UnreadableScene
        """
        probability, known = self._probability(window)
        return to_levels(probability), known

    def _probability(self, window: Window) -> tuple[NDArray[np.float32], Known]:
        pixels, known = read_nearest(self.scene, self.grid, box_of(window), window.shape)
        probability = np.asarray(pixels, np.float32)
        if probability.size and not (probability.min() >= -_SLACK and probability.max() <= 1 + _SLACK):
            raise InvalidOption(f"{self.name}: holds values outside 0 … 1, which are no probabilities")
        return probability, known


def probability_map(
    raster: SceneInfo, name: str, table: ClassTable, grid: GeoBox, threshold: float | None
) -> ProbabilityMap:
    """Return a raster of probabilities over the grid.

    A band is of the class that its name says, else that its metadata says, else they come in order.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    threshold : float or None
        None: what the raster says, else `DEFAULT_THRESHOLD`.

    Raises
    ------
    InvalidOption
        If it has more bands than there are classes, or cannot be placed on the grid.
    """
    if len(raster.bands) > len(table.ids):
        raise InvalidOption(
            f"{name}: has {len(raster.bands)} bands for {len(table.ids)} classes ({table.text})"
        )
    facts = read_facts(raster)
    by_name = [table.find(band.description) if band.description else None for band in raster.bands]
    named = tuple(found for found in by_name if found is not None and found > 0)
    ids = table.ids[: len(raster.bands)]
    for known in (named, facts.band_ids):
        if len(set(known)) == len(raster.bands) and set(known) <= set(table.ids):
            ids = known
    given = (value for value in (threshold, facts.threshold) if value is not None)
    chosen = next(given, DEFAULT_THRESHOLD)
    check_placeable(raster.geobox, grid, name, "what it is compared with")
    return ProbabilityMap(raster, grid, name, ids, chosen)


def holds_probabilities(raster: SceneInfo) -> bool:
    """Return whether a raster holds probabilities: floating-point numbers, or bytes with a scale."""
    return all(band.read_dtype.startswith("float") for band in raster.bands)
