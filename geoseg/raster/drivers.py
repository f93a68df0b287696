"""Which files GDAL may open, told from what they hold: pure functions, no file is opened here.

A file's name says nothing about what GDAL does with it: a VRT named ``.tif`` reads other files, runs
code or calls out to a network. So every file is opened with the one driver that its own bytes name, and
a VRT only where it is a plain mosaic of files in its own folder.
VRT: https://gdal.org/en/stable/drivers/raster/vrt.html
"""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath
from xml.etree import ElementTree

from geoseg.vectorfiles.formats import FORMATS, format_of

HEAD = 1024
"""How many bytes of a file `driver_of` wants to see; as many as GDAL itself looks at."""

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
    (b"SQLite format 3\0", "GPKG"),
)
_SUFFIXES = frozenset(
    {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".img", ".ntf", ".nitf", ".gpkg", ".webp"}
    | {".bmp", ".vrt"}
)

_MADE = ("tif", "vrt")
_TRANSLATE = "convert it: gdal_translate -of COG {name} {tif}"
# What people have and geoseg does not read, as it may hold many images or refer to other files.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (
        rb"CDF[\x01\x02\x05]|\x89HDF\r\n\x1a\n|\x0e\x03\x13\x01",
        "netCDF or HDF",
        "gdalinfo lists its images; convert one: gdal_translate -of COG NETCDF:{name}:VARIABLE {tif}",
    ),
    (rb"GRIB", "GRIB", _TRANSLATE),
    (rb"PK\x03\x04", "a ZIP archive", "unzip it"),
    (rb"\x1f\x8b", "compressed by gzip", "unpack it: gunzip {name}"),
    (rb".{257}ustar", "a tar archive", "unpack it: tar -xf {name}"),
    (rb"PMTiles", "PMTiles, a map of polygons cut by tiles", "give the layer that it was made of"),
    (rb"GIF8", "GIF", _TRANSLATE),
    (rb"%PDF", "PDF", _TRANSLATE),
    (rb"ENVI\s", "the header of an ENVI image", "give the file beside it that holds the pixels"),
    (rb".*\bnumTiles\s*=", "a list of tiles (TIL)", "make a VRT of them: gdalbuildvrt {vrt} *.TIF"),
    (
        rb".*<(\w+:)?(Dimap_Document|Level-\w+_User_Product)\b",
        "the metadata of a product",
        "convert it: gdal_translate -of COG {name} {tif}, or make a VRT of its bands",
    ),
)

VRT_LIMIT = 64 << 20
"""Largest VRT in bytes: about 100 000 sources."""

SOURCE_DRIVERS = frozenset({"GTiff", "PNG", "JP2OpenJPEG", "HFA"})
"""What a VRT may refer to: formats with a zero byte early in the header, where no XML can hide."""

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
_OTHERWISE = re.compile(r"\w+:|/+vsi", re.ASCII)

_PREFIXES = {
    "http": "/vsicurl/http://",
    "https": "/vsicurl/https://",
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "az": "/vsiaz/",
}
_REMOTE_FOLDERS = ("/vsicurl/http://", "/vsicurl/https://", "/vsis3/", "/vsigs/", "/vsiaz/")


