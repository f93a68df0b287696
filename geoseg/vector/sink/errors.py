"""Errors of the libraries that write, as errors of geoseg."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from geoseg.errors import GeosegError, UnwritableOutput
from geoseg.files import telling_full_disks


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
