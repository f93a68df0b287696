"""What tiles see of objects, each tile on its own, becomes the objects of the scene.

An object that its tile cuts gives way to a tile that sees it whole; where none does, what the tiles see of
it is united. Two views are of one object if they cover the same of what both tiles see. What one tile tells
apart stays apart. What is seen whole by one tile alone, whose core does not hold its centre, is no object.
Every decision follows from pairs of tiles, and none from their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.grid import Axis, Tile, TileGrid
from geoseg.values import HALF, Window
from geoseg.vector.objects import INSIDE, Seen, TileObjects, part_of, traced, united, without_overlaps
from geoseg.vector.pieces import Piece
from geoseg.vector.samples import Floats
from geoseg.vector.trace import Outline

EDGE = 2
"""Pixels along a tile's edge: an object that reaches them may go on beyond."""

SAME = 0.5
"""Intersection over union, of what both tiles see, from which on two views are of one object."""


@dataclass(eq=False, slots=True)
class _View:
    """A view, and what comparing it with those of other tiles has told.

    It is confirmed where its tile's core holds its centre, or another tile sees the object, too.
    """

    seen: Seen
    tile: Tile
    whole: bool
    rank: tuple[bool, int, int, int]
    area: int
    confirmed: bool
    gives_way: bool = False
    parts: list[_View] = field(default_factory=list)
    decided: bool = False


class Uniter:
    """Makes objects of views, as tiles come in, in any order; see the module.

    Parameters
    ----------
    tiles : TileGrid
    outline : {"smooth", "pixel"}
    """

    def __init__(self, tiles: TileGrid, outline: Outline = "smooth") -> None:
        self._grid, self._outline = tiles, outline
        shape = len(tiles.rows), len(tiles.cols)
        self._arrived, self._closed = np.zeros(shape, bool), np.zeros(shape, bool)
        self._views: dict[tuple[int, int], list[_View]] = {}
        self._open: list[_View] = []
        self._objects: list[Seen] = []
        self._done: list[bool] = []

    def add(self, tiles: Iterable[TileObjects]) -> list[Piece]:
        """Take what some tiles see and return the objects that are complete now."""
        for one in tiles:
            self._arrive(one)
        self._close()
        self._unite()
        return self._take()

    def open_boxes(self) -> Floats:
        """Return what objects that are not complete cover so far (col, row, col, row), shape (n, 4)."""
        views = [view.seen for views in self._views.values() for view in views]
        waiting = [one for one, done in zip(self._objects, self._done, strict=True) if not done]
        return _boxes([*views, *(view.seen for view in self._open), *waiting])

    def finish(self) -> None:
        """Check that nothing is left open.

        Raises
        ------
        RuntimeError
            If a tile is missing.
        """
        if not self._closed.all() or self._open or not all(self._done):
            raise RuntimeError("objects are open: a tile was not added")

    def _arrive(self, found: TileObjects) -> None:
        """Compare what a tile sees with those that are there."""
        tile = found.tile
        place = tile.row, tile.col
        seen = {(one.label, one.score, one.window, one.values.tobytes()): one for one in found.seen}
        views = [self._view(one, tile) for one in seen.values()]  # none of them twice
        self._arrived[place] = True
        if views:
            window = tile.window.intersection(self._grid.window)
            rows, cols = self._overlapping(window)
            for row in range(rows.start, rows.stop):
                for col in range(cols.start, cols.stop):
                    others = self._views.get((row, col))
                    if others and (row, col) != place:
                        compare(views, others, window.intersection(others[0].tile.window))
            self._views[place] = views

    def _view(self, seen: Seen, tile: Tile) -> _View:
        mask = seen.values >= HALF
        down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        spans = (
            (seen.window.row + down[0], seen.window.row + down[-1] + 1, self._grid.rows, tile.row),
            (seen.window.col + across[0], seen.window.col + across[-1] + 1, self._grid.cols, tile.col),
        )
        whole = not any(_cut(*span) for span in spans)
        owned = all(_owns(axis, number, (start + stop) / 2) for start, stop, axis, number in spans)
        return _View(seen, tile, whole, (owned, seen.score, -tile.row, -tile.col), int(mask.sum()), owned)

    def _overlapping(self, window: Window) -> tuple[slice, slice]:
        """Return the rows and columns of tiles that share pixels with a window."""
        rows = self._grid.rows.covering(window.row, window.row_stop)
        cols = self._grid.cols.covering(window.col, window.col_stop)
        return slice(rows.start, rows.stop), slice(cols.start, cols.stop)

    def _close(self) -> None:
        """Decide on what tiles see where all that overlap them have come."""
        for row, col in np.argwhere(self._arrived & ~self._closed).tolist():
            tile = self._grid.tile(row, col).window.intersection(self._grid.window)
            if not self._arrived[self._overlapping(tile)].all():
                continue
            self._closed[row, col] = True
            for view in self._views.pop((row, col), []):
                view.decided = True
                if view.whole and view.confirmed and not view.gives_way:
                    self._keep(view.seen)
                elif not view.whole:
                    self._open.append(view)

    def _keep(self, seen: Seen) -> None:
        self._objects.append(seen)
        self._done.append(False)

    def _unite(self) -> None:
        """Unite the parts of objects that no tile sees whole, once all parts are decided."""
        left, known = [], set[int]()
        for view in self._open:
            if id(view) in known:
                continue
            group = _connected(view)
            known |= {id(one) for one in group}
            if all(one.decided for one in group):
                self._keep_parts([one for one in group if not one.gives_way])
            else:
                left += [one for one in group if one.decided]
        self._open = left

    def _keep_parts(self, parts: list[_View]) -> None:
        if parts:
            self._keep(united([view.seen for view in sorted(parts, key=lambda view: view.tile[:2])]))

    def _take(self) -> list[Piece]:
        """Return the objects that nothing undecided may overlap; keep those that others have to know of."""
        boxes = _boxes(self._objects)
        near = shapely.STRtree(_areas(boxes))
        blocked = np.array(
            [not self._closed[self._overlapping(one.window)].all() for one in self._objects], bool
        )
        blocked[near.query(_areas(_boxes([view.seen for view in self._open])))[1]] = True
        ready = ~blocked & ~np.array(self._done, bool)
        pieces = []
        for number in np.flatnonzero(ready).tolist():
            rivals = [
                self._objects[i] for i in near.query(_areas(boxes[number : number + 1])[0]) if i != number
            ]
            pieces.append(
                traced(without_overlaps(self._objects[number], rivals), self._grid.window, self._outline)
            )
        done = ready | np.array(self._done, bool)
        needed = ~done
        needed[near.query(_areas(boxes[~done]))[1]] = True
        self._objects = [one for one, keep in zip(self._objects, needed, strict=True) if keep]
        self._done = done[needed].tolist()
        return [piece for piece in pieces if piece is not None]


