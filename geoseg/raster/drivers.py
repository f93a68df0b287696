"""Which files GDAL may open, told from their first bytes: pure functions, no file is opened here.

A file's name says nothing about what GDAL does with it: a VRT named ``.tif`` reads other files, runs
code or calls out to a network. So every file is opened with the one driver that its own bytes name.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from xml.etree import ElementTree

HEAD = 1024
"""How many bytes of a file `driver_of` wants to see; as many as GDAL itself looks at."""

VRT_LIMIT = 64 << 20
"""Largest VRT in bytes: about 100 000 sources."""

SOURCE_DRIVERS = frozenset({"GTiff", "PNG", "JP2OpenJPEG", "HFA"})
"""What a VRT may refer to: formats with a zero byte early in the header, where no XML can hide."""

REMOTE_DRIVERS = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG", "WEBP")
"""Formats that are read from a URL: none of them refers to other files."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),
    (b"MM\0+", "GTiff"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (b"EHFA_HEADER_TAG\0", "HFA"),
    (b"NITF02.", "NITF"),
    (b"NSIF01.", "NITF"),
    (b"BM", "BMP"),
)

_PREFIXES = {
    "http": "/vsicurl/http://",
    "https": "/vsicurl/https://",
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "az": "/vsiaz/",
}
_REMOTE_FOLDERS = ("/vsicurl/http://", "/vsicurl/https://", "/vsis3/", "/vsigs/", "/vsiaz/")

# What gdalbuildvrt and gdal_translate write for a plain mosaic; anything else is refused.
_VRT_ELEMENTS = {
    "vrtdataset", "srs", "geotransform", "gcplist", "gcp", "metadata", "mdi", "vrtrasterband",
    "description", "unittype", "offset", "scale", "colorinterp", "nodatavalue", "hidenodatavalue",
    "colortable", "entry", "categorynames", "category", "simplesource", "complexsource", "sourcefilename",
    "sourceband", "sourceproperties", "srcrect", "dstrect", "nodata", "scaleoffset", "scaleratio", "lut",
    "colortablecomponent", "usemaskband", "maskband", "overviewlist", "overview", "blockxsize",
    "blockysize",
}  # fmt: skip
_VRT_SUBCLASSES = frozenset({"", "vrtdataset", "vrtrasterband", "vrtsourcedrasterband"})
_VRT_DOMAINS = frozenset({"", "image_structure", "rpc"})


def driver_of(head: bytes) -> str | None:
    """Return the GDAL driver that a file with these first `HEAD` bytes is for; None: no known raster."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<VRTDataset", b"<?xml")) and b"<VRTDataset" in head:
        return "VRT"
    return next((driver for signature, driver in _SIGNATURES if head.startswith(signature)), None)


def is_remote(uri: str) -> bool:
    """Whether a uri made by `remote_uri` is read over a network."""
    return uri.startswith(_REMOTE_FOLDERS)


def remote_uri(text: str) -> str | None:
    """Return the GDAL path for a URL that a user typed; None where the text is no URL."""
    if is_remote(text):
        return text
    scheme, separator, rest = text.partition("://")
    prefix = _PREFIXES.get(scheme.lower())
    return f"{prefix}{rest}" if separator and prefix else None


def vrt_sources(content: bytes) -> tuple[str, ...]:
    """Return the files that a VRT names, relative to its folder, if it is a plain mosaic of such files.

    Raises
    ------
    ValueError
        If the VRT could read or run anything else; the message says what it has.
    """
    root = _parse(content)
    names: list[str] = []
    for element in root.iter():
        _check_element(element)
        if element.tag.lower() == "sourcefilename":
            names.append(_source_name(element))
    return tuple(dict.fromkeys(names))


def _parse(content: bytes) -> ElementTree.Element:
    # GDAL reads XML with a lenient parser of its own. Without comments, CDATA and declarations the
    # two parsers see the same tree (but for upper and lower case, see _check_element).
    if len(content) > VRT_LIMIT:
        raise ValueError(f"more than {VRT_LIMIT >> 20} MiB of XML")
    if b"<!" in content:
        raise ValueError("a document type, comment or CDATA")
    if content.count(b"<?") > content.lstrip(b"\xef\xbb\xbf").startswith(b"<?xml"):
        raise ValueError("a processing instruction")
    try:
        root = ElementTree.fromstring(content.decode("utf-8-sig"))
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"malformed XML ({error})") from error
    if root.tag != "VRTDataset":
        raise ValueError(f"a root element {root.tag}")
    return root


def _check_element(element: ElementTree.Element) -> None:
    tag = element.tag.lower()
    attributes = {name.lower(): value.lower() for name, value in element.attrib.items()}
    if len(attributes) < len(element.attrib):
        raise ValueError(f"an attribute of {element.tag} given twice")
    if tag not in _VRT_ELEMENTS:
        raise ValueError(f"the element {element.tag}")
    if attributes.get("subclass", "") not in _VRT_SUBCLASSES:
        raise ValueError(f"a {element.get('subClass', 'subClass')}")
    if tag == "metadata" and attributes.get("domain", "") not in _VRT_DOMAINS:
        raise ValueError(f"the metadata domain {element.get('domain')}")


def _source_name(element: ElementTree.Element) -> str:
    name = element.text or ""
    if (
        element.get("relativeToVRT") != "1"
        or PurePosixPath(name).is_absolute()
        or ":" in name
        or "\\" in name
    ):
        raise ValueError(f"the source {_short(name)}, which is not relative to its folder")
    if name != name.strip() or any(part in {"..", ""} for part in name.split("/")):
        raise ValueError(f"the source {_short(name)}, which is outside its folder")
    return name


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:77] + "..."
