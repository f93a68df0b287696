"""Rasters of any tool become polygons: the same ones whatever the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from geoseg.cli import run
from geoseg.errors import InvalidOption, UnwritableOutput
from geoseg.prediction import vectorize as module
from geoseg.prediction.classraster import VectorizeOptions
from geoseg.prediction.vectorize import vectorize
from geoseg.testing import assert_same_polygons
from tests.runs import picture, predict
from tests.vector.fields import corners
from tests.vector.test_overlaps import overlapping

TRANSFORM = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def write(path: Path, values: NDArray[Any], tags: dict[str, str] | None = None, **profile: Any) -> Path:
    values = values.reshape(-1, *values.shape[-2:])
    shape = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(
        path, "w", "GTiff", dtype=values.dtype, crs="EPSG:32633", transform=TRANSFORM, **shape, **profile
    ) as file:
        file.write(values)
        file.update_tags(**(tags or {}))
    return path


def class_map(shape: tuple[int, int], seed: int, count: int) -> NDArray[np.uint8]:
    small = np.random.default_rng(seed).integers(0, count + 1, (shape[0] // 4 + 1, shape[1] // 4 + 1))
    return np.kron(small, np.ones((4, 4))).astype(np.uint8)[: shape[0], : shape[1]]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(9, 70), st.integers(9, 70)),
    seed=st.integers(0, 99),
    count=st.integers(1, 4),
    outline=st.sampled_from(["pixel", "smooth"]),
)
def test_a_class_map_gives_its_regions_in_any_blocks(
    tmp_path: Path, shape: tuple[int, int], seed: int, count: int, outline: Any
) -> None:
    ids = class_map(shape, seed, count)
    raster = write(tmp_path / "ids.tif", ids)
    options = VectorizeOptions(outline=outline, simplify=0, overwrite=True, min_hole=0)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILE", 16)
        for side in (16, 2048):
            patch.setattr(module, "SIDES", (side, 1024))
            vectorize(raster, tmp_path / "out.gpkg", options)
            found[side] = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="out")
    one, other = found.values()
    assert one.drop(columns="geometry").equals(other.drop(columns="geometry"))
    assert one.geometry.to_wkb().tolist() == other.geometry.to_wkb().tolist()
    assert one["id"].is_monotonic_increasing
    if outline == "pixel":
        expected = [
            (value, shapely.geometry.shape(geometry))
            for geometry, value in rasterio.features.shapes(ids, connectivity=4, transform=TRANSFORM)
            if value > 0
        ]
        assert_same_polygons(zip(one["class"], map(corners, one.geometry), strict=True), expected)
    assert shapely.coverage_is_valid(one.geometry.to_numpy())


def test_probabilities_that_geoseg_wrote_give_its_own_polygons(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = picture((10, 10, 30, 40), (60, 20, 8, 8))
    raster = tmp_path / "p.tif"
    scene = write(tmp_path / "scene.tif", image)
    options = ("--raster-content", "probability-float32", "--outline", "smooth", "--min-area", "4")
    ours = predict(capfd, scene, "--raster", raster, *options, "--tile", "64").features
    report = vectorize(raster, tmp_path / "again.gpkg", VectorizeOptions(min_area=4))
    again = pyogrio.read_dataframe(tmp_path / "again.gpkg", layer="again")
    assert (report.content, report.classes, report.features) == ("probability", ("building",), len(ours))
    assert_same_polygons(again, ours)
    assert again["id"].tolist() == ours["id"].tolist()
    assert np.allclose(again["confidence"], ours["confidence"], atol=1e-4)


def test_bytes_are_shares_of_255_or_what_the_scale_says(tmp_path: Path) -> None:
    values = np.zeros((40, 40), np.uint8)
    values[10:20, 10:20] = 200
    raster = write(tmp_path / "p.tif", values)
    for scale, threshold, count in (("auto", 0.7, 1), ("auto", 0.8, 0), (1 / 200, 0.99, 1)):
        options = VectorizeOptions(content="probability", scale=scale, threshold=threshold, overwrite=True)
        assert vectorize(raster, tmp_path / "out.gpkg", options).features == count


def test_objects_of_one_class_are_regularized_and_do_not_overlap(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    values = np.zeros((200, 200), np.float32)
    for row, col in random.integers(0, 180, (40, 2)):
        values[row : row + 12, col : col + 14] = 1
    noisy = np.clip(values * 0.8 + 0.1 + random.normal(0, 0.02, values.shape), 0, 1).astype(np.float32)
    report = vectorize(
        write(tmp_path / "p.tif", noisy),
        tmp_path / "out.geojson",
        VectorizeOptions(regularize=True, min_area=5, max_deviation=1),
    )
    found = pyogrio.read_dataframe(tmp_path / "out.geojson")
    assert report.features == len(found) > 5
    assert found["regularized"].mean() > 0.5
    assert overlapping(found.geometry.to_numpy()) == 0


def test_names_colours_and_the_background_come_from_file_or_option(tmp_path: Path) -> None:
    ids = class_map((30, 30), 3, 3)
    raster = write(tmp_path / "ids.tif", ids, {"CLASS_1": "wood", "CLASS_2": "water"}, nodata=0)
    vectorize(raster, tmp_path / "a.gpkg", VectorizeOptions())
    found = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="a")
    assert set(found["class_name"]) == {"wood", "water"}
    assert not found["touches_nodata"].any()
    options = VectorizeOptions(classes="3=road,1=forest", colors="3=ff0000", nodata=1)
    vectorize(raster, tmp_path / "b.gpkg", options)
    found = pyogrio.read_dataframe(tmp_path / "b.gpkg", layer="b")
    assert set(found["class_name"]) == {"road"}
    assert found["touches_nodata"].any()
    style = pyogrio.read_dataframe(tmp_path / "b.gpkg", layer="layer_styles")["styleQML"][0]
    assert "255,0,0" in style


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"band": 2}, "--band 2"),
        ({"split": "touching"}, "--split"),
        ({"threshold": 0.7}, "--threshold 0.7: .* holds class ids; give --content probability"),
        ({"content": "class", "scale": 0.1}, "--scale 0.1: .* holds class ids; give --content probability"),
        ({"content": "probability", "classes": "1=a,7=b"}, "--classes 1=a,7=b: .* of 1$"),
        ({"colors": "1=red"}, "--colors"),
        ({"classes": "house"}, "--classes"),
        ({"classes": "1=a,2=b", "regularize": True}, "--regularize"),
        ({"max_deviation": 2.0}, "--max-deviation 2: nothing is regularized; give --regularize"),
        ({"max_memory": "50MB"}, "at least"),
        ({"content": "probability", "scale": 1}, "--scale"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    raster = write(tmp_path / "ids.tif", class_map((30, 30), 3, 3))
    with pytest.raises(InvalidOption, match=words):
        vectorize(raster, tmp_path / "out.gpkg", VectorizeOptions(**options))
    assert [path.name for path in tmp_path.iterdir()] == ["ids.tif"]


def test_whole_fractional_numbers_are_ids(tmp_path: Path) -> None:
    ids = class_map((30, 30), 3, 3)
    found = []
    for number, dtype in enumerate((np.uint8, np.float32)):
        raster = write(tmp_path / f"{number}.tif", ids.astype(dtype), nodata=2)
        vectorize(raster, tmp_path / f"{number}.gpkg", VectorizeOptions(content="class"))
        found.append(pyogrio.read_dataframe(tmp_path / f"{number}.gpkg", layer=str(number)))
    assert set(found[0]["class"]) == {1, 3}
    assert found[0].equals(found[1])


def test_numbers_of_objects_are_no_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "numbers.tif", np.arange(64, dtype=np.uint32).reshape(8, 8), {"CLASS_1": "house"})
    with rasterio.open(path, "r+") as dataset:
        dataset.set_band_description(1, "instance")
    with pytest.raises(InvalidOption, match="its values number objects"):
        vectorize(path, tmp_path / "out.gpkg", VectorizeOptions())


def test_pictures_are_no_class_maps(tmp_path: Path) -> None:
    path = write(tmp_path / "rgb.tif", np.ones((3, 8, 8), np.uint8))  # GDAL calls three bands of bytes RGB
    with pytest.raises(InvalidOption, match="is a picture, no class map; give --band 1"):
        vectorize(path, tmp_path / "out.gpkg", VectorizeOptions())
    assert vectorize(path, tmp_path / "out.gpkg", VectorizeOptions(band=1)).features == 1


def test_nodata_is_added_to_that_of_the_file(tmp_path: Path) -> None:
    ids = class_map((30, 30), 3, 3)
    ids[:5] = 255
    raster = write(tmp_path / "ids.tif", ids, nodata=255)
    assert vectorize(raster, tmp_path / "o.gpkg", VectorizeOptions(nodata=2)).classes == (
        "class 1",
        "class 3",
    )


def test_classes_name_and_choose_bands_of_probabilities(tmp_path: Path) -> None:
    values = np.zeros((2, 30, 30), np.float32)
    values[0, :, :10], values[1, :, 10:20] = 0.9, 0.8
    raster = write(tmp_path / "p.tif", values)
    for number, (classes, ids) in enumerate((("2=road", [2]), ("4=road,9=house", [4, 9]), (None, [1, 2]))):
        vectorize(raster, tmp_path / f"{number}.gpkg", VectorizeOptions(classes=classes))
        found = pyogrio.read_dataframe(tmp_path / f"{number}.gpkg", layer=str(number))
        assert sorted(found["class"]) == ids
    assert vectorize(raster, tmp_path / "b.gpkg", VectorizeOptions(band=2, classes="5=x")).classes == ("x",)


def test_the_raster_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    raster = write(tmp_path / "ids.tif", class_map((30, 30), 3, 3))
    before = raster.read_bytes()
    link = tmp_path / "link.gpkg"
    link.symlink_to(raster)
    with pytest.raises(InvalidOption, match="is the file that is read; write to another"):
        vectorize(raster, link, VectorizeOptions(overwrite=True))
    assert link.is_symlink()
    assert raster.read_bytes() == before


def test_ids_beyond_255_and_floats_are_told(tmp_path: Path) -> None:
    large = write(tmp_path / "large.tif", np.full((9, 9), 300, np.uint16))
    with pytest.raises(InvalidOption, match="300"):
        vectorize(large, tmp_path / "out.gpkg", VectorizeOptions())
    floats = write(tmp_path / "floats.tif", np.full((9, 9), 0.3, np.float32))
    for classes in (None, "1=house"):
        options = VectorizeOptions(content="class", classes=classes)
        with pytest.raises(InvalidOption, match=r"holds 0.3, .* whole numbers; give --content probability"):
            vectorize(floats, tmp_path / "out.gpkg", options)
    with pytest.raises(UnwritableOutput, match="extension"):
        vectorize(floats, tmp_path / "out.xyz", VectorizeOptions())


def test_the_command_line_prints_a_summary(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raster = write(tmp_path / "ids.tif", class_map((30, 30), 3, 2))
    assert run(["vectorize", str(raster), "--out", str(tmp_path / "o.fgb"), "--json"]) == 0
    captured = capfd.readouterr()
    assert '"features"' in captured.out
    assert "wrote" in captured.err
    assert run(["vectorize", str(raster), "--out", str(tmp_path / "o.fgb")]) == 2


def test_touching_objects_are_told_apart_in_any_blocks(tmp_path: Path) -> None:
    rows, cols = np.indices((150, 700))
    values = np.zeros(rows.shape, np.float32)
    for col in range(30, 680, 36):
        values = np.maximum(values, 0.98 * np.exp(-(((rows - 70) / 40) ** 6) - ((cols - col) / 19.5) ** 6))
    raster = write(tmp_path / "p.tif", values.astype(np.float32))
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for side in (256, 2048):
            patch.setattr(module, "SIDES", (side, 1024))
            options = VectorizeOptions(split="touching", regularize=True, max_deviation=1.5, overwrite=True)
            vectorize(raster, tmp_path / "out.gpkg", options)
            found[side] = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="out")
    one, other = found.values()
    assert len(one) == 19
    assert one.geometry.to_wkb().tolist() == other.geometry.to_wkb().tolist()
    assert shapely.coverage_is_valid(one.geometry.to_numpy())
    apart = VectorizeOptions(overwrite=True)
    assert vectorize(raster, tmp_path / "out.gpkg", apart).features == 1


def test_what_is_split_does_not_depend_on_the_memory(tmp_path: Path) -> None:
    """Hills wider than the margin of splitting: seams decide which cuts are found there."""
    noise = np.random.default_rng(2).normal(size=(2, 150, 700))
    hills = [gaussian_filter(one, sigma) for one, sigma in zip(noise, (5, 25), strict=True)]
    values = np.clip(0.75 + 0.12 * sum(one / one.std() for one in hills), 0, 1)
    raster = write(tmp_path / "p.tif", values.astype(np.float32))
    found = set()
    with pytest.MonkeyPatch.context() as patch:
        for side in (256, 2048):
            patch.setattr(module, "SIDES", (side,))
            vectorize(raster, out := tmp_path / f"{side}.geojsonl", VectorizeOptions(split="touching"))
            found.add(out.read_bytes())
    assert len(found) == 1


def test_ids_stay_on_a_crop_and_mostly_on_a_shifted_grid(
    tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    random = np.random.default_rng(5)
    values = np.zeros((300, 300), np.float32)
    for row, col in random.integers(0, 270, (60, 2)):
        values[row : row + 14, col : col + 18] = 1
    values = gaussian_filter(values, 1.2)
    half = gaussian_filter(values, 0.3)  # what a grid half a pixel further would hold
    half[:, :-1] = (half[:, :-1] + half[:, 1:]) / 2
    kept = {}
    whole = ids_of(write(tmp_path / "whole.tif", values))
    for name, part, shift in (("crop", values[7:, 11:], (11.0, 7.0)), ("half a pixel", half, (0.5, 0.0))):
        move = rasterio.Affine.translation(*shift)
        path = write(tmp_path / "part.tif", part)
        with rasterio.open(path, "r+") as file:
            file.transform = TRANSFORM @ move
        found = ids_of(path)
        kept[name] = len(found & whole) / len(found)
        record_property(f"ids kept on a {name}", kept[name])  # type: ignore[operator]
    assert kept["crop"] == 1
    assert kept["half a pixel"] < 1


def ids_of(raster: Path) -> set[int]:
    """Return the ids of features that the raster's edge does not cut."""
    out = raster.with_suffix(".gpkg")
    vectorize(raster, out, VectorizeOptions(overwrite=True))
    found = pyogrio.read_dataframe(out, layer=out.stem)
    return set(found["id"][~found["touches_edge"]])


