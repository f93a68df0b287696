"""Chips: small pictures with masks, of an index or of two folders."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption, UnreadableScene, suggest
from geoseg.labels.classes import IGNORE, ClassTable
from geoseg.labels.footprints import Footprints
from geoseg.labels.masks import open_mask
from geoseg.labels.polygons import Polygons, read_labelled
from geoseg.prediction.view import choose_bands
from geoseg.raster.describe import SceneInfo
from geoseg.raster.pixels import apply_stretch
from geoseg.raster.scene import estimate_stretch, open_scene, read_patch
from geoseg.training.data.ground import Located, PictureGround, to_bytes, within
from geoseg.training.data.spec import ChipsSpec, DataSpec

if TYPE_CHECKING:
    import torch

_PICTURES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".webp", ".bmp", ".img"}

_STEP = 40
"""Grey values by which the two sides of a seam differ, one roof and the next or a roof and the ground."""

_Labels = tuple[Polygons, NDArray[np.uint8]]
"""Polygons and the class of each."""


@dataclass(frozen=True, slots=True)
class Row:
    """A chip before it is read."""

    source: str
    stem: str
    """`source`, `stem`: Collection and name."""
    image: Path
    mask: Path
    """`image`, `mask`: Files."""
    gsd_m: float | None
    """Metres a pixel; None: from the georeference."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Place, licence, tier, where they are known."""


def read_chips(
    spec: ChipsSpec, data: DataSpec, base: Path, table: ClassTable
) -> tuple[list[Located], list[str]]:
    """Read a collection of chips into memory.

    Returns
    -------
    chips : list of Located
        In the order of the index, or of the names.
    notes : list of str
        What a user should know, one line each.

    Raises
    ------
    UnreadableScene
        If files are missing or broken.
    InvalidOption
        If a mask has another size than its picture or an unknown value, a ground resolution is
        unknown, or polygons do not fit.
    """
    rows = [
        row
        for row in chip_rows(spec, base)
        if not any(fnmatchcase(row.source, pattern) for pattern in spec.exclude)
    ]
    _check_files(rows)
    sources = {row.source for row in rows}
    for word in sorted({*spec.weights, *spec.labels, *spec.layers, *spec.rims} - sources):
        place = base / (spec.index or spec.images or "")
        raise InvalidOption(f"{place}: has no source {word!r}; {suggest(word, sorted(sources))}")
    polygons = {
        source: read_labelled(base / path, table, layer=spec.layers.get(source), option=f"layers: {source}:")
        for source, path in spec.labels.items()
    }
    notes = [note for found, _ in polygons.values() for note in found.notes]
    chips = [_read(row, spec, data, table, polygons.get(row.source)) for row in rows]
    for source, (found, _) in polygons.items():
        if not any(_drawn(chip) for chip in chips if chip.ground.source == source):
            raise InvalidOption(f"{found.name}: no polygon lies on a georeferenced chip of {source!r}")
    return chips, notes


def _drawn(chip: Located) -> bool:
    return isinstance(chip.ground, PictureGround) and chip.ground.footprints is not None


def _read(row: Row, spec: ChipsSpec, data: DataSpec, table: ClassTable, polygons: _Labels | None) -> Located:
    scene = open_scene(row.image)
    bands = choose_bands(scene, data.bands, None)
    patch = read_patch(scene, scene.geobox.window, scene.geobox, bands)
    pixels = patch.pixels
    if pixels.dtype != np.uint8:
        pixels = apply_stretch(pixels, estimate_stretch(scene, bands))
    mask = open_mask(row.mask, table, spec.mask_values, "mask_values", zero=True)
    if mask.geobox.shape != scene.geobox.shape:
        sizes = [f"{box.width} x {box.height}" for box in (mask.geobox, scene.geobox)]
        raise InvalidOption(f"{row.mask}: is {sizes[0]} pixels, its picture {row.image.name} {sizes[1]}")
    labels = mask.read(mask.geobox.window).astype(np.uint8)  # UNKNOWN becomes IGNORE
    labels[~patch.valid] = IGNORE
    pixel_m = _pixel_m(row, scene)
    if rim_m := spec.rims.get(row.source):
        labels = ignore_rims(labels, to_bytes(pixels, patch.valid), (rim_m / pixel_m[0], rim_m / pixel_m[1]))
    footprints = _footprints(scene, pixel_m, polygons, data.touching_gap_m)
    weight = spec.weights.get(row.source, 1.0)
    ground = PictureGround(
        row.source, row.stem, pixel_m, to_bytes(pixels, patch.valid), labels, footprints, row.facts, weight
    )
    return Located(ground, scene.uri, scene.geobox if scene.geobox.crs else None)


def _footprints(
    scene: SceneInfo, pixel_m: tuple[float, float], labels: _Labels | None, gap_m: float
) -> Footprints | None:
    """Return the polygons on a chip; None where there are none: the mask may know better."""
    if labels is None or scene.geobox.crs is None:
        return None
    polygons, ids = labels
    placed = polygons.over(ids, scene.geobox, pixel_m, gap_m)
    return placed if len(within(placed.spots, scene.geobox.window)) else None


