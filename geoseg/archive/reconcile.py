"""Objects that several scenes of an archive show become one feature each.

Which of two is kept, and what of a building that a scene's edge cuts comes from whom, follows from the
features and their scenes alone: neither the order of the scenes nor the windows that are looked at count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.vector.overlaps import near_pairs, overlap, remove_overlaps
from geoseg.vector.rings import components
from geoseg.vector.samples import Floats, Index

RIM = 64
"""Pixels along a scene's edge that are taken from another where an object is put together, an eighth of a
side at most."""

REACH = 300
"""Pixels from the edge beyond which a model sees all that counts: there confidence decides."""

SAME = 0.5
"""Share of the smaller of two that both cover from which on they are one object."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a scene shows, in the CRS of the features.

    Parameters
    ----------
    name : str
        Of the scene.
    day : str
        When it was taken, as far as that is known: ``2024-05-01``.
    outline : shapely.Polygon
        All of it.
    edge : shapely.Geometry
        What of its edge other scenes go beyond; None: nothing. See `with_edges`.
    trusted : shapely.Geometry
        The outline without a rim along `edge`, where the model saw too little of what lies around.
    pixel, pixel_m : float
        Side of a pixel in units of the CRS, and in metres.
    whole : bool
        Whether all of it is data.
    shows : callable
        Whether a polygon lies on data alone; asked where not all of the scene is data.
    """

    name: str
    day: str
    outline: shapely.Polygon
    pixel: float
    pixel_m: float
    whole: bool = True
    shows: Callable[[shapely.Polygon], bool] = lambda _: False
    edge: shapely.Geometry | None = None
    trusted: shapely.Geometry | None = None


def with_edges(grounds: Sequence[Ground], *, any_date: bool) -> list[Ground]:
    """Return what scenes show with the edges that others, of any day or of theirs, go beyond."""
    outlines = np.array([ground.outline for ground in grounds], object)
    tree = shapely.STRtree(outlines)
    result = []
    for ground in grounds:
        near = [k for k in tree.query(ground.outline) if any_date or grounds[k].day == ground.day]
        inner = shapely.buffer(shapely.union_all(outlines[near]), -0.5 * ground.pixel, join_style="mitre")
        edge = shapely.intersection(shapely.boundary(ground.outline), inner)
        west, south, east, north = ground.outline.bounds
        rim = min(RIM * ground.pixel, (east - west) / 8, (north - south) / 8)
        trusted = shapely.difference(ground.outline, shapely.buffer(edge, rim, cap_style="square"))
        result.append(replace(ground, edge=edge, trusted=trusted))
    return result


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """Features of several scenes; all arrays have one length.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
    scene : ndarray of int64
        Which of the grounds each was seen in.
    label : ndarray of int64
        Class.
    confidence : ndarray of float64
    id : ndarray of int64
        Told apart within a scene.
    cut : ndarray of bool
        Whether it touches its scene's edge.
    ragged : ndarray of bool
        Whether it touches nodata.
    """

    polygons: NDArray[np.object_]
    scene: Index
    label: Index
    confidence: Floats
    id: Index
    cut: NDArray[np.bool_]
    ragged: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.polygons)


@dataclass(frozen=True, slots=True)
class Object:
    """What one object has become.

    Parameters
    ----------
    polygon : shapely.Polygon
    best : int
        The feature whose attributes it has.
    members : tuple of int
        All features that show it, `best` among them, in ascending order.
    changed : bool
        Whether its outline is no longer that of `best`.
    joined : bool
        Whether it was put together of several.
    cut : bool
        Whether it still touches the edge of what there is.
    """

    polygon: shapely.Polygon
    best: int
    members: tuple[int, ...]
    changed: bool = False
    joined: bool = False
    cut: bool = False


def linked(seen: Seen, grounds: Sequence[Ground], *, any_date: bool) -> tuple[Index, Index]:
    """Return the pairs of features of one class, from different scenes, whose interiors meet.

    Scenes of other days are apart unless `any_date`.
    """
    one, two = near_pairs(shapely.bounds(seen.polygons))
    fit = seen.label[one] == seen.label[two]
    return _meeting(seen, seen, grounds, (one[fit], two[fit]), any_date=any_date)


def joining(seen: Seen, others: Seen, grounds: Sequence[Ground], *, any_date: bool, coverage: bool) -> Index:
    """Return which of `others` are linked with a feature, whatever their class in a coverage."""
    one, two = shapely.STRtree(others.polygons).query(seen.polygons)
    fit = coverage | (seen.label[one] == others.label[two])
    return np.unique(_meeting(seen, others, grounds, (one[fit], two[fit]), any_date=any_date)[1])


def _meeting(
    seen: Seen, others: Seen, grounds: Sequence[Ground], pairs: tuple[Index, Index], *, any_date: bool
) -> tuple[Index, Index]:
    one, two = pairs
    here, there = seen.scene[one], others.scene[two]
    fit = here != there
    if not any_date:
        days = np.array([ground.day for ground in grounds])
        fit &= days[here] == days[there]
    one, two = one[fit], two[fit]
    meet = overlap(seen.polygons[one], others.polygons[two])
    return one[meet], two[meet]


def reconcile(seen: Seen, grounds: Sequence[Ground], *, any_date: bool = False) -> list[Object]:
    """Return the objects that features show, by their first members.

    Whole ones first, then those that lie deeper within their scene, up to `REACH`, then by confidence,
    distance from any of the scene's edges, later days, scene and id: each keeps what is the same object in
    another scene from being one of its own. Features that edges cut are put together, each place from the
    first scene that shows it within its rim. What of two objects overlaps still is the first one's. What is
    seen in rims alone, though another scene of the day shows the place within its own, is left out.

    Parameters
    ----------
    seen : Seen
        With every feature that is linked to one of them, see `linked`.
    grounds : sequence of Ground
    any_date : bool
        Whether scenes of other days show the same objects.
    """
    one, two = linked(seen, grounds, any_date=any_date)
    rank = _ranks(seen, grounds)
    group = components(len(seen), (one, two))
    inner = shapely.STRtree(np.array([ground.trusted for ground in grounds], object))
    order = np.lexsort((rank, group))
    objects: list[Object] = []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else ():
        objects += [
            found
            for found in _resolve(members.tolist(), seen, grounds)
            if not _is_denied(found, members, seen, grounds, inner)
        ]
    return sorted(objects, key=lambda found: (found.members[0], found.best))


def _is_denied(
    found: Object, around: Index, seen: Seen, grounds: Sequence[Ground], inner: shapely.STRtree
) -> bool:
    """Tell whether an object lies in the rims of its scenes, and within that of another, which lacks it.

    Parameters
    ----------
    around : ndarray of int64
        The features of all that hangs together with it.
    inner : STRtree
        Of the grounds within their rims.
    """
    if any(shapely.covers(grounds[s].trusted, found.polygon) for s in seen.scene[list(found.members)]):
        return False
    day = grounds[seen.scene[found.best]].day
    there = seen.scene[around[overlap(seen.polygons[around], np.array([found.polygon] * len(around)))]]
    return any(
        grounds[s].day == day and (grounds[s].whole or grounds[s].shows(found.polygon))
        for s in inner.query(found.polygon, "covered_by").tolist()
        if s not in there
    )


def _ranks(seen: Seen, grounds: Sequence[Ground]) -> Index:
    """Return the place of each feature in the total order."""
    inner = np.array([ground.edge for ground in grounds], object)[seen.scene]
    reach = np.array([REACH * ground.pixel for ground in grounds])[seen.scene]
    depth = np.fmin(shapely.distance(seen.polygons, inner), reach)  # NaN: there is no such edge
    around = np.array([shapely.boundary(ground.outline) for ground in grounds], object)[seen.scene]
    outer = shapely.distance(shapely.centroid(seen.polygons), around)
    days = [ground.day for ground in grounds]
    day = np.array([sorted(set(days)).index(one) for one in days])[seen.scene]
    names = np.argsort(np.argsort([ground.name for ground in grounds]))[seen.scene]
    order = np.lexsort((seen.id, names, -day, -outer, -seen.confidence, -depth, seen.cut))
    rank = np.empty(len(seen), np.int64)
    rank[order] = np.arange(len(seen))
    return rank


def _resolve(members: Sequence[int], seen: Seen, grounds: Sequence[Ground]) -> list[Object]:
    """Return the objects of features that hang together, which come in their order."""
    if len(members) == 1:
        return [Object(seen.polygons[members[0]], members[0], (members[0],), cut=bool(seen.cut[members[0]]))]
    kept: dict[int, list[int]] = {}
    parts: list[int] = []
    for i in members:
        same = next((k for k in kept if _is_same(seen, grounds, k, i)), None)
        if same is not None:
            kept[same].append(i)
        elif seen.cut[i]:
            parts.append(i)
        else:
            kept[i] = [i]
    objects = [Object(seen.polygons[k], k, tuple(sorted(of))) for k, of in kept.items()]
    for together in _together(parts, seen, grounds):
        objects += _put_together(together, seen, grounds)
    return _apart(objects)


def _is_same(seen: Seen, grounds: Sequence[Ground], whole: int, other: int) -> bool:
    """Tell whether a feature is the same object as one that no edge cuts."""
    if seen.scene[whole] == seen.scene[other]:
        return False
    polygon = seen.polygons[other]
    shared = shapely.area(shapely.intersection(seen.polygons[whole], polygon))
    area = shapely.area(polygon)
    if seen.cut[other]:  # the other scene has to have seen most of it
        inside = shapely.area(shapely.intersection(polygon, grounds[seen.scene[whole]].outline))
        if inside < SAME * area:
            return False
        area = inside
    return bool(shared >= SAME * min(area, shapely.area(seen.polygons[whole])))


def _together(parts: Sequence[int], seen: Seen, grounds: Sequence[Ground]) -> list[list[int]]:
    """Group features that edges cut: those that agree on the ground that both of their scenes show."""
    one, two = [], []
    for at, i in enumerate(parts):
        for other, j in enumerate(parts[:at]):
            if seen.scene[i] != seen.scene[j] and _agree(seen, grounds, i, j):
                one.append(other)
                two.append(at)
    group = components(len(parts), (np.array(one, np.int64), np.array(two, np.int64)))
    return [[parts[at] for at in np.flatnonzero(group == first).tolist()] for first in np.unique(group)]


def _agree(seen: Seen, grounds: Sequence[Ground], i: int, j: int) -> bool:
    both = shapely.intersection(grounds[seen.scene[i]].outline, grounds[seen.scene[j]].outline)
    here, there = (shapely.intersection(seen.polygons[k], both) for k in (i, j))
    shared = shapely.area(shapely.intersection(here, there))
    return bool(shared > 0 and shared >= SAME * min(shapely.area(here), shapely.area(there)))


def _put_together(members: Sequence[int], seen: Seen, grounds: Sequence[Ground]) -> list[Object]:
    """Return the object, or objects, that features cut by edges come to, in their order."""
    best, of = members[0], tuple(sorted(members))
    if len(members) == 1:
        return [Object(seen.polygons[best], best, of, cut=True)]
    scenes = list(dict.fromkeys(seen.scene[list(members)].tolist()))
    own = {s: shapely.union_all([seen.polygons[i] for i in members if seen.scene[i] == s]) for s in scenes}
    ragged = {s: any(seen.ragged[i] for i in members if seen.scene[i] == s) for s in scenes}
    pieces: list[shapely.Geometry] = []
    taken: shapely.Geometry = shapely.Polygon()
    for zone in ("trusted", "outline"):
        for s in scenes:
            ground = own[s] if ragged[s] else getattr(grounds[s], zone)
            pieces.append(shapely.difference(shapely.intersection(own[s], ground), taken))
            taken = shapely.union(taken, ground)
    pixel = min(grounds[s].pixel for s in scenes)
    joined = shapely.union_all(pieces, grid_size=1e-5 * pixel)
    polygon = shapely.simplify(shapely.make_valid(joined), 1e-4 * pixel)
    border = shapely.boundary(shapely.union_all([grounds[s].outline for s in scenes]))
    return [
        Object(part, best, of, True, True, bool(shapely.distance(part, border) < 0.1 * pixel))
        for part in polygons_of(polygon)
        if shapely.area(part) > pixel**2
    ]


def _apart(objects: Sequence[Object]) -> list[Object]:
    """Take from objects, which come in their order, what overlaps those before them."""
    polygons = np.array([found.polygon for found in objects], object)
    one, two = near_pairs(shapely.bounds(polygons))
    left = remove_overlaps(polygons, one, two)
    result = []
    for found, polygon in zip(objects, left, strict=True):
        if polygon is found.polygon:
            result.append(found)
            continue
        result += [
            Object(part, found.best, found.members, True, found.joined, found.cut)
            for part in polygons_of(polygon)
        ]
    return result


def polygons_of(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    """Return the polygons that a geometry is made of, their shells counter-clockwise."""
    parts = shapely.get_parts(geometry)
    return [
        shapely.orient_polygons(part) for part in parts if isinstance(part, shapely.Polygon) and part.area
    ]
