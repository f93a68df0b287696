"""What a raster is: values that describe a scene, made from an open dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from geoseg.errors import UnreadableScene
from geoseg.raster.opening import Source, opened
from geoseg.raster.pixels import stored_nodata
from geoseg.values import GeoBox
from geoseg.vectorfiles.crs import other_file

BLOCK_LIMIT = 1 << 30
"""Largest block in bytes, unpacked, that is read: GDAL holds a block whole, however small the window."""

PIXEL_LIMIT = 10**14
"""More pixels than this are taken for a damaged or hostile header (all land at 0.3 m has 1.7e15)."""

Palette = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Band:
    """One band that holds an image (alpha is not one)."""

    index: int
    """Number in the file, from 1. A palette counts as three bands 1, 2, 3: red, green, blue."""
    dtype: str
    """Of the stored values; ``uint8`` for a palette."""
    nodata: float | None = None
    """Declared value for "no data", on the stored values; of a palette, the index."""
    scale: float = 1.0
    offset: float = 0.0
    """`scale`, `offset`: Declared: value = stored * scale + offset."""
    color: str = "undefined"
    """Colour interpretation as rasterio names it: red, green, blue, nir, gray, undefined …"""
    description: str = ""
    """From the file; empty where there is none."""

    @property
    def read_dtype(self) -> str:
        """Dtype of what `geoseg.raster.scene.read_patch` returns: float32 where a scale is declared."""
        return self.dtype if (self.scale, self.offset) == (1.0, 0.0) else "float32"


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """A scene as geoseg sees it: frozen, picklable, nothing open."""

    uri: str
    """Absolute path, or GDAL's path for a URL."""
    driver: str
    """GDAL's driver for it."""
    geobox: GeoBox
    """Size, transform and CRS (WKT2); of ground control points, the grid that they imply. Without a CRS the
    transform is kept (pixel coordinates where the file has none)."""
    bands: tuple[Band, ...]
    """Image bands, without alpha."""
    alpha: tuple[int, ...]
    """Numbers of the alpha bands."""
    mask: Literal["none", "dataset", "bands"]
    """One mask for all bands (in the file or ``.msk``), or one for each."""
    palette: Palette | None
    """Colours of the indices of a paletted band."""
    warped: bool
    """Placed by ground control points only: read through a warped view."""
    block_shape: tuple[int, int]
    """(rows, cols) of the file's blocks."""
    overviews: tuple[tuple[int, int], ...]
    """Overviews that can stand in for the scene, finest first."""
    resolution: tuple[float, float] | None
    """Metres on the ground along columns and rows at the centre; None where unknown."""
    fingerprint: str
    """Changes when the content changes."""
    warnings: tuple[str, ...]
    """What a user should know, one line each."""

    @property
    def name(self) -> str:
        """File name, or last part of the URL, for messages."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def stored_bands(self) -> tuple[Band, ...]:
        """The image bands as the file stores them: one where there is a palette."""
        return self.bands[:1] if self.palette else self.bands

    @property
    def validity(self) -> tuple[str, ...]:
        """Where validity comes from: nodata, mask, alpha, palette, NaN; empty if all is data."""
        index = "uint16" if self.palette else None
        sources = {
            "nodata": None not in [stored_nodata(b.nodata, index or b.dtype) for b in self.stored_bands],
            "mask": self.mask != "none",
            "alpha": bool(self.alpha),
            "palette": 0 in [color[3] for color in self.palette or ()],
            "NaN": "f" in [np.dtype(band.dtype).kind for band in self.bands],
        }
        return tuple([name for name, present in sources.items() if present])


def describe(dataset: rasterio.DatasetReader, source: Source, fingerprint: str, warped: bool) -> SceneInfo:
    """Describe an open scene that `check_readable` lets pass, or its view where it has only control points.

    Raises
    ------
    UnreadableScene
        If its transform maps pixels to nowhere.
    """
    image, alpha = image_and_alpha(dataset)
    geobox, warnings = _geobox(dataset, source.name, warped)
    flags = [dataset.mask_flag_enums[i - 1] for i in image]
    mask: Literal["none", "dataset", "bands"] = "bands" if [] in flags else "none"
    if any(MaskFlags.per_dataset in flag and MaskFlags.alpha not in flag for flag in flags):
        mask = "dataset"
    bands, palette = _bands(dataset, image)
    overviews, lost = ((), False) if warped or mask == "bands" else _overviews(dataset, source, mask)
    if lost:
        warnings.append("its overviews do not carry its mask and are not used; rebuild them to read faster")
    if len(dataset.subdatasets) > 1:
        warnings.append(f"holds {len(dataset.subdatasets)} images; only the first is read")
    resolution = ground_resolution(geobox)
    if geobox.crs is not None and resolution is None:
        warnings.append("its CRS has no place on the Earth here: resolution and areas are unknown")
    return SceneInfo(
        uri=source.uri,
        driver=dataset.driver if not warped else source.drivers[0],
        geobox=geobox,
        bands=bands,
        alpha=alpha,
        mask=mask,
        palette=palette,
        warped=warped,
        block_shape=dataset.block_shapes[0],
        overviews=overviews,
        resolution=resolution,
        fingerprint=fingerprint,
        warnings=tuple(warnings),
    )


def check_readable(dataset: rasterio.DatasetReader, name: str) -> None:
    """Check, before a pixel is read, that reading is possible and will not exhaust the memory.

    Raises
    ------
    UnreadableScene
    """
    for crs in (dataset.crs, dataset.gcps[1]):
        # PROJ opens such a file as soon as coordinates are carried over.
        if crs and (named := other_file(crs.to_wkt())):
            raise UnreadableScene(f"{name}: its CRS refers to another file ({named}); give it another CRS")
    if not image_and_alpha(dataset)[0]:
        raise UnreadableScene(f"{name}: has no image bands")
    if dataset.width * dataset.height > PIXEL_LIMIT:
        raise UnreadableScene(f"{name}: claims {dataset.width} x {dataset.height} pixels; is it damaged?")
    if "complex" in " ".join(dataset.dtypes):
        raise UnreadableScene(f"{name}: holds complex numbers; make an amplitude image of it first")
    rows, cols = dataset.block_shapes[0]
    interleaved = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL"
    together = dataset.dtypes if interleaved else dataset.dtypes[:1]
    block = rows * cols * sum([np.dtype(dtype).itemsize for dtype in together])
    if block > BLOCK_LIMIT:
        raise UnreadableScene(
            f"{name}: its blocks of {cols} x {rows} pixels take {block / 2**30:.1f} GiB each; "
            f"re-tile it: gdal_translate -of COG {name} tiled.tif"
        )
    if dataset.rpcs is not None and dataset.crs is None and not dataset.gcps[0]:
        raise UnreadableScene(f"{name}: has only RPCs; orthorectify it first: gdalwarp -rpc {name} ortho.tif")


def _geobox(dataset: rasterio.DatasetReader, name: str, warped: bool) -> tuple[GeoBox, list[str]]:
    transform = tuple(dataset.transform)[:6]
    a, b, _, d, e, _ = transform
    if not np.isfinite(transform).all() or a * e == b * d:
        raise UnreadableScene(
            f"{name}: its transform {transform} maps pixels to nowhere; "
            f"place it: gdal_translate -a_ullr WEST NORTH EAST SOUTH {name} placed.tif"
        )
    crs = dataset.crs.to_wkt(version="WKT2_2019") if dataset.crs else None
    warnings = []
    if warped:
        warnings.append(f"placed by {len(dataset.src_dataset.gcps[0])} ground control points only")
    elif crs is None:
        warnings.append("has no CRS: coordinates are as in the file, areas in metres unknown")
    elif "CS[Cartesian,3]" in crs:
        crs = None
        warnings.append("has a geocentric CRS, in which no plane lies: taken for none")
    elif dataset.transform.is_identity:
        # Nobody's pixels measure 1 unit southward from the origin: the transform was never written.
        # Coordinates in that CRS would be wrong, an error would keep people from the pixels.
        crs = None
        warnings.append("has a CRS but no transform: not georeferenced, coordinates are pixels")
    return GeoBox(dataset.height, dataset.width, transform, crs), warnings


def image_and_alpha(dataset: rasterio.DatasetReader) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the numbers of the bands that hold an image, and of those that hold alpha."""
    alpha = tuple([i for i in dataset.indexes if dataset.colorinterp[i - 1].name == "alpha"])
    return tuple([i for i in dataset.indexes if i not in alpha]), alpha