def _pixel_m(row: Row, scene: SceneInfo) -> tuple[float, float]:
    if row.gsd_m is not None:
        return row.gsd_m, row.gsd_m
    if scene.resolution is None:
        raise InvalidOption(f"{row.image}: its ground resolution is unknown; give gsd_m")
    return scene.resolution


def chip_rows(spec: ChipsSpec, base: Path) -> Iterator[Row]:
    """Yield the chips of a collection by its index or its two folders, excluded sources among them.

    Raises
    ------
    UnreadableScene, InvalidOption
        If the index or a folder cannot be read, or a picture has no mask.
    """
    if spec.index is not None:
        yield from read_index(base / spec.index)
        return
    assert spec.images is not None
    assert spec.masks is not None
    images, masks = _by_stem(base / spec.images), _by_stem(base / spec.masks)
    missing = sorted(set(images) - set(masks))
    if missing:
        raise UnreadableScene(
            f"{base / spec.masks}: no mask for {len(missing)} of {len(images)} pictures, first {missing[0]}"
        )
    source = spec.source or (base / spec.images).resolve().name
    for stem, image in sorted(images.items()):
        yield Row(source, stem, image, masks[stem], spec.gsd_m)


def read_index(path: Path) -> list[Row]:
    """Read an index of chips; paths in it are relative to its folder.

    Raises
    ------
    UnreadableScene
        If it is missing, empty, lacks a column, or a ``gsd_m`` is no positive number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise UnreadableScene(f"{path}: cannot be read: {error.strerror}") from error
    missing = {"source", "stem", "image", "mask", "gsd_m"} - set(lines[0] if lines else ())
    if missing:
        raise UnreadableScene(f"{path}: no rows, or the columns {', '.join(sorted(missing))} are missing")
    return [_row(path, number, line) for number, line in enumerate(lines, 2)]


def _row(path: Path, number: int, line: Mapping[str, str]) -> Row:
    try:
        gsd = float(line["gsd_m"])
    except (TypeError, ValueError):
        gsd = 0.0
    if not 0 < gsd < 1e4:
        raise UnreadableScene(f"{path}: line {number}: gsd_m {line['gsd_m']!r} is no size in metres")
    facts = {key: line[key] for key in ("place", "licence", "tier") if line.get(key)}
    folder = path.parent
    return Row(line["source"], line["stem"], folder / line["image"], folder / line["mask"], gsd, facts)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UnreadableScene(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _PICTURES and not path.name.startswith("."):
            if path.stem in found:
                raise UnreadableScene(f"{path}: {found[path.stem].name} has the same stem")
            found[path.stem] = path
    if not found:
        raise UnreadableScene(f"{folder}: holds no pictures")
    return found


def _check_files(rows: list[Row]) -> None:
    missing = [path for row in rows for path in (row.image, row.mask) if not path.is_file()]
    if missing:
        raise UnreadableScene(f"{missing[0]}: no such file ({len(missing)} files of chips are missing)")


def ignore_rims(
    labels: NDArray[np.uint8], pixels: NDArray[np.uint8], radius: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return labels with rims and seams set to `IGNORE`.

    Unknown become the band round every outline, gaps between objects that are narrower than two such
    bands, and, inside of objects, where the picture changes by much: there one roof ends and another
    begins. Even roofs stay objects, ground further away stays background.

    Parameters
    ----------
    labels : ndarray of uint8, shape (rows, cols)
        Class ids, 0 background, `IGNORE`.
    pixels : ndarray of uint8, shape (bands, rows, cols)
        The picture.
    radius : (float, float)
        Width of the band on either side of an outline, in pixels along a row and along a column, rounded
        to at least 1. Seams are looked for at half of it: the morphological gradient of the mean of the
        bands, smoothed.

    Examples
    --------
    >>> labels = np.zeros((9, 9), np.uint8)
    >>> labels[2:7, 2:7] = 1
    >>> ignore_rims(labels, np.zeros((3, 9, 9), np.uint8), (1.0, 1.0))[4].tolist()
    [0, 255, 255, 1, 1, 1, 255, 255, 0]
    """
    import torch
    from torch.nn.functional import avg_pool2d

    across, down = radius
    reach, half, third = ((_whole(down / n), _whole(across / n)) for n in (1, 2, 3))
    objects = torch.from_numpy((labels != 0) & (labels != IGNORE))[None].float()
    grown = _largest(objects, reach)
    closed = -_largest(-grown, reach)
    band = grown + _largest(-objects, reach)  # 1 where both lie within reach
    grey = torch.from_numpy(pixels).float().mean(0, keepdim=True)
    smooth = avg_pool2d(grey, [2 * side + 1 for side in third], 1, third, count_include_pad=False)
    seams = _largest(smooth, half) + _largest(-smooth, half)
    unknown = (band + closed * (1 - objects) + objects * (seams > _STEP)) > 0
    return np.where(unknown[0].numpy(), np.uint8(IGNORE), labels)


def _largest(values: torch.Tensor, reach: tuple[int, int]) -> torch.Tensor:
    """Return the largest value within `reach` rows and columns; what lies beyond the edge does not count."""
    from torch.nn.functional import max_pool2d

    return max_pool2d(values, [2 * side + 1 for side in reach], 1, reach)


def _whole(size: float) -> int:
    return max(1, round(size))
