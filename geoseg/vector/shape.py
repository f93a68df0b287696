"""From traced pieces to shapes: the outlines that each may take, and which of them are near or touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import GeoBox
from geoseg.vector.overlaps import OUTWARD, find_rows, near_pairs, overlap, remove_overlaps
from geoseg.vector.pieces import PLAIN, Calibration, Piece, confident
from geoseg.vector.place import area_limits, measure
from geoseg.vector.regularize import Regularized, regularize
from geoseg.vector.rows import GAP, shape_rows
from geoseg.vector.samples import Floats, Index
from geoseg.vector.simplify import close_holes, simplify_apart, simplify_shared

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


REGULARIZED, SIMPLIFIED, TRACED = range(3)
"""Kinds of outline that a feature may take, the preferred one first."""

CLOSE = 0.5
"""Pixels between two outlines from which on they cannot overlap in another CRS, nor when rounded."""

GAP_M = 0.025
"""Metres, or `GAP` pixels if that is more, that a regularized outline keeps from what it gives way to."""

YIELD = 0.02
"""Largest share of its area that a regularized outline gives up for neighbours."""

LONGEST = 512
"""Pixels that a row of touching objects may measure, across or down, to be regularized as one."""


@dataclass(frozen=True, slots=True)
class ShapeRules:
    """How polygons are shaped."""

    simplify_m: float = 0.0
    """Tolerance of simplification in metres, 0 for none. Pixels without a CRS."""
    min_area_m2: float = 0.0
    """Smaller polygons are left out: geodesic square metres, or square pixels without a CRS."""
    metres_per_pixel: float = 1.0
    """Ground sample distance of the grid; 1 without a CRS."""
    min_hole_m2: float = 0.0
    """Smaller holes are closed: in square metres by `metres_per_pixel`."""
    max_deviation_m: float | None = None
    """How far an outline may lie from its regularized one in metres; None: none is regularized."""
    min_confidence: float = 0.0
    """Polygons of lower confidence are left out."""
    calibration: Calibration = PLAIN
    """Gives the confidence of a polygon from its mean probability."""
    within: BaseGeometry | None = None
    """Shapely geometry or None. Area in pixels that objects of a single class are cut to where they reach its
    end."""

    @property
    def reach(self) -> float:
        """Pixels beyond its traced outline that a feature may cover."""
        deviation = self.simplify_m if self.max_deviation_m is None else 2 * self.max_deviation_m
        return max(deviation, self.simplify_m) / self.metres_per_pixel + CLOSE


@dataclass(frozen=True, eq=False, slots=True)
class Shapes:
    """Pieces with the outlines that they may take, by their first pixels."""

    pieces: NDArray[np.object_]
    """Piece, shape (n,)."""
    outlines: NDArray[np.object_]
    """Shapely.Polygon, shape (n, 3). In pixels: regularized (None where that is not within its bounds),
    simplified, traced."""
    sizes: Floats
    """float64, shape (n, 3, 2). Area and perimeter of each outline in metres, as of `measure`; NaN where they
    were not needed yet."""
    deviation_m: Floats
    """float64, shape (n,). Of the regularized outline, NaN where there is none."""
    boxes: Floats
    """float64, shape (n, 4). What the outlines cover (col, row, col, row), and `CLOSE` around it."""

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, which: NDArray[np.generic]) -> Shapes:
        return Shapes(*[getattr(self, one.name)[which] for one in fields(self)])

    def __add__(self, other: Self) -> Shapes:
        both = [np.concatenate([getattr(self, one.name), getattr(other, one.name)]) for one in fields(self)]
        return Shapes(*both)[np.argsort(first_pixels(both[0]), kind="stable")]


@dataclass(frozen=True, eq=False, slots=True)
class Near:
    """What shapes have to do with each other."""

    one: Index
    two: Index
    """`one`, `two`: int64, shape (m,). Pairs whose boxes meet, the earlier first."""
    row: Index
    """int64, shape (n,). Number of the row of touching shapes that each is part of."""
    long: NDArray[np.bool_]
    """bool, shape (n,). Whether that row goes on for more than `LONGEST`."""


def find_near(shapes: Shapes, reach: float, long: NDArray[np.bool_] | None = None) -> Near:
    """Find out which shapes are near each other or touch.

    Parameters
    ----------
    shapes : Shapes
    reach : float
        Of the rules.
    long : ndarray of bool, shape (n,), optional
        Shapes that are known to be part of a long row, others of which are there no more.
    """
    boxes = shapes.boxes
    one, two = near_pairs(boxes)
    row = find_rows(shapes.outlines[:, TRACED], one, two)
    touching = _drawn_anew(shapes, row)[:, None]
    if touching.any():  # these may get other outlines together than they have alone
        one, two = near_pairs(np.where(touching, boxes + reach * OUTWARD, boxes))
    count = int(row.max(initial=-1)) + 1
    least, most = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(least, row, shapes.boxes[:, :2])
    np.maximum.at(most, row, shapes.boxes[:, 2:])
    far = ((most - least).max(axis=1, initial=0) > LONGEST) & (np.bincount(row, minlength=count) > 1)
    if long is not None:
        far[row[long]] = True
    return Near(one, two, row, far[row])


def first_pixels(pieces: Sequence[Piece] | NDArray[np.object_]) -> Index:
    """Return the first pixels of pieces, which order them."""
    return np.array([piece.evidence.first_pixel for piece in pieces], np.int64)


def shape(pieces: Sequence[Piece], grid: GeoBox, rules: ShapeRules, *, coverage: bool) -> Shapes:
    """Make the outlines that pieces may take; those of each depend on the piece alone.

    Parameters
    ----------
    pieces : sequence of Piece
        Whole polygons in pixel coordinates.
    grid : GeoBox
        The grid that they were traced on.
    rules : ShapeRules
    coverage : bool
        Whether they are of a layer of several classes, whose borders are shared.

    Returns
    -------
    Shapes
        Without pieces that are too small.
    """
    pieces, polygons = _candidates(pieces, grid, rules)
    pixel = rules.metres_per_pixel
    traced = shapely.normalize(close_holes(polygons, rules.min_hole_m2 / pixel**2))
    simplify = simplify_shared if coverage else simplify_apart
    simple = simplify(traced, rules.simplify_m / pixel) if rules.simplify_m else traced
    size, large = _large_enough(simple, grid, rules.min_area_m2)
    kept = np.flatnonzero(large)
    kept = kept[np.argsort(first_pixels(pieces)[kept], kind="stable")]
    traced, simple = traced[kept], simple[kept]
    outlines = np.stack([np.full(len(kept), None, object), simple, traced], axis=1)
    sizes, deviation = np.full((len(kept), 3, 2), np.nan), np.full(len(kept), np.nan)
    sizes[:, SIMPLIFIED] = size[kept]
    if rules.max_deviation_m is not None:
        done = regularize(traced, max_deviation=rules.max_deviation_m / pixel)
        done.polygons[~done.accepted] = None
        _take(outlines, sizes, deviation, done, np.arange(len(kept)), (grid, rules))
    bounds = shapely.bounds(outlines)
    least, most = np.nanmin(bounds[..., :2], axis=1), np.nanmax(bounds[..., 2:], axis=1)
    chosen = np.empty(len(kept), object)
    # What was traced is kept once: shapes may wait for long.
    chosen[:] = [
        replace(pieces[i], polygon=polygon) for i, polygon in zip(kept.tolist(), traced, strict=True)
    ]
    return Shapes(chosen, outlines, sizes, deviation, np.hstack([least - CLOSE, most + CLOSE]))


def _take(
    outlines: NDArray[np.object_],
    sizes: Floats,
    deviation: Floats,
    done: Regularized,
    where: Index,
    how: tuple[GeoBox, ShapeRules],
) -> None:
    """Enter outlines that are not too small, of those not regularized without a deviation."""
    grid, rules = how
    good = np.flatnonzero(~shapely.is_missing(done.polygons))
    size, large = _large_enough(done.polygons[good], grid, rules.min_area_m2)
    good, size = good[large], size[large]
    outlines[where[good], REGULARIZED], sizes[where[good], REGULARIZED] = done.polygons[good], size
    far = np.where(done.accepted, done.deviation * rules.metres_per_pixel, np.nan)
    deviation[where[good]] = far[good]


def _candidates(
    pieces: Sequence[Piece], grid: GeoBox, rules: ShapeRules
) -> tuple[Sequence[Piece], NDArray[np.object_]]:
    """Leave out pieces of low confidence, or too small for certain; return the others with their polygons.

    Simplified or not, a polygon stays within its bounds. Of speckle nearly all pieces go here.
    """
    if rules.min_confidence > 0:
        pieces = confident(pieces, rules.calibration, rules.min_confidence)
    min_area_m2 = rules.min_area_m2
    polygons = np.array([piece.polygon for piece in pieces], dtype=object)
    if min_area_m2 <= 0 or len(polygons) == 0:
        return pieces, polygons
    kept = np.flatnonzero(area_limits(polygons, grid)[1] >= min_area_m2)
    return [pieces[i] for i in kept.tolist()], polygons[kept]


def _large_enough(
    polygons: NDArray[np.object_], grid: GeoBox, min_area_m2: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Tell which polygons are large enough, and what was measured for that, shape (n, 2); NaN elsewhere."""
    size = np.full((len(polygons), 2), np.nan)
    least = area_limits(polygons, grid)[0] if min_area_m2 > 0 else np.full(len(polygons), np.inf)
    unsure = np.flatnonzero(least < min_area_m2)
    size[unsure] = np.column_stack(measure(polygons[unsure], grid))
    areas = np.where(np.isnan(size[:, 0]), shapely.area(polygons), size[:, 0])
    return size, (least >= min_area_m2) | (areas >= min_area_m2)


