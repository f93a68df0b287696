"""What a list of scenes may open: naming it allows the rasters that it lists, and nothing more.

A local list may name local files; a list from a URL, files on the host that it came from. Other hosts have
to be allowed by name, and an answer that leads to another host is not followed.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from pathlib import Path, PurePosixPath
from typing import IO

from geoseg.errors import InvalidOption, UnreadableScene
from geoseg.raster.drivers import remote_uri
from geoseg.raster.environment import explained, persistently

TIMEOUT = 20.0
"""Seconds without an answer after which a server counts as dead."""

LIST_LIMIT = 1 << 28
"""Most bytes of a list that is fetched."""

LISTS = frozenset(
    {".txt", ".lst", ".csv", ".tsv", ".json", ".geojson", ".geojsonl", ".ndjson", ".parquet", ".geoparquet"}
    | {".shp", ".fgb", ".gdb", ".kml", ".sqlite"}
)
"""How files end that list scenes and are none."""

_PREFIX = re.compile(r"\w{2,}:", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_BUSY = (429, 500, 502, 503, 504)


def is_url(location: str) -> bool:
    """Whether a location is a URL, of whatever scheme."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location) is not None


def check_url(location: str, listed_in: str = "") -> None:
    """Check that what begins like a URL is one.

    Raises
    ------
    InvalidOption

    Examples
    --------
    >>> check_url("http://[::1/a.tif", "list.txt")
    Traceback (most recent call last):
    geoseg.errors.InvalidOption: list.txt: lists http://[::1/a.tif: is no URL (Invalid IPv6 URL)
    """
    try:
        urllib.parse.urlsplit(location)
    except ValueError as error:
        named = f"{listed_in}: lists {location}" if listed_in else location
        raise InvalidOption(f"{named}: is no URL ({error})") from None


def host_of(location: str) -> str | None:
    """Return what ``--allow-host`` calls the place of a URL; None for a local path.

    Examples
    --------
    >>> host_of("https://Example.org:443/a.tif"), host_of("http://localhost:8000/a.tif")
    ('example.org', 'localhost:8000')
    >>> host_of("s3://bucket/a.tif"), host_of("/data/a.tif")
    ('s3://bucket', None)
    """
    if not is_url(location):
        return None
    parts = urllib.parse.urlsplit(location)
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        return f"{scheme}://{parts.netloc}"
    try:
        port = parts.port
    except ValueError:
        port = None
    name = (parts.hostname or "").lower()
    return name if port in {None, _PORTS[scheme]} else f"{name}:{port}"


def path_of(location: str) -> str:
    """Return the path that a URL of a file names; anything else as it is.

    Raises
    ------
    InvalidOption
        If it names a file of another machine.

    Examples
    --------
    >>> path_of("file:///data/a%20b.tif"), path_of("file://localhost/data/a.tif"), path_of("a.tif")
    ('/data/a b.tif', '/data/a.tif', 'a.tif')
    >>> path_of("file://other/data/a.tif")
    Traceback (most recent call last):
    geoseg.errors.InvalidOption: file://other/data/a.tif: is a file on another machine; mount its disk and \
give the path
    """
    if not location.lower().startswith("file://"):
        return location
    parts = urllib.parse.urlsplit(location)
    if parts.netloc.lower() not in ("", "localhost"):
        raise InvalidOption(f"{location}: is a file on another machine; mount its disk and give the path")
    return urllib.request.url2pathname(parts.path)


def allowed_location(text: str, listed_in: str, hosts: frozenset[str] = frozenset()) -> str:
    """Return the absolute path or URL of a raster that a list names, if naming the list allows to open it.

    Parameters
    ----------
    text : str
        As it stands in the list; relative to the list.
    listed_in : str
        Absolute path or URL of the list.
    hosts : frozenset of str
        Further places that the user allows, see `host_of`.

    Raises
    ------
    InvalidOption
        If it is another list, a path or prefix of GDAL's own, or on a host that is not allowed.

    Examples
    --------
    >>> allowed_location("tiles/a.tif", "https://example.org/lists/index.csv")
    'https://example.org/lists/tiles/a.tif'
    >>> allowed_location("/etc/a.tif", "https://example.org/lists/index.csv")
    'https://example.org/etc/a.tif'
    >>> allowed_location("https://example.com/a.tif", "https://example.org/index.csv")
    Traceback (most recent call last):
    geoseg.errors.InvalidOption: https://example.org/index.csv: lists https://example.com/a.tif on another \
host; if you trust it: --allow-host example.com
    """
    location = linked_location(text, listed_in, hosts)
    path = urllib.parse.urlsplit(location).path if is_url(location) else location
    if PurePosixPath(path).suffix.lower() in LISTS:
        raise InvalidOption(
            f"{listed_in}: lists {text}, which is another list; name that on the command line"
        )
    return location


