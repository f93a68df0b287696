"""Polygons in longitude and latitude that cross the antimeridian or meet a pole."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.samples import Floats


def without(shell: shapely.Polygon, holes: Sequence[shapely.Polygon], turn: float) -> shapely.Geometry:
    """Take holes off a shell, however many times round the Earth they lie from it."""
    if not holes:
        return shell
    copies = [shapely.transform(holes, partial(np.add, np.array([by, 0]))) for by in (-turn, 0, turn)]
    return shapely.difference(shell, shapely.union_all(np.concatenate(copies)))


def unroll(points: Floats, at_pole: NDArray[np.bool_], turn: float) -> Floats:
    """Let longitudes along a ring go on beyond the antimeridian; close a ring round a pole along it.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2)
        Of a ring once around, counter-clockwise, that has no edge of half the circle or more.
    at_pole : ndarray of bool, shape (n,)
        Whether a vertex lies at a pole, where its longitude means nothing.
    turn : float
        The full circle, 360 degrees.

    Returns
    -------
    ndarray of float64, shape (m, 2)
        The ring begins in the usual range. A vertex at a pole has become an edge along the pole; every
        edge over the antimeridian has a vertex there.

    Examples
    --------
    >>> ring = np.array([[-120.0, 80.0], [0.0, 80.0], [120.0, 80.0]])  # round the north pole
    >>> area = shapely.Polygon(unroll(ring, np.zeros(3, bool), 360.0))
    >>> area.equals(shapely.box(-180, 80, 180, 90))
    True
    """
    half = turn / 2
    points = _spread_poles(points, at_pole, turn)
    points[:, 0] -= turn * np.floor((points[:, 0] + half) / turn)
    closed = np.column_stack([points, points[:, 0]])  # the last column stays in the usual range
    closed = np.append(closed, closed[:1], axis=0)
    step = np.diff(closed[:, 0])
    along_pole = (np.abs(closed[:-1, 1]) == turn / 4) & (np.abs(closed[1:, 1]) == turn / 4)
    # Along a pole the inside is on the left: westward along the north pole, eastward along the south.
    sign = np.sign(closed[:-1, 1])
    step = np.where(along_pole, -sign * (-sign * step % turn), step - turn * np.round(step / turn))
    reached = points[0, 0] + np.append(0, np.cumsum(step))
    closed[:, 0] += turn * np.round((reached - closed[:, 0]) / turn)
    closed = _cross(closed, turn)
    winding = round((closed[-1, 0] - closed[0, 0]) / turn)
    if winding:
        # Cut where nothing of the ring lies between the antimeridian and the pole.
        on_it = np.flatnonzero((closed[:-1, 0] + half) % turn == 0)
        cut = on_it[np.argmax(winding * closed[on_it, 1])]
        after = closed[1 : cut + 1] + np.array([winding * turn, 0, 0])
        closed = np.concatenate([closed[cut:], after])
        closed[:, 0] += -winding * half - closed[0, 0]
        corners = [[sign * half, winding * turn / 4, sign * half] for sign in (winding, -winding)]
        closed = np.concatenate([closed, corners])
    else:
        closed[:, 0] -= turn * np.floor((closed[:, 0].min() + half) / turn)
    # Turns that were added and taken away again cost the last bit, which a neighbour may have kept.
    usual = closed[:, 2]
    return np.column_stack([usual + turn * np.round((closed[:, 0] - usual) / turn), closed[:, 1]])


def _spread_poles(points: Floats, at_pole: NDArray[np.bool_], turn: float) -> Floats:
    """Replace each vertex at a pole by two, on the meridians of the vertices before and after it."""
    here = np.flatnonzero(at_pole)
    before, after = points[here - 1, 0], points[(here + 1) % len(points), 0]
    points = points.copy()
    points[here, 0], points[here, 1] = before, np.sign(points[here, 1]) * turn / 4
    return np.insert(points, here + 1, np.column_stack([after, points[here, 1]]), axis=0)


def _cross(closed: Floats, turn: float) -> Floats:
    """Give edges over the antimeridian a vertex there; the last column lies in the usual range."""
    half, longitude = turn / 2, closed[:, 2]
    world = np.floor((closed[:, 0] + half) / turn)
    border = np.maximum(world[:-1], world[1:]) * turn - half
    over = (world[:-1] != world[1:]) & (closed[:-1, 0] != border) & (closed[1:, 0] != border)
    at = np.flatnonzero(over)
    eastward = world[at] < world[at + 1]
    west, east = np.where(eastward, at, at + 1), np.where(eastward, at + 1, at)
    # From the usual range, so that both polygons at an edge get the same bits.
    before, behind = half - longitude[west], half + longitude[east]
    latitude = (closed[west, 1] * behind + closed[east, 1] * before) / (before + behind)
    return np.insert(closed, at + 1, np.column_stack([border[at], latitude, border[at]]), axis=0)


def cut(polygon: shapely.Polygon) -> shapely.Geometry:
    """Cut a polygon at the antimeridian and bring both parts into -180 … 180 degrees.

    >>> [part.bounds for part in cut(shapely.box(170, 0, 190, 5)).geoms]
    [(170.0, 0.0, 180.0, 5.0), (-180.0, 0.0, -170.0, 5.0)]
    """
    parts: list[shapely.Polygon] = []
    for turn in (-360.0, 0.0, 360.0):
        world = shapely.box(turn - 180, -90, turn + 180, 90)
        inside = shapely.get_parts(shapely.intersection(polygon, world))
        areas = inside[shapely.get_type_id(inside) == shapely.GeometryType.POLYGON]
        parts.extend(shapely.transform(areas, partial(np.add, np.array([-turn, 0.0]))))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