def cut_to(shapes: Shapes, area: BaseGeometry) -> Shapes:
    """Cut the outlines that reach beyond an area; what would come apart is not regularized."""
    outlines, sizes = shapes.outlines.copy(), shapes.sizes.copy()
    near = np.flatnonzero([piece.evidence.touches_nodata for piece in shapes.pieces])
    inside = shapely.contains(area, outlines[near]) | shapely.is_missing(outlines[near])
    near = near[~inside.all(axis=1)]
    cut = shapely.intersection(outlines[near], area)
    whole = (shapely.get_type_id(cut) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(cut)
    outlines[near], sizes[near] = np.where(whole, cut, outlines[near]), np.nan
    outlines[near[~whole[:, REGULARIZED]], REGULARIZED] = None
    return replace(shapes, outlines=outlines, sizes=sizes)


def _drawn_anew(shapes: Shapes, row: Index) -> NDArray[np.bool_]:
    """Tell which shapes get outlines by `join_rows`: those that touch others, or have no straight walls."""
    return np.asarray((np.bincount(row)[row] > 1) | shapely.is_missing(shapes.outlines[:, REGULARIZED]))


def join_rows(shapes: Shapes, near: Near, grid: GeoBox, rules: ShapeRules) -> Shapes:
    """Give shapes that touch outlines that share their walls, and others what straight walls they have."""
    touching = np.flatnonzero(np.bincount(near.row)[near.row] > 1)
    pixel = rules.metres_per_pixel
    most = None if rules.max_deviation_m is None else rules.max_deviation_m / pixel
    outlines, sizes, deviation = shapes.outlines.copy(), shapes.sizes.copy(), shapes.deviation_m.copy()
    outlines[touching, SIMPLIFIED] = simplify_shared(outlines[touching, TRACED], rules.simplify_m / pixel)
    sizes[touching, SIMPLIFIED] = np.nan
    # What was traced each by itself touches without being a partition, and may overlap when simplified.
    inside = near.row[near.one] == near.row[near.two]
    one, two = (each[inside & ~near.long[near.one]] for each in (near.one, near.two))
    crossed = near.row[one[overlap(outlines[one, SIMPLIFIED], outlines[two, SIMPLIFIED])]]
    again = np.isin(near.row, crossed)
    outlines[again, SIMPLIFIED] = outlines[again, TRACED]
    short = touching if most is None else np.flatnonzero(_drawn_anew(shapes, near.row))
    known = outlines[:, REGULARIZED].copy()
    outlines[touching, REGULARIZED], deviation[touching] = None, np.nan
    # Of a row that goes on too far no part waits for the others; each has its one outline.
    long = touching[near.long[touching]]
    outlines[long, TRACED], sizes[long, TRACED] = outlines[long, SIMPLIFIED], sizes[long, SIMPLIFIED]
    short = short[~near.long[short]]
    if len(short):
        traced = outlines[short, TRACED]
        row = np.unique(near.row[short], return_inverse=True)[1].astype(np.int64)
        done = shape_rows(
            traced, row, tolerance=rules.simplify_m / pixel, max_deviation=most, known=known[short]
        )
        _take(outlines, sizes, deviation, done, short, (grid, rules))
    _give_way(outlines, sizes, near, max(GAP, GAP_M / pixel))
    return replace(shapes, outlines=outlines, sizes=sizes, deviation_m=deviation)


def _give_way(outlines: NDArray[np.object_], sizes: Floats, near: Near, gap: float) -> None:
    """Cut regularized outlines where they overlap plainer ones of other rows, or those of earlier shapes.

    What would lose too much, or no longer share its walls, keeps its plainer outlines.
    """
    apart = near.row[near.one] != near.row[near.two]
    one, two, count = near.one[apart], near.two[apart], len(outlines)
    before = np.concatenate([one, one + count, one + 2 * count, two + count, two + 2 * count])
    after = np.concatenate([two, two, two, one, one])
    stacked = outlines.T.ravel()
    cut = remove_overlaps(stacked, before, after, gap)[:count]
    changed = np.flatnonzero(cut != stacked[:count])
    area = shapely.area(stacked[changed])
    whole = shapely.get_type_id(cut[changed]) == shapely.GeometryType.POLYGON
    cut[changed[~whole | (shapely.area(cut[changed]) < (1 - YIELD) * area)]] = None
    for row in np.unique(near.row[changed]).tolist():
        alike = near.row == row
        if not shapely.coverage_is_valid(cut[alike]):
            cut[alike] = None
    outlines[:, REGULARIZED], sizes[changed, REGULARIZED] = cut, np.nan
