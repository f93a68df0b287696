"""All results of an archive as one dataset: in one CRS, sorted by place, reconciled where asked for."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import shapely
from numpy.typing import NDArray

from geoseg.archive.catalogue import Part, write_catalogue
from geoseg.archive.dataset import Windows, sort_features, write_parts
from geoseg.archive.entries import Entry
from geoseg.archive.facts import look_at
from geoseg.archive.features import Reader
from geoseg.archive.lease import Lease
from geoseg.archive.manifest import FINISHED, made_of, read_status
from geoseg.archive.options import MergeOptions, moment_of
from geoseg.archive.reconcile import Ground, with_edges
from geoseg.archive.selection import model_name
from geoseg.archive.unite import Uniter, kept_as_they_are
from geoseg.errors import GeosegError, InvalidOption
from geoseg.files import replacing, telling_full_disks
from geoseg.models.bundle import CARD, find_model
from geoseg.values import GeoBox, Window
from geoseg.vector.reproject import reproject
from geoseg.vector.sink import layer_crs
from geoseg.vectorfiles.aoi import areas_within

DATASET = "merged"
"""Folder of the dataset in that of the archive; the catalogue is in `CATALOGUE`."""

CATALOGUE = "stac"

SCRATCH = ".merge-"
"""Begin of the folder that features are sorted in."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What merging came to.

    Parameters
    ----------
    dataset, catalogue : Path
    features : int
    before : int
        Features of all scenes.
    files : int
        Of the dataset.
    crs : str or None
    states : Counter
        How many scenes are in which state; those that are not done, or in part, are not in the dataset.
    """

    dataset: Path
    catalogue: Path
    features: int
    before: int
    files: int
    crs: str | None
    states: Counter[str]

    @property
    def without(self) -> int:
        """Scenes that have no result."""
        return sum(count for state, count in self.states.items() if state not in FINISHED)

    @property
    def exit_code(self) -> int:
        """0 all scenes are whole, 1 some are not."""
        return 0 if set(self.states) <= {"done"} else 1


def merge(
    folder: Path,
    options: MergeOptions,
    model: str,
    on_step: Callable[[float], None] = lambda _: None,
    *,
    take_over: bool = False,
) -> Merged:
    """Make one GeoParquet dataset and a STAC collection of the results of an archive.

    The files of the scenes stay as they are. Memory does not grow with the number of features.

    Parameters
    ----------
    folder : Path
        Of the archive.
    options : MergeOptions
    model : str
        The model that the results were made with: its card goes into the catalogue.
    on_step : callable
        Called with the share of the work that is done.
    take_over : bool
        From a merge on another machine that is no more.

    Raises
    ------
    GeosegError
        If there is nothing to merge, results were made in different ways, or they cannot be put into one
        CRS; or the disk is full.
    """
    heads = read_status(folder)
    rows = _rows(heads)
    parts = _parts(folder, rows)
    made = _made(folder, heads, parts)
    reader = Reader(_crs(parts, options))
    dataset, catalogue = folder / DATASET, folder / CATALOGUE
    with Lease(folder / "lease-merge.json", take_over=take_over), telling_full_disks(dataset):
        for killed in folder.glob(f"{SCRATCH}*"):
            shutil.rmtree(killed, ignore_errors=True)
        with (
            tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch,
            replacing(dataset) as target,
        ):
            tables = _read(parts, reader, lambda share: on_step(0.5 * share))
            windows = sort_features(tables, Path(scratch))
            target.mkdir()
            metadata = {"geoseg_made": json.dumps(made), "geoseg_reconcile": str(options.reconcile)}
            with write_parts(target, reader.crs, metadata) as written:
                for number, table in enumerate(_united(windows, parts, reader.crs, options)):
                    written.write(table)
                    on_step(0.5 + 0.5 * (number + 1) / max(len(windows), 1))
            before = windows.rows
        write_catalogue(catalogue, dataset, parts, made, _card(model, made))
    states = Counter(str(row["state"]) for row in rows)
    return Merged(dataset, catalogue, written.features, before, written.count, reader.crs, states)


def _rows(heads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all scenes by name, each once: as the shard says that has it done, the last of several."""
    found: dict[str, dict[str, Any]] = {}
    for head in sorted(heads, key=lambda head: float(head["written"])):
        for row in head["scenes"]:
            if row["state"] in FINISHED or row["name"] not in found:
                found[row["name"]] = row
    return [found[name] for name in sorted(found)]


def _united(
    windows: Windows, parts: Sequence[Part], crs: str | None, options: MergeOptions
) -> Iterator[pyarrow.Table]:
    moments = [part.time for part in parts]
    if options.reconcile is None:
        return kept_as_they_are(windows, [part.name for part in parts], moments)
    any_date = options.reconcile == "any-date"
    grounds = with_edges([_ground(part, crs) for part in parts], any_date=any_date)
    return Uniter(windows, grounds, moments, crs, any_date=any_date).tables()


