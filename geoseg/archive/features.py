"""The features of one result, brought into the CRS of a dataset, with what they are sorted by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption, UnreadableScene
from geoseg.values import GeoBox
from geoseg.vector.features import COLUMNS
from geoseg.vector.place import measure, place_keys, repaired
from geoseg.vector.reproject import reproject
from geoseg.vector.sink.direct import arrow_schema
from geoseg.vectorfiles.binary import Verbatim

BATCH = 20_000
"""Features that are read at a time."""

PIXEL_M = 0.5
"""Metres of what is taken for a pixel where features are measured or put into another CRS."""

CORNERS = ("xmin", "ymin", "xmax", "ymax")
"""Columns of a feature's box."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads results."""

    crs: str | None
    """That all features are put into."""

    @staticmethod
    def crs_of(path: Path) -> str | None:
        """Return the CRS of a result."""
        if path.suffix == ".gpkg":
            import pyogrio

            crs = pyogrio.read_info(Verbatim(path), layer=0)["crs"]
            return None if crs is None or crs.startswith("LOCAL_CS") else str(crs)
        from pyarrow import parquet

        try:
            geo = json.loads(parquet.read_metadata(path).metadata[b"geo"])
        except (OSError, pyarrow.ArrowInvalid, KeyError) as error:
            raise UnreadableScene(
                f"{path}: the result cannot be read ({error}); --redo makes it again"
            ) from error
        crs = geo["columns"]["geometry"]["crs"]
        return None if crs is None else json.dumps(crs)

    @staticmethod
    def no_features() -> pyarrow.Table:
        """Return a table without rows, with all the columns."""
        numbers = [*((name, pyarrow.float64()) for name in CORNERS), ("key", pyarrow.int64())]
        return pyarrow.schema([*arrow_schema(), *numbers, ("scene", pyarrow.int64())]).empty_table()

    def tables(self, path: Path, scene: int) -> Iterator[pyarrow.Table]:
        """Yield the features of a result with the columns ``key``, ``scene`` and those of their boxes.

        Parameters
        ----------
        path : Path
        scene : int
            Rank of its name among those of all.

        Raises
        ------
        InvalidOption
            If it lacks a column.
        """
        crs = self.crs_of(path)
        for batch in _batches(path):
            missing = [name for name in COLUMNS if name not in batch.column_names]
            if missing:
                raise InvalidOption(
                    f"{path}: has no column {missing[0]}: made by another geoseg; give --redo"
                )
            if len(batch):
                yield self._placed(batch.select([*COLUMNS, "geometry"]).cast(arrow_schema()), crs, scene)

    def _placed(self, table: pyarrow.Table, crs: str | None, scene: int) -> pyarrow.Table:
        polygons = shapely.from_wkb(table["geometry"].to_numpy())
        if crs is not None and self.crs is not None and not _same(crs, self.crs):
            grid = grid_around(polygons, crs)
            moved, _ = reproject(shapely.transform(polygons, grid.to_pixels), grid, self.crs)
            polygons, row = shapely.get_parts(repaired(moved), return_index=True)
            table = table.take(row)
            several = np.flatnonzero(np.bincount(row)[row] > 1)
            table = remeasured(table, polygons, several, self.crs)
        grid = grid_around(polygons, self.crs)
        keys = place_keys(shapely.transform(polygons, grid.to_pixels), grid)
        table = with_geometry(table, polygons)
        table = table.append_column("key", pyarrow.array(keys))
        return table.append_column("scene", pyarrow.array(np.full(len(table), scene, np.int64)))


def _batches(path: Path) -> Iterator[pyarrow.Table]:
    if path.suffix == ".gpkg":
        import pyogrio

        with pyogrio.open_arrow(Verbatim(path), layer=0, batch_size=BATCH, use_pyarrow=True) as (
            meta,
            reader,
        ):
            for batch in reader:
                table = pyarrow.Table.from_batches([batch])
                names = [
                    "geometry" if n == (meta["geometry_name"] or "wkb_geometry") else n
                    for n in table.column_names
                ]
                yield table.rename_columns(names)
        return
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            yield pyarrow.Table.from_batches([batch])


def _same(one: str, other: str) -> bool:
    from pyproj import CRS

    return bool(CRS.from_user_input(one) == CRS.from_user_input(other))


def grid_around(polygons: NDArray[np.object_], crs: str | None, pixel_m: float = PIXEL_M) -> GeoBox:
    """Return a grid of square pixels on the ground around polygons in a CRS; pixels of 1 without one."""
    west, south, east, north = shapely.total_bounds(polygons)
    side = across = 1.0
    if crs is not None:
        from pyproj import CRS

        known = CRS.from_user_input(crs)
        unit = known.axis_info[0].unit_conversion_factor
        side = across = pixel_m / unit
        if known.is_geographic:
            side = pixel_m / (unit * 6_371_000)
            across = side / max(np.cos((south + north) / 2 * unit), 0.01)
    width, height = int((east - west) / across) + 1, int((north - south) / side) + 1
    return GeoBox(height, width, (across, 0.0, west, 0.0, -side, north), crs)


def remeasured(
    table: pyarrow.Table, polygons: NDArray[np.object_], rows: NDArray[np.int64], crs: str | None
) -> pyarrow.Table:
    """Return a table of features with the areas and perimeters of some as their polygons have them."""
    if len(rows) == 0 or crs is None:
        return table
    grid = grid_around(polygons[rows], crs)
    sizes = measure(shapely.transform(polygons[rows], grid.to_pixels), grid)
    for name, size in zip(("area_m2", "perimeter_m"), sizes, strict=True):
        values = table[name].to_numpy(zero_copy_only=False).copy()
        values[rows] = size
        table = replaced(table, name, values)
    return table


def with_geometry(table: pyarrow.Table, polygons: NDArray[np.object_]) -> pyarrow.Table:
    """Return a table with these polygons and their boxes."""
    table = replaced(table, "geometry", shapely.to_wkb(polygons))
    for name, values in zip(CORNERS, shapely.bounds(polygons).T, strict=True):
        table = replaced(table, name, values)
    return table


def replaced(table: pyarrow.Table, name: str, values: Any) -> pyarrow.Table:
    """Return a table with a column set, of the type that it had."""
    if name not in table.column_names:
        return table.append_column(name, pyarrow.array(values))
    at = table.schema.get_field_index(name)
    field = table.schema.field(name)
    return table.set_column(at, field, pyarrow.array(values, field.type))
