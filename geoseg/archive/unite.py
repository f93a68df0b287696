"""From sorted features to those of the dataset: in windows, with what hangs together across them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow
import shapely
from numpy.typing import NDArray

from geoseg.archive.dataset import Windows, boxes_of
from geoseg.archive.features import CORNERS, grid_around, remeasured, replaced, with_geometry
from geoseg.archive.reconcile import Ground, Object, Seen, joining, polygons_of, reconcile
from geoseg.vector.features import COLUMNS
from geoseg.vector.overlaps import overlap
from geoseg.vector.regularize import regularize
from geoseg.vector.samples import Floats, Index


def kept_as_they_are(
    windows: Windows, names: Sequence[str], moments: Sequence[str | None]
) -> Iterator[pyarrow.Table]:
    """Yield all features, window by window, each with its scene."""
    for number in range(len(windows)):
        table = windows[number]
        yield finished(table, [(int(s),) for s in table["scene"].to_numpy()], names, moments)


def finished(
    table: pyarrow.Table,
    sources: Sequence[Sequence[int]],
    names: Sequence[str],
    moments: Sequence[str | None],
) -> pyarrow.Table:
    """Return features as the dataset has them.

    Its columns: those of a result, ``scene`` and ``datetime`` of the scene that an outline is from,
    ``sources`` (all scenes that show the object), ``bbox``, ``geometry``.

    Parameters
    ----------
    table : pyarrow.Table
        As `geoseg.archive.features.Reader` makes it.
    sources : sequence of sequence of int
        Scenes that show each feature.
    names, moments
        Of the scenes.
    """
    scene = table["scene"].to_numpy()
    polygons = shapely.from_wkb(table["geometry"].to_numpy())
    added = {
        "scene": pyarrow.array([names[s] for s in scene], pyarrow.string()),
        "datetime": pyarrow.array([moments[s] for s in scene], pyarrow.string()),
        "sources": pyarrow.array([[names[s] for s in of] for of in sources], pyarrow.list_(pyarrow.string())),
        "bbox": boxes_of(polygons),
        "geometry": table["geometry"],
    }
    for name, values in added.items():
        place = table.schema.get_field_index(name)
        table = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
    return table.select([*COLUMNS, *added])


@dataclass(frozen=True, slots=True)
class Rows:
    """Features of several windows, in their order.

    Parameters
    ----------
    window, row : ndarray of int64
        Where each lies.
    seen : Seen
    """

    window: Index
    row: Index
    seen: Seen


class Uniter:
    """Makes one feature of each object.

    A window is looked at together with whatever hangs together with its features, wherever that lies; an
    object belongs to the window of its first feature. So windows do not show.

    Parameters
    ----------
    windows : Windows
    grounds : sequence of Ground
        Of the scenes, by their rank.
    moments : sequence of str or None
    crs : str or None
        Of the features.
    any_date : bool
    """

    def __init__(
        self,
        windows: Windows,
        grounds: Sequence[Ground],
        moments: Sequence[str | None],
        crs: str | None,
        *,
        any_date: bool,
    ) -> None:
        self._windows, self._grounds, self._moments = windows, grounds, moments
        self._crs, self._any_date = crs, any_date
        self._outlines = shapely.STRtree([ground.outline for ground in grounds])
        tables = [windows[number] for number in range(len(windows))]
        labels = {int(label) for table in tables for label in np.unique(table["class"].to_numpy())}
        self._coverage = len(labels) > 1
        self._bounds = np.array([_bounds(_boxes(table)) for table in tables]).reshape(-1, 4)

    def tables(self) -> Iterator[pyarrow.Table]:
        """Yield the features of the dataset, window by window."""
        names = [ground.name for ground in self._grounds]
        for number in range(len(self._windows)):
            table = self._windows[number]
            shared = self._where_scenes_meet(table)
            rows = self._around(number, np.flatnonzero(shared))
            make = own_places if self._coverage else reconcile
            objects = [
                found
                for found in make(rows.seen, self._grounds, any_date=self._any_date)
                if rows.window[found.members[0]] == number
            ]
            alone = table.filter(pyarrow.array(~shared))
            made, sources = self._table(rows, objects)
            of = [(int(s),) for s in alone["scene"].to_numpy()] + sources
            whole = pyarrow.concat_tables([alone, made])
            order = np.argsort(whole["key"].to_numpy(), kind="stable")
            yield finished(whole.take(order), [of[i] for i in order.tolist()], names, self._moments)

    def _where_scenes_meet(self, table: pyarrow.Table) -> NDArray[np.bool_]:
        """Return which features lie where another scene shows the ground as well."""
        boxes = shapely.box(*_boxes(table).T)
        row, scene = self._outlines.query(boxes, "intersects")
        shared = np.zeros(len(table), bool)
        shared[row[scene != table["scene"].to_numpy()[row]]] = True
        return shared

    def _around(self, number: int, row: Index) -> Rows:
        """Return features of a window with what hangs together with them in any."""
        found = self._rows(np.full(len(row), number), row)
        edge = found
        while len(edge.seen):
            new = [
                self._joining(edge.seen, other, found.row[found.window == other])
                for other in np.flatnonzero(
                    _meet(self._bounds, _bounds(shapely.bounds(edge.seen.polygons)))
                ).tolist()
            ]
            edge = self._rows(
                np.concatenate([np.full(len(rows), other) for other, rows in new]).astype(np.int64),
                np.concatenate([rows for _, rows in new]),
            )
            found = self._rows(
                np.concatenate([found.window, edge.window]), np.concatenate([found.row, edge.row])
            )
            if self._coverage:
                break
        return found

    def _joining(self, edge: Seen, other: int, known: Index) -> tuple[int, Index]:
        """Return the rows of a window that are linked to features, without those that are known."""
        table = self._windows[other]
        near = np.setdiff1d(
            np.flatnonzero(_meet(_boxes(table), _bounds(shapely.bounds(edge.polygons)))), known
        )
        seen = self._rows(np.full(len(near), other), near).seen
        any_date, coverage = self._any_date, self._coverage
        return other, near[joining(edge, seen, self._grounds, any_date=any_date, coverage=coverage)]

    def _rows(self, window: Index, row: Index) -> Rows:
        """Return features by where they lie, in the order of windows and rows."""
        order = np.lexsort((row, window))
        window, row = window[order], row[order]
        table = self._take(window, row)
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
        seen = Seen(
            shapely.from_wkb(columns["geometry"]),
            columns["scene"].astype(np.int64),
            columns["class"].astype(np.int64),
            columns["confidence"],
            columns["id"],
            columns["touches_edge"].astype(bool),
            columns["touches_nodata"].astype(bool),
        )
        return Rows(window, row, seen)

    def _take(self, window: Index, row: Index) -> pyarrow.Table:
        parts = [self._windows[w].take(pyarrow.array(row[window == w])) for w in np.unique(window)]
        return pyarrow.concat_tables(parts) if parts else self._windows[0].slice(0, 0)

    def _table(self, rows: Rows, objects: Sequence[Object]) -> tuple[pyarrow.Table, list[tuple[int, ...]]]:
        """Return objects as features, with the scenes that show each."""
        objects, straight = self._straightened(rows, objects)
        first = np.array([found.members[0] for found in objects], np.int64)
        best = np.array([found.best for found in objects], np.int64)
        polygons = np.array([found.polygon for found in objects], object)
        table = _by_row(self._take, rows, best)
        table = replaced(table, "key", _by_row(self._take, rows, first)["key"].to_numpy())
        changed = np.flatnonzero([found.changed for found in objects])
        table = remeasured(with_geometry(table, polygons), polygons, changed, self._crs)
        touching = table["touches_edge"].to_numpy(zero_copy_only=False).copy()
        joined = np.array([found.joined for found in objects], bool)
        touching[joined] = np.array([found.cut for found in objects], bool)[joined]
        table = replaced(table, "touches_edge", touching)
        regular = table["regularized"].to_numpy(zero_copy_only=False).copy()
        regular[joined] = straight[joined]
        table = replaced(table, "regularized", regular)
        sources = [tuple(sorted({int(rows.seen.scene[i]) for i in found.members})) for found in objects]
        return table, sources

    def _straightened(self, rows: Rows, objects: Sequence[Object]) -> tuple[list[Object], NDArray[np.bool_]]:
        """Regularize again what was put together of regularized features; return where that was possible."""
        regular = self._take(rows.window, rows.row)["regularized"].to_numpy(zero_copy_only=False)
        result, straight = list(objects), np.zeros(len(objects), bool)
        for at, found in enumerate(objects):
            if not (found.joined and regular[list(found.members)].any()):
                continue
            polygons = np.array([found.polygon])
            pixel = self._grounds[rows.seen.scene[found.best]].pixel_m
            grid = grid_around(polygons, self._crs, pixel)
            made = regularize(shapely.transform(polygons, grid.to_pixels), max_deviation=1.0)
            polygon = shapely.transform(made.polygons[0], grid.to_crs)
            if made.accepted[0] and self._is_free(polygon, rows, found):
                straight[at] = True
                result[at] = replace(found, polygon=shapely.orient_polygons(polygon))
        return result, straight

    def _is_free(self, polygon: shapely.Polygon, rows: Rows, found: Object) -> bool:
        """Tell whether an outline overlaps no other feature, nor what one that is cut may become."""
        own = {(int(rows.window[i]), int(rows.row[i])) for i in found.members}
        room = 2.5 * self._grounds[rows.seen.scene[found.best]].pixel
        box = np.array(polygon.bounds) + np.array([-room, -room, room, room])
        for number in np.flatnonzero(_meet(self._bounds, box)).tolist():
            near = np.flatnonzero(_meet(_boxes(self._windows[number]), box))
            near = np.array([row for row in near.tolist() if (number, row) not in own], np.int64)
            others = self._rows(np.full(len(near), number), near).seen
            covered = np.where(others.cut, shapely.buffer(others.polygons, room), others.polygons)
            if overlap(covered, np.full(len(covered), polygon)).any():
                return False
        return True


def own_places(seen: Seen, grounds: Sequence[Ground], *, any_date: bool = False) -> list[Object]:
    """Return the parts of a coverage that each scene has to itself: every place is of one scene.

    It is that of the latest day, then of the first name. Where a scene has nodata, only what it has
    features of is its own.

    Parameters
    ----------
    seen : Seen
        With every feature that meets one of them.
    """
    tree = shapely.STRtree([ground.outline for ground in grounds])
    first = sorted(range(len(grounds)), key=lambda s: grounds[s].name)
    first.sort(key=lambda s: grounds[s].day, reverse=True)
    rank = np.argsort(first)
    near = shapely.STRtree(seen.polygons)
    objects = []
    for i, polygon in enumerate(seen.polygons):
        own = int(seen.scene[i])
        before = [
            s
            for s in tree.query(polygon, "intersects").tolist()
            if rank[s] < rank[own] and (any_date or grounds[s].day == grounds[own].day)
        ]
        ragged = {s for s in before if not grounds[s].whole}
        taken = [grounds[s].outline for s in before if s not in ragged]
        if ragged:
            taken += [seen.polygons[k] for k in near.query(polygon, "intersects") if seen.scene[k] in ragged]
        left = shapely.difference(polygon, shapely.union_all(taken)) if taken else polygon
        changed = bool(taken) and not shapely.equals(left, polygon)
        parts = polygons_of(left) if changed else [polygon]
        objects += [Object(part, i, (i,), changed, cut=bool(seen.cut[i])) for part in parts]
    return objects


def _by_row(take: object, rows: Rows, which: Index) -> pyarrow.Table:
    """Return the features of some rows, in the order that they are asked for."""
    order = np.argsort(which, kind="stable")
    table = take(rows.window[which[order]], rows.row[which[order]])  # type: ignore[operator]
    back = np.empty(len(which), np.int64)
    back[order] = np.arange(len(which))
    return table.take(pyarrow.array(back))


def _boxes(table: pyarrow.Table) -> Floats:
    return np.column_stack([table[name].to_numpy() for name in CORNERS])


def _bounds(boxes: Floats) -> Floats:
    if len(boxes) == 0:
        return np.array([np.inf, np.inf, -np.inf, -np.inf])
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _meet(boxes: Floats, box: Floats) -> NDArray[np.bool_]:
    return np.asarray((boxes[:, :2] <= box[2:]).all(axis=1) & (boxes[:, 2:] >= box[:2]).all(axis=1))