def _cut(start: int, stop: int, axis: Axis, tile: int) -> bool:
    """Tell whether what spans start … stop reaches an edge of its tile beyond which the axis goes on."""
    first, last = axis.start(tile), axis.start(tile) + axis.size
    return bool((start < first + EDGE and first > 0) or (stop > last - EDGE and last < axis.n))


def _owns(axis: Axis, tile: int, centre: float) -> bool:
    """Tell whether a place lies in the core of a tile, which ends amid what it shares with the next."""
    edges = [(axis.start(one + 1) + axis.start(one) + axis.size) / 2 for one in (tile - 1, tile) if one >= 0]
    last = tile + 1 == len(axis)
    return (tile == 0 or edges[0] <= centre) and (last or centre < edges[-1])


def compare(ours: Sequence[_View], theirs: Sequence[_View], shared: Window) -> None:
    """Find the views of two tiles that are of one object, and note which give way, or are its parts.

    Each view has one partner at most, the most alike first. What a tile cuts and finds no partner for gives
    way to an object that holds most of it.
    """
    found, inside = [], []
    for i, j in _near(ours, theirs, shared):
        one, two = ours[i], theirs[j]
        common = _common(one, two, shared)
        if not common:
            continue
        sizes = [_size(each.seen, shared) for each in (one, two)]
        found.append((common / (sum(sizes) - common), -i, -j))
        for cut, other, size in ((one, two, sizes[0]), (two, one, sizes[1])):
            if not cut.whole and other.whole and common >= INSIDE * size and 2 * size >= cut.area:
                inside.append(cut)
    matched = set[int]()
    for share, i, j in sorted(found, reverse=True):
        one, two = ours[-i], theirs[-j]
        if share < SAME or matched & {id(one), id(two)}:
            continue
        matched |= {id(one), id(two)}
        one.confirmed = two.confirmed = True
        if one.whole and two.whole:
            min(one, two, key=lambda view: view.rank).gives_way = True
        elif one.whole or two.whole:
            (two if one.whole else one).gives_way = True
        else:
            one.parts.append(two)
            two.parts.append(one)
    for cut in inside:
        cut.gives_way |= id(cut) not in matched


def _near(ours: Sequence[_View], theirs: Sequence[_View], shared: Window) -> list[list[int]]:
    """Return the pairs of views of one class whose windows overlap within what both tiles see."""
    one, two = (_boxes([view.seen for view in views]) for views in (ours, theirs))
    low = np.maximum(np.maximum(one[:, None, :2], two[:, :2]), (shared.col, shared.row))
    high = np.minimum(np.minimum(one[:, None, 2:], two[:, 2:]), (shared.col_stop, shared.row_stop))
    labels = [np.array([view.seen.label for view in views]) for views in (ours, theirs)]
    return np.argwhere((low < high).all(axis=2) & (labels[0][:, None] == labels[1])).tolist()


def _size(seen: Seen, window: Window) -> int:
    return int(np.count_nonzero(part_of(seen, seen.window.intersection(window))))


def _common(one: _View, two: _View, shared: Window) -> int:
    both = one.seen.window.intersection(two.seen.window).intersection(shared)
    return int(np.count_nonzero(part_of(one.seen, both) & part_of(two.seen, both)))


def _connected(view: _View) -> list[_View]:
    """Return all views that are parts of the same as one."""
    group, known = [view], {id(view)}
    for one in group:
        for part in one.parts:
            if id(part) not in known:
                known.add(id(part))
                group.append(part)
    return group


def _boxes(seen: Sequence[Seen]) -> Floats:
    edges = [(one.window.col, one.window.row, one.window.col_stop, one.window.row_stop) for one in seen]
    return np.array(edges, np.float64).reshape(-1, 4)


def _areas(boxes: Floats) -> NDArray[np.object_]:
    return np.asarray(shapely.box(*boxes.T), object)
