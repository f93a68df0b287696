"""Polygons burnt into pixels, and labelled polygons burnt into any window at the window's resolution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.labels.classes import IGNORE
from geoseg.labels.places import Box

L = TypeVar("L", np.uint8, np.int32)

OBJECT = 256
"""A label may tell which object a pixel is of: its class id, and this times the object's number from 1 on."""

_DUPLICATE = 0.5
"""Polygons of one class that share more than this of the smaller one's area (of the area of both where
each is an object, see `first_drawings`) are one object drawn twice."""


def burn(
    polygons: NDArray[np.object_],
    ids: NDArray[L],
    box: Box,
    labels: NDArray[L],
    *,
    all_touched: bool = False,
) -> NDArray[L]:
    """Draw polygons into the pixels that part a box evenly, in place; later ones over earlier ones.

    Parameters
    ----------
    polygons : ndarray of (Multi)Polygon, shape (n,)
        In the coordinates of `box`.
    ids : ndarray of uint8 or int32, shape (n,)
        What is drawn for each.
    box : Box
        Left, top, right, bottom of the pixels.
    labels : ndarray of the same type, shape (rows, cols)
        What is drawn on.
    all_touched : bool
        Draw pixels that a polygon touches; False: those whose centre lies inside.

    Returns
    -------
    ndarray
        `labels`.

    Examples
    --------
    >>> square = np.array([shapely.box(1, 0, 3, 1)])
    >>> burn(square, np.array([7], np.uint8), (0, 0, 4, 2), np.zeros((2, 4), np.uint8))
    array([[0, 7, 7, 0],
           [0, 0, 0, 0]], dtype=uint8)
    """
    if len(polygons):
        from affine import Affine
        from rasterio.features import rasterize

        left, top, right, bottom = box
        rows, cols = labels.shape
        transform = Affine((right - left) / cols, 0, left, 0, (bottom - top) / rows, top)
        shapes = zip(polygons, ids.tolist(), strict=True)
        rasterize(shapes, out=labels, transform=transform, all_touched=all_touched)
    return labels