def driver_of(head: bytes) -> str | None:
    r"""Return the GDAL driver that a file with these first `HEAD` bytes is for; None: no known raster.

    ENVI's pixels have no mark, see `geoseg.raster.source`.

    >>> driver_of(b"II*\0\x08\0\0\0")
    'GTiff'
    >>> driver_of(b"GRIB\0\0\0\2") is None
    True
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # reserved
        return "BMP"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<VRTDataset", b"<?xml")) and b"<VRTDataset" in head:
        return "VRT"
    for signature, driver in _SIGNATURES:
        if head.startswith(signature):
            return driver
    return None


def why_not(name: str, head: bytes) -> str:
    r"""Say what a file is that geoseg does not read, and how to make it readable.

    Parameters
    ----------
    name : str
        What the user called it.
    head : bytes
        Its first `HEAD` bytes, of which `driver_of` knows none.

    >>> why_not("rain.grb", b"GRIB\0\0\0\2")
    'is GRIB, which geoseg does not read; convert it: gdal_translate -of COG rain.grb rain.tif'
    """
    if not head:
        return "is empty (0 bytes)"
    for start, what, advice in _OTHERS:
        if re.match(start, head, re.DOTALL):
            return f"is {what}, which geoseg does not read; {_filled(advice, name)}"
    suffix = PurePath(name).suffix.lower()
    vector = next((one.name for one in FORMATS if one is format_of(head) or suffix in one.suffixes), None)
    if vector and suffix not in _SUFFIXES:
        return f"is no raster but a vector file ({vector}); give the scene"
    if suffix in _SUFFIXES:
        return "not a raster that GDAL can read"
    return f"not a raster of a format that geoseg reads; if GDAL does, {convert(name)}"


def why_no_folder(name: str) -> str:
    """Say how to make one raster of the images in a folder.

    >>> why_no_folder("t/")
    'is a folder, as geoseg batch takes it; make a VRT of its images beside it: gdalbuildvrt t.vrt t/*.tif'
    """
    if PurePath(name).suffix.lower() == ".safe":
        bands = "$(find {name} -name '*_B0[432]*.jp2' | sort -r)"
        return "is a folder of bands (SAFE); make a VRT of those of one size beside it: " + _filled(
            f"gdalbuildvrt -separate {{vrt}} {bands}", name
        )
    return "is a folder, as geoseg batch takes it; make a VRT of its images beside it: " + _filled(
        "gdalbuildvrt {vrt} {name}/*.tif", name
    )


def convert(name: str) -> str:
    """Return the command that makes a GeoTIFF of what GDAL reads and geoseg does not."""
    return _filled(_TRANSLATE, name)


def _filled(command: str, name: str) -> str:
    """Put the name of a file, and those of what is made of it, into a command."""
    path = PurePath(name)
    made = {suffix: path.with_suffix(f".{suffix}") if path.name else f"new.{suffix}" for suffix in _MADE}
    new = {suffix: f"new.{suffix}" if other == path else other for suffix, other in made.items()}
    return command.format(name=shlex.quote(str(path)), **{key: shlex.quote(str(new[key])) for key in new})


def is_remote(uri: str) -> bool:
    """Whether a uri made by `remote_uri` is read over a network."""
    return uri.startswith(_REMOTE_FOLDERS)


def remote_uri(text: str) -> str | None:
    """Return the GDAL path for a URL that a user typed; None where the text is no URL.

    >>> remote_uri("s3://bucket/scene.tif")
    '/vsis3/bucket/scene.tif'
    """
    if is_remote(text):
        return text
    scheme, separator, rest = text.partition("://")
    prefix = _PREFIXES.get(scheme.lower())
    return f"{prefix}{rest}" if separator and prefix else None


class SourceElsewhere(ValueError):
    """A source that is not in the folder of its VRT."""


def vrt_sources(content: bytes) -> tuple[str, ...]:
    """Return the files that a VRT names, if it is a plain mosaic of files.

    Returns
    -------
    tuple of str
        Paths relative to the VRT's folder, or absolute ones, which may lie elsewhere.

    Raises
    ------
    ValueError
        If the VRT could read or run anything else; the message says what it has.
    SourceElsewhere
        If a source is outside the VRT's folder.

    >>> vrt_sources(
    ...     b"<VRTDataset><VRTRasterBand><SimpleSource>"
    ...     b'<SourceFilename relativeToVRT="1">tiles/a.tif</SourceFilename>'
    ...     b"</SimpleSource></VRTRasterBand></VRTDataset>"
    ... )
    ('tiles/a.tif',)
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
    path = PurePath(name)
    relative = element.get("relativeToVRT") == "1"
    # GDAL sees drivers (GTIFF_DIR:1:a.tif), file systems of its own, and line ends as they are.
    if "\\" in name or any(ord(letter) < 32 for letter in name) or _OTHERWISE.match(name):
        raise ValueError(f"the source {_short(name)}, whose name GDAL may take for something else")
    parts = name.split("/")[path.is_absolute() :]
    if relative == path.is_absolute() or name != name.strip() or any(part in {"..", ""} for part in parts):
        raise SourceElsewhere(f"the source {_short(name)} outside its folder")
    return name


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:77] + "..."
