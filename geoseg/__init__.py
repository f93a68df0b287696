"""Maps from pictures: large GeoTIFFs become georeferenced polygons, seamlessly.

>>> import geoseg
>>> buildings = geoseg.predict("scene.tif")  # doctest: +SKIP
"""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import GeosegError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ["GeosegError", "predict"]
__version__ = version("geoseg")


def predict(
    scene: str | os.PathLike[str],
    *,
    model: str = "buildings",
    out: str | os.PathLike[str] | None = None,
    **options: Any,
) -> GeoDataFrame:
    """Segment a scene and return its polygons.

    Parameters
    ----------
    scene : path or URL
        A raster: GeoTIFF, VRT, JPEG 2000 and others, see ``docs/predict.md``.
    model : str
        Name of a model, a model folder, or an ONNX file.
    out : path, optional
        Also keep the polygons in this file: .gpkg, .fgb, .parquet, .geojson, .geojsonl or .shp.
    **options
        Fields of `geoseg.prediction.options.PredictOptions`, such as ``threshold=0.4``.

    Returns
    -------
    GeoDataFrame
        One row a polygon: id, class, class_name, confidence (mean probability, 0 … 1), area_m2 and
        perimeter_m (geodesic), touches_edge, touches_nodata, geometry (in the scene's CRS). With
        `out`, what that file holds: GeoJSON is in EPSG:4326, a Shapefile has short column names.

    Raises
    ------
    GeosegError
        If the scene, the model or the options cannot be used, or tiles of the scene cannot be read:
        a table with holes would look complete.
    """
    import geopandas
    import pyogrio

    from geoseg.prediction.options import PredictOptions
    from geoseg.prediction.session import predict_scene
    from geoseg.vectorfiles.binary import Verbatim

    chosen = PredictOptions(model=model, **options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "polygons.gpkg" if out is None else Path(out)
        report = predict_scene(scene, path, chosen)
        if failures := report.tally.failures:
            raise GeosegError(f"{len(failures)} tiles could not be read, the first: {failures[0].reason}")
        features: GeoDataFrame
        if path.suffix.lower() == ".parquet":
            features = geopandas.read_parquet(path.absolute())
        else:
            features = pyogrio.read_dataframe(Verbatim(path), layer=0)
    return features