@dataclass(frozen=True, eq=False, slots=True)
class Footprints:
    """Polygons with classes over a ground."""

    polygons: NDArray[np.object_]
    """Polygon, shape (n,). Native pixels of the ground, times `pixel_m`: metres right and down from its
    corner."""
    ids: NDArray[np.uint8]
    """uint8, shape (n,). Class ids; 0 and `IGNORE` are allowed. Where polygons overlap, the later one of the
    two wins, `IGNORE` over all."""
    pixel_m: tuple[float, float]
    """Metres that a native pixel measures along its row and along its column."""
    gap_m: float = 0.0
    """Width of the background between polygons of one class that touch or nearly touch."""
    objects: bool = False
    """Draw which object a pixel is of, see `OBJECT`. Then the smaller of two polygons that overlap wins."""
    gaps: NDArray[np.object_] = field(init=False)
    _tree: shapely.STRtree = field(init=False)
    _gap_tree: shapely.STRtree = field(init=False)
    _firsts: NDArray[np.int64] = field(init=False)
    """Of each polygon, the first one that is the same object."""

    def __post_init__(self) -> None:
        gaps = gaps_between(self.polygons, self.ids, self.gap_m)
        object.__setattr__(self, "gaps", gaps)
        object.__setattr__(self, "_tree", shapely.STRtree(self.polygons))
        object.__setattr__(self, "_gap_tree", shapely.STRtree(gaps))
        firsts = first_drawings(self.polygons, self.ids) if self.objects else np.empty(0, np.int64)
        object.__setattr__(self, "_firsts", firsts)

    @property
    def spots(self) -> NDArray[np.float64]:
        """A point on each polygon of a class, (n, 2), native pixels (col, row)."""
        objects = self.polygons[(self.ids != 0) & (self.ids != IGNORE)]
        return shapely.get_coordinates(shapely.point_on_surface(objects)) / self.pixel_m

    def touched(self, boxes: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Say which boxes, shape (n,), native pixels, touch any polygon."""
        metres = shapely.transform(boxes, lambda points: points * self.pixel_m)
        found = np.zeros(len(boxes), bool)
        found[self._tree.query(metres, predicate="intersects")[0]] = True
        return found

    def burn(self, box: Box, shape: tuple[int, int]) -> NDArray[np.uint8] | NDArray[np.int32]:
        """Return labels of pixels that part the box evenly: a pixel is what its centre lies in.

        Gaps take every pixel that they touch: where a pixel's diagonal is no longer than the gap is wide, two
        polygons are never connected. Coarser ones may meet at a corner, where polygons lie further apart.
        Labels are uint8; int32 where they tell `objects`, numbered anew in each call.

        Parameters
        ----------
        box : Box
            Native pixels.
        shape : (rows, cols)
            Of the result.
        """
        across, down = self.pixel_m
        frame = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        area = shapely.box(*frame)
        found = np.sort(self._tree.query(area))
        unknown = self.polygons[found[self.ids[found] == IGNORE]]
        found = found[self.ids[found] != IGNORE]
        if self.objects:
            found = found[np.argsort(-shapely.area(self.polygons[found]), kind="stable")]
            numbers = np.unique(self._firsts[found], return_inverse=True)[1] + 1
            values = (self.ids[found] + OBJECT * numbers * (self.ids[found] != 0)).astype(np.int32)
            labels = burn(self.polygons[found], values, frame, np.zeros(shape, np.int32))
        else:
            labels = burn(self.polygons[found], self.ids[found], frame, np.zeros(shape, np.uint8))
        cut = self.gaps[self._gap_tree.query(area)]
        burn(cut, np.zeros(len(cut), labels.dtype), frame, labels, all_touched=True)
        return burn(unknown, np.full(len(unknown), IGNORE, labels.dtype), frame, labels)


def first_drawings(polygons: NDArray[np.object_], ids: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return of each polygon the first of its class that it is drawn over: an object may be drawn twice.

    Two drawings of one object have an IoU above 0.5.

    >>> squares = np.array([shapely.box(0, 0, 10, 10), shapely.box(2, 2, 4, 4), shapely.box(0, 1, 10, 11)])
    >>> first_drawings(squares, np.array([1, 1, 1], np.uint8)).tolist()
    [0, 1, 0]
    """
    firsts = np.arange(len(polygons))
    one, two = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pairs = (one < two) & (ids[one] == ids[two])
    one, two = one[pairs], two[pairs]
    shared = shapely.area(shapely.intersection(polygons[one], polygons[two]))
    union = shapely.area(polygons[one]) + shapely.area(polygons[two]) - shared
    same = shared > _DUPLICATE * union
    for first, second in sorted(zip(one[same].tolist(), two[same].tolist(), strict=True)):
        firsts[second] = firsts[first]
    return firsts


def gaps_between(polygons: NDArray[np.object_], ids: NDArray[np.uint8], width: float) -> NDArray[np.object_]:
    """Return the strips that separate polygons of one class closer than `width`.

    The strip of two polygons is where both, grown by half the width, overlap; what they share already
    counts to the first. Two drawings of one object have none.

    Parameters
    ----------
    polygons : ndarray of Polygon, shape (n,)
        Valid, in metres.
    ids : ndarray of uint8, shape (n,)
        Class ids.
    width : float
        Metres; 0: no strips.
    """
    if not width or not len(polygons):
        return np.empty(0, object)
    tree = shapely.STRtree(polygons)
    one, two = tree.query(polygons, predicate="dwithin", distance=width)
    pairs = (one < two) & (ids[one] == ids[two]) & (ids[one] != 0) & (ids[one] != IGNORE)
    first, second = polygons[one[pairs]], polygons[two[pairs]]
    shared = shapely.area(shapely.intersection(first, second))
    different = shared <= _DUPLICATE * np.minimum(shapely.area(first), shapely.area(second))
    first, second = first[different], second[different]
    rest = shapely.difference(second, first)
    grown = [shapely.buffer(side, width / 2, quad_segs=4) for side in (first, rest)]
    strips = shapely.get_parts(shapely.intersection(*grown))
    return strips[shapely.area(strips) > 0]
