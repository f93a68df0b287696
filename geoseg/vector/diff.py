"""What changed between two layers of polygons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import Field

from geoseg.files import check_not_read
from geoseg.options import Metavar, Options
from geoseg.values import ClassInfo
from geoseg.vector.samples import Floats, Index
from geoseg.vector.sink.stream import check_stream_path, write_layer
from geoseg.vector.style import layer_style
from geoseg.vectorfiles.crs import without_crs
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
    """What became of polygons; arrays of one row a change: of every new one, then those that are gone.

    Parameters
    ----------
    status : ndarray of int64
        Index into `STATUS`.
    old, new : ndarray of int64
        Number of the old and the new polygon, -1 where there is none; of several merged ones the largest.
    iou : ndarray of float64
        Of the old and the new polygons together; 0 where one is missing.
    """

    status: Index
    old: Index
    new: Index
    iou: Floats


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
    value = np.zeros(len(new))
    gone = np.ones(len(old), bool)
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
        chosen = inside & np.isin(single, found)
        for i, j, share in zip(one[chosen], two[chosen], common[chosen], strict=True):
            if status[j] in {ADDED, kind}:
                best = status[j] == ADDED or share > shapely.area(
                    shapely.intersection(old[partner[j]], new[j])
                )
                partner[j] = i if best else partner[j]
                status[j], value[j], gone[i] = kind, together[j if kind == MERGED else i], False
    ratio = common / (before[one] + after[two] - common)
    near = common >= MOSTLY * np.minimum(before[one], after[two])
    for pair in np.lexsort((two, one, -ratio)):
        i, j = one[pair], two[pair]
        if gone[i] and status[j] == ADDED and (ratio[pair] >= iou or near[pair]):
            status[j] = UNCHANGED if ratio[pair] >= iou else CHANGED
            partner[j], value[j], gone[i] = i, ratio[pair], False
    left = np.flatnonzero(gone)
    return Changes(
        np.append(status, np.full(len(left), REMOVED)),
        np.append(partner, left),
        np.append(np.arange(len(new)), np.full(len(left), -1)),
        np.append(value, np.zeros(len(left))),
    )


def diff(old: Path, new: Path, out: Path, options: DiffOptions) -> Mapping[str, int]:
    """Compare two layers and write what changed, one feature a change.

    Parameters
    ----------
    old, new : Path
        Vector files of polygons; the old ones are put into the CRS of the new.
    out : Path
    options : DiffOptions

    Returns
    -------
    mapping of str to int
        How many there are of each status.

    Raises
    ------
    GeosegError
        If a layer cannot be read or has no CRS, or the output cannot be written.
    """
    import pyarrow

    check_stream_path(out, overwrite=options.overwrite)
    check_not_read(out, old, new)
    (before, ids, _), (after, new_ids, crs) = _read(old, options.old_layer, new, options.new_layer)
    found = compare(before, after, options.iou)
    has_old, has_new = found.old >= 0, found.new >= 0
    geometry = np.where(has_new, _at(after, found.new), _at(before, found.old))
    shift = np.full(len(found.status), np.nan)
    both = has_old & has_new
    shift[both] = _shift(before[found.old[both]], after[found.new[both]], crs)
    old_id, new_id = _at(ids, found.old), _at(new_ids, found.new)
    own = np.where(has_new, new_id, old_id)
    if options.keep_ids:
        kept = np.flatnonzero(both & np.isin(found.status, (UNCHANGED, CHANGED, SPLIT, MERGED)))
        size = shapely.area(geometry[kept])
        largest = kept[np.lexsort((-size, found.old[kept]))]
        largest = largest[np.append(True, np.diff(found.old[largest]) != 0)] if len(largest) else largest
        own[largest] = old_id[largest]
    table: dict[str, Any] = {
        "id": own.tolist(),
        "status": [STATUS[status].name for status in found.status.tolist()],
        "old_id": old_id.tolist(),
        "new_id": new_id.tolist(),
        "iou": pyarrow.array(np.where(both, found.iou, np.nan), from_pandas=True),
        "shift_m": pyarrow.array(shift, from_pandas=True),
        "geom": shapely.to_wkb(geometry).tolist(),
    }
    field = pyarrow.field("geom", pyarrow.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    rows = pyarrow.table(table)
    schema = rows.schema.set(rows.schema.get_field_index("geom"), field)
    style = layer_style(STATUS, "status")
    write_layer(
        out,
        schema,
        rows.cast(schema).to_batches(),
        geometry="geom",
        crs=crs,
        kind="Unknown",
        overwrite=options.overwrite,
        style=style,
    )
    counts = Counter(table["status"])
    return {info.name: counts[info.name] for info in STATUS}


def _at(values: NDArray[np.object_], places: Index) -> NDArray[np.object_]:
    """Return values, None at -1."""
    none = np.array([None], object)
    return np.concatenate([values, none])[places]


_Layer = tuple[NDArray[np.object_], NDArray[np.object_], "pyproj.CRS"]


def _read(old: Path, old_layer: str | None, new: Path, new_layer: str | None) -> tuple[_Layer, _Layer]:
    """Read both layers, the old one in the CRS of the new."""
    from pyproj import Transformer

    layers: list[_Layer] = []
    for path, layer, option in ((old, old_layer, "--old-layer"), (new, new_layer, "--new-layer")):
        found = read_layer(path, str(path), layer=layer, columns=("id",), option=option)
        if found.crs is None:
            raise without_crs(path)
        fixed = repair(found.geometries)
        kept = fixed.areal & (shapely.area(fixed.geometries) > 0)
        ids = np.asarray(found.columns.get("id", np.arange(len(kept))), object)
        layers.append((fixed.geometries[kept], ids[kept], found.crs))
    (before, ids, source), (after, new_ids, crs) = layers
    if not source.equals(crs, ignore_axis_order=True):
        change = Transformer.from_crs(source, crs, always_xy=True)
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
