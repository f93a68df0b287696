"""Checks of a raster before GDAL opens it: which driver reads the file, and what lies beside it."""

from __future__ import annotations

import functools
import os
import re
import shlex
import sqlite3
import stat
import time
from pathlib import Path

import numpy as np
import rasterio

from geoseg.errors import UnreadableScene
from geoseg.files import is_utf8
from geoseg.raster.drivers import (
    HEAD,
    REMOTE_DRIVERS,
    SOURCE_DRIVERS,
    VRT_LIMIT,
    SourceElsewhere,
    convert,
    driver_of,
    remote_uri,
    vrt_sources,
    why_no_folder,
    why_not,
)
from geoseg.raster.opening import GDAL_ERRORS, Source, anew, opened, reason_of
from geoseg.vectorfiles.formats import check_database, opened_database

_RASTERS = "SELECT table_name FROM gpkg_contents WHERE data_type IN ('tiles', '2d-gridded-coverage')"
CLOCK_NS = 3 * 10**9
"""Nanoseconds after which a change of a folder shows in its time of modification, on any file system."""

_ENVI_LIMIT = 1 << 20
"""Bytes of a header that are looked at."""
_VIEW = re.compile(r"CREATE\s+VIEW\s", re.IGNORECASE)


def resolve(source: str | os.PathLike[str]) -> Source:
    """Decide whether and how a scene may be opened; nothing is opened by GDAL on its own account yet.

    Raises
    ------
    UnreadableScene
        If it does not exist, is no regular file, is of no known format, or refers to anything that
        the user did not name (a VRT's raw bands, code, URLs, files elsewhere; an overview elsewhere).
    """
    name = os.fspath(source)
    if not name:
        raise UnreadableScene("the scene's name is empty; give a file or a URL")
    remote = remote_uri(name)
    if remote is not None:
        anew(remote)
        return Source(remote, REMOTE_DRIVERS, name)
    path = Path(os.path.abspath(name))
    anew(str(path))
    if not is_utf8(path):
        raise UnreadableScene(f"{name}: its name, or a folder's, is not valid UTF-8; rename it")
    if str(path).startswith("/vsi"):
        raise UnreadableScene(
            f"{name}: GDAL's virtual paths are not accepted; give a file (unpack archives) or a URL"
        )
    driver = _local_driver(path, name)
    if driver == "VRT":
        _check_vrt(path, name)
    elif driver == "GPKG":
        _check_database(path, name)
    _check_company(path, driver, name)
    return Source(str(path), (driver,), name)


def _local_driver(path: Path, name: str) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UnreadableScene(f"{name}: no such file") from None
    except (OSError, ValueError) as error:
        raise UnreadableScene(f"{name}: {reason_of(error)}") from error
    if stat.S_ISDIR(mode):
        raise UnreadableScene(f"{name}: {why_no_folder(name)}")
    if not stat.S_ISREG(mode):
        raise UnreadableScene(f"{name}: is not a regular file")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UnreadableScene(f"{name}: {reason_of(error)}") from error
    driver = driver_of(head) or ("ENVI" if _envi_header(path) else None)
    if driver is None:
        raise UnreadableScene(f"{name}: {why_not(name, head)}")
    return driver


def _envi_header(path: Path) -> bytes | None:
    """Return the header of ENVI that GDAL would find beside a file of raw pixels; None: there is none.

    It looks for ``scene.dat.hdr`` first, then ``scene.hdr``, in upper or lower case.
    """
    wanted = [f"{path.name}.hdr".lower(), path.with_suffix(".hdr").name.lower()]
    with os.scandir(path.parent) as entries:
        found = {entry.name.lower(): Path(entry.path) for entry in entries if entry.name.lower() in wanted}
    header = next((found[name] for name in wanted if name in found), path)
    if header.name == path.name or not header.is_file():
        return None
    with header.open("rb") as file:
        content = file.read(_ENVI_LIMIT)
    return content if content.startswith(b"ENVI") else None


def _check_vrt(path: Path, name: str) -> None:
    with path.open("rb") as file:
        content = file.read(VRT_LIMIT + 1)
    advice = "make a GeoTIFF of it with gdal_translate if you trust it"
    try:
        for source in vrt_sources(content):
            _check_vrt_source(path.parent, source)
    except SourceElsewhere as error:
        raise UnreadableScene(
            f"{name}: a VRT with {error}; put the VRT above its tiles, or {advice}"
        ) from error
    except UnreadableScene as error:
        raise UnreadableScene(f"{name}: a VRT with the source {error}") from error
    except ValueError as error:
        raise UnreadableScene(f"{name}: a VRT with {error}, which is not accepted; {advice}") from error


