"""The committed sample is what its script makes now, and its truth lies on its buildings."""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas as gpd
import make_sample
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.enums import Compression, MaskFlags
from scenery import World

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[1] / "sample_data"


@pytest.fixture(scope="module")
def world() -> World:
    return make_sample.make_world()


@pytest.fixture(scope="module")
def truth() -> gpd.GeoDataFrame:
    return gpd.read_file(FOLDER / "buildings.gpkg", layer="buildings")


def test_the_scene_is_georeferenced_tiled_and_small() -> None:
    with rasterio.open(FOLDER / "scene.tif") as scene:
        assert (scene.height, scene.width, scene.count) == (1500, 1500, 3)
        assert scene.crs.to_epsg() == 32632
        assert scene.transform[:6] == make_sample.GRID.transform
        assert scene.block_shapes == [(512, 512)] * 3
        assert scene.compression == Compression.jpeg
        assert scene.overviews(1) == [2, 4]
        assert scene.nodata is None
    assert (FOLDER / "scene.tif").stat().st_size <= 3_000_000


def test_the_corner_is_masked_and_nothing_else() -> None:
    with rasterio.open(FOLDER / "scene.tif") as scene:
        assert scene.mask_flag_enums == ([MaskFlags.per_dataset],) * 3
        valid = scene.dataset_mask() == 255
        corner = scene.read()[:, ~valid]
    assert np.array_equal(valid, make_sample.valid_pixels())
    assert 0.85 < valid.mean() < 0.97
    assert np.median(corner) == 0


def test_the_picture_is_what_the_generator_gives_but_for_compression(world: World) -> None:
    with rasterio.open(FOLDER / "scene.tif") as scene:
        stored = scene.read().astype(np.float32)
    inside = make_sample.valid_pixels()
    difference = np.abs(stored - world.rgb)[:, inside]
    assert difference.mean() < 5
    shifted = np.abs(stored - np.roll(world.rgb, 1, axis=2))[:, inside]
    assert difference.mean() < 0.7 * shifted.mean()


def test_the_truth_is_what_the_generator_gives(world: World, truth: gpd.GeoDataFrame) -> None:
    expected = make_sample.buildings(world)
    assert list(truth.columns) == ["id", "class_name", "area_m2", "geometry"]
    assert truth.crs.to_epsg() == 32632
    assert truth["id"].tolist() == list(range(1, len(expected) + 1))
    assert set(truth["class_name"]) == {"building"}
    assert truth["area_m2"].to_numpy() == pytest.approx(shapely.area(truth.geometry.to_numpy()), abs=0.01)
    assert shapely.equals_exact(truth.geometry.to_numpy(), expected.geometry.to_numpy(), 1e-4).all()


def test_the_truth_is_valid_and_inside_the_mosaic(truth: gpd.GeoDataFrame) -> None:
    outlines = truth.geometry.to_numpy()
    assert shapely.is_valid(outlines).all()
    assert (shapely.get_type_id(outlines) == shapely.GeometryType.POLYGON).all()
    mosaic = shapely.transform(make_sample.FLIGHT_LINE, make_sample.GRID.to_crs)
    assert shapely.covers(mosaic.buffer(1e-6), outlines).all()
    assert len(truth) > 150


def test_labels_and_truth_agree_to_half_a_pixel(world: World, truth: gpd.GeoDataFrame) -> None:
    """A pixel well inside a true building is labelled, one well outside all of them is not."""
    pixels = shapely.union_all(shapely.transform(truth.geometry.to_numpy(), make_sample.GRID.to_pixels))
    cols, rows = np.meshgrid(np.arange(1500) + 0.5, np.arange(1500) + 0.5)
    inside = shapely.contains_xy(pixels.buffer(-0.5), cols, rows)
    outside = ~shapely.contains_xy(pixels.buffer(0.5), cols, rows) & make_sample.valid_pixels()
    assert (world.labels[inside] == 1).all()
    assert (world.labels[outside] == 0).all()


def test_the_script_writes_the_same_files_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_sample, "make_world", lambda _unbuilt=0.0: world)
    for name in ("first", "second"):
        monkeypatch.setattr(sys, "argv", ["make_sample.py", "--out", str(tmp_path / name)])
        make_sample.main()
    written = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert written == sorted(
        path.name for path in FOLDER.iterdir() if path.suffix in {".gpkg", ".tif", ".vrt"}
    )
    for name in written:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_the_parts_are_those_of_the_scene() -> None:
    with rasterio.open(FOLDER / "scene.tif") as scene:
        pixels, valid = scene.read(), scene.dataset_mask()
        for name, first in (("west", 0), ("east", 650)):
            with rasterio.open(FOLDER / f"{name}.vrt") as part:
                assert np.array_equal(part.read(), pixels[:, :, first : first + 850])
                assert np.array_equal(part.dataset_mask(), valid[:, first : first + 850])
                assert part.xy(0, 0) == scene.xy(0, first)


def test_the_earlier_scene_is_the_same_place_with_fewer_buildings(world: World) -> None:
    there = make_sample.EARLIER
    with rasterio.open(FOLDER / "scene.tif") as scene, rasterio.open(FOLDER / "earlier.tif") as earlier:
        now, before = scene.read(window=(there.slices)), earlier.read()
        assert earlier.xy(0, 0) == scene.xy(there.row, there.col)
    built = world.labels[there.slices] == 1
    difference = np.abs(now.astype(float) - before).mean(axis=0)
    assert np.median(difference[~built]) < 12
    assert 0.05 < (difference[built] > 30).mean() < 0.6


def test_streets_and_buildings_do_not_overlap() -> None:
    land = gpd.read_file(FOLDER / "landcover.gpkg")
    assert land["kind"].value_counts()["street"] >= 3
    streets, houses = (land.geometry[land["kind"] == kind].union_all() for kind in ("street", "building"))
    assert streets.intersection(houses).area < 1
    assert streets.area > 5_000
