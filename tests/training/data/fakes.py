"""Small scenes with labels on disk, for the tests of the data that training sees."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from PIL import Image

from geoseg.labels.footprints import Footprints
from geoseg.raster.scene import open_scene
from geoseg.testing import make_scene
from geoseg.training.data.ground import PictureGround, SceneGround
from geoseg.values import GeoBox

UTM = "EPSG:32633"


def write_polygons(
    path: Path,
    boxes: Sequence[tuple[float, float, float, float]],
    scene: GeoBox,
    *,
    crs: str | None = UTM,
    **columns: Any,
) -> Path:
    """Write rectangles, given in pixels of a scene (left, top, right, bottom), in any CRS."""
    polygons = [shapely.box(*box) for box in boxes]
    placed = [shapely.transform(polygon, scene.to_crs) for polygon in polygons]
    if crs not in {UTM, None}:
        forward = pyproj.Transformer.from_crs(UTM, crs, always_xy=True)
        placed = [
            shapely.transform(
                shapely.segmentize(polygon, 1.0), lambda xy: np.column_stack(forward.transform(*xy.T))
            )
            for polygon in placed
        ]
    write(path, placed, crs, **columns)
    return path


def write(path: Path, geometries: Sequence[Any], crs: str | None, **columns: Any) -> Path:
    """Write geometries as they are."""
    frame = geopandas.GeoDataFrame(columns, geometry=list(geometries), crs=crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            frame.to_file(path)
    return path


def picture(
    rows: int = 40, cols: int = 60, gsd_m: float = 0.3, building: bool = True, source: str = "town"
) -> PictureGround:
    """Return a picture whose first band tells where the labels are a building."""
    labels = np.zeros((rows, cols), np.uint8)
    if building:
        labels[rows // 4 : rows // 2, cols // 4 : cols // 2] = 1
    pixels = np.stack([labels * 255, labels * 0, labels * 0 + 9])
    return PictureGround(source, f"{source}_{rows}", (gsd_m, gsd_m), pixels, labels)


def ground(path: Path, pixels: NDArray[np.uint8] | None = None, **options: Any) -> SceneGround:
    """Return a scene whose labels are one house in the middle."""
    scene = open_scene(make_scene(path, pixels=pixels, **options))
    height, width = scene.geobox.shape
    house = shapely.box(width * 0.12, height * 0.12, width * 0.18, height * 0.18)
    labels = Footprints(np.array([house]), np.ones(1, np.uint8), (0.3, 0.3))
    bands = tuple(band.index for band in scene.bands)
    return SceneGround(
        path.stem, path.stem, scene, bands, None, (0.3, 0.3), labels, labels.spots, scene.geobox.window
    )


def write_chips(folder: Path, chips: dict[str, tuple[NDArray[Any], NDArray[Any]]], **columns: str) -> Path:
    """Write pictures (rows, cols, 3) and masks by ``source/stem``, with their index."""
    rows = []
    for name, (image, mask) in chips.items():
        source, stem = name.split("/")
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{stem}.tif")
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"{stem}.png")
        files = {"image": f"{stem}.tif", "mask": f"{stem}.png"}
        rows.append({"source": source, "stem": stem, **files, "gsd_m": "0.3", **columns})
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "index.csv"