def _check_vrt_source(folder: Path, source: str) -> None:
    path = folder / source
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise SourceElsewhere(f"the source {source} outside its folder")
    driver = _local_driver(path, source)
    if driver not in SOURCE_DRIVERS:
        raise ValueError(f"the {driver} source {source}")
    _check_company(path, driver, source)


def _check_database(path: Path, name: str) -> None:
    """Check that a GeoPackage holds one raster and, by the rules for vectors, nothing from elsewhere.

    Triggers, which GDAL itself makes, do nothing where a database is only read. Views could call
    functions of GDAL's.
    """
    try:
        check_database(path)
        with opened_database(path) as database:
            found = database.execute("SELECT lower(name), CAST(sql AS TEXT) FROM sqlite_master")
            tables = {str(table): text or "" for table, text in found}
            rows = database.execute(_RASTERS).fetchall() if "gpkg_contents" in tables else []
        rasters = [str(row[0]) for row in rows]
    except (sqlite3.Error, OSError, ValueError) as error:
        raise UnreadableScene(f"{name}: cannot be read as a GeoPackage ({reason_of(error)})") from error
    views = [table for table, text in tables.items() if _VIEW.match(text)]
    if not rasters:
        tiled = f"is MBTiles, which geoseg does not read; {convert(name)}"
        raise UnreadableScene(f"{name}: {tiled if 'tiles' in tables else 'holds no raster; give the scene'}")
    if views:
        raise UnreadableScene(
            f"{name}: has the view {views[0]}, which is not accepted; {convert(name)} if you trust it"
        )
    if len(rasters) > 1:
        chosen = shlex.quote(f"GPKG:{name}:{rasters[0]}")
        raise UnreadableScene(
            f"{name}: holds {len(rasters)} rasters ({', '.join(rasters)}); "
            f"make a GeoTIFF of one: gdal_translate -of COG {chosen} {shlex.quote(rasters[0])}.tif"
        )


@functools.lru_cache(maxsize=16)
def _companions(folder: Path, _changed: int) -> tuple[str, ...]:
    """Return the names of masks and overviews in a folder: listed once until it changes."""
    return tuple([name for name in os.listdir(folder) if name.lower().endswith((".msk", ".ovr"))])


def _check_company(path: Path, driver: str, name: str) -> None:
    """Check the masks and overviews beside a file, and that none points at an overview elsewhere.

    GDAL opens ``.msk`` and ``.ovr`` files with any driver, and the file that a metadata item
    OVERVIEW_FILE names, wherever that is: each could be a VRT that reads or calls anything.
    """
    prefix, changed = path.name.lower() + ".", path.parent.stat().st_mtime_ns
    known = time.time_ns() - changed > CLOCK_NS
    names = (_companions if known else _companions.__wrapped__)(path.parent, changed)
    company = [path.parent / name for name in names if name.lower().startswith(prefix)]
    for file in company:
        if _local_driver(file, str(file)) != "GTiff":
            raise UnreadableScene(f"{name}: {file.name} beside it is not a TIFF; remove it")
    for file, driver_name in [(path, driver), *[(file, "GTiff") for file in company]]:
        try:
            with opened(str(file), (driver_name,)) as raster:
                if "OVERVIEW_FILE" in raster.tags(ns="OVERVIEWS"):
                    raise UnreadableScene(
                        f"{name}: {file.name} refers to an overview in another file; remove that"
                    )
                if driver_name == "ENVI":
                    _check_envi(raster, file, name)
        except GDAL_ERRORS as error:
            reason = f"not a raster that GDAL can read ({reason_of(error)})"
            if file in company:
                reason = f"{file.name} beside it is {reason}; remove it"
            raise UnreadableScene(f"{name}: {reason}") from error


def _check_envi(raster: rasterio.DatasetReader, path: Path, name: str) -> None:
    """Check that a file of raw pixels is whole: GDAL would read what is missing as zeros."""
    header = (_envi_header(path) or b"").lower()
    if re.search(rb"^\s*file[ _]compression\s*=\s*[1-9]", header, re.MULTILINE):
        raise UnreadableScene(
            f"{name}: is compressed as a whole, which geoseg does not read; {convert(name)}"
        )
    pixel = sum(np.dtype(dtype).itemsize for dtype in raster.dtypes if "complex" not in dtype)
    offsets = re.findall(rb"^\s*header[ _]offset\s*=\s*(\d+)", header, re.MULTILINE)
    needed = raster.width * raster.height * pixel + max(map(int, offsets), default=0)
    if (size := path.stat().st_size) < needed:
        raise UnreadableScene(f"{name}: has {size} bytes, its header wants {needed}; is it complete?")
