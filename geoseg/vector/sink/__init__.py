"""Vector files: every format streamed, complete or not there at all."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from geoseg.errors import GeosegError, InvalidOption, UnwritableOutput
from geoseg.files import check_writable, telling_full_disks
from geoseg.values import LayerSchema
from geoseg.vector.reproject import WEB_MERCATOR, WGS84, horizontal
from geoseg.vector.sink.direct import write_geojson, write_geojson_lines, write_geoparquet
from geoseg.vector.sink.ogr import BESIDE, write_flatgeobuf, write_geopackage, write_pmtiles, write_shapefile

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


__all__ = ["FORMATS", "VectorSink", "check_vector_path", "layer_crs", "written_beside"]

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

ONLY_CRS = {".geojson": WGS84, ".geojsonl": WGS84, ".pmtiles": WEB_MERCATOR}
"""The only CRS that a format holds, by suffix."""

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
        self._writer = FORMATS[path.suffix.lower()](path, schema, self._metadata, overwrite=overwrite)
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
        """Write features with the columns that `geoseg.vector.features.features_of` gives them.

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
    if path.suffix.lower() not in FORMATS:
        known = " ".join(FORMATS)
        raise UnwritableOutput(f"{path}: no vector format has this extension; choose one of {known}")
    check_writable(path, overwrite=overwrite)
    if path.is_dir():
        raise UnwritableOutput(f"{path}: is a folder; give the name of a file")
    if path.suffix.lower() in _BY_GDAL and set(str(path.absolute().parent)) & set("!\t\n\r"):
        raise UnwritableOutput(
            f"{path}: a name of a folder has an exclamation mark, tab or line end, which pyogrio takes for "
            "something else; write .parquet, or to another folder"
        )


def written_beside(path: Path) -> tuple[Path, ...]:
    """Return what else is replaced or removed where a vector file is written.

    >>> [file.name for file in written_beside(Path("roofs.shp"))][:3]
    ['roofs.shx', 'roofs.dbf', 'roofs.cpg']
    """
    return tuple(map(path.with_suffix, BESIDE)) if path.suffix.lower() == ".shp" else ()


def layer_crs(given: str | None, scene: str | None, out: Path | None = None) -> str | None:
    """Return the CRS that polygons are to be put into, by what the user gave; None for the scene's own.

    Where `out` is written, GeoJSON wants longitudes and latitudes of WGS 84, PMTiles Web Mercator.

    Raises
    ------
    InvalidOption
        If it is not a horizontal CRS of two axes that polygons of the scene can be put into, or not
        the one that the format wants.

    Examples
    --------
    >>> layer_crs("EPSG:4326", "EPSG:32633", Path("out.geojson"))
    'OGC:CRS84'
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    only = None if out is None else ONLY_CRS.get(out.suffix.lower())
    if given is None:
        return only if scene is not None else None
    try:
        crs = CRS.from_user_input(given)
    except CRSError:
        raise InvalidOption(f"--crs {given}: not a CRS that PROJ knows, such as EPSG:4326") from None
    if scene is None:
        raise InvalidOption(
            f"--crs {given}: the scene has no CRS, so its polygons cannot be put into another"
        )
    if not (crs.is_geographic or crs.is_projected) or len(crs.axis_info) != 2:
        flat = horizontal(crs).to_authority() if crs.is_geographic or crs.is_projected else None
        instead = ":".join(flat or ("EPSG", "4326"))
        raise InvalidOption(f"--crs {given}: is a {crs.type_name}; give a horizontal CRS, such as {instead}")
    if only is not None and not crs.equals(CRS(only), ignore_axis_order=True):
        format_is = (
            "GeoJSON is in longitude and latitude of WGS 84"
            if only == WGS84
            else f"PMTiles is in Web Mercator ({WEB_MERCATOR})"
        )
        raise InvalidOption(f"--crs {given}: {format_is}; leave --crs out, or write .gpkg")
    return only or crs.to_wkt()


@contextlib.contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn the errors of the libraries that write into `UnwritableOutput`."""
    import pyogrio.errors as ogr
    from pyproj.exceptions import CRSError

    ogr_errors = (ogr.CRSError, ogr.DataLayerError, ogr.DataSourceError, ogr.FeatureError, ogr.FieldError)
    try:
        with telling_full_disks(path):
            yield
    except GeosegError:
        raise
    except (*ogr_errors, CRSError, sqlite3.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise UnwritableOutput(f"{path}: cannot be written ({reason})") from error
