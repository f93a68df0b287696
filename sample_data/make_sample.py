"""Make the sample scene and what belongs to it: ``python sample_data/make_sample.py --out FOLDER``.

Writes ``scene.tif``, a synthetic aerial mosaic with a slanted edge; ``buildings.gpkg``, the footprints
that are in it, and ``landcover.gpkg``, these and the streets; ``earlier.tif``, a part of the place when it
had fewer buildings; ``west.vrt`` and ``east.vrt``, two overlapping parts. Everything follows from one seed.
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
from geoseg.values import GeoBox, Window

SEED = 5
DISTRICTS = ("suburb", "village", "industry", "farmland")
GRID = GeoBox(1500, 1500, (0.3, 0.0, 681_240.0, 0.0, -0.3, 5_362_470.0), "EPSG:32632")
FLIGHT_LINE = shapely.Polygon([(0, 0), (1185, 0), (1500, 610), (1500, 1500), (0, 1500)])
"""What the mosaic covers, in pixels; the corner beyond is nodata."""


EARLIER = Window(800, 300, 512, 512)
"""The part of the grid that was photographed before."""
PART = 850
"""Columns of each of two parts that overlap."""


def make_world(unbuilt: float = 0.0) -> World:
    """Return the sample's world, as yet without its nodata corner and some of its buildings."""
    return render_world(
        SEED, GRID.height, GRID.width, GRID.transform[0], districts=DISTRICTS, unbuilt=unbuilt
    )


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


def land_cover(world: World) -> gpd.GeoDataFrame:
    """Return buildings and the streets between them, in the column ``kind``."""
    streets = shapely.intersection(shapely.union_all(world.streets), FLIGHT_LINE)
    streets = shapely.difference(streets, shapely.union_all(world.footprints))
    houses = buildings(world).geometry
    outlines = shapely.transform(shapely.get_parts(streets), GRID.to_crs)
    kinds = ["building"] * len(houses) + ["street"] * len(outlines)
    return gpd.GeoDataFrame({"kind": kinds}, geometry=[*houses, *outlines], crs=GRID.crs)


def write_scene(path: Path, rgb: NDArray[np.uint8], valid: NDArray[np.bool_], window: Window) -> None:
    """Write a picture as a cloud-optimized GeoTIFF: JPEG, overviews, nodata as an internal mask."""
    (left, top), (a, b, _, d, e, _) = GRID.to_crs(np.array([[window.col, window.row]]))[0], GRID.transform
    place = rasterio.Affine(a, b, left, d, e, top)
    profile = {"driver": "GTiff", "height": window.height, "width": window.width, "count": 3}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(**profile, dtype="uint8", crs=GRID.crs, transform=place, photometric="RGB") as scene:
            scene.write((rgb * valid)[:, *window.slices])
            scene.write_mask(valid[window.slices])
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


def write_part(path: Path, scene: Path, first: int) -> None:
    """Write a VRT of `PART` columns of the scene, which lies beside it."""
    with rasterio.open(scene) as dataset, replacing(path) as temporary:
        rasterio.shutil.copy(dataset, temporary, driver="VRT")
        text = temporary.read_text("utf-8").replace('rasterXSize="1500"', f'rasterXSize="{PART}"')
        text = text.replace('<DstRect xOff="0"', f'<DstRect xOff="{-first}"')
        left = GRID.transform[2]
        temporary.write_text(
            text.replace(f"{left:.16e}", f"{left + first * GRID.transform[0]:.16e}"), "utf-8"
        )


def write_polygons(path: Path, frame: gpd.GeoDataFrame) -> None:
    """Write a GeoPackage with a layer called like the file; its date is fixed, so are its bytes."""
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2026-01-01T00:00:00.000Z"})
    try:
        with replacing(path) as temporary:
            frame.to_file(temporary, layer=path.stem, driver="GPKG", engine="pyogrio")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def main() -> None:
    """Write all files into the folder that ``--out`` names."""
    parser = argparse.ArgumentParser(description="Make geoseg's sample scene and its true buildings.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    world, valid = make_world(), valid_pixels()
    write_scene(folder / "scene.tif", world.rgb, valid, GRID.window)
    write_scene(folder / "earlier.tif", make_world(0.2).rgb, valid, EARLIER)
    write_polygons(folder / "buildings.gpkg", buildings(world))
    write_polygons(folder / "landcover.gpkg", land_cover(world))
    write_part(folder / "west.vrt", folder / "scene.tif", 0)
    write_part(folder / "east.vrt", folder / "scene.tif", GRID.width - PART)


if __name__ == "__main__":
    main()
