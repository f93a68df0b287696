"""What the result of a scene is called: it follows from the source alone, and any file system takes it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import urllib.parse
from pathlib import PurePosixPath

LONGEST = 120
"""Bytes of a folder's or file's name, so that suffixes and temporary names fit behind it."""

_UNSAFE = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices of Windows


def safe_name(path: str) -> str:
    """Return a relative path with names that any file system takes.

    Examples
    --------
    >>> safe_name("2020: spring/a?b. "), safe_name("../x/./CON"), safe_name("/.hidden")
    ('2020_ spring/a_b', 'x/_CON', '_.hidden')
    """
    parts = [_safe(part) for part in path.split("/") if part not in {"", ".", ".."}]
    return "/".join(parts) or "_"


def _safe(part: str) -> str:
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", spelled(part))).rstrip(". ") or "_"
    if name.startswith(".") or _RESERVED.fullmatch(name):
        name = f"_{name}"
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    return f"{encoded[: LONGEST - 9].decode('utf-8', 'ignore')}-{hashlib.sha256(encoded).hexdigest()[:8]}"


def spelled(text: str) -> str:
    r"""Return a text that can be written as UTF-8: bytes of a file's name that are none are escaped.

    Examples
    --------
    >>> spelled("näme"), spelled("caf\udce9")
    ('näme', 'caf\\udce9')
    """
    return text.encode("utf-8", "backslashreplace").decode()


def name_of_path(path: str) -> str:
    """Return the name that a path stands for: without the suffix.

    Examples
    --------
    >>> name_of_path("north/a.b.tif")
    'north/a.b'
    """
    return safe_name(str(PurePosixPath(path).with_suffix("")) if PurePosixPath(path).name else path)


def name_of_listed(text: str, listed_in: str) -> str:
    """Return the name of what stands in a list: its path below the list's folder, else its whole path.

    Examples
    --------
    >>> name_of_listed("https://host/tiles/7/a.tif?key=1", "https://host/tiles/index.csv")
    '7/a'
    >>> name_of_listed("/data/tiles/a.tif", "/data/index.gpkg"), name_of_listed("../b.tif", "/data/i.gpkg")
    ('tiles/a', 'b')
    """
    path, folder = (_path(one) for one in (text, listed_in))
    folder = folder.rpartition("/")[0] + "/"
    return name_of_path(path.removeprefix(folder))


def _path(location: str) -> str:
    if "://" not in location:
        return location
    return urllib.parse.unquote(urllib.parse.urlsplit(location).path)


def shared_name(name: str) -> str:
    """Return what two names have in common that are one on some file systems.

    Examples
    --------
    >>> shared_name("North/A") == shared_name("north/a")
    True
    """
    return unicodedata.normalize("NFC", name).casefold()
