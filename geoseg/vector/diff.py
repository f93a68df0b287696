"""What changed between two layers of polygons."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import Field

from geoseg.errors import InvalidOption
from geoseg.files import check_not_read
from geoseg.options import Metavar, Options
from geoseg.values import ClassInfo
from geoseg.vector.samples import Floats, Index
from geoseg.vector.sink.ogr import layer_style
from geoseg.vector.sink.stream import check_stream_path, wkb_field, write_layer
from geoseg.vectorfiles.crs import check_degrees, way, without_crs
from geoseg.vectorfiles.layers import read_layer, repair

if TYPE_CHECKING:
    import pyproj

UNCHANGED, CHANGED, SPLIT, MERGED, ADDED, REMOVED = range(6)
STATUS = (
    ClassInfo(1, "unchanged", (150, 150, 150)),
    ClassInfo(2, "changed", (243, 167, 18)),
    ClassInfo(3, "split", (46, 134, 171)),
    ClassInfo(4, "merged", (162, 59, 114)),
    ClassInfo(5, "added", (76, 159, 112)),
    ClassInfo(6, "removed", (228, 87, 46)),
)
"""What may have become of a feature, with the colours of the style."""

MOSTLY = 0.5
"""Share of a polygon from which on it lies in another one."""


class DiffOptions(Options):
    """How two layers are compared.

    Raises
    ------
    InvalidOption
        One line on the first that is wrong.
    """

    iou: Annotated[float, Field(gt=0, le=1), Metavar("0…1")] = 0.5
    """Intersection over union from which on two polygons are the same object, unchanged."""

    keep_ids: bool = False
    """Give features the id of what they were in OLD, of parts of one that is split the largest."""

    old_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of OLD, where there are several."""

    new_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of NEW, where there are several."""

    overwrite: bool = False
    """Replace an output that exists."""


@dataclass(frozen=True, eq=False, slots=True)
class Changes:
    """What became of polygons; arrays of one row a change: of every new one, then those that are gone."""

    status: Index
    """int64. Index into `STATUS`."""
    old: Index
    new: Index
    """`old`, `new`: int64. Number of the old and the new polygon, -1 where there is none; of several old ones
    the largest share."""
    iou: Floats
    """float64. Of the old and the new polygons together; 0 where one is missing."""
    links: Index
    """int64, shape (k, 2). Row and old polygon: all that a row came from."""
    fate: Index
    """int64. Index into `STATUS` of every old polygon."""


@dataclass(frozen=True, slots=True)
class DiffReport:
    """What was written, and how many polygons of OLD and of NEW have each status."""

    file: str
    old: dict[str, int]
    new: dict[str, int]

    def __str__(self) -> str:
        """Say what became of the polygons; the first numbers add up to OLD, those after "into" count NEW."""
        parts = []
        for name, was in self.old.items():
            now = self.new[name]
            several = name in {"split", "merged"} and was > 0
            parts.append(f"{was:,} {name} into {now:,}" if several else f"{max(was, now):,} {name}")
        return ", ".join(parts)


def compare(old: NDArray[np.object_], new: NDArray[np.object_], iou: float = 0.5) -> Changes:
    """Find out what became of polygons.

    A polygon that lies in several of the other layer, each of which lies mostly in it, was split or merged
    where these together are the same; of the others each takes its best partner.

    Parameters
    ----------
    old, new : ndarray of shapely geometries
        Valid, in one CRS.
    iou : float
        Intersection over union from which on two are the same.

    Examples
    --------
    >>> old = np.array([shapely.box(0, 0, 4, 4), shapely.box(10, 0, 14, 4)])
    >>> new = np.array([shapely.box(0, 0, 4, 4.1), shapely.box(10, 0, 12, 4), shapely.box(12, 0, 14, 4)])
    >>> [STATUS[status].name for status in compare(old, new).status]
    ['unchanged', 'split', 'split']
    """
    one, two = shapely.STRtree(new).query(old, predicate="intersects")
    common = shapely.area(shapely.intersection(old[one], new[two]))
    one, two, common = one[common > 0], two[common > 0], common[common > 0]
    before, after = shapely.area(old), shapely.area(new)
    status, partner = np.full(len(new), ADDED), np.full(len(new), -1)
    value, fate = np.zeros(len(new)), np.full(len(old), REMOVED)
    links = []
    for kind, many, single, size, whole in (
        (SPLIT, two, one, after, before),
        (MERGED, one, two, before, after),
    ):
        inside = common >= MOSTLY * size[many]
        count = np.bincount(single[inside], minlength=len(whole))
        shared = np.bincount(single[inside], common[inside], len(whole))
        parts = np.bincount(single[inside], size[many[inside]], len(whole))
        together = shared / np.maximum(whole + parts - shared, 1e-300)
        found = np.flatnonzero((count > 1) & (together >= iou))
        chosen = np.flatnonzero(inside & np.isin(single, found) & (status[two] == ADDED))
        chosen = chosen[np.argsort(common[chosen], kind="stable")]  # the largest share is written last
        i, j = one[chosen], two[chosen]
        partner[j], value[j], status[j] = i, together[single[chosen]], kind
        fate[i] = np.where(fate[i] == REMOVED, kind, fate[i])
        links.append(np.column_stack([j, i]))
    ratio = common / (before[one] + after[two] - common)
    near = common >= MOSTLY * np.minimum(before[one], after[two])
    for pair in np.lexsort((two, one, -ratio)):
        i, j = one[pair], two[pair]
        if fate[i] == REMOVED and status[j] == ADDED and (ratio[pair] >= iou or near[pair]):
            status[j] = fate[i] = UNCHANGED if ratio[pair] >= iou else CHANGED
            partner[j], value[j] = i, ratio[pair]
            links.append(np.array([[j, i]]))
    left = np.flatnonzero(fate == REMOVED)
    links.append(np.column_stack([len(new) + np.arange(len(left)), left]))
    return Changes(
        np.append(status, np.full(len(left), REMOVED)),
        np.append(partner, left),
        np.append(np.arange(len(new)), np.full(len(left), -1)),
        np.append(value, np.zeros(len(left))),
        np.concatenate(links),
        fate,
    )


def diff(old: Path, new: Path, out: Path, options: DiffOptions) -> DiffReport:
    """Compare two layers and write what changed, one feature a change.

    Parameters
    ----------
    old, new : Path
        Vector files of polygons; the old ones are put into the CRS of the new.
    out : Path
    options : DiffOptions

    Raises
    ------
    GeosegError
        If a layer cannot be read, has no CRS or other geometries alone, or the output cannot be written.
    """
    import pyarrow

    check_stream_path(out, overwrite=options.overwrite)
    check_not_read(out, old, new)
    (before, ids, _), (after, new_ids, crs) = _read(old, options.old_layer, new, options.new_layer)
    ids, new_ids = _alike(ids, new_ids)
    kind = pyarrow.string() if any(isinstance(one, str) for one in (*ids, *new_ids)) else pyarrow.int64()
    found = compare(before, after, options.iou)
    geometry = np.where(found.new >= 0, _at(after, found.new), _at(before, found.old))
    pairs = np.isin(found.status, (UNCHANGED, CHANGED))
    shift = np.full(len(found.status), np.nan)
    shift[pairs] = _shift(before[found.old[pairs]], after[found.new[pairs]], crs)
    iou = np.where((found.old >= 0) & (found.new >= 0), found.iou, np.nan)
    columns = {
        "id": pyarrow.array(_own_ids(found, ids, new_ids, geometry, keep=options.keep_ids), kind),
        "status": pyarrow.array([STATUS[one].name for one in found.status.tolist()], pyarrow.string()),
        "old_id": pyarrow.array(_at(ids, found.old).tolist(), kind),
        "old_ids": pyarrow.array(_sources(found, ids), pyarrow.string()),
        "new_id": pyarrow.array(_at(new_ids, found.new).tolist(), kind),
        "iou": pyarrow.array(iou, from_pandas=True),
        "shift_m": pyarrow.array(shift, from_pandas=True),
        "geom": pyarrow.array(shapely.to_wkb(geometry).tolist(), pyarrow.binary()),
    }
    rows = pyarrow.table(columns)
    schema = rows.schema.set(rows.schema.get_field_index("geom"), wkb_field("geom"))
    write_layer(
        out,
        schema,
        rows.cast(schema).to_batches(),
        geometry="geom",
        crs=crs,
        kind="Unknown",
        overwrite=options.overwrite,
        style=layer_style(STATUS, "status"),
    )
    return DiffReport(str(out), _counted(found.fate), _counted(found.status[: len(after)]))


def _counted(status: Index) -> dict[str, int]:
    """Return how many polygons have each status."""
    return {info.name: int((status == place).sum()) for place, info in enumerate(STATUS)}


def _alike(*layers: NDArray[np.object_]) -> list[NDArray[np.object_]]:
    """Return ids of layers as whole numbers, or all as text where one is none."""
    import pandas

    found = []
    for ids in layers:
        some = np.where(pandas.isna(ids), np.array(None, object), ids)
        numbers = [isinstance(one, Real) and one % 1 == 0 for one in some]
        some[numbers] = [int(one) for one in some[numbers]]
        found.append(some)
    if all(one is None or (type(one) is int and abs(one) < 2**63) for some in found for one in some):
        return found
    return [
        np.array([None, *(one if one is None else str(one) for one in some)], object)[1:] for some in found
    ]


def _sources(found: Changes, ids: NDArray[np.object_]) -> list[str | None]:
    """Return the ids of all old polygons of each row, comma separated."""
    named: list[list[str]] = [[] for _ in found.status]
    for row, place in found.links[np.lexsort(found.links.T[::-1])].tolist():
        if ids[place] is not None:
            named[row].append(str(ids[place]))
    return [",".join(some) or None for some in named]


def _own_ids(
    found: Changes,
    ids: NDArray[np.object_],
    new_ids: NDArray[np.object_],
    geometry: NDArray[np.object_],
    *,
    keep: bool,
) -> list[int | str]:
    """Return an id for every row that no other has.

    What is kept comes first; what is taken then gets the first number that is no id in either layer.
    """
    own = np.where(found.new >= 0, _at(new_ids, found.new), _at(ids, found.old))
    rank = np.where(found.new >= 0, 2, 1 if keep else 3)
    if keep:
        old_id = _at(ids, found.old)
        heirs = np.flatnonzero((found.new >= 0) & (old_id != None))  # noqa: E711 (one by one)
        heirs = heirs[np.lexsort((-shapely.area(geometry[heirs]), found.old[heirs]))]
        _, first = np.unique(found.old[heirs], return_index=True)
        own[heirs[first]], rank[heirs[first]] = old_id[heirs[first]], 0
    taken = {str(one) for one in (*ids, *new_ids)}
    as_text = any(isinstance(one, str) for one in (*ids, *new_ids))
    free = (str(one) if as_text else one for one in count(1) if str(one) not in taken)
    used: set[int | str] = set()
    for row in np.argsort(rank, kind="stable"):
        if own[row] is None or own[row] in used:
            own[row] = next(free)
        used.add(own[row])
    return list(own)


def _at(values: NDArray[np.object_], places: Index) -> NDArray[np.object_]:
    """Return values, None at -1."""
    none = np.array([None], object)
    return np.concatenate([values, none])[places]


_Layer = tuple[NDArray[np.object_], NDArray[np.object_], "pyproj.CRS"]


def _read(old: Path, old_layer: str | None, new: Path, new_layer: str | None) -> tuple[_Layer, _Layer]:
    """Read both layers, the old one in the CRS of the new."""
    layers: list[_Layer] = []
    for path, layer, option in ((old, old_layer, "--old-layer"), (new, new_layer, "--new-layer")):
        found = read_layer(path, str(path), layer=layer, columns=("id",), option=option)
        if found.crs is None:
            raise without_crs(path)
        check_degrees(found.geometries, found.crs, None, str(path))
        fixed = repair(found.geometries)
        kept = fixed.areal & (shapely.area(fixed.geometries) > 0)
        nothing = shapely.is_missing(fixed.geometries) | shapely.is_empty(fixed.geometries)
        if not kept.any() and not nothing.all():
            raise InvalidOption(f"{path}: holds no polygons")
        ids = np.asarray(found.columns.get("id", np.arange(len(kept))), object)
        layers.append((fixed.geometries[kept], ids[kept], found.crs))
    (before, ids, source), (after, new_ids, crs) = layers
    if not source.equals(crs, ignore_axis_order=True):
        change = way(source, crs)
        moved = shapely.transform(before, lambda points: np.column_stack(change.transform(*points.T)))
        before = repair(np.asarray(moved, object)).geometries
    return (before, ids, crs), (after, new_ids, crs)


def _shift(before: NDArray[np.object_], after: NDArray[np.object_], crs: pyproj.CRS) -> Floats:
    """Return by how many metres the centroids lie apart."""
    from pyproj import Transformer

    ellipsoid, degrees = crs.get_geod(), crs.geodetic_crs
    places = [shapely.get_coordinates(shapely.centroid(some)) for some in (before, after)]
    if ellipsoid is None or degrees is None:
        return np.full(len(before), np.nan)
    change = Transformer.from_crs(crs, degrees, always_xy=True)
    (x, y), (u, v) = (change.transform(*points.T) for points in places)
    return np.asarray(ellipsoid.inv(x, y, u, v)[2], np.float64)
