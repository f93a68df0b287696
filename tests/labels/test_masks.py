"""Masks on any grid: the pixel under a pixel's centre, whatever the window, the CRS and the size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.labels.classes import UNKNOWN, ClassTable
from geoseg.labels.masks import open_mask
from geoseg.labels.places import carry, pixel_centers
from geoseg.labels.polygons import is_vector
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import GeoBox

TABLE = ClassTable.named({1: "building", 2: "road"})
IDS = np.random.default_rng(0).integers(0, 3, (60, 80)).astype(np.uint8)
UTM = GeoBox(60, 80, NORTH_UP, "EPSG:32633")


def mask_of(path: Path, values: np.ndarray = IDS, **options: object):
    make_scene(path, pixels=values[None], **options)
    return open_mask(path, TABLE, {}, "mask_values")


@settings(max_examples=30)
@given(st.integers(-5, 50), st.integers(-5, 50), st.integers(1, 40), st.integers(1, 40))
def test_a_window_is_a_part_of_the_whole(tmp_path_factory, row, col, height, width) -> None:
    mask = mask_of(tmp_path_factory.mktemp("mask") / "m.tif")
    coarse = GeoBox(65, 65, (0.6, 0, NORTH_UP[2], 0, -0.6, NORTH_UP[5]), "EPSG:32633")
    whole = mask.over(coarse, (-5, -5, 60, 60), (65, 65))
    part = mask.over(coarse, (col, row, col + width, row + height), (height, width))
    inside = part[: max(0, 60 - row), : max(0, 60 - col)]
    assert np.array_equal(inside, whole[row + 5 :, col + 5 :][: inside.shape[0], : inside.shape[1]])


def test_a_grid_of_half_the_pixels_reads_the_right_lower_pixel_of_each_four(tmp_path) -> None:
    mask = mask_of(tmp_path / "m.tif")
    coarse = UTM.resized(30, 40)
    found = mask.over(coarse, (0, 0, 40, 30), (30, 40))
    assert np.array_equal(found, IDS[1::2, 1::2])
    fine = mask.over(UTM, (0, 0, 80, 60), (120, 160))
    assert np.array_equal(fine, np.kron(IDS, np.ones((2, 2))))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3031", "EPSG:3413"])
@pytest.mark.parametrize("place", [(15.0, 45.0), (179.9999, -17.0), (10.0, 89.9995), (0.0, -89.9995)])
def test_interpolated_centres_are_where_the_exact_ones_are(crs: str, place: tuple[float, float]) -> None:
    """Near a pole and across the antimeridian too, where a lattice of exact points is no help."""
    west_south = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*place)
    if crs == "EPSG:3857" and abs(place[1]) > 85:
        return
    step = 1e-5 if crs == "EPSG:4326" else 1.0
    grid = GeoBox(100, 100, (step, 0, west_south[0], 0, -step, west_south[1]), crs)
    zone = 32661 if place[1] > 84 else 32761 if place[1] < -80 else 32633 if place[0] < 100 else 32760
    x, y = pyproj.Transformer.from_crs(crs, zone, always_xy=True).transform(*west_south)
    target = GeoBox(100, 100, (1, 0, x - 50, 0, -1, y + 50), f"EPSG:{zone}")
    cols, rows = pixel_centers((0, 0, 100, 100), (100, 100), grid, target)
    col, row = np.meshgrid(np.arange(100) + 0.5, np.arange(100) + 0.5)
    exact = carry(np.column_stack([col.ravel(), row.ravel()]), grid, target)
    known = np.isfinite(exact).all(axis=1)
    assert known.any()
    assert np.abs(cols.ravel() - exact[:, 0])[known].max() < 0.1
    assert np.abs(rows.ravel() - exact[:, 1])[known].max() < 0.1


def test_nodata_says_nothing_unless_it_is_given_a_meaning(tmp_path) -> None:
    path = tmp_path / "m.tif"
    make_scene(path, pixels=IDS[None], validity="nodata", valid=IDS != 0, nodata=0)
    read = {
        name: open_mask(path, TABLE, values, "x", zero=zero).read(UTM.window)
        for name, (values, zero) in {"no": ({}, False), "named": ({0: 0}, False), "zero": ({}, True)}.items()
    }
    assert np.array_equal(read["no"], np.where(IDS == 0, UNKNOWN, IDS.astype(int)))
    assert np.array_equal(read["named"], IDS)
    assert np.array_equal(read["zero"], IDS)


def test_255_is_the_only_class_else_unknown(tmp_path) -> None:
    path = make_scene(tmp_path / "m.tif", pixels=(IDS // 2 * 255)[None])
    one = ClassTable.named({7: "roof"})
    assert set(np.unique(open_mask(path, one, None, "x").read(UTM.window))) == {0, 7}
    assert set(np.unique(open_mask(path, TABLE, None, "x").read(UTM.window))) == {0, UNKNOWN}
    with pytest.raises(InvalidOption, match="value 255, which is no class; x knows 0, 1, 2"):
        open_mask(path, TABLE, {}, "x").read(UTM.window)


def test_a_picture_is_no_mask(tmp_path) -> None:
    path = make_scene(tmp_path / "rgb.tif", pixels=np.stack([IDS] * 3))
    with pytest.raises(InvalidOption, match=r"rgb\.tif: has 3 bands, which is a picture"):
        open_mask(path, TABLE, None, "x")


@pytest.mark.parametrize(
    ("name", "content", "vector"),
    [
        ("a.tif", b"II*\0", False),
        ("a.geojson", b"II*\0", False),
        ("a.tif", b"fgb\x03fgb\0" + b"\0" * 8, True),
        ("a.csv", b"wkt,kind", True),
        ("a.tif", b"nothing that is known", False),
        ("a.gpkg", b"nothing that is known", True),
        ("a.vrt", b"<VRTDataset/>", False),
    ],
)
def test_polygons_or_a_mask_by_what_is_in_the_file(tmp_path, name, content, vector) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_vector(tmp_path / name) is vector


def test_what_is_not_there_goes_by_its_name() -> None:
    assert is_vector("nowhere.gpkg")
    assert not is_vector("nowhere.tif")
    assert not is_vector("https://example.org/a.gpkg")
