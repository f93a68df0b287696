"""``geoseg regularize``: straight walls for the polygons of any layer, in a stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import Field

from geoseg.errors import InvalidOption
from geoseg.files import check_not_read
from geoseg.options import Metavar, Options
from geoseg.vector.place import repaired
from geoseg.vector.regularize import regularize
from geoseg.vector.samples import Floats
from geoseg.vector.sink.stream import check_stream_path, wkb_field, write_layer
from geoseg.vectorfiles.crs import check_degrees
from geoseg.vectorfiles.layers import LayerBatches, open_layer

if TYPE_CHECKING:
    import pyarrow
    import pyproj

ADDED = ("regularized", "deviation_m")
"""Attributes that are added, or replaced."""

_AREAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RegularizeOptions(Options):
    """How the polygons of a layer are regularized.

    Raises
    ------
    InvalidOption
        One line on the first that is wrong.
    """

    layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer to read, where there are several."""

    max_deviation: Annotated[_Positive, Metavar("M")] = 1.2
    """How far a vertex may lie from the new outline, in metres (a new corner up to a pixel
    further from the old outline); without a CRS in the layer's own units."""

    resolution: Annotated[_Positive | None, Metavar("M")] = None
    """Side of the pixels that the outlines come from: what is smaller than two of them is no wall; unless
    given, a quarter of --max-deviation."""

    overwrite: bool = False
    """Replace an output that exists."""


@dataclass(slots=True)
class RegularizeReport:
    """What was done."""

    file: str = ""
    features: int = 0
    regularized: int = 0
    notes: list[str] = field(default_factory=list)
    flattened: int = 0
    invalid: int = 0
    others: int = 0


def regularize_file(
    path: Path, out: Path, options: RegularizeOptions, on_step: Callable[[float], None] = lambda done: None
) -> RegularizeReport:
    """Give the polygons of a layer straight walls, and write it with all of its attributes.

    Parts of multipolygons are regularized one by one; what is not regularized stays bit for bit. Polygons
    that touch lose what they share: of rasters, `geoseg vectorize` and `geoseg predict` keep it.

    Parameters
    ----------
    path, out : Path
        Vector files.
    options : RegularizeOptions
    on_step : callable
        Called with the share that is done, where it is known.

    Raises
    ------
    GeosegError
        If the layer cannot be read or written, or holds no polygons.
    """
    import pyarrow

    check_stream_path(out, overwrite=options.overwrite)
    check_not_read(out, path)
    report = RegularizeReport(str(out))
    with open_layer(path, options.layer) as opened:
        if out.suffix.lower() in {".geojson", ".geojsonl"} and opened.crs is None:
            raise InvalidOption(
                f"{out}: GeoJSON is in longitude and latitude, and {path} has no CRS; write .gpkg"
            )
        lost = (
            [] if out.suffix.lower() == ".parquet" else [one for one in opened.schema if _foreign(one.type)]
        )
        report.notes += [
            f"{path}: {one.name} is left out: {out.suffix} has no type for {one.type}" for one in lost
        ]
        layer = dataclasses.replace(
            opened, schema=pyarrow.schema([one for one in opened.schema if one not in lost])
        )
        replaced = [name for name in ADDED if name in layer.schema.names]
        if replaced:
            report.notes.append(f"{path}: has attributes {' and '.join(replaced)}, which are replaced")
        write_layer(
            out,
            _schema(layer),
            _batches(path, layer, options, report, on_step),
            geometry=layer.geometry,
            crs=layer.crs,
            kind="Unknown",
            overwrite=options.overwrite,
        )
    if report.flattened:
        report.notes.append(f"{path}: {report.flattened} features had heights, which are dropped")
    if report.invalid:
        report.notes.append(f"{path}: {report.invalid} features are not valid and stay as they are")
    if report.others:
        report.notes.append(f"{path}: {report.others} features are no polygons and stay as they are")
    return report


