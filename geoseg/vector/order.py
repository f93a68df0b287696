"""Features in the order of their places, through a file: memory does not grow with the layer."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from geoseg.errors import UnwritableOutput
from geoseg.files import telling_full_disks
from geoseg.values import LayerSchema
from geoseg.vector.features import COLUMNS, INSTANCE
from geoseg.vector.shaper import FeatureSink

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

CACHE = 4_000_000
"""Bytes of the database that stay in memory."""

BATCH = 4096
"""Features that are written at a time."""

_NAMES = ", ".join([f'"{name}"' for name in COLUMNS])
_BEGIN = f"""
PRAGMA page_size = 65536; PRAGMA cache_size = -{CACHE // 1000};
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE features (key INTEGER, first_pixel INTEGER, part INTEGER, {_NAMES}, wkb,
    PRIMARY KEY (key, first_pixel, part)) WITHOUT ROWID
"""
_INSERT = f"INSERT INTO features VALUES ({', '.join('?' * (len(COLUMNS) + 4))})"
_SELECT = f"SELECT {_NAMES}, wkb FROM features ORDER BY key, first_pixel, part"


class SortedSink(AbstractContextManager["SortedSink"]):
    """Writes features by their ids, and gives each an id of its own.

    Features in one cell of `geoseg.vector.place` go by their first pixels; the second gets the next id. They
    wait in a database, so that memory does not grow with the layer.

    Parameters
    ----------
    sink : FeatureSink
    schema : LayerSchema
    folder : Path
        Where the database is put.
    """

    def __init__(self, sink: FeatureSink, schema: LayerSchema, folder: Path) -> None:
        self._sink, self._schema, self._folder = sink, schema, folder
        self._stack = ExitStack()
        self._database: sqlite3.Connection | None = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write everything, unless there was an error."""
        with self._stack:
            if kind is None and self._database is not None:
                self._write_all(self._database)

    def _begun(self) -> sqlite3.Connection:
        """Return the database, which a layer without features does not need."""
        if self._database is None:
            self._folder.mkdir(exist_ok=True)  # another run to the same output may have removed it
            handle, name = tempfile.mkstemp(".db", ".geoseg-", self._folder)
            os.close(handle)
            self._stack.callback(Path(name).unlink, missing_ok=True)
            self._database = self._stack.enter_context(closing(sqlite3.connect(name)))
            self._database.executescript(_BEGIN)
            with contextlib.suppress(OSError):
                Path(name).unlink()  # where an open file may lose its name, no kill leaves it behind
        return self._database

    def write(self, features: GeoDataFrame) -> None:
        """Take features as `geoseg.vector.features.features_of` makes them.

        Raises
        ------
        UnwritableOutput
            If the disk is full, for example.
        """
        columns = [features[name].tolist() for name in COLUMNS]
        shapes = shapely.to_wkb(features.geometry.to_numpy())
        first = features.index.tolist()
        with self._telling():
            self._begun().executemany(
                _INSERT, zip(columns[0], first, range(len(first)), *columns, shapes, strict=True)
            )

    def _write_all(self, database: sqlite3.Connection) -> None:
        import geopandas
        import pandas

        last, count = -1, 0
        rows = database.execute(_SELECT)
        while True:
            with self._telling():
                batch = rows.fetchmany(BATCH)
            if not batch:
                return
            *columns, shapes = zip(*batch, strict=True)
            table = pandas.DataFrame(
                {
                    name: pandas.Series(values, dtype=dtype)
                    for (name, dtype), values in zip(COLUMNS.items(), columns, strict=True)
                }
            )
            number = np.arange(len(table))
            table["id"] = number + np.maximum.accumulate(np.maximum(table["id"] - number, last + 1))
            last = int(table["id"].iloc[-1])
            if self._schema.numbered:
                table[INSTANCE] = count + 1 + number
                count += len(table)
            geometry = shapely.from_wkb(np.array(shapes, object))
            self._sink.write(geopandas.GeoDataFrame(table, geometry=geometry, crs=self._schema.crs))

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn the errors of the database into `UnwritableOutput`."""
        try:
            with telling_full_disks(self._folder / "features.db"):
                yield
        except (sqlite3.Error, OSError) as error:
            raise UnwritableOutput(f"{self._folder}: features cannot be put aside there ({error})") from error