@pytest.mark.parametrize("outline", ["pixel", "smooth"])
def test_small_islands_go_to_their_neighbours_in_any_blocks(tmp_path: Path, outline: Any) -> None:
    ids = np.kron(class_map((30, 40), 2, 3), np.ones((9, 9), np.uint8)) + 1
    random = np.random.default_rng(4)
    for row, col in random.integers(2, 260, (80, 2)):
        ids[row : row + random.integers(1, 6), col : col + 3] = random.integers(1, 5)
    raster = write(tmp_path / "ids.tif", ids.astype(np.uint8))
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILE", 128)
        for side in (128, 2048):
            patch.setattr(module, "SIDES", (side, 1024))
            options = VectorizeOptions(outline=outline, min_area=5, overwrite=True)
            vectorize(raster, tmp_path / "out.gpkg", options)
            found[side] = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="out")
    one, other = found.values()
    assert one.geometry.to_wkb().tolist() == other.geometry.to_wkb().tolist()
    assert shapely.coverage_is_valid(one.geometry.to_numpy())
    assert one.geometry.area.sum() == pytest.approx(ids.size / 4)
    assert one.geometry.area.min() > 4
    assert len(one) < vectorize(raster, tmp_path / "out.gpkg", VectorizeOptions(overwrite=True)).features
