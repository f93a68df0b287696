"""No two objects overlap: which outline each may take beside its neighbours, and what is cut off at last."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Index

INTERIORS_MEET = "T********"
"""How the interiors of two polygons that overlap are related (Clementini and Di Felice, 1996)."""


def choose_outlines(
    outlines: NDArray[np.object_], one: Index, two: Index, group: Index | None = None
) -> Index:
    """Return which of several outlines each object takes, so that no two overlap.

    An outline is taken only where it overlaps no plainer outline of a neighbour, whichever that takes, and
    not the same kind of outline of one before it. So a choice depends on the object and those near it
    alone, not on what these choose: there are no chains.

    Parameters
    ----------
    outlines : ndarray of shapely geometries, shape (kinds, n)
        Of n objects in their order, the preferred kind first; None where there is none. Those of the last
        kind do not overlap each other.
    one, two : ndarray of int64, shape (m,)
        Pairs of objects that may overlap, the earlier first.
    group : ndarray of int64, shape (n,), optional
        Objects of one group all take the same kind, in which they do not overlap each other.

    Returns
    -------
    ndarray of int64, shape (n,)
        Kind of outline of each object.

    Examples
    --------
    >>> fine = [shapely.box(0, 0, 3, 3), shapely.box(2, 0, 5, 3)]
    >>> plain = [shapely.box(0, 0, 2, 3), shapely.box(3, 0, 5, 3)]
    >>> choose_outlines(np.array([fine, plain]), np.array([0]), np.array([1])).tolist()
    [0, 1]
    """
    allowed = ~shapely.is_missing(outlines)
    last = len(outlines) - 1
    for kind in range(last):
        for plainer in range(kind + 1, last + 1):
            allowed[kind, one[overlap(outlines[kind, one], outlines[plainer, two])]] = False
            allowed[kind, two[overlap(outlines[plainer, one], outlines[kind, two])]] = False
        allowed[kind, two[overlap(outlines[kind, one], outlines[kind, two])]] = False
    if group is not None:
        for kind in range(last):
            together = np.ones(int(group.max(initial=-1)) + 1, bool)
            together[group[~allowed[kind]]] = False
            allowed[kind] = together[group]
    allowed[last] = True
    return np.asarray(allowed.argmax(axis=0), np.int64)


def overlap(polygons: NDArray[np.object_], others: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Tell which polygons share more than their borders with their partners; None overlaps nothing.

    >>> overlap(np.array([shapely.box(0, 0, 2, 2)]), np.array([shapely.box(2, 0, 4, 2)])).tolist()
    [False]
    """
    found = np.asarray(shapely.intersects(polygons, others))
    found[found] = shapely.relate_pattern(polygons[found], others[found], INTERIORS_MEET)
    return found


def remove_overlaps(
    polygons: NDArray[np.object_], one: Index, two: Index, gap: float = 0.0
) -> NDArray[np.object_]:
    """Take from polygons what overlaps those before them.

    Parameters
    ----------
    polygons : ndarray of shapely geometries, shape (n,)
        In their order.
    one, two : ndarray of int64, shape (m,)
        Pairs that may overlap, the earlier first.
    gap : float
        What is left between two at least, for coordinates that are going to be rounded.

    Returns
    -------
    ndarray of shapely geometries, shape (n,)
        Empty where nothing is left.

    Examples
    --------
    >>> found = remove_overlaps(np.array([shapely.box(0, 0, 2, 2), shapely.box(1, 0, 4, 2)]), [0], [1])
    >>> float(shapely.area(found).round(6).sum())
    8.0
    """
    one, two = np.asarray(one), np.asarray(two)
    bad = overlap(polygons[one], polygons[two])
    result = polygons.copy()
    for later in np.unique(two[bad]).tolist():
        before = shapely.union_all(polygons[one[bad & (two == later)]])
        # Where a cut crosses an edge is rounded too.
        wider = gap + 8 * np.spacing(np.abs(before.bounds).max())
        left = shapely.difference(polygons[later], shapely.buffer(before, wider, join_style="mitre"))
        parts = shapely.get_parts(left)
        areas = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
        result[later] = areas[0] if len(areas) == 1 else shapely.multipolygons(areas)
    return result


def near_pairs(boxes: NDArray[np.float64]) -> tuple[Index, Index]:
    """Return the pairs of boxes (west, south, east, north) that meet, the earlier of each pair first.

    >>> one, two = near_pairs(np.array([[0, 0, 1, 1], [5, 5, 6, 6], [1, 0, 2, 1]], float))
    >>> one.tolist(), two.tolist()
    ([0], [2])
    """
    areas = np.asarray(shapely.box(*np.asarray(boxes, np.float64).reshape(-1, 4).T), object)
    one, two = shapely.STRtree(areas).query(areas)
    return one[one < two], two[one < two]
