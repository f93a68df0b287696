"""Promise 7: evidence on every polygon, exact across seams, against what the raster says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.features
from pyproj import Geod
from scipy import ndimage

from geoseg.testing import make_scene
from tests.runs import BRIGHT, DARK, predict

SIZE = (230, 260)
TILE = ("--tile", 64, "--overlap", 16)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Blobs of uneven brightness over many tiles, with a hole in the data."""
    random = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(random.normal(size=SIZE), 4)
    pixels = np.clip(DARK + (BRIGHT - DARK) * (0.5 + 5 * smooth), 1, 255).astype(np.uint8)
    valid = np.ones(SIZE, bool)
    valid[100:130, 90:150] = False
    return make_scene(tmp_path / "scene.tif", pixels=np.stack([pixels] * 3), validity="nodata", valid=valid)


@pytest.mark.parametrize("memory", ["auto", "530MB"])
def test_what_a_polygon_says_is_what_the_raster_says(
    scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], memory: str
) -> None:
    raster = tmp_path / "map.tif"
    options = (*TILE, "--max-memory", memory, "--raster", raster, "--raster-content", "probability-float32")
    result = predict(capfd, scene, *options)
    assert result.code == 0, result.err
    with rasterio.open(raster) as dataset:
        values, transform = dataset.read(1, masked=True), dataset.transform
    features, spheroid = result.features, Geod(ellps="WGS84")
    assert len(features) > 10
    beside_invalid = ndimage.binary_dilation(np.ma.getmaskarray(values), np.ones((3, 3)))
    edge = np.ones(SIZE, bool)
    edge[1:-1, 1:-1] = False
    lonlat = features.to_crs(4326).geometry
    for row, geometry in zip(features.itertuples(), lonlat, strict=True):
        inside = rasterio.features.geometry_mask([row.geometry], SIZE, transform, invert=True)
        assert row.confidence == pytest.approx(float(values[inside].mean()), abs=2e-5)
        area, _ = spheroid.geometry_area_perimeter(geometry)
        perimeter = sum(map(spheroid.geometry_length, (geometry.exterior, *geometry.interiors)))
        assert row.area_m2 == pytest.approx(abs(area), rel=1e-6)
        assert row.perimeter_m == pytest.approx(perimeter, rel=1e-6)
        assert row.touches_edge == bool((inside & edge).any())
        assert row.touches_nodata == bool((inside & beside_invalid).any())
        assert row.class_name == "building"
    assert {True, False} == set(features.touches_edge) == set(features.touches_nodata)


def test_where_it_comes_from_is_said(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = predict(capfd, scene, *TILE)
    metadata = pyogrio.read_info(result.path, layer=0)["layer_metadata"]
    assert metadata["geoseg_scene"] == str(scene)
    assert metadata["geoseg_model"] == result.summary["model"]
    assert metadata["geoseg_model_digest"] == result.summary["model_digest"]
    assert metadata["geoseg_plan_digest"] == result.summary["plan_digest"]