def _parts(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Part]:
    """Return the scenes that have a result."""
    whole = [row for row in rows if row["state"] in FINISHED]
    if not whole:
        raise InvalidOption(f"{folder}: no scene is done, so there is nothing to merge")
    for row in whole:
        if str(row["name"]).split("/")[0] in (DATASET, CATALOGUE):
            raise InvalidOption(
                f"{folder}: the results {row['name']} lie where the dataset is to be; rename the scene's "
                "folder, or leave out --merge"
            )
    entries = [
        Entry(row["name"], row["location"], row["listed_in"], row["datetime"], item=row["item"])
        for row in whole
    ]
    looks = look_at(entries, folder)
    parts = []
    for row in whole:
        look = looks[row["name"]]
        taken = row["datetime"] or (look.facts.datetime if look.facts else None)
        path = folder / row["files"][0]
        parts.append(Part(row, path, look.facts, look.problem, moment_of(taken or "")))
    return parts


def _made(folder: Path, heads: Sequence[dict[str, Any]], parts: Sequence[Part]) -> dict[str, Any]:
    """Return what all results were made with."""
    if (
        len({part.row["digest"] for part in parts}) > 1
        or len({head["made"] for head in heads if "made" in head}) > 1
    ):
        raise InvalidOption(
            f"{folder}: its results were made with different models or options; bring all to the same with "
            "--redo before --merge"
        )
    return made_of(heads)


def _card(model: str, made: Mapping[str, Any]) -> str | None:
    """Return the card of the model; None where it is not the one that the results were made with."""
    try:
        bundle = find_model(model)
        same = model_name(bundle) == made.get("model")
        return (bundle.path / CARD).read_text("utf-8") if same else None
    except (GeosegError, OSError):  # a file of another format has no card of its own
        return None


def _crs(parts: Sequence[Part], options: MergeOptions) -> str | None:
    """Return the CRS of the dataset: that of all results, or longitude and latitude."""
    from pyproj import CRS

    found: list[CRS | None] = []
    without = ""
    for part in parts:
        text = Reader.crs_of(part.path)
        crs = None if text is None else CRS.from_user_input(text)
        without = without or ("" if crs else part.name)
        if crs not in found:
            found.append(crs)
    if without and (len(found) > 1 or options.merge_crs):
        raise InvalidOption(
            f"{without}: has no CRS, so it cannot be merged with others or put into one; give its scene "
            "one (gdal_edit.py -a_srs EPSG:CODE) and run it again, or merge without it from another --out"
        )
    if options.merge_crs is not None:
        try:
            return layer_crs(options.merge_crs, found[0].to_wkt() if found[0] else None)
        except InvalidOption as error:
            raise InvalidOption(f"--merge-{str(error).removeprefix('--')}") from error
    return (found[0].to_wkt() if found[0] else None) if len(found) == 1 else "EPSG:4326"


def _read(parts: Sequence[Part], reader: Reader, on_step: Callable[[float], None]) -> Iterator[pyarrow.Table]:
    yield reader.no_features()
    for number, part in enumerate(parts):
        yield from reader.tables(part.path, number)
        on_step((number + 1) / len(parts))


def _ground(part: Part, crs: str | None) -> Ground:
    """Return what a scene shows, in the CRS of the dataset."""
    from pyproj import CRS

    facts = part.facts
    if facts is None:
        raise InvalidOption(
            f"{part.row['location']}: --reconcile needs its outline, and it cannot be read: {part.problem}"
        )
    grid = facts.grid
    pixels = np.array([shapely.box(0, 0, grid.width, grid.height)])
    same = crs == grid.crs or (crs and grid.crs and CRS.from_user_input(crs) == CRS.from_user_input(grid.crs))
    placed: NDArray[np.object_] = (
        shapely.transform(pixels, grid.to_crs) if same or crs is None else reproject(pixels, grid, crs)[0]
    )
    (outline,) = shapely.orient_polygons(placed)
    side = float(np.sqrt(shapely.area(outline) / (grid.width * grid.height)))
    whole = (part.row["coverage"] or 0) >= 1
    metres = min(facts.resolution) if facts.resolution else side
    shows = partial(_is_data, str(part.row["location"]), grid, crs)
    return Ground(part.name, (part.time or "")[:10], outline, side, metres, whole, shows)


def _is_data(location: str, grid: GeoBox, crs: str | None, polygon: shapely.Polygon) -> bool:
    """Tell whether a polygon lies on data alone in a scene; False where that cannot be read."""
    from pyproj import CRS

    from geoseg.raster.scene import close_scene, open_scene, read_validity

    try:
        scene = open_scene(location)
        try:
            inside: shapely.Geometry | None = shapely.transform(polygon, grid.to_pixels)
            if crs is not None and grid.crs is not None:
                inside = areas_within(polygon, CRS.from_user_input(crs), grid, location)
            if inside is None:
                return False
            west, north, east, south = shapely.bounds(inside)
            row, col = max(int(north), 0), max(int(west), 0)
            height, width = min(ceil(south), grid.height) - row, min(ceil(east), grid.width) - col
            bands = range(1, len(scene.bands) + 1)
            return bool(read_validity(scene, Window(row, col, height, width), bands).all())
        finally:
            close_scene(scene)
    except GeosegError:
        return False
