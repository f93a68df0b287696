"""More features than fit into memory, in the order of their places: sorted runs on disk, read in windows.

Runs are Arrow files that are mapped into memory, so what is resident is what is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow

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
    """Features sorted by `ORDER`, in files of as many as fit into memory.

    Parameters
    ----------
    paths : tuple of Path
        One Arrow file a window, in order.
    """

    paths: tuple[Path, ...]

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
