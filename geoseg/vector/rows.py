"""Objects that touch, such as rows of houses: their common walls are simplified and straightened once.

Tracing gives touching objects walls that are the same vertex by vertex. Here the outline of a whole row is
regularized, a straight line is fitted to every common wall, and the new outline is cut along these lines: so
both sides of a wall get the same, and facades run on from one object to the next.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.regularize import Bounds, Regularized, regularize
from geoseg.vector.rings import components
from geoseg.vector.samples import Floats, Index

ALONG_A_LINE = "F***1****"
"""How polygons that share a wall are related (Clementini and Di Felice, 1996)."""

PARALLEL = np.radians(12.0)
"""A common wall that deviates less from a direction of the outline takes that."""


def find_rows(polygons: NDArray[np.object_], one: Index, two: Index) -> Index:
    """Return the number of the row that each polygon is part of; rows are what common walls connect.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, shape (n,)
        As they were traced.
    one, two : ndarray of int64, shape (m,)
        Pairs that may touch.

    Examples
    --------
    >>> houses = np.array([shapely.box(0, 0, 4, 9), shapely.box(20, 0, 24, 9), shapely.box(4, 0, 8, 9)])
    >>> find_rows(houses, np.array([0, 0, 1]), np.array([1, 2, 2])).tolist()
    [0, 1, 0]
    """
    touch = np.asarray(shapely.relate_pattern(polygons[one], polygons[two], ALONG_A_LINE))
    return components(len(polygons), (one[touch], two[touch]))


def regularize_rows(
    polygons: NDArray[np.object_], row: Index, *, max_deviation: float, max_area_change: float = 0.05
) -> Regularized:
    """Give rows of touching polygons straight outlines and common walls; a row is accepted whole or not.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, shape (n,)
        As they were traced, in pixels.
    row : ndarray of int64, shape (n,)
        Row of each, from 0 without gaps.
    max_deviation, max_area_change : float
        See `geoseg.vector.regularize.regularize`; of every polygon of the row.

    Examples
    --------
    >>> wall = [(10, y) for y in (0, 3, 6, 9, 12)]
    >>> left = shapely.Polygon([(0, 0), *wall, (0, 12)])
    >>> right = shapely.Polygon([(20, 0), (20, 12), *wall[::-1]])
    >>> both = shapely.segmentize(np.array([left, right]), 0.5)
    >>> done = regularize_rows(both, np.array([0, 0]), max_deviation=1.0)
    >>> (shapely.get_num_coordinates(done.polygons) - 1).tolist()
    [4, 4]
    """
    order = np.argsort(row, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(row[order])) + 1)
    wholes = np.array([shapely.coverage_union_all(polygons[some]) for some in members], object)
    single = np.flatnonzero(shapely.get_type_id(wholes) == shapely.GeometryType.POLYGON)
    done = regularize(wholes[single], max_deviation=max_deviation, max_area_change=max_area_change)
    built = np.full(len(polygons), None, object)
    for number, outline in zip(single[done.accepted], done.polygons[done.accepted], strict=True):
        some = members[number]
        built[some] = _cut(outline, polygons[some], max_deviation)
    every = np.arange(len(polygons))
    good, deviation = Bounds(polygons, max_deviation, max_area_change).check(built, every)
    whole = np.ones(len(members), bool)
    whole[row[~good]] = False
    accepted = whole[row]
    return Regularized(np.where(accepted, built, polygons), accepted, np.where(accepted, deviation, 0.0))


def _cut(outline: shapely.Polygon, parts: NDArray[np.object_], reach: float) -> NDArray[np.object_]:
    """Cut an outline along straight lines through the common walls of parts; None where that fails."""
    one, two = np.triu_indices(len(parts), 1)
    rings = shapely.boundary(parts)
    shared = shapely.line_merge(shapely.intersection(rings[one], rings[two]))
    walls = shapely.get_parts(shared)
    walls = walls[(shapely.get_type_id(walls) == shapely.GeometryType.LINESTRING)]
    corners = shapely.get_coordinates(outline.exterior)
    edges = np.diff(corners, axis=0)
    lines = [_straight(wall, edges, reach) for wall in walls]
    faces = shapely.get_parts(shapely.polygonize([shapely.union_all([outline.boundary, *lines])]))
    faces = faces[shapely.contains_properly(outline, shapely.point_on_surface(faces))]
    common = shapely.area(shapely.intersection(faces[:, None], parts))
    owner = common.argmax(axis=1) if len(faces) else np.empty(0, np.int64)
    built = np.full(len(parts), None, object)
    for part in range(len(parts)):
        mine = faces[owner == part]
        built[part] = shapely.coverage_union_all(mine) if len(mine) else None
    return built


def _straight(wall: shapely.LineString, edges: Floats, reach: float) -> shapely.LineString:
    """Return the straight line through a wall, longer by twice the reach at either end.

    What is too long ends within a part and cuts nothing off.
    """
    points = shapely.get_coordinates(shapely.segmentize(wall, 0.5))
    middle = points.mean(axis=0)
    along = np.linalg.svd(points - middle, full_matrices=False)[2][0]
    angle = np.arctan2(along[1], along[0])
    turn = np.mod(np.arctan2(edges[:, 1], edges[:, 0]) - angle + np.pi / 4, np.pi / 2) - np.pi / 4
    near = np.flatnonzero(np.abs(turn) < PARALLEL)
    if len(near):
        # The direction that the longest of the outline's edges have.
        angle += turn[near[np.argmax(np.hypot(*edges[near].T))]]
    along = np.array([np.cos(angle), np.sin(angle)])
    places = (points - middle) @ along
    ends = np.array([places.min() - 2 * reach, places.max() + 2 * reach])
    return shapely.LineString(middle + ends[:, None] * along)
