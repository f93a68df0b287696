"""Small truths and predictions on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.evaluation import EvaluateOptions
from geoseg.evaluation.inputs import Sources
from geoseg.evaluation.result import Evaluation
from geoseg.evaluation.run import evaluate
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import GeoBox

CRS = "EPSG:32633"


def class_map(path: Path, ids: NDArray[Any], nodata: int | None = None, **options: Any) -> Path:
    """Write class ids as a raster."""
    pixels = ids.astype(np.uint8)[None]
    if nodata is None:
        return make_scene(path, pixels=pixels, **options)
    return make_scene(
        path, pixels=pixels, validity="nodata", nodata=nodata, valid=pixels[0] != nodata, **options
    )


def probabilities(path: Path, values: NDArray[Any], **options: Any) -> Path:
    """Write probabilities (bands, rows, cols) as a raster."""
    return make_scene(path, pixels=values.astype(np.float32), **options)


def boxes(*corners: tuple[float, float, float, float]) -> NDArray[np.object_]:
    """Rectangles (row, col, height, width) in pixels as polygons (col, row)."""
    return np.array([shapely.box(c, r, c + w, r + h) for r, c, h, w in corners], dtype=object)


def burned(size: tuple[int, int], *corners: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The same rectangles as pixels."""
    ids = np.zeros(size, np.uint8)
    for row, col, height, width in corners:
        ids[row : row + height, col : col + width] = 1
    return ids


def polygons(path: Path, shapes: NDArray[np.object_], crs: str = CRS, **columns: Any) -> Path:
    """Write polygons given in pixels of the grid of `make_scene`."""
    grid = GeoBox(1, 1, NORTH_UP, CRS)
    placed = shapely.transform(shapes, grid.to_crs)
    table = geopandas.GeoDataFrame(columns, geometry=placed, crs=CRS).to_crs(crs)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_file(path, engine="pyogrio")
    return path


def compare(truth: Path, prediction: Path, step: int = 2048, **options: Any) -> Evaluation:
    """Evaluate files; ``scene``, ``probability`` and ``threshold`` are sources, the rest options."""
    named = {
        name: str(options.pop(name)) for name in ("scene", "probability") if options.get(name) is not None
    }
    threshold = options.pop("threshold", None)
    sources = Sources(truth=str(truth), prediction=str(prediction), threshold=threshold, **named)
    return evaluate(sources, EvaluateOptions(**{"blocks": 15.0, **options}), step=step)[0]
