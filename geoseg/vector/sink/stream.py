"""Writing layers of any attributes from Arrow's record batches, in a stream."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import UnwritableOutput, silenced
from geoseg.files import check_writable, replacing
from geoseg.vector.place import DECIMALS
from geoseg.vector.sink import telling
from geoseg.vector.sink.ogr import add_style, remove_times

if TYPE_CHECKING:
    import pyarrow
    import pyproj

DRIVERS = {
    ".gpkg": ("GPKG", {"VERSION": "1.3"}, {}),
    ".fgb": ("FlatGeobuf", {}, {}),
    ".geojson": ("GeoJSON", {}, {"RFC7946": "YES", "COORDINATE_PRECISION": str(DECIMALS)}),
    ".geojsonl": ("GeoJSONSeq", {}, {"COORDINATE_PRECISION": str(DECIMALS)}),
}
"""Driver, options of the file and of the layer by suffix; .parquet is written without GDAL."""


OVERHEAD = 4
"""How much more room a file may take than what is in it."""


def check_stream_path(path: Path, *, overwrite: bool) -> None:
    """Check, before any work is done, that a layer can be written there.

    Raises
    ------
    UnwritableOutput
        If the suffix is unknown, the folder is missing or not writable, or the file exists.
    """
    if path.suffix.lower() not in {*DRIVERS, ".parquet"}:
        known = " ".join([*DRIVERS, ".parquet"])
        raise UnwritableOutput(f"{path}: no format for this has this extension; choose one of {known}")
    check_writable(path, overwrite=overwrite)


def wkb_field(name: str) -> pyarrow.Field[Any]:
    """Return the field of a column of WKB, as the schema of `write_layer` has it."""
    import pyarrow

    return pyarrow.field(name, pyarrow.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})


def write_layer(
    path: Path,
    schema: pyarrow.Schema,
    batches: Iterable[pyarrow.RecordBatch],
    *,
    geometry: str,
    crs: pyproj.CRS | None,
    kind: str,
    overwrite: bool,
    style: str | None = None,
) -> None:
    """Write a layer; it appears when it is complete.

    Parameters
    ----------
    path : Path
        See `check_stream_path`.
    schema : pyarrow.Schema
    batches : iterable of pyarrow.RecordBatch
    geometry : str
        Column of WKB.
    crs : pyproj.CRS or None
    kind : str
        ``Polygon``, ``MultiPolygon`` or ``Unknown``.
    overwrite : bool
    style : str, optional
        QML, for a GeoPackage.

    Raises
    ------
    UnwritableOutput
        If the disk is full, for example.
    """
    with telling(path), replacing(path, overwrite=overwrite) as place:
        if path.suffix.lower() == ".parquet":
            _write_parquet(place, schema, batches, geometry, crs)
        else:
            _write_ogr(place, schema, batches, geometry, crs, kind, path.stem)
            if path.suffix.lower() == ".gpkg":
                with contextlib.closing(sqlite3.connect(place)) as database, database:
                    if style is not None:
                        add_style(database, path.stem, style)
                    remove_times(database)


def _write_ogr(
    place: Path,
    schema: pyarrow.Schema,
    batches: Iterable[pyarrow.RecordBatch],
    geometry: str,
    crs: pyproj.CRS | None,
    kind: str,
    name: str,
) -> None:
    import pyarrow
    import pyogrio

    driver, dataset, layer = DRIVERS[place.suffix.lower()]
    pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": "OFF"})
    with silenced(UserWarning, "'crs' was not provided"), _closing(batches, place) as rows:
        pyogrio.write_arrow(
            pyarrow.RecordBatchReader.from_batches(schema, rows),
            place,
            driver=driver,
            layer=name,
            geometry_name=geometry,
            geometry_type=kind,
            crs=None if crs is None else crs.to_wkt(),
            dataset_options=dataset,
            layer_options=layer,
        )


def _write_parquet(
    place: Path,
    schema: pyarrow.Schema,
    batches: Iterable[pyarrow.RecordBatch],
    geometry: str,
    crs: pyproj.CRS | None,
) -> None:
    from pyarrow import parquet

    facts: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": [],
        "crs": None if crs is None else crs.to_json_dict(),
    }
    geo = {"version": "1.1.0", "primary_column": geometry, "columns": {geometry: facts}}
    with (
        parquet.ParquetWriter(place.absolute(), schema, compression="zstd") as writer,
        _closing(batches, place) as rows,
    ):
        for batch in rows:
            writer.write_batch(batch)
        writer.add_key_value_metadata({"geo": json.dumps(geo)})


@contextlib.contextmanager
def _closing(batches: Iterable[Any], place: Path) -> Iterator[Iterator[Any]]:
    """Raise what went wrong in the batches themselves, or for want of room, which a writer tells as its own.

    GDAL makes room again before it says that something went wrong.
    """
    failed: list[BaseException] = []
    full = False

    def watched() -> Iterator[Any]:
        nonlocal full
        try:
            for batch in batches:
                full = shutil.disk_usage(place.absolute().parent).free < OVERHEAD * batch.nbytes
                yield batch
        except BaseException as error:
            failed.append(error)
            raise

    try:
        yield watched()
    except Exception as error:
        if failed or full:
            raise (failed or [OSError(errno.ENOSPC, "no space left")])[0] from error
        raise