def linked_location(text: str, listed_in: str, hosts: frozenset[str] = frozenset()) -> str:
    """Return the absolute path or URL that a file names, as `allowed_location`, be it a list or not."""
    if text.startswith("/vsi") or "\0" in text:
        raise InvalidOption(
            f"{listed_in}: lists {text!r}: GDAL's virtual paths are not accepted; list files or URLs"
        )
    check_url(text, listed_in)
    remote = is_url(listed_in)
    if not remote:
        text = path_of(text)
    if not (is_url(text) or remote):
        return _local(text, listed_in)
    location = text if is_url(text) else _joined(listed_in, text)
    _check_host(location, listed_in, hosts)
    return location


def why_absent(source: str) -> str:
    """Say what is wrong with a source that is not there.

    Examples
    --------
    >>> why_absent("NETCDF:a.nc:rain"), why_absent("scenes")
    ("prefixes of GDAL's drivers are not accepted; give files or URLs", 'no such file or folder')
    """
    if source.startswith("/vsi"):
        return "GDAL's virtual paths are not accepted; give files or URLs"
    if _PREFIX.match(source):
        return "prefixes of GDAL's drivers are not accepted; give files or URLs"
    return "no such file or folder"


def _joined(base: str, text: str) -> str:
    if _PREFIX.match(text):
        raise InvalidOption(f"{base}: lists {text}: is no path and no URL of http, https, s3, gs or az")
    return urllib.parse.urljoin(base, urllib.parse.quote(text, safe="/%?=&+,;:@!$'()*~"))


def _local(text: str, listed_in: str) -> str:
    folder = Path(listed_in).parent
    if text.startswith("~/"):
        try:
            text = str(Path(text).expanduser())
        except RuntimeError:
            raise InvalidOption(f"{listed_in}: lists {text}, and you have no home") from None
    location = os.path.abspath(folder / text)
    if _PREFIX.match(text) and not os.path.lexists(location):
        raise InvalidOption(
            f"{listed_in}: lists {text}: prefixes of GDAL's drivers are not accepted; list files or URLs"
        )
    return location


def _check_host(location: str, listed_in: str, hosts: frozenset[str]) -> None:
    if remote_uri(location) is None:
        raise InvalidOption(
            f"{listed_in}: lists {location}: geoseg reads URLs of http, https, s3, gs and az only"
        )
    host = host_of(location)
    if host != host_of(listed_in) and host not in hosts:
        whose = "on another host" if is_url(listed_in) else "on a network"
        raise InvalidOption(f"{listed_in}: lists {location} {whose}; if you trust it: --allow-host {host}")


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects on the hosts that are allowed, and says where others lead."""

    def __init__(self, hosts: frozenset[str | None]) -> None:
        self._hosts = hosts

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse to go to another host."""
        host = host_of(newurl)
        if host not in self._hosts:
            fp.close()
            raise UnreadableScene(
                f"{req.full_url}: leads to another host ({newurl}); if you trust it: --allow-host {host}"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_ERRORS = (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ValueError)


def fetch(url: str, hosts: frozenset[str], *, look: bool = False) -> tuple[bytes, Mapping[str, str]]:
    """Ask a server for a file, or only for what it says of it.

    Parameters
    ----------
    url : str
        Of http or https.
    hosts : frozenset of str
        Where an answer may lead to besides the URL's own host.
    look : bool
        Ask for one byte: unlike HEAD, every server of rasters answers that.

    Returns
    -------
    content : bytes
        Empty with `look`.
    headers : mapping of str to str
        By their names in lower case.

    Raises
    ------
    UnreadableScene
        If there is no such file, the server does not answer, or it leads to another host.
    """
    opener = urllib.request.build_opener(_SameHost(frozenset({host_of(url), *hosts})))

    def read() -> tuple[bytes, dict[str, str]]:
        request = urllib.request.Request(url, headers={"Range": "bytes=0-0"} if look else {})
        try:
            with opener.open(request, timeout=TIMEOUT) as answer:
                content = b"" if look else answer.read(LIST_LIMIT + 1)
                return content, {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as error:
            error.close()
            raise

    try:
        content, headers = persistently(read, lambda: None, _reason, _ERRORS)
    except _ERRORS as error:
        reason = _reason(error)
        raise UnreadableScene(f"{url}: {explained(url, reason) or f'cannot be read ({reason})'}") from error
    if len(content) > LIST_LIMIT:
        raise InvalidOption(f"{url}: has more than {LIST_LIMIT >> 20} MiB; download it")
    return content, headers


def _reason(error: BaseException) -> str:
    """Return what went wrong in the words that GDAL has for it."""
    if isinstance(error, urllib.error.HTTPError):
        busy = error.code in _BUSY  # which is asked again
        return f"the server says HTTP {error.code}" if busy else f"HTTP response code: {error.code}"
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return "timed out"
    if isinstance(cause, OSError) and cause.strerror:
        return f"connect to server: {cause.strerror.lower()}"
    return str(cause)
