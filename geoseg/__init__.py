"""Maps from pictures: large GeoTIFFs become georeferenced polygons, seamlessly.

>>> import geoseg
>>> buildings = geoseg.predict("scene.tif")  # doctest: +SKIP
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import GeosegError, InvalidOption

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from pandas import DataFrame

__all__ = ["GeosegError", "batch", "predict"]
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
        Also keep the polygons in this file: .gpkg, .fgb, .parquet, .geojson, .geojsonl, .shp or .pmtiles.
    **options
        Fields of `geoseg.prediction.options.PredictOptions`, such as ``threshold=0.4``; None is the default.
        ``aoi`` may also be a GeoDataFrame or GeoSeries with a CRS, or a shapely geometry in the scene's.

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

    from geoseg.options import named_as_in_python
    from geoseg.prediction.options import PredictOptions
    from geoseg.prediction.session import predict_scene
    from geoseg.vectorfiles.binary import Verbatim

    _check_path(scene, "scene must be one path or URL", "; for many: geoseg.batch")
    if out is not None:
        _check_path(out, "out must be a path")
    with (
        tempfile.TemporaryDirectory() as folder,
        named_as_in_python({*PredictOptions.model_fields, *options}),
    ):
        if options.get("aoi") is not None and not isinstance(options["aoi"], str | os.PathLike):
            options["aoi"] = _kept_area(options["aoi"], scene, Path(folder) / "aoi.parquet")
        chosen = PredictOptions(model=model, **options)
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


def _kept_area(area: Any, scene: str | os.PathLike[str], path: Path) -> Path:
    """Write an area of interest that is no file to one; a geometry alone is in the scene's CRS."""
    import geopandas
    import shapely

    if isinstance(area, shapely.Geometry):
        from geoseg.raster.scene import close_scene, open_scene

        opened = open_scene(scene)
        close_scene(opened)
        area = geopandas.GeoSeries([area], crs=opened.geobox.crs)
    if not isinstance(area, geopandas.GeoSeries | geopandas.GeoDataFrame):
        raise InvalidOption(
            f"aoi must be a path, a GeoDataFrame, a GeoSeries or a geometry, not {_kind(area)}"
        )
    if area.crs is None:
        raise InvalidOption("aoi has no CRS; give it one: aoi.set_crs(...)")
    geopandas.GeoDataFrame(geometry=area.geometry).to_parquet(path)
    return path


def _check_path(value: object, wanted: str, advice: str = "") -> None:
    if not isinstance(value, str | os.PathLike):
        raise InvalidOption(f"{wanted}, not {_kind(value)}{advice}")


def _kind(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"{len(value)} in a {type(value).__name__}"
    return " ".join(repr(value).split())[:60]


def batch(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    client: Any = None,
    **options: Any,
) -> DataFrame:
    """Segment many scenes into a folder, and return what became of each.

    What an earlier call has done is not done again.

    Parameters
    ----------
    sources : path, or sequence of paths
        Scenes, folders, patterns, lists: see ``docs/archives.md``.
    out : path
        Folder of the results, a file a scene.
    client : distributed.Client, optional
        Of a cluster to work on; it stays open. Otherwise one is started on this machine: call this below
        ``if __name__ == "__main__":``.
    **options
        Fields of `geoseg.archive.options.BatchOptions`, of `geoseg.archive.options.SelectOptions`, and of
        `geoseg.prediction.options.PredictOptions`.

    Returns
    -------
    DataFrame
        One row a scene, by name: location, state (done, partial, failed, quarantined), reason, seconds,
        features, coverage, files and more, see `geoseg.archive.manifest.Result`.

    Raises
    ------
    GeosegError
        If a source, the folder or the options cannot be used, or no scene can be done any more. Scenes that
        failed are no error: look at ``state``.
    """
    import pandas

    from geoseg.archive.manifest import Result
    from geoseg.archive.options import BatchOptions, SelectOptions
    from geoseg.archive.run import run_batch
    from geoseg.options import named_as_in_python
    from geoseg.prediction.options import PredictOptions

    named = [sources] if isinstance(sources, str) or not isinstance(sources, Iterable) else list(sources)
    for one in named:
        _check_path(one, "sources must be paths")
    _check_path(out, "out must be a path")
    paths = [os.fspath(one) for one in named]
    kinds = (BatchOptions, SelectOptions, PredictOptions)
    with named_as_in_python({"out", *options, *(name for kind in kinds for name in kind.model_fields)}):
        run = BatchOptions(**_taken(options, BatchOptions))
        select = SelectOptions(**_taken(options, SelectOptions))
        summary = run_batch(paths, Path(out), PredictOptions(**options), run, select, client=client)
    columns = [one.name for one in fields(Result)]
    return pandas.DataFrame(map(asdict, summary.results), columns=columns).set_index("name")


def _taken(options: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Take out the options of one kind."""
    return {name: options.pop(name) for name in kind.model_fields if name in options}
