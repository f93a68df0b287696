"""Numbers, plots and pictures of the report, each by itself."""

from __future__ import annotations

import base64
import io
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from geoseg.evaluation.report import charts as words
from geoseg.evaluation.report import page
from geoseg.evaluation.report.plots import (
    FIFTHS,
    Scale,
    bars_of,
    foot_bars,
    horizontal,
    line,
    marks_of,
    ticks,
    vertical,
)
from geoseg.evaluation.result import Figure

COLORS = {1: (228, 87, 46), 2: (76, 159, 112)}


# Numbers


@given(st.integers(0, 10**15))
def test_counts_can_be_read_back(value: int) -> None:
    assert int(words.count(value).replace(words.NARROW_SPACE, "")) == value


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_share_never_claims_all_or_nothing_wrongly(part: int, whole: int) -> None:
    part = min(part, whole)
    text = words.share(part, whole).replace("\u00a0%", "").replace("\u00a0", " ")
    assert (text == "0") == (part == 0)
    assert (text == "100") == (part == whole)
    shown = float(text.removeprefix("< "))
    assert abs(shown - 100 * part / whole) <= 0.1


def test_a_share_of_nothing_is_a_dash() -> None:
    assert words.share(0, 0) == words.DASH


@given(st.floats(-1e12, 1e12), st.integers(0, 4))
def test_figures_are_rounded_and_never_minus_zero(value: float, digits: int) -> None:
    text = words.figure(value, digits=digits).text.replace(words.NARROW_SPACE, "")
    assert float(text) == pytest.approx(value, abs=0.5000001 * 10**-digits, rel=1e-12)
    assert not (text.startswith("-") and float(text) == 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_figure_is_a_dash_with_its_reason(value: float) -> None:
    assert words.figure(Figure(value, 0.1, 0.2), unit="m", reason="why") == words.Shown("–", "", "why")


def test_figures_with_units_and_intervals() -> None:
    assert words.figure(Figure(0.7312, 0.7, 0.7625)) == words.Shown("0.731", "0.700 to 0.762")
    assert words.figure(Figure(1234.5, math.nan, 2000.0), digits=1, unit="m").text == "1\u202f234.5\u00a0m"
    assert words.figure(Figure(0.5)).interval == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3, "0.3"), (0.299987, "0.3"), (250.0, "250"), (123456.0, "123456"), (math.inf, "–")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert words.short(value) == text


# Places


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        ("EPSG:4326", "EPSG:4326, WGS 84"),
        (None, "none: pixel coordinates"),
        ("+proj=laea +lat_0=10 +lon_0=20", "unknown"),
    ],
)
def test_crs_by_name(crs: str | None, name: str) -> None:
    assert words.crs_name(crs) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b.tif", "b.tif"), ("c:\\a\\b.tif", "b.tif"), ("b", "b"), ("a/b/", "b"), ("/", "/"), ("", "")],
)
def test_last_name(path: str, name: str) -> None:
    assert words.last_name(path) == name


# Plots


@given(st.floats(0, 1), st.floats(0, 1))
def test_scales_keep_order_and_stay_in_the_frame(one: float, two: float) -> None:
    for scale in (horizontal(), vertical()):
        low, high = sorted((scale.start, scale.stop))
        assert low <= scale(one) <= high
        assert (scale(two) - scale(one)) * (two - one) * (scale.stop - scale.start) >= 0


points = st.tuples(st.floats(0, 1) | st.just(math.nan), st.floats(0, 1) | st.just(math.nan))


@given(st.lists(points, max_size=20))
def test_lines_hold_every_finite_point_once_and_no_other(values: list[tuple[float, float]]) -> None:
    x, y = horizontal(), vertical()
    drawn = line("n", "first", values, x=x, y=y)
    placed = [pair for path in drawn.paths for pair in path.split(" ")] + [
        f"{a:g},{b:g}" for a, b, _ in drawn.dots
    ]
    expected = [f"{x(a):g},{y(b):g}" for a, b in values if math.isfinite(a) and math.isfinite(b)]
    assert sorted(placed) == sorted(expected)
    marked = line("n", "first", values, x=x, y=y, texts=["t"] * len(values))
    assert len(marked.dots) == len(expected)


def test_a_missing_value_parts_a_line() -> None:
    values = [(0.0, 0.5), (0.2, 0.5), (0.4, math.nan), (0.6, 0.5), (0.8, 0.5)]
    assert len(line("n", "first", values, x=horizontal(), y=vertical()).paths) == 2


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=3), min_size=1, max_size=8))
def test_bars_do_not_meet_and_have_the_height_of_their_value(values: list[list[float]]) -> None:
    x, y = horizontal(), vertical()
    groups = [[(value, "first", "t") for value in group] for group in values]
    bars, middles = bars_of(groups, x=x, y=y)
    assert len(middles) == len(groups)
    for one, two in pairwise(bars):
        assert one.x + one.width < two.x
    for bar, value in zip(bars, [value for group in values for value in group], strict=True):
        assert bar.height == pytest.approx(value * (y.start - y.stop), abs=0.11)
        assert bar.y + bar.height == pytest.approx(y.start, abs=0.11)