def _bands(
    dataset: rasterio.DatasetReader, image: tuple[int, ...]
) -> tuple[tuple[Band, ...], Palette | None]:
    """Return the image bands, and the palette of which they are made up where there is one."""
    if len(image) == 1 and dataset.colorinterp[image[0] - 1].name == "palette":
        colors, nodata = dataset.colormap(image[0]), dataset.nodatavals[image[0] - 1]
        size = 256 if dataset.dtypes[image[0] - 1] == "uint8" else 65536
        rgb = [Band(i, "uint8", nodata, color=color) for i, color in enumerate(("red", "green", "blue"), 1)]
        return tuple(rgb), tuple([colors.get(index, (0, 0, 0, 255)) for index in range(size)])
    bands = [
        Band(
            index=i,
            dtype=dataset.dtypes[i - 1],
            nodata=dataset.nodatavals[i - 1],
            scale=float(dataset.scales[i - 1]),
            offset=float(dataset.offsets[i - 1]),
            color=dataset.colorinterp[i - 1].name,
            description=dataset.descriptions[i - 1] or "",
        )
        for i in image
    ]
    return tuple(bands), None


def _overviews(
    dataset: rasterio.DatasetReader, source: Source, mask: str
) -> tuple[tuple[tuple[int, int], ...], bool]:
    """Return the sizes of the overviews, and whether there are others that lack the mask.

    GDAL reports the same flags whether or not the overviews carry the mask, and "all valid" where they
    do not. Looking at the mask as if it were a band tells.
    """
    sizes: list[tuple[int, int]] = []
    for level in range(len(dataset.overviews(1))):
        with opened(source.uri, (dataset.driver,), overview=level) as overview:
            sizes.append(overview.shape)
    if mask == "dataset" and sizes and not _view(dataset, source, "mask,1"):
        return (), bool(_view(dataset, source, "1"))
    return tuple(sizes), False


