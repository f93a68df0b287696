"""Rasters as layers over the grid: class maps and probabilities, read window by window."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.metrics.calibration import to_levels
from geoseg.values import GeoBox, Window

if TYPE_CHECKING:
    from geoseg.raster.describe import SceneInfo

UNKNOWN = -1
"""In the meanings of a class map: nothing is known there."""

_NO_CLASS = -2
_PART = 512
"""Side of the windows that are resampled at a time."""

_MOST = 1 << 26
"""Source pixels read for one of them at most: a truth far finer than the grid is refused."""

_ROUNDING = 1e-6

Ids = NDArray[np.uint8]
Known = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class ClassMap:
    """A raster of class ids over the grid.

    Parameters
    ----------
    scene : SceneInfo
        The raster, its palette put aside.
    grid : GeoBox
        Pixels of another grid take the value of the raster's pixel under their centre.
    name : str
        What the user called it.
    meanings : mapping of int to int
        What each value means: a class id, 0 the background, or `UNKNOWN`.
    advice : str
        What to do about a value without a meaning.
    """

    scene: SceneInfo
    grid: GeoBox
    name: str
    meanings: Mapping[int, int]
    advice: str

    def read(self, window: Window) -> tuple[Ids, Known]:
        """Return class ids and what is known, each of shape ``window.shape``.

        Raises
        ------
        InvalidOption
            If the raster holds a value without a meaning.
        UnreadableScene
        """
        pixels, valid = read_nearest(self.scene, self.grid, window)
        found = np.full(window.shape, UNKNOWN, np.int16)
        found[valid] = self._translate(pixels[0][valid])
        return np.where(found > 0, found, 0).astype(np.uint8), found != UNKNOWN

    def _translate(self, values: NDArray[Any]) -> NDArray[np.int16]:
        found: NDArray[np.int16]
        if values.dtype == np.uint8:
            table = np.array([self.meanings.get(value, _NO_CLASS) for value in range(256)], np.int16)
            found, seen = table[values], values
        else:
            seen, index = np.unique(values, return_inverse=True)
            found = np.array([self._meaning(value) for value in seen.tolist()], np.int16)[index]
            seen = seen[index]
        if (found == _NO_CLASS).any():
            value = seen[found == _NO_CLASS][0]
            raise InvalidOption(f"{self.name}: holds the value {value:g}, which is no class; {self.advice}")
        return found

    def _meaning(self, value: float) -> int:
        return self.meanings.get(int(value), _NO_CLASS) if value == int(value) else _NO_CLASS


@dataclass(frozen=True, eq=False, slots=True)
class ProbabilityMap:
    """A raster of probabilities over the grid, one band a class.

    Parameters
    ----------
    scene : SceneInfo
    grid : GeoBox
        As in `ClassMap`.
    name : str
    ids : tuple of int
        The class id of each band.
    threshold : float
        The largest probability is the pixel's class if it reaches this (``>=``).
    """

    scene: SceneInfo
    grid: GeoBox
    name: str
    ids: tuple[int, ...]
    threshold: float

    def read(self, window: Window) -> tuple[Ids, Known]:
        """Return class ids and what is known, each of shape ``window.shape``."""
        probability, known = self._probability(window)
        winner = np.array(self.ids, np.uint8)[probability.argmax(axis=0)]
        reached = probability.max(axis=0) >= self.threshold - _ROUNDING
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
        pixels, known = read_nearest(self.scene, self.grid, window)
        probability = np.asarray(pixels, np.float32)
        if probability.size and not (probability.min() >= -_ROUNDING and probability.max() <= 1 + _ROUNDING):
            raise InvalidOption(f"{self.name}: holds values outside 0 … 1, which are no probabilities")
        return probability, known


def open_labels(path: str) -> SceneInfo:
    """Open a raster whose values are labels: a palette only colours them.

    Raises
    ------
    UnreadableScene
    """
    from geoseg.raster.scene import open_scene

    scene = open_scene(path)
    if scene.palette is None:
        return scene
    from geoseg.raster.describe import Band

    index = Band(1, "uint8", scene.bands[0].nodata, color="palette")
    return dataclasses.replace(scene, palette=None, bands=(index,))


@dataclass(frozen=True, slots=True)
class RasterFacts:
    """What a raster says about itself; all of it may be missing.

    Parameters
    ----------
    names : mapping of int to str
        Names of classes by id.
    band_ids : tuple of int
        The class id of each band of probabilities; empty where not every band has its own.
    threshold : float or None
        In (0, 1): from which probability on a pixel was taken to be of its class.
    """

    names: Mapping[int, str]
    band_ids: tuple[int, ...]
    threshold: float | None


def read_facts(scene: SceneInfo) -> RasterFacts:
    """Return what a raster's metadata says, as `geoseg predict` writes it.

    Raises
    ------
    UnreadableScene
    """
    from geoseg.raster.encoding import CLASS_ITEM
    from geoseg.raster.source import opened, translating

    with translating(scene.uri), opened(scene.uri, (scene.driver,)) as dataset:
        items = {str(key): str(value) for key, value in dataset.tags().items()}
        bands = [str(dataset.tags(band.index).get(CLASS_ITEM, "")) for band in scene.bands]
    return facts_of(items, bands)


def facts_of(items: Mapping[str, str], bands: Sequence[str]) -> RasterFacts:
    """Make sense of metadata that anybody may have written; what makes none is left out.

    Parameters
    ----------
    items : mapping of str to str
        Of the file.
    bands : sequence of str
        The class id of each band as text, empty where there is none.
    """
    from geoseg.raster.encoding import CLASS_PREFIX, THRESHOLD_ITEM

    named = {
        key.removeprefix(CLASS_PREFIX): name for key, name in items.items() if key.startswith(CLASS_PREFIX)
    }
    ids = [int(text) for text in bands if _is_number(text)]
    whole = len(ids) == len(bands) == len(set(ids)) and all(1 <= one <= 255 for one in ids)
    try:
        threshold = float(items.get(THRESHOLD_ITEM, ""))
    except ValueError:
        threshold = 0.0
    return RasterFacts(
        {int(number): name for number, name in named.items() if _is_number(number)},
        tuple(ids) if whole else (),
        threshold if 0 < threshold < 1 else None,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 3


def same_grid(one: GeoBox, other: GeoBox) -> bool:
    """Tell whether pixels of two grids are the same ground, but for rounding."""
    if one.shape != other.shape or not _same_crs(one.crs, other.crs):
        return False
    step = max(abs(one.transform[i]) for i in (0, 1, 3, 4))
    return all(abs(a - b) <= 1e-3 * step for a, b in zip(_corners(one), _corners(other), strict=True))


def on_grid(scene: SceneInfo, grid: GeoBox, name: str) -> SceneInfo:
    """Return the raster as one that can be read over the grid.

    A raster without a CRS that has exactly the grid's size lies on the grid.

    Raises
    ------
    InvalidOption
        If it has no CRS and another size, or the grid has none.
    """
    box = scene.geobox
    if (box.crs is None) != (grid.crs is None) and box.shape != grid.shape:
        raise InvalidOption(
            f"{name}: has {'no' if box.crs is None else 'a'} CRS, unlike what it is compared with, "
            f"and another size ({box.width} x {box.height}, not {grid.width} x {grid.height} pixels)"
        )
    return scene


def read_nearest(
    scene: SceneInfo, grid: GeoBox, window: Window
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Read all bands of a raster over a window of any grid: the pixel under each pixel's centre.

    Returns
    -------
    pixels : ndarray, shape (bands, rows, cols)
    valid : ndarray of bool, shape (rows, cols)
        False outside the raster.
    """
    from geoseg.raster.scene import read_patch

    bands = [band.index for band in scene.bands]
    box = scene.geobox
    if same_grid(box, grid) or ((box.crs is None) != (grid.crs is None) and box.shape == grid.shape):
        patch = read_patch(scene, window, box, bands)
        return patch.pixels, patch.valid
    dtype = np.result_type(*(band.read_dtype for band in scene.bands))
    pixels = np.zeros((len(bands), *window.shape), dtype)
    valid = np.zeros(window.shape, bool)
    for part in _parts(window):
        rows, cols = _positions(scene, grid, part)
        inside = (rows >= 0) & (rows < box.height) & (cols >= 0) & (cols < box.width)
        if not inside.any():
            continue
        rows, cols = rows[inside], cols[inside]
        row, col = int(rows.min()), int(cols.min())
        source = Window(row, col, int(rows.max()) - row + 1, int(cols.max()) - col + 1)
        if source.height * source.width > _MOST:
            raise InvalidOption(
                f"{scene.name}: is far finer than what it is compared with; resample it first"
            )
        patch = read_patch(scene, source, box, bands)
        place = part.within(window)
        pixels[:, *place][:, inside] = patch.pixels[:, rows - row, cols - col]
        valid[place][inside] = patch.valid[rows - row, cols - col]
    return pixels, valid


