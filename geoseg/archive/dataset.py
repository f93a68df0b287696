"""One GeoParquet dataset of many features: in parts, with boxes that ranges are read by.

GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/): the covering column ``bbox`` lets a reader skip the
row groups that do not touch what it asks for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

ROW_GROUP = 16_384
"""Features of a row group: a few megabytes, so that a range read of one pays."""

PART_GROUPS = 64
"""Row groups of a file: about a million features."""

COVERING = {corner: ["bbox", corner] for corner in ("xmin", "ymin", "xmax", "ymax")}


@dataclass(slots=True)
class Parts:
    """Writes features, which come sorted by place, into files of the same size.

    Parameters
    ----------
    folder : Path
    crs : str or None
        Of the geometries.
    metadata : mapping of str to str
        Of every file.
    rows : int
        Of a row group.
    """

    folder: Path
    crs: str | None
    metadata: Mapping[str, str]
    rows: int = ROW_GROUP
    count: int = 0
    features: int = 0
    _waiting: list[pyarrow.Table] = field(default_factory=list)
    _groups: int = 0
    _bounds: list[Any] = field(default_factory=list)
    _writer: ParquetWriter | None = None

    def write(self, table: pyarrow.Table) -> None:
        """Take features with the columns ``geometry`` (WKB) and ``bbox``."""
        import pyarrow

        self._waiting.append(table)
        while sum(map(len, self._waiting)) >= self.rows:
            whole = pyarrow.concat_tables(self._waiting)
            self._write_group(whole.slice(0, self.rows))
            self._waiting = [whole.slice(self.rows)]

    def close(self) -> None:
        """Write what is left; there is one part at least, if only for its columns."""
        import pyarrow

        rest = pyarrow.concat_tables(self._waiting)
        if len(rest) or not self.count:
            self._write_group(rest)
        self._end_part()

    def _write_group(self, table: pyarrow.Table) -> None:
        from pyarrow import parquet

        if self._groups == PART_GROUPS:
            self._end_part()
        if self._writer is None:
            path = self.folder / f"part-{self.count:05d}.parquet"
            self._writer = parquet.ParquetWriter(
                path.absolute(), table.schema, compression="zstd", store_schema=False
            )  # where the schema is stored as Arrow has it, it hides the metadata of a folder of files
            self.count += 1
        self._writer.write_table(table.combine_chunks(), row_group_size=self.rows)
        self._groups += 1
        self.features += len(table)
        if len(table):
            self._bounds.append(shapely.total_bounds(shapely.from_wkb(table["geometry"].to_numpy())))

    def _end_part(self) -> None:
        if self._writer is None:
            return
        self._writer.add_key_value_metadata({**self.metadata, "geo": json.dumps(self._geo())})
        self._writer.close()
        self._writer, self._groups, self._bounds = None, 0, []

    def _geo(self) -> dict[str, Any]:
        from geoseg.vector.sink.geoparquet import geo_metadata

        corners = None
        if self._bounds:
            bounds = np.array(self._bounds)
            corners = [*bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist()]
        geo = geo_metadata(self.crs, corners)
        geo["columns"]["geometry"]["covering"] = {"bbox": COVERING}
        return geo


@contextlib.contextmanager
def write_parts(folder: Path, crs: str | None, metadata: Mapping[str, str]) -> Iterator[Parts]:
    """Write a dataset into a folder that exists; see `Parts`."""
    parts = Parts(folder, crs, metadata)
    try:
        yield parts
        parts.close()
    finally:
        if parts._writer is not None:
            parts._writer.close()


def boxes_of(geometries: Any) -> pyarrow.StructArray:
    """Return the covering column of geometries, in double precision."""
    import pyarrow

    corners = [pyarrow.array(corner) for corner in shapely.bounds(geometries).T]
    return pyarrow.StructArray.from_arrays(corners, names=list(COVERING))
