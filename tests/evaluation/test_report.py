"""The page of an evaluation: complete, escaped, self-contained, the same each time."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import UnwritableOutput
from geoseg.evaluation.inputs import Compared
from geoseg.evaluation.report import render, write_report
from geoseg.evaluation.result import (
    ConfidenceScore,
    Evaluation,
    Figure,
    MatchScore,
    ObjectScore,
    OutlineScore,
    PixelFigures,
    PixelScore,
    ReliabilityBin,
    Resampling,
    SizeScore,
    ThresholdScore,
    WorstTile,
)
from geoseg.values import ClassInfo, GeoBox, Window

NAN = math.nan
BUILDING = ClassInfo(1, "building", (228, 87, 46))
ROAD = ClassInfo(2, "road", (76, 159, 112))


def near(value: float) -> Figure:
    return Figure(value, value - 0.0312, value + 0.0213)


def pixel_score(info: ClassInfo, iou: float = 0.7312) -> PixelScore:
    f1 = 2 * iou / (1 + iou)
    return PixelScore(info, near(f1 + 0.02), near(f1 - 0.018), near(f1), near(iou), 312_345, 298_765)


def object_score(info: ClassInfo) -> ObjectScore:
    strict = [
        MatchScore(0.5 + 0.05 * i, *(b - 0.008 * i * i for b in (0.741, 0.702, 0.721))) for i in range(10)
    ]
    bounds = (0.0, 50.0, 100.0, 500.0, 2000.0, math.inf)
    found = ((61, 20, 80, 22), (142, 98, 150, 101), (411, 351, 402, 349), (37, 33, 35, 33), (5, 5, 6, 4))
    sizes = tuple(
        SizeScore(low, high, t, f, p, r, r / p, f / t, 2 * f / (t + p))
        for low, high, (t, f, p, r) in zip(bounds, bounds[1:], found, strict=False)
    )
    return ObjectScore(
        info, 656, 673, 507, 12, near(0.7534), near(0.7729), near(0.7630), near(0.5123), near(0.5234),
        near(0.5178), tuple(strict), sizes, 31, 47, Figure(112.4, 80.1, 150.9),
    )  # fmt: skip


def confidence_score(info: ClassInfo) -> ConfidenceScore:
    counts = (4_100_123, 91_234, 40_321, 29_876, 24_987, 25_102, 28_210, 36_009, 77_654, 0)
    bins = tuple(
        ReliabilityBin(i / 10, (i + 1) / 10, n, i / 10 + 0.053, max(0.004, i / 10 + 0.01 - 0.0123 * i))
        if n
        else ReliabilityBin(i / 10, (i + 1) / 10, 0, NAN, NAN)
        for i, n in enumerate(counts)
    )
    curve = tuple(
        ThresholdScore(
            t, 0.45 + 0.53 * t, 0.97 - 0.6 * t**2, 0.74 - 0.9 * (t - 0.43) ** 2, 0.85 - (t - 0.43) ** 2
        )
        for t in np.arange(1, 50) * 0.02
    )
    best = ThresholdScore(0.428, 0.6768, 0.8602, 0.7401, 0.8508)
    return ConfidenceScore(info, bins, Figure(0.0312, 0.0211, 0.0456), 0.0567, curve, best, 0.5)


def make_evaluation(*classes: ClassInfo, worst: int = 2, **changes: Any) -> Evaluation:
    classes = classes or (BUILDING,)
    labels = ("background", *(info.name for info in classes))
    confusion = tuple(
        tuple(1_234_567 if i == j else 20_011 + 1_000 * i + j for j in range(len(labels)))
        for i in range(len(labels))
    )
    pixels = PixelFigures(
        tuple(pixel_score(info) for info in classes), near(0.9512), near(0.7312), labels, confusion,
        4_453_516, 46_484, 400_816.4,
    )  # fmt: skip
    evaluation = Evaluation(
        truth="footprints.gpkg",
        prediction="buildings.gpkg",
        model="buildings 1.0",
        scene="town.tif",
        probability="probabilities.tif",
        labelled_area=None,
        grid=GeoBox(1500, 3000, (0.3, 0, 500_000, 0, -0.3, 5_000_000), "EPSG:32632"),
        resolution_m=(0.3001, 0.3001),
        classes=classes,
        pixels=pixels,
        objects=tuple(object_score(info) for info in classes),
        outlines=tuple(
            OutlineScore(info, near(0.4567), 1.2, (4, 5), 507, Figure(0.81, 0.7, 0.95), Figure(2.34, 2, 2.9))
            for info in classes
        ),
        confidence=tuple(confidence_score(info) for info in classes),
        resampling=Resampling(75.0, 24, 1000, 7),
        worst=tuple(
            WorstTile(Window(256 * i, 512, 256, 256), 0.1234 + 0.1 * i, 9_876 - i, 5_432 - i, 0,
                      (500_192.0, 4_999_961.6 - 76.8 * i))
            for i in range(worst)
        ),
        notes=("3 of 656 true polygons were not valid and were repaired.",),
        version="0.1.0",
    )  # fmt: skip
    return dataclasses.replace(evaluation, **changes)


def make_tile(shape: tuple[int, int] = (64, 64), *, scene: bool = True, classes: int = 1) -> Compared:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    truth = (((rows // 9) % 3 == 0) & ((cols // 11) % 2 == 0)).astype(np.uint8)
    prediction = np.roll(truth, 3, axis=1) * np.uint8(classes)
    known = np.asarray(rows + cols > shape[0] // 3)
    image = np.broadcast_to(60 + 40 * truth + (rows + cols) % 30, (3, *shape)).astype(np.uint8)
    return Compared(truth, prediction, known, scene=image if scene else None)


VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees; complains about broken nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.pieces: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.pieces.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(evaluation: Evaluation, tiles: list[Compared] | None = None) -> Page:
    return Page(render(evaluation, tiles or []))


# What any page keeps to


names = st.text(min_size=1) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "{{ 7 * 7 }}",
        "</style></title>",
        "a'b&c;",
    ]
)


@cache
def plain_page() -> Page:
    return page_of(make_evaluation(ClassInfo(1, "x", (1, 2, 3)), truth="x", model="x", notes=("x",)))


@settings(max_examples=40)
@given(names, names, names, names)
def test_whatever_the_names_are_they_stay_text(file: str, model: str, label: str, note: str) -> None:
    plain = plain_page()
    odd = make_evaluation(ClassInfo(1, label, (1, 2, 3)), truth=file, model=model, notes=(note,))
    page = page_of(odd)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in page.tags] == [
        sorted(attributes) for _, attributes in plain.tags
    ]
    for name in (file, model, label, note):
        assert " ".join(readable(name).split()) in page.text


def readable(name: str) -> str:
    """What any HTML page makes of a text: NUL and lone surrogates have no place in it."""
    return name.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("classes", [(BUILDING,), (BUILDING, ROAD)])
def test_the_page_needs_nothing_but_itself(classes: tuple[ClassInfo, ...]) -> None:
    text = render(make_evaluation(*classes), [make_tile(), make_tile()])
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))


@pytest.mark.parametrize("classes", [(BUILDING,), (BUILDING, ROAD)])
def test_the_page_speaks_to_those_who_do_not_see_it(classes: tuple[ClassInfo, ...]) -> None:
    page = page_of(make_evaluation(*classes), [make_tile(), make_tile()])
    assert page.all("html") == [{"lang": "en"}]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(attributes.get(name, "").split()) <= set(ids)
    assert all(picture["alt"] for picture in page.all("img"))
    assert all(cell.get("scope") in {"row", "col"} for cell in page.all("th"))
    plots = [svg for svg in page.all("svg") if svg.get("class") == "plot"]
    assert len(plots) == 4 * len(classes)
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in plots)


def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(make_evaluation(), [make_tile(), make_tile()], tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


# What it says


def floats(value: Any) -> list[float]:
    """All fractions in a result, wherever they are."""
    if isinstance(value, float):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [number for part in parts for number in floats(part)]


def test_every_figure_is_there() -> None:
    evaluation = make_evaluation(BUILDING, ROAD)
    page = page_of(evaluation)
    words = set(page.text.replace("\u202f", "").replace("\u00a0", " ").split())
    tables = dataclasses.asdict(evaluation)
    for part in ("pixels", "objects", "outlines", "confidence"):
        for score in [tables[part]] if part == "pixels" else tables[part]:
            score.pop("curve", None)
            score.pop("known_m2", None)
            for value in floats(score):
                forms = {f"{value:.{digits}f}" for digits in (1, 2, 3, 4)} | {f"{value:g}"}
                assert not math.isfinite(value) or forms & words or f"{value:.0f}" in words, (part, value)


def rows_of(page: Page) -> list[list[str]]:
    """All rows of tables, their figures with plain spaces."""
    return [[" ".join(cell.split()) for cell in row] for row in page.rows]


def test_tables_say_what_belongs_together() -> None:
    rows = rows_of(page_of(make_evaluation()))
    assert ["building", "656", "673", "507", "149", "166", "12", "31", "47"] in rows
    assert ["100–500", "411", "351", "0.854", "402", "349", "0.868", "0.863"] in rows
    assert ["background", "1 234 56798.4 %", "20 0121.6 %"] in rows
    assert ["0.95", "0.073", "0.093", "0.054"] in rows


def test_facts_of_the_header_and_of_tiles() -> None:
    page = page_of(make_evaluation(truth="data/town/footprints.gpkg"), [make_tile(), make_tile()])
    for fact in (
        "buildings.gpkg against footprints.gpkg",
        "data/town/footprints.gpkg",
        "EPSG:32632, WGS 84 / UTM zone 32N",
        "3 000 × 1 500 pixels of 0.3001 m",
        "4 453 516 pixels (99.0 % of the grid), 0.401 km²",
        "bootstrap over 24 blocks of 75 m, 1 000 draws, seed 7",
        "3 of 656 true polygons were not valid and were repaired.",
        "1. IoU 0.123 Missed 5 432 px (489 m²), false 9 876 px (889 m²).",
        "x 500192.00, y 4999961.60; columns 512 to 767, rows 0 to 255.",
        "columns 512 to 767, rows 256 to 511.",
    ):
        assert fact in page.text, fact


def test_plots_say_in_words_what_they_show() -> None:
    text = page_of(make_evaluation()).text
    assert "Expected calibration error 0.031." in text
    assert "The best IoU, 0.740, is reached at 0.428." in text
    assert "F1 is 0.763 at 0.5; its mean over all thresholds is 0.518." in text
    assert "50–100 m²: recall 0.690, precision 0.673" in text
    assert {"best 0.428", "used 0.500"} <= set(text_pieces(make_evaluation()))


def text_pieces(evaluation: Evaluation) -> list[str]:
    return page_of(evaluation).pieces


# Where something is missing


def empty_evaluation(**changes: Any) -> Evaluation:
    """A comparison of nothing with nothing, in pixel coordinates."""
    none = Figure(NAN)
    strict = tuple(MatchScore(0.5 + 0.05 * i, NAN, NAN, NAN) for i in range(10))
    bins = tuple(ReliabilityBin(i / 10, (i + 1) / 10, 0, NAN, NAN) for i in range(10))
    no_threshold = ThresholdScore(NAN, NAN, NAN, NAN, NAN)
    parts: dict[str, Any] = {
        "model": None,
        "scene": None,
        "probability": None,
        "grid": GeoBox(20, 30, (1, 0, 0, 0, 1, 0), None),
        "resolution_m": None,
        "pixels": PixelFigures(
            (PixelScore(BUILDING, none, none, none, none, 0, 0),), none, none, ("background", "building"),
            ((0, 0), (0, 0)), 0, 600, NAN,
        ),
        "objects": (
            ObjectScore(BUILDING, 0, 0, 0, 0, none, none, none, none, none, none, strict, (), 0, 0, none),
        ),
        "outlines": (OutlineScore(BUILDING, none, NAN, (3, 3), 0, none, none),),
        "confidence": (
            ConfidenceScore(BUILDING, bins, none, NAN, (no_threshold,) * 49, no_threshold, NAN),
        ),
        "resampling": Resampling(75, 0, 0, 0),
        "notes": (),
    }  # fmt: skip
    return make_evaluation(worst=0, **{**parts, **changes})


def test_figures_without_meaning_are_dashes_with_a_reason() -> None:
    page = page_of(empty_evaluation())
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    assert not re.search(r'="[^"]*\b(nan|inf|None)\b', render(empty_evaluation(), []))
    cells = [cell for row in rows_of(page) for cell in row]
    assert "–" not in cells
    assert {"–none predicted", "–none in the truth", "–no objects", "–no matched objects"} <= set(cells)
    assert "none: 0 blocks of 75 pixels are too few" in page.text
    assert "Nothing to draw" in page.text


def test_without_probabilities_the_page_says_so() -> None:
    page = page_of(make_evaluation(confidence=(), probability=None))
    assert "Not measured: the prediction came without probabilities." in page.text
    assert "Calibration error" not in page.text.partition("What the figures mean")[0]


def test_without_tiles_there_are_no_pictures() -> None:
    page = page_of(make_evaluation(worst=0))
    assert not page.all("img")
    assert "No tile is shown" in page.text
    assert not page_of(make_evaluation(worst=3)).all("img")


def test_without_a_scene_its_place_stays_empty() -> None:
    page = page_of(make_evaluation(), [make_tile(scene=False), make_tile()])
    assert [picture["alt"].split(",")[0] for picture in page.all("img")] == [
        "Truth", "Prediction", "Difference", "Scene", "Truth", "Prediction", "Difference",
    ]  # fmt: skip
    assert "no scene was given" in page.text


def test_pictures_belong_to_tiles() -> None:
    with pytest.raises(ValueError, match="1 pictures for 2 tiles"):
        render(make_evaluation(worst=2), [make_tile()])
    page = page_of(make_evaluation(worst=15), [make_tile()] * 15)
    assert len(page.all("article")) == 12


def test_twelve_large_tiles_stay_near_a_megabyte() -> None:
    noise = np.random.default_rng(5).normal(0, 12, (3, 128, 128)).repeat(8, axis=1).repeat(8, axis=2)
    tile = make_tile((1024, 1024))
    assert tile.scene is not None
    tile = dataclasses.replace(tile, scene=np.clip(tile.scene + noise, 0, 255).astype(np.uint8))
    assert len(render(make_evaluation(worst=12), [tile] * 12)) < 1_500_000


def test_a_page_is_not_replaced_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(make_evaluation(), [], path)
    with pytest.raises(UnwritableOutput, match="exists"):
        write_report(make_evaluation(), [], path, overwrite=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_names_that_are_no_text_do_not_break_the_page(tmp_path: Path) -> None:
    write_report(make_evaluation(truth="caf\udce9.gpkg"), [], tmp_path / "report.html")
    assert "caf?.gpkg" in (tmp_path / "report.html").read_text(encoding="utf-8")