def test_counts_are_seen_however_small() -> None:
    bars = foot_bars((0, 0.25, 0.5, 0.75, 1), (10**9, 1, 0, 50), ("a", "b", "c", "d"), x=horizontal())
    assert [bar.text for bar in bars] == ["a", "b", "d"]
    assert bars[0].height > bars[2].height > bars[1].height >= 1


@given(st.lists(st.floats(0, 1), max_size=3))
def test_labels_of_marks_stay_in_the_plot_and_apart(values: list[float]) -> None:
    marks = marks_of([(value, "best 0.500", "first") for value in values], x=horizontal())
    assert len({mark.y for mark in marks}) == len(marks)
    for mark in marks:
        end = mark.x + (75 if mark.anchor == "start" else -75)
        assert 46 <= end <= 388


def test_ticks_have_the_decimals_that_they_need() -> None:
    assert [tick.label for tick in ticks(horizontal(), FIFTHS)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.at for tick in ticks(Scale(0, 2, 0, 10), (0, 1, 2))] == [0, 5, 10]


# Pictures


def decoded(uri: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    image.load()
    return image


def colors_of(uri: str) -> NDArray[np.uint8]:
    return np.asarray(decoded(uri).convert("RGBA"))


@st.composite
def layers(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth, prediction = random.integers(0, 3, (2, *shape)).astype(np.uint8)
    return truth, prediction, random.random(shape) < 0.8


@given(layers())
def test_each_pixel_is_what_it_is(
    tile: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]],
) -> None:
    truth, prediction, known = tile
    result = page.difference(truth, prediction, known)
    for true, said, sure, kind in zip(truth.flat, prediction.flat, known.flat, result.flat, strict=True):
        if not sure:
            assert kind == page.UNKNOWN
        elif true == said:
            assert kind == (page.HIT if true else page.RIGHT)
        else:
            expected = page.CONFUSED if true and said else page.MISSED if true else page.FALSE
            assert kind == expected


@given(layers())
def test_pictures_of_small_tiles_show_every_pixel_in_its_color(
    tile: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]],
) -> None:
    truth, prediction, known = tile
    shown = colors_of(page.class_picture(truth, known, COLORS))
    assert shown.shape[:2] == truth.shape
    assert ((shown[..., 3] == 0) == (known & (truth == 0))).all()
    for label, color in COLORS.items():
        assert (shown[known & (truth == label)][:, :3] == color).all()
    shown = colors_of(page.difference_picture(truth, prediction, known))
    kinds = page.difference(truth, prediction, known)
    assert ((shown[..., 3] == 0) == (kinds == page.RIGHT)).all()
    for kind in (page.HIT, page.MISSED, page.FALSE, page.CONFUSED):
        assert (shown[kinds == kind][:, :3] == page.DIFFERENCE_COLORS[kind]).all()
    hatching = {page.DIFFERENCE_COLORS[page.UNKNOWN], page.DIFFERENCE_COLORS[page.UNKNOWN_LINE]}
    assert {tuple(color[:3]) for color in shown[~known].tolist()} <= hatching


@pytest.mark.parametrize("shape", [(1000, 1000), (401, 3), (1, 2000), (400, 400), (7, 5)])
def test_the_four_pictures_of_a_tile_have_one_size(shape: tuple[int, int]) -> None:
    classes, known = np.zeros(shape, np.uint8), np.ones(shape, bool)
    scene = np.full((3, *shape), 77, np.uint8)
    sizes = {
        decoded(page.scene_picture(scene)).size,
        decoded(page.class_picture(classes, known, COLORS)).size,
        decoded(page.difference_picture(classes, classes, known)).size,
    }
    assert len(sizes) == 1
    assert max(*sizes.pop()) <= page.LARGEST


def test_a_scene_keeps_its_colors() -> None:
    scene = np.empty((3, 900, 900), np.uint8)
    scene[0], scene[1], scene[2] = 200, 120, 40
    shown = np.asarray(decoded(page.scene_picture(scene)), np.int16)
    assert np.abs(shown - (200, 120, 40)).max() <= 3


def test_difference_colors_differ_in_lightness_too() -> None:
    def lightness(kind: int) -> float:
        red, green, blue = page.DIFFERENCE_COLORS[kind]
        return 0.299 * red + 0.587 * green + 0.114 * blue

    assert lightness(page.MISSED) + 60 < lightness(page.FALSE) + 20 < lightness(page.HIT) + 40