def _foreign(kind: pyarrow.DataType) -> bool:
    """Tell whether GDAL has no type for the values."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return _foreign(kind.value_type)
    long = types.is_decimal(kind) and kind.precision > 19
    return bool(types.is_duration(kind) or types.is_null(kind) or long)


def _schema(layer: LayerBatches) -> pyarrow.Schema:
    """Return the attributes of the output; the geometry comes last."""
    import pyarrow

    kept = [one for one in layer.schema if one.name not in {*ADDED, layer.geometry}]
    new = [(ADDED[0], pyarrow.bool_()), (ADDED[1], pyarrow.float64())]
    return pyarrow.schema([*kept, *map(pyarrow.field, *zip(*new, strict=True)), wkb_field(layer.geometry)])


def _batches(
    path: Path,
    layer: LayerBatches,
    options: RegularizeOptions,
    report: RegularizeReport,
    on_step: Callable[[float], None],
) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow

    schema = _schema(layer)
    for batch in layer.batches:
        wkb = np.array(batch.column(layer.geometry).to_pylist(), object)
        found = layer.shapes(batch)
        if layer.crs is not None:
            check_degrees(found, layer.crs, None, str(path))
        if Path(report.file).suffix.lower() == ".fgb" and shapely.is_missing(found).any():
            raise InvalidOption(
                f"{report.file}: FlatGeobuf takes no features without a geometry, as {path} has; write .gpkg"
            )
        high = shapely.has_z(shapely.from_wkb(wkb))
        report.flattened += int(high.sum())
        areal = np.isin(shapely.get_type_id(found), _AREAL)
        report.others += int((~areal & ~shapely.is_missing(found)).sum())
        bad = areal & ~shapely.is_valid(found)
        report.invalid += int(bad.sum())
        made, accepted, deviation = straighten(found, layer.crs, options)
        report.features += len(found)
        report.regularized += int(accepted.sum())
        wkb = np.where(accepted | high, shapely.to_wkb(made), wkb)
        columns: dict[str, Any] = {name: batch.column(name) for name in schema.names[:-3]}
        columns[ADDED[0]] = pyarrow.array(accepted)
        columns[ADDED[1]] = pyarrow.array(deviation, from_pandas=True)
        columns[layer.geometry] = pyarrow.array(wkb.tolist(), pyarrow.binary())
        yield pyarrow.record_batch([columns[name] for name in schema.names], schema=schema)
        on_step(report.features / max(layer.features or 1, report.features))
    if report.features and report.others == report.features:
        raise InvalidOption(f"{path}: holds no polygons")


def straighten(
    geometries: NDArray[np.object_], crs: pyproj.CRS | None, options: RegularizeOptions
) -> tuple[NDArray[np.object_], NDArray[np.bool_], Floats]:
    """Regularize polygons in any CRS, part by part.

    Parameters
    ----------
    geometries : ndarray of shapely geometries, shape (n,)
        In two dimensions; what is no polygon, or not valid, stays.
    crs : pyproj.CRS or None
        None: the coordinates are plane, and in the units of the options.
    options : RegularizeOptions

    Returns
    -------
    made : ndarray of shapely geometries, shape (n,)
    accepted : ndarray of bool
        All parts were regularized.
    deviation : ndarray of float64
        In metres; NaN where not accepted.
    """
    pixel = options.resolution or options.max_deviation / 4
    areal = np.isin(shapely.get_type_id(geometries), _AREAL) & ~shapely.is_empty(geometries)
    chosen = np.flatnonzero(areal & shapely.is_valid(geometries))
    parts, owner = shapely.get_parts(geometries[chosen], return_index=True)
    made, accepted = geometries.copy(), np.zeros(len(geometries), bool)
    deviation = np.full(len(geometries), np.nan)
    if len(parts) == 0:
        return made, accepted, deviation
    middle, units = _local(parts, crs)
    scale = units / pixel
    points, part = shapely.get_coordinates(parts, return_index=True)
    local = shapely.set_coordinates(parts.copy(), (points - middle[part]) * scale[part])
    done = regularize(local, max_deviation=options.max_deviation / pixel)
    points, part = shapely.get_coordinates(done.polygons, return_index=True)
    placed = repaired(shapely.set_coordinates(done.polygons.copy(), points / scale[part] + middle[part]))
    whole = np.ones(len(chosen), bool)
    whole[owner[~done.accepted]] = False
    far = np.zeros(len(chosen))
    np.maximum.at(far, owner, done.deviation * pixel)
    built = np.full(len(chosen), None, object)
    several = shapely.get_type_id(geometries[chosen]) == shapely.GeometryType.MULTIPOLYGON
    built[~several] = placed[~several[owner]]
    built[several] = [shapely.MultiPolygon(placed[owner == i].tolist()) for i in np.flatnonzero(several)]
    whole &= shapely.is_valid(built)
    good = chosen[whole]
    made[good], accepted[good], deviation[good] = built[whole], True, far[whole]
    return made, accepted, deviation


def _local(parts: NDArray[np.object_], crs: pyproj.CRS | None) -> tuple[Floats, Floats]:
    """Return the middle of each polygon, and how many metres a unit of either axis is there, shape (n, 2)."""
    bounds = shapely.bounds(parts)
    middle = (bounds[:, :2] + bounds[:, 2:]) / 2
    if crs is None:
        return middle, np.ones(middle.shape)
    from pyproj import Transformer

    ellipsoid, degrees = crs.get_geod(), crs.geodetic_crs
    if ellipsoid is None or degrees is None:
        return middle, np.ones(middle.shape)
    step = np.maximum((bounds[:, 2:] - bounds[:, :2]).max(axis=1), 1e-9) / 2
    change = Transformer.from_crs(crs, degrees, always_xy=True)
    units = []
    for axis in (0, 1):
        away = np.zeros(middle.shape)
        away[:, axis] = step
        ends = [change.transform(*(middle + sign * away).T) for sign in (-1, 1)]
        units.append(ellipsoid.inv(*ends[0], *ends[1])[2] / (2 * step))
    found = np.column_stack(units)
    return middle, np.where(np.isfinite(found) & (found > 0), found, 1.0)  # outside the CRS's domain
