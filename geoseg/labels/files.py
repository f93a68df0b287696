"""Whether labels are polygons or a mask: one rule for training, evaluation and all that follows."""

from __future__ import annotations

from pathlib import Path

from geoseg.raster.drivers import HEAD, driver_of, remote_uri
from geoseg.vectorfiles.formats import FORMATS, format_of

_SUFFIXES = {suffix for one in FORMATS for suffix in one.suffixes}


def is_vector(path: str | Path) -> bool:
    """Tell whether a file is taken for a vector file: by its first bytes, else by its name.

    A URL is a raster, since vector files are read from disk only. What neither tells is taken for a
    raster, whose reader says what is wrong with it.
    """
    if remote_uri(str(path)):
        return False
    named = Path(path).suffix.lower() in _SUFFIXES
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return named
    return format_of(head) is not None or (named and driver_of(head) is None)
