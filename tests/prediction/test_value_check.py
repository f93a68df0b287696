"""Which scenes are warned about for their values: the ones a model was not trained for, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from geoseg.errors import UnreadableScene
from geoseg.models.bundle import find_model
from geoseg.prediction.decide import SAMPLE_PIXELS, value_warnings
from geoseg.prediction.view import View, choose_bands
from geoseg.raster.describe import SceneInfo
from geoseg.raster.scene import estimate_stretch, open_scene
from geoseg.testing import make_scene
from tests.runs import REPOSITORY, SHARED, bright_model

SAMPLE = REPOSITORY / "sample_data" / "scene.tif"
REAL = SHARED / "scenes"
BANEPA = REAL / "banepa_nepal_drone_z19x2_3857.tif"
LANDSAT = REAL / "landsat8_parana_30m_uint16_32621.tif"


def there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the checkout (shared/data/scenes)")
    return path


def pixels_of(path: Path) -> NDArray[np.generic]:
    with rasterio.open(there(path)) as dataset:
        return np.asarray(dataset.read((1, 2, 3)))


def looked_at(path: Path, *, stretched: bool = False, model: str = "buildings") -> tuple[SceneInfo, View]:
    scene = open_scene(path)
    card = find_model(model).card
    bands = choose_bands(scene, card.inputs.bands, None if len(scene.bands) == 3 else (1, 2, 3))
    stretch = estimate_stretch(scene, bands) if stretched else None
    return scene, View(scene.geobox, bands, stretch, None, None)


def warnings(path: Path, *, stretched: bool = False) -> tuple[str, ...]:
    return value_warnings(*looked_at(path, stretched=stretched), find_model("buildings").card)


@pytest.mark.parametrize(
    "path",
    [
        SAMPLE,
        BANEPA,
        REAL / "banepa_nepal_drone_UNLABELLED_2048_3857.tif",
        REAL / "vegas_wv3_030m_rgba_4326.tif",
        REAL / "bali_drone_035m_rgba_alpha_32750.tif",
    ],
    ids=lambda path: path.stem,
)
def test_scenes_that_the_model_is_made_for_are_not_warned_about(path: Path) -> None:
    assert warnings(there(path)) == ()


@pytest.mark.slow
@pytest.mark.parametrize("path", [SAMPLE, BANEPA], ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pixels: pixels // 20, "far darker"),
        (lambda pixels: 255 - pixels, "inverted"),
        (lambda pixels: 220 + pixels // 8, "far brighter"),
        (lambda pixels: 110 + pixels // 32, "vary far less"),
    ],
    ids=["almost black", "inverted", "almost white", "flat"],
)
def test_the_same_scenes_spoiled_are(path: Path, change: object, words: str, tmp_path: Path) -> None:
    assert callable(change)
    spoiled = make_scene(tmp_path / "spoiled.tif", pixels=change(pixels_of(path)))
    (line,) = warnings(spoiled)
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize("path", [SAMPLE, LANDSAT], ids=["made up", "Landsat"])
def test_16_bit_values_that_are_not_stretched_are_warned_about(path: Path, tmp_path: Path) -> None:
    deep = pixels_of(path) if path == LANDSAT else pixels_of(path).astype(np.uint16) * 12 + 5000
    assert deep.dtype == np.uint16
    (line,) = warnings(make_scene(tmp_path / "deep.tif", pixels=deep))
    assert "far brighter" in line
    assert "--stretch" in line


def test_16_bit_values_that_are_stretched_are_not_warned_about(tmp_path: Path) -> None:
    deep = make_scene(tmp_path / "deep.tif", pixels=pixels_of(SAMPLE).astype(np.uint16) * 12 + 5000)
    assert warnings(deep, stretched=True) == ()


def test_nodata_is_not_judged(tmp_path: Path) -> None:
    valid = np.zeros((1500, 1500), bool)
    valid[:, 900:] = True
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels_of(SAMPLE), validity="nodata", valid=valid)
    assert warnings(scene) == ()


def test_a_handful_of_pixels_is_not_judged(tmp_path: Path) -> None:
    assert warnings(make_scene(tmp_path / "scene.tif", pixels=np.full((3, 90, 90), 3, np.uint8))) == ()
    assert warnings(make_scene(tmp_path / "more.tif", pixels=np.full((3, 120, 120), 3, np.uint8))) != ()


def test_a_scene_without_a_valid_pixel_is_not_judged(tmp_path: Path) -> None:
    valid = np.zeros((200, 200), bool)
    assert warnings(make_scene(tmp_path / "a.tif", size=(200, 200), validity="nodata", valid=valid)) == ()


def test_nothing_is_read_where_the_card_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = looked_at(make_scene(tmp_path / "scene.tif"), model=str(bright_model()))

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr("geoseg.raster.scene.sample", refuse)
    assert value_warnings(*looked, find_model(str(bright_model())).card) == ()


def test_a_scene_that_cannot_be_read_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = looked_at(SAMPLE)

    def broken(*_arguments: object, **_options: object) -> None:
        raise UnreadableScene("scene.tif: broken in there")

    monkeypatch.setattr("geoseg.raster.scene.sample", broken)
    assert value_warnings(*looked, find_model("buildings").card) == ()


def test_little_of_a_large_scene_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from geoseg.raster import scene

    read = []
    original = scene.read_patch

    def counting(*arguments: object) -> object:
        patch = original(*arguments)  # type: ignore[arg-type]
        read.append(patch.valid.size)
        return patch

    monkeypatch.setattr(scene, "read_patch", counting)
    assert warnings(there(REAL / "banepa_nepal_drone_UNLABELLED_2048_3857.tif")) == ()
    assert 0 < sum(read) <= SAMPLE_PIXELS
