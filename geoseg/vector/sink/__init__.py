"""Vector files: every format streamed, complete or not there at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from geoseg.errors import UnwritableOutput
from geoseg.files import check_writable
from geoseg.values import LayerSchema
from geoseg.vector.sink.errors import telling
from geoseg.vector.sink.geojson import write_geojson, write_geojson_lines
from geoseg.vector.sink.geoparquet import write_geoparquet
from geoseg.vector.sink.ogr import BESIDE, write_flatgeobuf, write_geopackage, write_shapefile
from geoseg.vector.sink.tiles import write_pmtiles

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ["FORMATS", "VectorSink", "check_vector_path", "in_degrees", "in_mercator", "written_beside"]

Append = Callable[["GeoDataFrame"], None]

FORMATS: Mapping[str, Callable[..., AbstractContextManager[Append]]] = {
    ".gpkg": write_geopackage,
    ".fgb": write_flatgeobuf,
    ".parquet": write_geoparquet,
    ".geojson": write_geojson,
    ".geojsonl": write_geojson_lines,
    ".shp": write_shapefile,
    ".pmtiles": write_pmtiles,
}
"""What writes each format, by suffix: called with path, schema, metadata (read last) and overwrite."""

_BY_GDAL = {".gpkg", ".fgb", ".shp"}


class VectorSink:
    """A vector file that features are written to in batches.

    A context manager: the file appears under its name when the block is left without an exception,
    with all columns and the CRS even if nothing was written.

    Parameters
    ----------
    path : Path
        The suffix names the format; see `FORMATS`.
    schema : LayerSchema
        Name, CRS and classes of the layer; the CRS is that of the features.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    UnwritableOutput
        If the path has no known suffix, exists, or cannot be written; or if the format needs a CRS
        and there is none.
    """

    def __init__(self, path: Path, schema: LayerSchema, *, overwrite: bool) -> None:
        check_vector_path(path, overwrite=overwrite)
        self._path = path
        self._metadata = dict(schema.metadata)
        self._writer = FORMATS[_suffix(path)](path, schema, self._metadata, overwrite=overwrite)
        self._append: Append | None = None

    def __enter__(self) -> Self:
        """Begin the file."""
        with telling(self._path):
            self._append = self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish the file, or remove what was written if there was an error."""
        with telling(self._path):
            self._writer.__exit__(kind, error, trace)

    def write(self, features: GeoDataFrame) -> None:
        """Write features with the columns that `geoseg.vector.features.finish` gives them.

        Raises
        ------
        UnwritableOutput
            If the disk is full, for example.
        """
        if self._append is None:
            raise RuntimeError("a VectorSink is written to in a with statement")
        if len(features):
            with telling(self._path):
                self._append(features)

    def set_metadata(self, metadata: Mapping[str, str]) -> None:
        """Add to the metadata of the layer, which is written last.

        GeoPackage keeps it as layer metadata, GeoParquet as key-value metadata, GeoJSON as a member
        ``metadata`` of the collection, FlatGeobuf as description; the other formats have no place
        for it.
        """
        self._metadata.update(metadata)


def check_vector_path(path: Path, *, overwrite: bool) -> None:
    """Check, before any work is done, that a vector file can be written.

    Raises
    ------
    UnwritableOutput
        If the suffix is unknown, the folder is missing or not writable, or the file exists.
    """
    if _suffix(path) not in FORMATS:
        known = " ".join(FORMATS)
        raise UnwritableOutput(f"{path}: no vector format has this extension; choose one of {known}")
    check_writable(path, overwrite=overwrite)
    if path.is_dir():
        raise UnwritableOutput(f"{path}: is a folder; give the name of a file")
    if _suffix(path) in _BY_GDAL and set(str(path.absolute().parent)) & set("!\t\n\r"):
        raise UnwritableOutput(
            f"{path}: a name of a folder has an exclamation mark, tab or line end, which pyogrio takes for "
            "something else; write .parquet, or to another folder"
        )


def written_beside(path: Path) -> tuple[Path, ...]:
    """Return what else is replaced or removed where a vector file is written.

    >>> [file.name for file in written_beside(Path("roofs.shp"))][:3]
    ['roofs.shx', 'roofs.dbf', 'roofs.cpg']
    """
    return tuple(map(path.with_suffix, BESIDE)) if _suffix(path) == ".shp" else ()


def in_mercator(path: Path) -> bool:
    """Tell whether the format holds nothing but Web Mercator (vector tiles).

    >>> in_mercator(Path("out.pmtiles")), in_mercator(Path("out.gpkg"))
    (True, False)
    """
    return _suffix(path) == ".pmtiles"


def in_degrees(path: Path) -> bool:
    """Tell whether the format holds nothing but longitudes and latitudes (RFC 7946).

    >>> in_degrees(Path("out.geojson")), in_degrees(Path("out.gpkg"))
    (True, False)
    """
    return _suffix(path) in {".geojson", ".geojsonl"}


def _suffix(path: Path) -> str:
    return path.suffix.lower()
