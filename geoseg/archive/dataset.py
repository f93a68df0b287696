"""More features than fit into memory: sorted by place through files, and written as one GeoParquet dataset.

Sorted runs are Arrow files that are mapped into memory, so what is resident is what is looked at.
GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/): the covering column ``bbox`` lets a reader skip the
row groups that do not touch what it asks for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

RUN_ROWS = 100_000
"""Features that are sorted in memory."""

WINDOW_ROWS = 50_000
"""Features of a window, about; each may hold a run's `SAMPLE` more."""

SAMPLE = 256
"""Every how many features of a run its order is looked at to choose the windows."""

ORDER = ("key", "scene", "id")
"""Columns that features are sorted by: place, then rank of the scene's name, then id."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Features sorted by `ORDER`, in files of as many as fit into memory."""

    paths: tuple[Path, ...]
    """One Arrow file a window, in order."""

    @property
    def rows(self) -> int:
        """How many features there are."""
        return sum(len(self[number]) for number in range(len(self)))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> pyarrow.Table:
        return _mapped(self.paths[number])


def sort_features(
    tables: Iterable[pyarrow.Table], folder: Path, *, run: int = RUN_ROWS, window: int = WINDOW_ROWS
) -> Windows:
    """Sort features by `ORDER` in bounded memory.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        One at least, of one schema, in any order and of any length.
    folder : Path
        Where runs and windows are written; about twice the size of the features.
    run, window : int
        Rows that are in memory at a time, about.
    """
    runs = list(_write_runs(tables, folder, run))
    edges = _window_edges(runs, window)
    paths: list[Path] = []
    # The first of each run that is not in the windows before.
    starts = [0] * len(runs)
    for number, edge in enumerate([*edges, None]):
        parts = []
        for at, path in enumerate(runs):
            table = _mapped(path)
            stop = len(table) if edge is None else int(np.searchsorted(_keys(table), edge))
            parts.append(table.slice(starts[at], stop - starts[at]))
            starts[at] = stop
        paths.append(folder / f"window-{number:06d}.arrow")
        _write(paths[-1], _sorted(parts))
    for path in runs:
        path.unlink()
    return Windows(tuple(paths))


def _write_runs(tables: Iterable[pyarrow.Table], folder: Path, rows: int) -> Iterable[Path]:
    waiting: list[pyarrow.Table] = []
    number = 0
    for table in tables:
        for start in range(0, max(len(table), 1), rows):
            waiting.append(table.slice(start, rows))
            if sum(map(len, waiting)) >= rows:
                yield _write(folder / f"run-{number:06d}.arrow", _sorted(waiting))
                waiting, number = [], number + 1
    if waiting:
        yield _write(folder / f"run-{number:06d}.arrow", _sorted(waiting))


def _window_edges(runs: Sequence[Path], rows: int) -> NDArray[np.int64]:
    """Return the keys at which windows of about so many rows begin, but for the first."""
    samples = [_keys(_mapped(path))[::SAMPLE] for path in runs]
    keys = np.sort(np.concatenate(samples)) if samples else np.empty(0, np.int64)
    return np.unique(keys[:: max(rows // SAMPLE, 1)][1:])


def _keys(table: pyarrow.Table) -> NDArray[np.int64]:
    return np.asarray(table["key"].to_numpy())


def _sorted(tables: Sequence[pyarrow.Table]) -> pyarrow.Table:
    import pyarrow

    table = pyarrow.concat_tables(tables).combine_chunks()
    return table.sort_by([(name, "ascending") for name in ORDER])


def _write(path: Path, table: pyarrow.Table) -> Path:
    import pyarrow

    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    return path


def _mapped(path: Path) -> pyarrow.Table:
    import pyarrow

    return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all().combine_chunks()


ROW_GROUP = 16_384
"""Features of a row group: a few megabytes, so that a range read of one pays."""

PART_GROUPS = 64
"""Row groups of a file: about a million features."""

COVERING = {corner: ["bbox", corner] for corner in ("xmin", "ymin", "xmax", "ymax")}


@dataclass(slots=True)
class Parts:
    """Writes features, which come sorted by place, into files of the same size."""

    folder: Path
    crs: str | None
    """Of the geometries."""
    metadata: Mapping[str, str]
    """Of every file."""
    rows: int = ROW_GROUP
    """Of a row group."""
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
        from geoseg.vector.sink.direct import geo_metadata

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
