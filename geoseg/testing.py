"""Small real files and checks for tests, here and in projects that build on geoseg."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Predictor, quantize
from geoseg.values import Transform

ValidityKind = Literal["none", "nodata", "nan", "mask", "msk", "alpha"]

NORTH_UP: Transform = (0.3, 0.0, 500_000.0, 0.0, -0.3, 5_000_000.0)
"""0.3 m pixels in UTM, the transform of `make_scene` unless told otherwise."""


def make_scene(  # noqa: PLR0913 (a test names what it needs, the rest has defaults)
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (64, 64),
    bands: int = 3,
    dtype: str = "uint8",
    transform: Transform | None = NORTH_UP,
    crs: str | None = "EPSG:32633",
    validity: ValidityKind = "none",
    valid: NDArray[np.bool_] | None = None,
    nodata: float = 0,
    pixels: NDArray[np.generic] | None = None,
    overviews: tuple[int, ...] = (),
    block: int | None = None,
    **creation: Any,
) -> Path:
    """Write a small GeoTIFF and return its path.

    Parameters
    ----------
    path : str or path
        File to write.
    size : (height, width)
        In pixels; ignored where `pixels` are given.
    bands, dtype
        Of the image, without alpha; ignored where `pixels` are given.
    transform : Transform or None
        None writes none: pixel coordinates.
    crs : str or None
        Anything that rasterio understands.
    validity : {"none", "nodata", "nan", "mask", "msk", "alpha"}
        How the file says which pixels are data: not at all; a nodata tag; NaN without a tag (floats);
        a mask in the file; a mask beside it; an alpha band after the image.
    valid : ndarray of bool, shape (rows, cols), optional
        Which pixels are data. Default: all but the upper left triangle over a third of each axis.
    nodata : float
        The value for ``validity="nodata"``; valid pixels that have it in all bands are moved off it.
    pixels : ndarray, shape (bands, rows, cols), optional
        Default: a smooth pattern that differs from pixel to pixel and from band to band.
    overviews : tuple of int
        Factors, averaged.
    block : int, optional
        Side of the tiles, a multiple of 16; default: strips.
    **creation
        Creation options of GDAL's GTiff driver, e.g. ``compress="deflate"``.
    """
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning

    image = _pattern(bands, *size, dtype) if pixels is None else pixels.copy()
    known = _all_but_a_corner(*image.shape[1:]) if valid is None else valid
    image, tag = _encode(image, known, validity, nodata)
    if block:
        creation |= {"tiled": True, "blockxsize": block, "blockysize": block}
    profile = {
        "driver": "GTiff",
        "count": len(image),
        "height": image.shape[1],
        "width": image.shape[2],
        "dtype": image.dtype.name,
        "crs": crs,
        "transform": None if transform is None else rasterio.Affine(*transform),
        "nodata": tag,
    }
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=validity == "mask"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, **creation) as dataset:
            dataset.colorinterp = _colors(len(image), validity == "alpha")
            dataset.write(image)
            if validity in {"mask", "msk"}:
                dataset.write_mask(known)
        if overviews:
            with rasterio.open(path, "r+") as dataset:
                dataset.build_overviews(overviews, Resampling.average)
    return Path(path)


def make_model(folder: str | os.PathLike[str], *, bands: int = 3, tile: int = 64, overlap: int = 16) -> Path:
    """Write a model folder whose probability is the mean of the bands divided by 255.

    It looks at single pixels, so what it should find in a scene is known: bright is a building. Any
    resolution suits it. Needs the package ``onnx``.

    Parameters
    ----------
    folder : str or path
        The folder to make.
    bands : int
        Bands of the input, uint8.
    tile, overlap : int
        Pixels.
    """
    import tempfile

    import onnx
    from onnx import TensorProto, helper

    from geoseg.models.bundle import save_bundle
    from geoseg.models.card import Head
    from geoseg.models.card_json import make_document
    from geoseg.models.inputs import InputSpec
    from geoseg.values import ClassInfo

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", bands, "h", "w"])
    result = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1, "h", "w"])
    mean = helper.make_node("ReduceMean", ["image"], ["probability"], axes=[1], keepdims=1)
    graph = helper.make_graph([mean], "bright", [image], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    names = ("red", "green", "blue", "nir")[:bands] if bands in {3, 4} else tuple(map(str, range(bands)))
    spec = InputSpec(names, "uint8", 1 / 255, (0.0,) * bands, (1.0,) * bands)
    head = Head((ClassInfo(1, "building", (228, 87, 46)),), (1,), "probability")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        onnx.save(model, path)
        document = make_document("bright", spec, head, tile=tile, overlap=overlap)
        save_bundle(Path(folder), document, {"model.onnx": path}, overwrite=True)
    return Path(folder)


def _colors(count: int, alpha: bool) -> list[Any]:
    from rasterio.enums import ColorInterp

    names = ["red", "green", "blue"] if count - alpha >= 3 else ["gray"]
    names += ["undefined"] * (count - alpha - len(names)) + ["alpha"] * alpha
    return [ColorInterp[name] for name in names]


def _all_but_a_corner(height: int, width: int) -> NDArray[np.bool_]:
    rows, cols = np.ogrid[:height, :width]
    return np.asarray(3 * rows / height + 3 * cols / width >= 1)


def _pattern(bands: int, height: int, width: int, dtype: str) -> NDArray[np.generic]:
    band, row, col = np.ogrid[:bands, :height, :width]
    wave = 120 + 50 * np.sin(col / 7 + band) + 50 * np.cos(row / 5 - band) + (row * 7 + col * 3) % 11
    return np.asarray(wave.astype(dtype))


def _encode(
    image: NDArray[np.generic], known: NDArray[np.bool_], validity: ValidityKind, nodata: float
) -> tuple[NDArray[np.generic], float | None]:
    """Write validity into the pixels; return them and the nodata tag."""
    if validity == "nodata":
        clash = known & np.all(image == nodata, axis=0)
        image[0, clash] += 1
        image[:, ~known] = nodata
        return image, nodata
    if validity == "nan":
        image[:, ~known] = np.nan
    if validity == "alpha":
        image = np.concatenate([image, np.where(known, 255, 0)[None].astype(image.dtype)])
    return image, None


def assert_same_polygons(actual: Any, expected: Any) -> None:
    """Assert that two sets of polygons are equal, vertex by vertex and class by class.

    Where a ring begins, the direction it runs in and the order of polygons do not matter; a vertex
    more on a straight line does.

    Parameters
    ----------
    actual, expected : GeoDataFrame or iterable
        A table with the columns ``class`` and ``geometry``, or pieces of `geoseg.vector`, or pairs
        (class id, geometry).

    Raises
    ------
    AssertionError
        Names the polygons that only one of the two has.
    """
    from collections import Counter

    import shapely

    one, two = Counter(_outlines(actual)), Counter(_outlines(expected))
    lines = [
        f"only {side}: class {label}: {shapely.to_wkt(shapely.from_wkb(outline), rounding_precision=-1)}"
        for side, rest in (("actual", one - two), ("expected", two - one))
        for label, outline in rest.elements()
    ]
    shown = "\n".join(lines[:10])
    assert not lines, f"{len(lines)} polygons differ of {one.total()} and {two.total()}\n{shown}"


def _outlines(polygons: Any) -> list[tuple[int, bytes]]:
    """Return class and normalized geometry, which compare equal where the polygons do."""
    import shapely

    if hasattr(polygons, "geometry") and hasattr(polygons, "columns"):
        pairs = list(zip(polygons["class"], polygons.geometry, strict=True))
    else:
        pairs = [(p.label, p.polygon) if hasattr(p, "polygon") else (p[0], p[1]) for p in polygons]
    # Adding 0 turns -0.0 into 0.0.
    geometries = shapely.normalize(
        shapely.transform([geometry for _, geometry in pairs], lambda xy: xy + 0.0)
    )
    return [(int(label), shapely.to_wkb(g)) for (label, _), g in zip(pairs, geometries, strict=True)]


@dataclass(frozen=True, slots=True)
class PointwisePredictor:
    """A model of pure numpy that looks at single pixels: tiling cannot change its result.

    Channel k is band k (modulo the number of bands) clipped to 0 … 1.
    """

    channels: int = 1
    name: str = "pointwise numpy"
    device: str = "cpu"
    normalizes: bool = False

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Map the bands to probabilities."""
        return quantize(batch[:, np.arange(self.channels) % batch.shape[1]])


@dataclass(frozen=True, slots=True)
class ReferencePredictor:
    """A model of pure numpy that exposes mistakes in tiling and blending.

    Its result depends on the pixel, on its place in the tile and on the whole tile's content, and
    differs between overlapping tiles: a wrong weight, offset or missing tile shows.
    """

    channels: int = 1
    name: str = "reference numpy"
    device: str = "cpu"
    normalizes: bool = False

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Map each tile on its own, so that batches cannot change the result."""
        return np.stack([self._tile(tile) for tile in batch])

    def _tile(self, tile: NDArray[np.float32]) -> NDArray[np.uint16]:
        rows, cols = np.indices(tile.shape[1:], dtype=np.float64)
        place = 0.37 * rows / tile.shape[1] + 0.23 * cols / tile.shape[2]
        content = tile.astype(np.float64).mean()
        waves = [
            0.5 + 0.5 * np.sin(3 * tile[k % len(tile)].astype(np.float64) + 5 * place + 7 * content + k)
            for k in range(self.channels)
        ]
        return quantize(np.stack(waves).astype(np.float32))


_conforming: tuple[type[Predictor], ...] = (PointwisePredictor, ReferencePredictor)
