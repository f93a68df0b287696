"""Decisions before a pixel is read."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.grid import TILE_MULTIPLE, Axis, choose_tile
from geoseg.models.card import ModelCard
from geoseg.models.document import Split
from geoseg.models.inputs import InputSpec
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.plan import make_plan
from geoseg.prediction.view import View, check_resolution, choose_bands, needs_stretch, working_grid
from geoseg.raster.describe import Band, SceneInfo
from geoseg.values import ClassInfo, GeoBox
from geoseg.vector.split import SplitRule
from tests.plans import scene_info

RGB = ("red", "green", "blue")


def card(**changes: object) -> ModelCard:
    spec = InputSpec(RGB, "uint8", 1 / 255, (0.0,) * 3, (1.0,) * 3)
    building = (ClassInfo(1, "building", (1, 2, 3)),)
    whole = ModelCard("test", "0" * 64, spec, building, (1,), "sigmoid", 0.4, 512, 64, resolution_m=0.5)
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def with_bands(*colors: str, dtype: str = "uint8") -> SceneInfo:
    bands = tuple(Band(i + 1, dtype, color=color) for i, color in enumerate(colors))
    return dataclasses.replace(scene_info(100, 100), bands=bands)


def plan(
    options: PredictOptions, *, scene: SceneInfo | None = None, model: ModelCard | None = None
) -> object:
    scene, model = scene or with_bands(*RGB), model or card()
    grid = working_grid(scene.geobox, scene.resolution, model.resolution_m)
    return make_plan(scene, model, options, View(grid, (1, 2, 3), None, None, None), precision="test")


@pytest.mark.parametrize(
    ("colors", "wanted", "expected"),
    [
        (RGB, None, (1, 2, 3)),
        (("blue", "green", "red"), None, (3, 2, 1)),
        (("blue", "green", "red", "nir"), None, (3, 2, 1)),
        (("undefined",) * 3, None, (1, 2, 3)),
        (("undefined",) * 7, (4, 3, 2), (4, 3, 2)),
        (RGB, (3, 2, 1), (3, 2, 1)),
        (("gray", "undefined", "undefined"), (1, 1, 1), (1, 1, 1)),
    ],
)
def test_bands_are_the_named_ones_or_the_coloured_ones_or_all(
    colors: tuple[str, ...], wanted: tuple[int, ...] | None, expected: tuple[int, ...]
) -> None:
    assert choose_bands(with_bands(*colors), RGB, wanted) == expected


@pytest.mark.parametrize(
    ("colors", "wanted", "words"),
    [
        (("gray",), None, "1 band"),
        (("undefined",) * 7, None, "--bands"),
        (RGB, (1, 2), "--bands"),
        (RGB, (1, 2, 4), "--bands"),
    ],
)
def test_bands_are_never_guessed(colors: tuple[str, ...], wanted: tuple[int, ...] | None, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        choose_bands(with_bands(*colors), RGB, wanted)


def test_values_are_stretched_only_where_types_differ() -> None:
    assert not needs_stretch(with_bands(*RGB).bands, card().inputs, "scene.tif")
    assert needs_stretch(with_bands(*RGB, dtype="uint16").bands, card().inputs, "scene.tif")
    sixteen = dataclasses.replace(card().inputs, dtype="uint16")
    with pytest.raises(InvalidOption, match="--stretch none"):
        needs_stretch(with_bands(*RGB).bands, sixteen, "scene.tif")


@given(
    st.integers(1, 10**6), st.integers(1, 10**6), st.floats(0.05, 30), st.floats(0.05, 30), st.floats(0.05, 5)
)
def test_the_working_grid_covers_the_same_ground_at_the_models_resolution(
    height: int, width: int, across: float, down: float, wanted: float
) -> None:
    geobox = GeoBox(height, width, (across, 0, 0, 0, -down, 0), "EPSG:32632")
    grid = working_grid(geobox, (across, down), wanted)
    a, _, _, _, e, _ = grid.transform
    assert a * grid.width == pytest.approx(across * width)
    assert e * grid.height == pytest.approx(-down * height)
    if grid is not geobox and min(grid.height, grid.width) > 1:
        assert a == pytest.approx(wanted, abs=wanted / grid.width)
        assert -e == pytest.approx(wanted, abs=wanted / grid.height)


def test_nearly_the_models_resolution_is_left_alone() -> None:
    geobox = GeoBox(100, 100, (0.31, 0, 0, 0, -0.31, 0), "EPSG:32632")
    assert working_grid(geobox, (0.31, 0.31), 0.3) is geobox
    assert working_grid(geobox, (0.31, 0.31), None) is geobox
    assert working_grid(geobox, None, 0.3) is geobox
    assert working_grid(geobox, (0.31, 0.35), 0.3) is not geobox


def test_coarse_scenes_are_warned_about_and_then_refused() -> None:
    scene, model = scene_info(10, 10), card(resolution_range=(0.2, 0.6))
    for pixel, warnings in ((0.1, 0), (0.6, 0), (1.0, 0), (1.3, 1)):
        assert len(check_resolution(dataclasses.replace(scene, resolution=(pixel, pixel)), model)) == warnings
    with pytest.raises(InvalidOption, match="30 m"):
        check_resolution(dataclasses.replace(scene, resolution=(30.0, 30.0)), model)


@pytest.mark.parametrize(
    ("options", "model", "words"),
    [
        (PredictOptions(tile=100), card(), "--tile 100"),
        (PredictOptions(tile=32), card(), "--tile 32"),
        (PredictOptions(tile=256), card(fixed_tile=True), "512 only"),
        (PredictOptions(tile=128, overlap=65), card(), "--overlap 65"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    options: PredictOptions, model: ModelCard, words: str
) -> None:
    with pytest.raises(InvalidOption, match=words):
        plan(options, model=model)


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": 0.7},
        {"tile": 256},
        {"overlap": 32},
        {"outline": "pixel"},
        {"simplify": 1.0},
        {"min_area": 99.0},
        {"min_confidence": 0.9},
        {"split": "touching"},
    ],
)
def test_the_digest_tells_plans_apart(changed: dict[str, object]) -> None:
    assert plan(PredictOptions()).digest == plan(PredictOptions()).digest  # type: ignore[attr-defined]
    assert plan(PredictOptions(**changed)).digest != plan(PredictOptions()).digest  # type: ignore[arg-type, attr-defined]


def test_speed_does_not_enter_the_digest() -> None:
    fast = PredictOptions(batch=7, workers=3, device="cpu", overwrite=True)
    assert plan(fast).digest == plan(PredictOptions()).digest  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "options", "overlap"),
    [
        ({}, {}, 64),
        ({"smallest_overlap": 192}, {}, 192),
        ({"smallest_overlap": 0}, {}, 0),
        ({"smallest_overlap": 192}, {"tile": 128}, 64),
        ({"smallest_overlap": 192}, {"overlap": 32}, 32),
    ],
)
def test_overlap_auto_takes_what_was_measured(
    changes: dict[str, object], options: dict[str, int], overlap: int
) -> None:
    made = plan(PredictOptions(**options), model=card(**changes))  # type: ignore[arg-type]
    assert made.tiles.rows.overlap == overlap  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "options", "smallest"),
    [({}, {}, 25 * 0.09), ({"min_area_m2": 12.0}, {}, 12.0), ({"min_area_m2": 12.0}, {"min_area": 0.0}, 0.0)],
)
def test_min_area_auto_takes_what_the_card_says(
    changes: dict[str, object], options: dict[str, float], smallest: float
) -> None:
    made = plan(PredictOptions(**options), model=card(resolution_m=0.3, **changes))  # type: ignore[arg-type]
    assert made.shape_rules.min_area_m2 == pytest.approx(smallest, rel=0.05)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("known", "options", "expected", "margin"),
    [
        (None, {}, None, 1),
        (None, {"split": "touching"}, SplitRule(0.1, 75), 32),
        (Split(gate=0.2, smallest_m2=36.0, margin_m=9.0), {}, SplitRule(0.2, 400), 30),
        (Split(gate=0.2, smallest_m2=36.0, margin_m=9.0), {"split": "none"}, None, 1),
        (
            Split(gate=0.2, smallest_m2=36.0, margin_m=9.0),
            {"tile": 64, "overlap": 16},
            SplitRule(0.2, 400),
            23,
        ),
        (Split(gate=0.2, smallest_m2=36.0, margin_m=0.1), {}, SplitRule(0.2, 400), 4),
    ],
)
def test_split_auto_takes_what_the_card_says_in_pixels(
    known: Split | None, options: dict[str, object], expected: SplitRule | None, margin: int
) -> None:
    made = plan(PredictOptions(**options), model=card(resolution_m=0.3, split=known))  # type: ignore[arg-type]
    rule = made.split  # type: ignore[attr-defined]
    assert (rule is None) == (expected is None)
    if rule is not None and expected is not None:
        assert (rule.gate, rule.smallest) == (expected.gate, pytest.approx(expected.smallest, rel=0.1))
    assert made.tiles.margin == pytest.approx(margin, rel=0.05)  # type: ignore[attr-defined]


@given(
    st.tuples(st.integers(1, 40_000), st.integers(1, 40_000)),
    st.integers(8, 32).map(lambda k: 32 * k),
    st.integers(0, 96),
)
def test_the_tile_chosen_is_never_worse_than_the_suggested_one(
    shape: tuple[int, int], suggested: int, overlap: int
) -> None:
    def pixels(size: int) -> int:
        return math.prod(len(Axis(n, size, overlap)) * size for n in shape)

    chosen = choose_tile(shape, suggested, overlap)
    assert chosen % TILE_MULTIPLE == 0
    assert abs(chosen - suggested) <= suggested / 5
    assert pixels(chosen) <= pixels(suggested)


def test_sides_of_a_power_of_two_take_less_than_13_pixels_for_10() -> None:
    for side in (4096, 8192, 16384, 24000, 200_000):
        size = choose_tile((side, side), 640, 64)
        assert (len(Axis(side, size, 64)) * size) ** 2 / side**2 < 1.3


def test_only_a_model_that_was_measured_gets_another_tile() -> None:
    scene = scene_info(8192, 8192)
    scene = dataclasses.replace(scene, bands=with_bands(*RGB).bands)
    fixed = plan(PredictOptions(), scene=scene, model=card(tile=640, resolution_m=None))
    free = plan(PredictOptions(), scene=scene, model=card(tile=640, resolution_m=None, any_tile=True))
    asked = plan(PredictOptions(tile=512), scene=scene, model=card(tile=640, any_tile=True))
    sizes = [made.tiles.rows.size for made in (fixed, free, asked)]  # type: ignore[attr-defined]
    assert sizes == [640, 608, 512]
