"""Polygons in another CRS: on the same ground along edges, round poles, over the antimeridian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.values import GeoBox
from geoseg.vector.antimeridian import unroll, without
from geoseg.vector.rings import build_polygons
from geoseg.vector.samples import Floats, Index

if TYPE_CHECKING:
    from pyproj import CRS, Transformer

LONG = 1000.0
"""Metres from which on the image of an edge may bend both ways; of shorter ones that is some 0.01 mm."""

TOLERANCE = 0.1
"""Pixels by which the image of an edge may leave the straight line that is drawn for it."""

DEPTH = 12
"""How often an edge is halved at most: into 4096 parts."""

TORN = 1000.0
"""Metres by which the smallest part of an edge is off at least where a projection is torn apart.

More than any step between two ways of changing a datum.
"""

_NEAR = 1e-6
"""Pixels within which a vertex or an edge lies on a pole."""


def reproject(polygons: NDArray[np.object_], grid: GeoBox, target: str) -> tuple[NDArray[np.object_], float]:
    """Map polygons from pixels to a CRS.

    Edges are straight in `grid`. Where their images are not, they are halved until no straight line
    leaves the image by more than `TOLERANCE`, or `DEPTH` times. Which points that gives depends on the
    edge alone, so polygons that share an edge still do.

    In longitude and latitude, polygons across the antimeridian go on beyond 180 degrees, and one that
    holds a pole reaches from -180 to 180 and along the pole.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        Valid, in pixel coordinates of `grid`.
    grid : GeoBox
    target : str
        A horizontal CRS, see `layer_crs`.

    Returns
    -------
    polygons : ndarray of shapely.Geometry
        As (x, y) or (longitude, latitude). Not valid where rounding has folded a sliver.
    deviation : float
        The largest distance in pixels that is left between an edge and its image, if `TOLERANCE` is
        exceeded; else 0.

    Raises
    ------
    InvalidOption
        If `grid` has no CRS, or the target cannot hold a polygon.
    """
    if len(polygons) == 0:
        return polygons, 0.0
    change = _Change.between(grid, target)
    pole = change.poles(polygons)
    rings, owner = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    points, ring = _pass_poles(points, ring, pole)
    placed = change.place(points)
    points, placed, ring, deviation = _follow(points, placed, ring, change, pole)
    sizes = np.bincount(ring)
    moved = build_polygons(placed, sizes, owner)
    if change.turn:
        step = np.where(ring[1:] == ring[:-1], np.abs(np.diff(placed[:, 0])), 0)
        apart = np.append(step > change.turn / 2, False) | _at_any(points, pole)
        a, b, _, d, e, _ = grid.transform
        backward = shapely.is_ccw(rings) == (a * e < b * d)
        for number in np.unique(owner[ring[apart]]).tolist():
            areas = []
            for mine in np.flatnonzero(owner == number):
                there = slice(*np.searchsorted(ring, [mine, mine + 1]) - [0, 1])
                one, at_pole = placed[there], _at_any(points[there], pole)
                if backward[mine]:
                    one, at_pole = one[::-1], at_pole[::-1]
                areas.append(shapely.Polygon(unroll(one, at_pole, change.turn)))
            moved[number] = without(areas[0], areas[1:], change.turn)
    return moved, deviation


WEB_MERCATOR = "EPSG:3857"
WGS84 = "OGC:CRS84"
"""Longitude and latitude, as GeoJSON has them."""


def horizontal(crs: CRS) -> CRS:
    """Return a CRS without heights.

    >>> from pyproj import CRS
    >>> horizontal(CRS("EPSG:7415")).name
    'Amersfoort / RD New'
    """
    return crs.to_2d() if len(crs.axis_info) > 2 else crs


@dataclass(frozen=True, eq=False, slots=True)
class _Change:
    """From pixels to a CRS and back.

    `turn` is the full circle of a geographic target in its unit, 0 for projected ones.
    """

    grid: GeoBox
    source: CRS
    goal: CRS
    transformer: Transformer
    turn: float

    @classmethod
    def between(cls, grid: GeoBox, target: str) -> _Change:
        from pyproj import CRS, Transformer
        from pyproj.exceptions import ProjError

        if grid.crs is None:
            raise InvalidOption("--crs: the scene has no CRS, so its polygons cannot be reprojected")
        source, goal = horizontal(CRS.from_user_input(grid.crs)), CRS.from_user_input(target)
        try:
            transformer = Transformer.from_crs(source, goal, always_xy=True)
        except ProjError as error:
            raise InvalidOption(
                f"{goal.name}: PROJ knows no way there from the scene's CRS, {source.name}; "
                "leave --crs out and write .gpkg"
            ) from error
        turn = 2 * np.pi / goal.axis_info[0].unit_conversion_factor if goal.is_geographic else 0.0
        return cls(grid, source, goal, transformer, round(turn, 9))

    @property
    def metres(self) -> float:
        """About the size of a pixel."""
        a, b, _, d, e, _ = self.grid.transform
        unit = self.source.axis_info[0].unit_conversion_factor
        return float(np.sqrt(abs(a * e - b * d)) * unit * (6.4e6 if self.source.is_geographic else 1.0))

    def place(self, pixels: Floats) -> Floats:
        """Map pixel coordinates to the target."""
        x, y = self.grid.to_crs(pixels).T
        placed = np.column_stack(self.transformer.transform(x, y))
        if not np.isfinite(placed).all():
            raise InvalidOption(
                f"--crs {self.goal.name}: parts of the scene lie outside of where it is defined"
            )
        return placed

    def deviation(self, one: Floats, two: Floats, placed_one: Floats, placed_two: Floats) -> Floats:
        """Return how far, in pixels, straight lines in the target lie from edges.

        In their middle, and of long ones at their quarters: the image of an edge may be an S. The same bits
        in both directions of an edge. A place that lies on the edge, but not near the edge's own, tells
        that the line runs another way round the Earth.
        """
        ends = one, two, placed_one, placed_two
        deviation = self._deviation((1, 1), *ends)
        long = np.flatnonzero((deviation <= TOLERANCE) & (np.hypot(*(two - one).T) * self.metres > LONG))
        for shares in ((3, 1), (1, 3)) if len(long) else ():
            deviation[long] = np.maximum(deviation[long], self._deviation(shares, *[at[long] for at in ends]))
        return deviation

    def _deviation(
        self, shares: tuple[int, int], one: Floats, two: Floats, placed_one: Floats, placed_two: Floats
    ) -> Floats:
        """Return how far the lines lie from the edges at one place, given by its shares of both ends."""
        near, far = shares
        whole = near + far
        line = (near * placed_one + far * placed_two) / whole
        if self.turn:
            wraps = np.abs(np.round((placed_one[:, 0] - placed_two[:, 0]) / self.turn))
            share = np.where(placed_one[:, 0] > placed_two[:, 0], near, far)  # of the eastern end
            line[:, 0] -= wraps * (self.turn * share / whole)
        off = self.back(line) - (near * one + far * two) / whole
        deviation = _from_edges(two - one, off)
        bent = np.flatnonzero(~(deviation <= TOLERANCE))
        if len(bent):
            # Between some datums PROJ goes back another way than it came: then ends are off as well.
            ends = near * (self.back(placed_one[bent]) - one[bent])
            ends += far * (self.back(placed_two[bent]) - two[bent])
            deviation[bent] = _from_edges((two - one)[bent], off[bent] - ends / whole)
        return deviation

    def back(self, placed: Floats) -> Floats:
        """Map from the target to pixel coordinates; NaN where that is not possible."""
        points = np.column_stack(self.transformer.transform(placed[:, 0], placed[:, 1], direction="INVERSE"))
        points[~np.isfinite(points).all(axis=1)] = np.nan
        if self.source.is_geographic:  # PROJ gives -180 to 180; a grid across the antimeridian goes beyond
            turn = 2 * np.pi / self.source.axis_info[0].unit_conversion_factor
            middle = self.grid.to_crs(np.array([[self.grid.width / 2, self.grid.height / 2]]))[0, 0]
            points[:, 0] += turn * np.round((middle - points[:, 0]) / turn)
        return self.grid.to_pixels(points)

    def poles(self, polygons: NDArray[np.object_]) -> Floats:
        """Return the pixel coordinates of the poles that polygons hold or touch, shape (n, 2).

        Only of those that are a point in the source: in cylindrical projections they are lines. None
        for a projected target, where a pole is a place like any other.
        """
        from pyproj import Transformer

        degrees = self.goal if self.turn else self.source.geodetic_crs
        if degrees is None:
            return np.empty((0, 2))
        quarter = np.pi / 2 / degrees.axis_info[0].unit_conversion_factor
        change = Transformer.from_crs(degrees, self.source, always_xy=True)
        found = []
        for latitude in (quarter, -quarter):
            places = np.column_stack(change.transform(quarter * np.arange(4.0), np.full(4, latitude)))
            if not np.isfinite(places).all():
                continue
            pixels = self.grid.to_pixels(places)
            is_point = np.ptp(pixels, axis=0).max() < _NEAR
            if is_point and shapely.dwithin(polygons, shapely.Point(pixels[0]), _NEAR).any():
                if self.turn:
                    found.append(pixels[0])
                else:
                    self._check_pole(pixels[0])
        return np.array(found).reshape(-1, 2)

    def _check_pole(self, pole: Floats) -> None:
        """Refuse a projection that has no place for a pole: edges over it come out bent or torn."""
        over = np.array([[0.5, 0.0], [0.0, 0.5]])
        one, two = pole - over, pole + over
        if (self.deviation(one, two, self.place(one), self.place(two)) > 0.1).any():
            raise self.torn("a polygon holds a pole")

    def torn(self, reason: str) -> InvalidOption:
        return InvalidOption(
            f"--crs {self.goal.name}: {reason}, where this projection is torn apart; choose a CRS made "
            "for the place, or leave --crs out"
        )


def _from_edges(edges: Floats, off: Floats) -> Floats:
    """Return the distance of points from edges, given by their offset from the edges' middles.

    The middle eighths of an edge count as near: how fast it is run through may change along it.
    """
    length = np.hypot(*edges.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        aside = np.abs(edges[:, 0] * off[:, 1] - edges[:, 1] * off[:, 0]) / length
        along = np.abs(edges[:, 0] * off[:, 0] + edges[:, 1] * off[:, 1]) / length
    distance = np.hypot(aside, np.maximum(along - length / 8, 0))
    return np.where(length > 0, np.nan_to_num(distance, nan=np.inf), 0.0)


def _at_any(points: Floats, places: Floats) -> NDArray[np.bool_]:
    """Tell which points lie at one of the places."""
    at = np.zeros(len(points), bool)
    for place in places:
        at |= (np.abs(points - place) < _NEAR).all(axis=1)
    return at


def _pass_poles(points: Floats, ring: Index, poles: Floats) -> tuple[Floats, Index]:
    """Give edges that run over a pole a vertex there."""
    for pole in poles:
        one, two = points[:-1] - pole, points[1:] - pole
        edge = two - one
        square = (edge**2).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            aside = np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / np.sqrt(square)
            along = -(one * edge).sum(axis=1) / square
        over = (aside < _NEAR) & (along > 0) & (along < 1) & (ring[1:] == ring[:-1])
        over &= ~_at_any(points[:-1], pole[None]) & ~_at_any(points[1:], pole[None])
        after = np.flatnonzero(over) + 1
        points, ring = np.insert(points, after, pole, axis=0), np.insert(ring, after, ring[after])
    return points, ring


def _follow(
    points: Floats, placed: Floats, ring: Index, change: _Change, poles: Floats
) -> tuple[Floats, Floats, Index, float]:
    """Halve edges until their images are straight; return the deviation that is left where they are not."""
    first = np.flatnonzero(ring[1:] == ring[:-1])
    for depth in range(DEPTH + 1):
        ends = points[first], points[first + 1]
        deviation = change.deviation(*ends, *_lines(placed, first, _at_any(points, poles)))
        bent = ~(deviation <= TOLERANCE)
        if not bent.any():
            return points, placed, ring, 0.0
        if np.isinf(deviation).any():
            raise change.torn("polygons cross the antimeridian or another border")
        if depth == DEPTH:
            break
        split = np.sort(first[bent])
        middle = (points[split] + points[split + 1]) / 2
        points = np.insert(points, split + 1, middle, axis=0)
        placed = np.insert(placed, split + 1, change.place(middle), axis=0)
        ring = np.insert(ring, split + 1, ring[split])
        halves = split + np.arange(len(split))
        first = np.concatenate([halves, halves + 1])
    if (deviation > np.maximum(np.hypot(*(ends[1] - ends[0]).T) / 4, TORN / change.metres)).any():
        raise change.torn("polygons cross the antimeridian or another border")
    return points, placed, ring, float(deviation.max())


def _lines(placed: Floats, first: Index, at_pole: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the ends of edges in the target; those at a pole have the longitude of the other end."""
    one, two = placed[first], placed[first + 1]
    from_pole, to_pole = at_pole[first], at_pole[first + 1]
    one[from_pole, 0] = two[from_pole, 0]
    two[to_pole, 0] = one[to_pole, 0]
    return one, two
