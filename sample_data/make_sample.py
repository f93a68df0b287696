"""Make the sample scene and its true buildings: ``python sample_data/make_sample.py --out FOLDER``.

Writes ``scene.tif``, a synthetic aerial mosaic with a slanted edge, and ``buildings.gpkg``, the
footprints that are in it. Everything follows from one seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
import rasterio.shutil
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.io import MemoryFile
from scenery import World, render_world

from geoseg.files import replacing
from geoseg.values import GeoBox

SEED = 5
DISTRICTS = ("suburb", "village", "industry", "farmland")
GRID = GeoBox(1500, 1500, (0.3, 0.0, 681_240.0, 0.0, -0.3, 5_362_470.0), "EPSG:32632")
FLIGHT_LINE = shapely.Polygon([(0, 0), (1185, 0), (1500, 610), (1500, 1500), (0, 1500)])
"""What the mosaic covers, in pixels; the corner beyond is nodata."""


def make_world() -> World:
    """Return the sample's world, as yet without its nodata corner."""
    return render_world(SEED, GRID.height, GRID.width, GRID.transform[0], districts=DISTRICTS)


def valid_pixels() -> NDArray[np.bool_]:
    """Return which pixels the mosaic covers, shape (rows, cols)."""
    return np.asarray(rasterize([FLIGHT_LINE], out_shape=(GRID.height, GRID.width), dtype=np.uint8) == 1)


def buildings(world: World) -> gpd.GeoDataFrame:
    """Return the footprints inside the mosaic in the scene's CRS."""
    clipped = shapely.intersection(np.array(world.footprints, dtype=object), FLIGHT_LINE)
    pieces = [
        piece for piece in shapely.get_parts(clipped) if piece.geom_type == "Polygon" and piece.area > 1
    ]
    outlines = shapely.transform(pieces, GRID.to_crs)
    columns = {
        "id": np.arange(1, len(outlines) + 1),
        "class_name": ["building"] * len(outlines),
        "area_m2": np.round(shapely.area(outlines), 2),
    }
    return gpd.GeoDataFrame(columns, geometry=outlines, crs=GRID.crs)


def write_scene(path: Path, world: World) -> None:
    """Write the picture as a cloud-optimized GeoTIFF: JPEG, overviews, nodata as an internal mask."""
    valid = valid_pixels()
    profile = {"driver": "GTiff", "height": GRID.height, "width": GRID.width, "count": 3, "dtype": "uint8"}
    place = {"crs": GRID.crs, "transform": rasterio.Affine(*GRID.transform)}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(**profile, **place, photometric="RGB") as scene:
            scene.write(world.rgb * valid)
            scene.write_mask(valid)
        with replacing(path) as temporary, memory.open() as scene:
            rasterio.shutil.copy(
                scene,
                temporary,
                driver="COG",
                COMPRESS="JPEG",
                QUALITY=90,
                BLOCKSIZE=512,
                RESAMPLING="AVERAGE",
            )


def write_buildings(path: Path, frame: gpd.GeoDataFrame) -> None:
    """Write the footprints as layer ``buildings`` of a GeoPackage; its date is fixed, so are its bytes."""
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2026-01-01T00:00:00.000Z"})
    try:
        with replacing(path) as temporary:
            frame.to_file(temporary, layer="buildings", driver="GPKG", engine="pyogrio")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def main() -> None:
    """Write both files into the folder that ``--out`` names."""
    parser = argparse.ArgumentParser(description="Make geoseg's sample scene and its true buildings.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    world = make_world()
    write_scene(folder / "scene.tif", world)
    write_buildings(folder / "buildings.gpkg", buildings(world))


if __name__ == "__main__":
    main()
