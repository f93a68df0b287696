"""Scenes of any size: the sample scene mirrored side by side, full, or a few patches on empty ground.

    python benchmarks/scenes.py scene.tif --size 24576 24576
    python benchmarks/scenes.py strip.tif --size 4000 200000
    python benchmarks/scenes.py sparse.tif --size 200000 200000 --filled 0.02
    python benchmarks/scenes.py scene.tif --size 4096 4096 --truth truth.gpkg

The same call writes the same pixels. Scenes are written strip by strip; of sparse ones only the
patches are written at all.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

SAMPLE = Path(__file__).resolve().parents[1] / "sample_data"
STRIP = 512
"""Rows written at a time: those of a row of the file's tiles."""
PATCH = 4096
"""Side of a filled patch of a sparse scene, a multiple of the file's tiles."""


@cache
def _sample() -> tuple[NDArray[np.uint8], dict[str, object]]:
    """Return the sample with its nodata corner filled by the opposite one, mirrored to 2 × 2."""
    with rasterio.open(SAMPLE / "scene.tif") as dataset:
        pixels, profile = dataset.read(), dict(dataset.profile)
        valid = dataset.dataset_mask() > 0
    pixels = np.where(valid, pixels, pixels[:, ::-1, ::-1])
    twice = np.concatenate([pixels, pixels[:, :, ::-1]], axis=2)
    return np.concatenate([twice, twice[:, ::-1]], axis=1), profile


def pixels(row: int, col: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return a window of the endless mirrored scene, shape (3, height, width)."""
    whole, _ = _sample()
    rows, cols = (
        np.arange(start, start + size) % whole.shape[1] for start, size in ((row, height), (col, width))
    )
    return whole[:, rows[:, None], cols]


@contextlib.contextmanager
def _created(path: Path, height: int, width: int, **creation: object) -> Iterator[rasterio.io.DatasetWriter]:
    size = {"height": height, "width": width, "bigtiff": "IF_SAFER", "jpeg_quality": 90}
    profile = {**_sample()[1], **size, **creation}
    with (
        rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_CACHEMAX=256),
        rasterio.open(path, "w", **profile) as target,
    ):
        yield target


def make_scene(path: Path, height: int, width: int) -> Path:
    """Write a tiled JPEG GeoTIFF of `height` × `width` pixels at 0.3 m, all of them valid.

    Every second repetition is mirrored, so that no building is cut at a joint.
    """
    step = 16 * STRIP
    with _created(path, height, width) as target:
        for row in range(0, height, STRIP):
            for col in range(0, width, step):
                rows, cols = min(STRIP, height - row), min(step, width - col)
                target.write(pixels(row, col, rows, cols), window=Window(col, row, cols, rows))
        target.build_overviews([4, 16], Resampling.average)
    return path


def make_sparse_scene(path: Path, height: int, width: int, filled: float, patch: int = PATCH) -> Path:
    """Write a GeoTIFF of which only a share is in the file; the rest is nodata and takes no room.

    Parameters
    ----------
    filled : float
        Share of the scene in square patches, 0 … 1; as many whole patches as come closest.
    patch : int
        Side of a patch in pixels, a multiple of 512.
    """
    with _created(path, height, width, nodata=0, sparse_ok=True) as target:
        for row, col in patches(height, width, filled, patch):
            for top in range(row, min(row + patch, height), STRIP):
                rows, cols = min(STRIP, height - top), min(patch, width - col)
                # 0 in all bands would be nodata in the midst of a patch.
                strip = np.maximum(pixels(top, col, rows, cols), 8)
                target.write(strip, window=Window(col, top, cols, rows))
    return path


def patches(height: int, width: int, filled: float, patch: int = PATCH) -> list[tuple[int, int]]:
    """Return row and column of the filled patches: the same places for the same arguments."""
    down, across = -(-height // patch), -(-width // patch)
    count = min(round(filled * height * width / patch**2), down * across)
    chosen = np.random.default_rng(0).permutation(down * across)[:count]
    return [(int(place) // across * patch, int(place) % across * patch) for place in np.sort(chosen)]


def true_outlines(height: int, width: int) -> NDArray[np.object_]:
    """Return the buildings of the scene that `make_scene` writes as polygons in pixels (col, row).

    Those that a joint mirrors onto themselves are one building.
    """
    with rasterio.open(SAMPLE / "scene.tif") as dataset:
        side, to_pixels, corner = dataset.width, ~dataset.transform, _corner(dataset)
    table = geopandas.read_file(SAMPLE / "buildings.gpkg")
    known = shapely.transform(table.geometry.to_numpy(), lambda xy: np.column_stack(to_pixels @ xy.T))
    rotated = shapely.intersection(shapely.transform(known, lambda xy: side - xy), corner)
    once = np.concatenate([known, rotated])
    everywhere = [
        shapely.transform(once, partial(_mirrored, row=i, col=j, side=side))
        for i in range(-(-height // side))
        for j in range(-(-width // side))
    ]
    clipped = shapely.intersection(np.concatenate(everywhere), shapely.box(0, 0, width, height))
    joined = np.asarray(shapely.get_parts(shapely.union_all(clipped, grid_size=1e-3)))
    polygons = shapely.get_type_id(joined) == shapely.GeometryType.POLYGON
    return np.asarray(joined[polygons & (shapely.area(joined) > 1)])


def true_buildings(height: int, width: int) -> geopandas.GeoDataFrame:
    """Return `true_outlines` in the scene's CRS."""
    with rasterio.open(SAMPLE / "scene.tif") as dataset:
        transform, crs = dataset.transform, dataset.crs
    placed = shapely.transform(true_outlines(height, width), lambda xy: np.column_stack(transform @ xy.T))
    return geopandas.GeoDataFrame(geometry=placed, crs=crs)


def _mirrored(points: NDArray[np.float64], row: int, col: int, side: int) -> NDArray[np.float64]:
    """Move points (col, row) of the sample into a repetition of it."""
    x, y = points[:, 0], points[:, 1]
    return np.column_stack(
        [col * side + (side - x if col % 2 else x), row * side + (side - y if row % 2 else y)]
    )


def _corner(dataset: rasterio.io.DatasetReader) -> shapely.Geometry:
    """Return the invalid part of the sample in pixels (col, row)."""
    from rasterio.features import shapes

    invalid = (dataset.dataset_mask() == 0).astype(np.uint8)
    return shapely.union_all([shapely.geometry.shape(one) for one, value in shapes(invalid) if value])


def main() -> None:
    """Write one scene."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("ROWS", "COLS"))
    parser.add_argument(
        "--filled", type=float, help="share that is not empty, 0 … 1; default: no empty ground"
    )
    parser.add_argument("--truth", type=Path, metavar="FILE", help="also write the true buildings")
    options = parser.parse_args()
    rows, cols = options.size
    if options.filled is None:
        make_scene(options.path, rows, cols)
    else:
        make_sparse_scene(options.path, rows, cols, options.filled)
    if options.truth is not None:
        true_buildings(rows, cols).to_file(options.truth)


if __name__ == "__main__":
    main()