def _parts(window: Window) -> Iterator[Window]:
    for row in range(window.row, window.row_stop, _PART):
        for col in range(window.col, window.col_stop, _PART):
            yield Window(row, col, _PART, _PART).intersection(window)


def _positions(scene: SceneInfo, grid: GeoBox, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column in the raster of each pixel of the window, -1 where there is none."""
    row, col = np.mgrid[window.row : window.row_stop, window.col : window.col_stop]
    points = grid.to_crs(np.column_stack([col.ravel() + 0.5, row.ravel() + 0.5]))
    if not _same_crs(grid.crs, scene.geobox.crs):
        import pyproj

        change = pyproj.Transformer.from_crs(grid.crs, scene.geobox.crs, always_xy=True)
        points = np.column_stack(change.transform(points[:, 0], points[:, 1]))
    places = scene.geobox.to_pixels(points)
    places[~np.isfinite(places).all(axis=1)] = -1
    whole = np.floor(np.clip(places, -1, 2**40)).astype(np.int64)
    return whole[:, 1].reshape(window.shape), whole[:, 0].reshape(window.shape)


def _same_crs(one: str | None, other: str | None) -> bool:
    if one is None or other is None or one == other:
        return one == other
    import pyproj

    same: Any = pyproj.CRS.from_user_input(one).equals(
        pyproj.CRS.from_user_input(other), ignore_axis_order=True
    )
    return bool(same)


def _corners(box: GeoBox) -> list[float]:
    ends = np.array([[0.0, 0.0], [box.width, 0.0], [0.0, box.height]])
    return [float(value) for value in box.to_crs(ends).ravel()]
