"""From traced pieces to features: simplified, measured, in the CRS of the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import CERTAIN, GeoBox, LayerSchema
from geoseg.vector.measure import largest_areas, measure
from geoseg.vector.pieces import Piece
from geoseg.vector.reproject import WGS84, reproject
from geoseg.vector.simplify import simplify_apart, simplify_shared

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

COLUMNS = {
    "id": "int64",
    "class": "int32",
    "class_name": "str",
    "confidence": "float64",
    "area_m2": "float64",
    "perimeter_m": "float64",
    "touches_edge": "bool",
    "touches_nodata": "bool",
}
"""Attributes of a feature, in order, with their pandas dtypes; the geometry comes last."""


DEVIATION = "deviation_px"
"""Key in ``attrs`` of a table of features: pixels by which edges are off, where they could not follow."""


@dataclass(frozen=True, slots=True)
class ShapeRules:
    """How polygons are shaped.

    Parameters
    ----------
    simplify_m : float
        Tolerance of simplification in metres, 0 for none. Pixels without a CRS.
    min_area_m2 : float
        Smaller polygons are left out: geodesic square metres, or square pixels without a CRS.
    metres_per_pixel : float
        Ground sample distance of the grid; 1 without a CRS.
    """

    simplify_m: float = 0.0
    min_area_m2: float = 0.0
    metres_per_pixel: float = 1.0


def finish(pieces: Sequence[Piece], grid: GeoBox, rules: ShapeRules, schema: LayerSchema) -> GeoDataFrame:
    """Turn pieces into features of the layer.

    Each feature depends on its piece alone, so batches may be cut anywhere.

    Parameters
    ----------
    pieces : sequence of Piece
        Whole polygons in pixel coordinates.
    grid : GeoBox
        The grid that they were traced on.
    rules : ShapeRules
    schema : LayerSchema
        Its CRS is that of the result; polygons are reprojected where it is not that of `grid`.

    Returns
    -------
    GeoDataFrame
        One polygon a row (for GeoJSON one feature, of several parts where it had to be divided), rings as
        OGC and RFC 7946 want them (shells counter-clockwise), with the columns of `COLUMNS`: ``id`` is
        the first pixel of the polygon on the grid, ``confidence``
        its mean probability, areas and lengths are geodesic (NaN without a CRS).

    Raises
    ------
    InvalidOption
        If the CRS of the layer cannot hold the polygons.
    """
    pieces, polygons = _candidates(pieces, grid, rules.min_area_m2)
    polygons = _simplify(polygons, rules, several=len(schema.classes) > 1)
    area, perimeter = measure(polygons, grid)
    size = np.where(np.isnan(area), shapely.area(polygons), area)
    kept = np.flatnonzero(size >= rules.min_area_m2).tolist()
    names = {info.id: info.name for info in schema.classes}
    evidence = [pieces[i].evidence for i in kept]
    labels = [pieces[i].label for i in kept]
    pixels = np.array([e.pixels for e in evidence], np.float64)
    columns = (
        [e.first_pixel for e in evidence],
        labels,
        [names[label] for label in labels],
        np.array([e.probability_sum for e in evidence], np.float64) / pixels / CERTAIN,
        area[kept],
        perimeter[kept],
        [e.touches_edge for e in evidence],
        [e.touches_nodata for e in evidence],
    )
    polygons, deviation = _place(polygons[kept], grid, schema.crs)
    table = _frame(columns, polygons, schema.crs)
    table.attrs[DEVIATION] = deviation
    return table


def _candidates(
    pieces: Sequence[Piece], grid: GeoBox, min_area_m2: float
) -> tuple[Sequence[Piece], NDArray[np.object_]]:
    """Leave out pieces that are too small for certain, and return the others with their polygons.

    Simplified or not, a polygon stays within its bounds. Of speckle nearly all pieces go here.
    """
    polygons = np.array([piece.polygon for piece in pieces], dtype=object)
    if min_area_m2 <= 0 or len(polygons) == 0:
        return pieces, polygons
    kept = np.flatnonzero(largest_areas(polygons, grid) >= min_area_m2)
    return [pieces[i] for i in kept.tolist()], polygons[kept]


def no_features(schema: LayerSchema) -> GeoDataFrame:
    """Return a layer without features, with all its columns."""
    return _frame(([],) * len(COLUMNS), np.empty(0, object), schema.crs)


def _frame(columns: Sequence[object], polygons: NDArray[np.object_], crs: str | None) -> GeoDataFrame:
    """Build the table; a polygon that has come apart into several has rows that share its size."""
    import geopandas
    import pandas

    data = {
        name: pandas.Series(values, dtype=dtype)
        for (name, dtype), values in zip(COLUMNS.items(), columns, strict=True)
    }
    frame = geopandas.GeoDataFrame(data, geometry=polygons, crs=crs)
    # A layer for GeoJSON takes several parts in one feature, the other formats' layers are of polygons.
    if crs == WGS84 or (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all():
        return frame
    parts = frame.explode()
    for name, share in (("area_m2", shapely.area), ("perimeter_m", shapely.length)):
        whole = pandas.Series(share(polygons), frame.index)
        parts[name] *= share(parts.geometry.to_numpy()) / whole[parts.index].to_numpy()
    return parts.reset_index(drop=True)


def _simplify(polygons: NDArray[np.object_], rules: ShapeRules, *, several: bool) -> NDArray[np.object_]:
    polygons = shapely.normalize(polygons)
    tolerance = rules.simplify_m / rules.metres_per_pixel
    if tolerance == 0:
        return polygons
    return (simplify_shared if several else simplify_apart)(polygons, tolerance)


def _place(polygons: NDArray[np.object_], grid: GeoBox, crs: str | None) -> tuple[NDArray[np.object_], float]:
    """Map polygons from pixels to the layer's CRS; return the deviation in pixels that is left."""
    if crs is None or crs == grid.crs:
        return repaired(shapely.transform(polygons, grid.to_crs)), 0.0
    placed, deviation = reproject(polygons, grid, crs)
    return repaired(placed), deviation


def repaired(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Repair polygons that rounding or reprojection has folded; turn shells counter-clockwise."""
    broken = ~shapely.is_valid(polygons)
    polygons[broken] = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    turned: NDArray[np.object_] = shapely.orient_polygons(polygons)
    return turned
