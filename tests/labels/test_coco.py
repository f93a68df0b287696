"""Objects of COCO files and of masks of numbers: nothing is lost either way, and holes stay."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize

from geoseg.cli import run
from geoseg.errors import InvalidOption
from geoseg.labels.coco import export_coco, import_labels, outline_of, runs_of
from geoseg.testing import make_scene
from geoseg.values import Window


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.booleans()))
def test_runs_cover_what_they_were_made_of(mask: np.ndarray) -> None:
    coding = pytest.importorskip("faster_coco_eval.core.mask")
    text = coding.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    for counts in (runs_of(mask, Window(0, 0, *mask.shape), mask.shape), text):
        outline = outline_of({"size": mask.shape, "counts": counts}, mask.shape)
        again = rasterize([outline], mask.shape) if outline.area else np.zeros(mask.shape)
        np.testing.assert_array_equal(again, mask)


def scene_and_labels(folder: Path) -> tuple[Path, Path, list[shapely.Polygon]]:
    scene = make_scene(folder / "scene.tif", size=(60, 80), transform=(1, 0, 1000, 0, -1, 2000))
    ring = shapely.box(1010, 1960, 1030, 1980) - shapely.box(1015, 1965, 1020, 1970)
    boxes = [shapely.box(1040, 1950, 1050, 1960.5), shapely.box(1050, 1950, 1060, 1960), ring]
    frame = geopandas.GeoDataFrame({"kind": ["a", "b", "a"]}, geometry=boxes, crs="EPSG:32633")
    frame.to_file(folder / "labels.gpkg")
    return scene, folder / "labels.gpkg", boxes


def test_polygons_come_back_from_coco_with_their_classes_and_holes(tmp_path: Path) -> None:
    scene, labels, boxes = scene_and_labels(tmp_path)
    out, back = tmp_path / "coco.json", tmp_path / "back.gpkg"
    assert (
        run(
            [
                "labels",
                "export",
                str(labels),
                "--scene",
                str(scene),
                "--out",
                str(out),
                "--class-attribute",
                "kind",
            ]
        )
        == 0
    )
    assert run(["labels", "import", str(out), "--out", str(back)]) == 0
    found = geopandas.read_file(back)
    assert found["class_name"].tolist() == ["a", "b", "a"]
    assert found["image"].unique().tolist() == ["scene.tif"]
    assert all(one.equals(other) for one, other in zip(found.geometry, boxes, strict=True))


@pytest.mark.parametrize("dtype", ["uint16", "uint64"])
def test_numbers_that_touch_are_objects(tmp_path: Path, dtype: str) -> None:
    numbers = np.zeros((1, 20, 20), dtype)
    other = 3 + 2 ** min(32, 8 * numbers.itemsize - 1)
    numbers[0, 2:8, 2:8], numbers[0, 2:8, 8:12], numbers[0, 15:, 15:] = other, 3, 3
    path = make_scene(tmp_path / "numbers.tif", pixels=numbers)
    assert import_labels(path, tmp_path / "out.gpkg") == (2, 0)
    areas = geopandas.read_file(tmp_path / "out.gpkg").area
    scale = abs(np.linalg.det(np.array(make_affine(path)).reshape(2, 3)[:, :2]))
    np.testing.assert_allclose(areas, np.array([24 + 25, 36]) * scale)


def make_affine(path: Path) -> tuple[float, ...]:
    import rasterio

    with rasterio.open(path) as dataset:
        return tuple(dataset.transform)[:6]


def broken(folder: Path) -> dict[str, tuple[Path, str]]:
    good = {"images": [{"id": 1, "file_name": "gone.tif"}], "categories": [{"id": 1, "name": "a"}]}
    one = {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    there = {
        "id": 1,
        "file_name": make_scene(folder / "there.tif", size=(9, 9)).name,
        "width": 9,
        "height": 9,
    }
    runs = one | {"segmentation": {"size": [9, 9], "counts": [-5, 86]}}
    texts = {
        "missing": (good | {"annotations": [one]}, "images are missing in .*: gone.tif; give their folder"),
        "nothing": (good | {"annotations": []}, "holds no objects"),
        "other": ({"a": 1}, "cannot be read as COCO's JSON"),
        "size": (
            good | {"images": [there | {"width": 18}], "annotations": [one]},
            "there.tif has 9 × 9 pixels, not 18 × 9; give the folder",
        ),
        "runs": (
            good | {"images": [there], "annotations": [runs]},
            "annotation 0 of there.tif has no outline",
        ),
        "crowd": (good | {"images": [there], "annotations": [one | {"iscrowd": 1}]}, "holds no objects"),
        "category": (
            good | {"annotations": [one, one | {"category_id": 9}]},
            "annotation 1 is of category 9, which the file does not list; add",
        ),
        "image": (
            good | {"annotations": [one | {"image_id": [7]}]},
            r"annotation 0 is of image \[7\], which the",
        ),
    }
    for name, (content, _) in texts.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "deep.json").write_text("[" * 100_000)
    same = np.zeros((1, 9, 9), np.uint8)
    same[0, :3, :3] = same[0, 5:, 5:] = 1
    mask = make_scene(folder / "mask.tif", pixels=same)
    geopandas.GeoDataFrame(geometry=[shapely.Point(1, 2)], crs=32632).to_file(folder / "shapes.gpkg")
    return {
        **{name: (folder / f"{name}.json", words) for name, (_, words) in texts.items()},
        "deep": (folder / "deep.json", "cannot be read as COCO's JSON"),
        "mask": (mask, "one value in 2 places, so its values number no objects"),
        "shapes": (folder / "shapes.gpkg", "holds shapes already"),
        "picture": (make_scene(folder / "picture.tif"), "is neither a COCO file"),
    }


def test_what_holds_no_objects_is_one_line(tmp_path: Path) -> None:
    for path, words in broken(tmp_path).values():
        with pytest.raises(InvalidOption, match=words) as caught:
            import_labels(path, tmp_path / "out.gpkg")
        assert "\n" not in str(caught.value)
    _, labels, _ = scene_and_labels(tmp_path)
    away = make_scene(tmp_path / "away.tif", transform=(1, 0, 90000, 0, -1, 2000))
    with pytest.raises(InvalidOption, match="no polygon lies on"):
        export_coco(labels, away, tmp_path / "none.json")
