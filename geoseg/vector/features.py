"""Features from shapes: the choice of outlines among neighbours, what is measured, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.values import GeoBox, LayerSchema
from geoseg.vector.overlaps import choose_outlines, remove_overlaps
from geoseg.vector.pieces import Piece
from geoseg.vector.place import DECIMALS, measure, place, place_keys
from geoseg.vector.reproject import WGS84
from geoseg.vector.samples import Index
from geoseg.vector.shape import (
    REGULARIZED,
    SIMPLIFIED,
    TRACED,
    Near,
    ShapeRules,
    Shapes,
    cut_to,
    find_near,
    join_rows,
    shape,
)

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


COLUMNS = {
    "id": "int64",
    "class": "int32",
    "class_name": "str",
    "confidence": "float64",
    "area_m2": "float64",
    "perimeter_m": "float64",
    "regularized": "bool",
    "deviation_m": "float64",
    "touches_edge": "bool",
    "touches_nodata": "bool",
}
"""Attributes of a feature, in order, with their pandas dtypes; the geometry comes last."""

INSTANCE = "instance"
"""Attribute of the features of a numbered layer, before the geometry."""

DEVIATION = "deviation_px"
"""Key in ``attrs`` of a table of features: pixels by which edges are off, where they could not follow."""


def features_of(
    shapes: Shapes, near: Near, which: NDArray[np.bool_], layer: tuple[GeoBox, ShapeRules, LayerSchema]
) -> GeoDataFrame:
    """Choose outlines for shapes, so that no two of an object layer overlap, and make features of them.

    Parameters
    ----------
    shapes : Shapes
        With all neighbours of those that are wanted.
    near : Near
        Of the shapes; nothing of a layer of several classes.
    which : ndarray of bool, shape (n,)
        Those that are wanted.
    layer : tuple of GeoBox, ShapeRules and LayerSchema

    Returns
    -------
    GeoDataFrame
        In the order of the shapes, see `finish`. The index has the first pixel of each.
    """
    grid, rules, schema = layer
    if schema.coverage:
        shapes = shapes[which]
        kind = np.full(len(shapes), SIMPLIFIED)
        placed, deviation = place(shapes.outlines[:, SIMPLIFIED], grid, schema.crs)
    else:
        shapes = join_rows(shapes, near, grid, rules)
        if rules.within is not None:
            shapes = cut_to(shapes, rules.within)
        kind, placed, deviation = _choose(shapes.outlines, near, grid, schema.crs)
        shapes, kind, placed = shapes[which], kind[which], placed[which]
    table = _table(shapes, kind, placed, layer)
    table.attrs[DEVIATION] = deviation
    return table


def finish(pieces: Sequence[Piece], grid: GeoBox, rules: ShapeRules, schema: LayerSchema) -> GeoDataFrame:
    """Turn all pieces of a layer into its features.

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
        the key of its place (see `geoseg.vector.place`), ``confidence``
        by the mean probability, areas and lengths are geodesic (NaN without a CRS).

    Raises
    ------
    InvalidOption
        If the CRS of the layer cannot hold the polygons.
    """
    shapes = shape(pieces, grid, rules, coverage=schema.coverage)
    near = find_near(shapes, rules.reach)
    every = np.ones(len(shapes), bool)
    return features_of(shapes, near, every, (grid, rules, schema)).reset_index(drop=True)


def no_features(schema: LayerSchema) -> GeoDataFrame:
    """Return a layer without features, with all its columns."""
    table = _frame(([],) * len(COLUMNS), np.empty(0, object), schema.crs)
    return table.assign(**{INSTANCE: np.empty(0, np.int64)}) if schema.numbered else table


def _choose(
    outlines: NDArray[np.object_], near: Near, grid: GeoBox, crs: str | None
) -> tuple[Index, NDArray[np.object_], float]:
    """Return the kind of outline that each shape takes, where it comes to lie, and its deviation there.

    Overlaps are looked for in the layer's CRS, as its file will have it.
    """
    missing = shapely.is_missing(outlines)
    wanted = np.zeros(outlines.shape, bool)
    wanted[np.union1d(near.one, near.two)] = True
    wanted &= ~missing
    # Others take their first.
    alone = ~wanted.any(axis=1)
    wanted[np.flatnonzero(alone), missing.argmin(axis=1)[alone]] = True
    placed = np.full(outlines.shape, None, object)
    placed[wanted], deviation = place(outlines[wanted], grid, crs)
    kind = shapely.is_missing(placed).argmin(axis=1)
    some, number = np.flatnonzero(~alone), np.cumsum(~alone) - 1
    one, two = number[near.one], number[near.two]
    apart = near.long[near.one] | (near.row[near.one] != near.row[near.two])
    one, two = one[apart], two[apart]
    # Traced outlines do not overlap but for rounding.
    gap = 2 * 10**-DECIMALS if crs == WGS84 else 0.0
    placed[some, TRACED] = remove_overlaps(placed[some, TRACED], one, two, gap)
    alike = np.where(near.long, len(near.row) + np.arange(len(near.row)), near.row)
    kind[some] = choose_outlines(placed[some].T, one, two, np.unique(alike[some], return_inverse=True)[1])
    return kind, placed[np.arange(len(kind)), kind], deviation


def _table(
    shapes: Shapes,
    kind: Index,
    placed: NDArray[np.object_],
    layer: tuple[GeoBox, ShapeRules, LayerSchema],
) -> GeoDataFrame:
    """Return the features, without those of which nothing is left."""
    grid, rules, schema = layer
    every = np.arange(len(kind))
    polygons, sizes = shapes.outlines[every, kind], shapes.sizes[every, kind]
    unknown = np.isnan(sizes[:, 0])
    sizes[unknown] = np.column_stack(measure(polygons[unknown], grid))
    names = {info.id: info.name for info in schema.classes}
    evidence = [piece.evidence for piece in shapes.pieces]
    labels = [piece.label for piece in shapes.pieces]
    columns = (
        place_keys(polygons, grid),
        labels,
        [names[label] for label in labels],
        rules.calibration(np.array([e.confidence for e in evidence])),
        sizes[:, 0],
        sizes[:, 1],
        (kind == REGULARIZED) & ~np.isnan(shapes.deviation_m),
        np.where(kind == REGULARIZED, shapes.deviation_m, np.nan),
        [e.touches_edge for e in evidence],
        [e.touches_nodata for e in evidence],
    )
    table = _frame(columns, placed, schema.crs, [e.first_pixel for e in evidence])
    empty = table.geometry.is_empty
    return table[~empty] if empty.any() else table


def _frame(
    columns: Sequence[object],
    polygons: NDArray[np.object_],
    crs: str | None,
    index: Sequence[int] | None = None,
) -> GeoDataFrame:
    """Build the table; a polygon that has come apart into several has rows that share its size."""
    import geopandas
    import pandas

    data = {
        name: pandas.Series(values, index, dtype=dtype)
        for (name, dtype), values in zip(COLUMNS.items(), columns, strict=True)
    }
    frame = geopandas.GeoDataFrame(data, geometry=polygons, crs=crs)
    # A layer for GeoJSON takes several parts in one feature, the other formats' layers are of polygons.
    if crs == WGS84 or (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all():
        return frame
    frame["whole"] = np.arange(len(frame))
    parts = frame.explode()
    for name, share in (("area_m2", shapely.area), ("perimeter_m", shapely.length)):
        whole = share(polygons)[parts["whole"].to_numpy()]
        with np.errstate(invalid="ignore"):
            parts[name] *= share(parts.geometry.to_numpy()) / whole
    return parts.drop(columns="whole")