def _view(dataset: rasterio.DatasetReader, source: Source, band: str) -> list[int]:
    """Return the overviews that a mosaic of this band alone would have; small ones are left out."""
    height, width = dataset.shape
    whole = f'xOff="0" yOff="0" xSize="{width}" ySize="{height}"'
    mosaic = (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="0">{escape(source.uri)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand><SrcRect {whole}/><DstRect {whole}/>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with opened(mosaic, ("VRT",), within=source.uri) as view:
        return list(view.overviews(1))


def choose_overview(scene: SceneInfo, grid: GeoBox) -> tuple[int | None, tuple[int, int]]:
    """Return the overview that a grid is read from (None: the scene itself), and its size."""
    chosen: tuple[int | None, tuple[int, int]] = (None, (scene.geobox.height, scene.geobox.width))
    for level, (height, width) in enumerate(scene.overviews):
        if height >= grid.height and width >= grid.width:
            chosen = (level, (height, width))
    return chosen


def pixel_bytes(scene: SceneInfo) -> int:
    """Return the bytes of a pixel in GDAL's cache: all bands, alpha and masks."""
    stored = scene.stored_bands
    bands = len(stored) + len(scene.alpha)
    masks = {"none": 0, "dataset": 1, "bands": len(stored)}[scene.mask]
    return bands * max([np.dtype(band.dtype).itemsize for band in stored]) + masks


def ground_resolution(geobox: GeoBox) -> tuple[float, float] | None:
    """Return `resolution_at` the grid's centre; None also where that lies outside the CRS's domain."""
    steps = resolution_at(geobox, np.array([[geobox.width / 2, geobox.height / 2]]))
    if steps is None or not np.isfinite(steps).all():
        return None
    return float(steps[0, 0]), float(steps[0, 1])


def resolution_at(geobox: GeoBox, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the size of a pixel on the ground at many places.

    Parameters
    ----------
    geobox : GeoBox
        Any affine transform, any CRS: degrees, feet, Web Mercator, rotated.
    points : ndarray of float64, shape (n, 2)
        Pixel coordinates (col, row).

    Returns
    -------
    ndarray of float64, shape (n, 2), or None
        Metres from a pixel to the next in its row, and in its column: geodesics on the ellipsoid of
        the CRS (Karney 2013, in PROJ), not finite where a point lies outside the CRS's domain. None
        without a CRS, or with one that has no place on the Earth.
    """
    if geobox.crs is None:
        return None
    import pyproj

    crs = pyproj.CRS.from_user_input(geobox.crs)
    geodetic, geod = crs.geodetic_crs, crs.get_geod()
    if geodetic is None or geod is None:
        return None
    steps = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])
    ends = geobox.to_crs((points[:, None] + steps).reshape(-1, 2))
    transformer = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
    lon, lat = transformer.transform(ends[:, 0], ends[:, 1])
    known = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = np.where(known, lon, 0.0), np.where(known, lat, 0.0)
    _, _, metres = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    return np.where(known[::2] & known[1::2], metres, np.nan).reshape(-1, 2)
