"""The page of an evaluation: complete, escaped, self-contained, the same each time."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geoseg.evaluation.pictures import TileLayers
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
        MatchScore(0.5 + 0.05 * i, *(b - 0.009 * i * i for b in (0.741, 0.702, 0.721))) for i in range(10)
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


def make_tile(shape: tuple[int, int] = (64, 64), *, scene: bool = True, classes: int = 1) -> TileLayers:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    truth = (((rows // 9) % 3 == 0) & ((cols // 11) % 2 == 0)).astype(np.uint8)
    prediction = np.roll(truth, 3, axis=1) * np.uint8(classes)
    known = np.asarray(rows + cols > shape[0] // 3)
    image = np.broadcast_to(60 + 40 * truth + (rows + cols) % 30, (3, *shape)).astype(np.uint8)
    return TileLayers(image if scene else None, truth, prediction, known)


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


def page_of(evaluation: Evaluation, tiles: list[TileLayers] | None = None) -> Page:
    return Page(render(evaluation, tiles or []))


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


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


@given(names, names, names, names)
def test_whatever_the_names_are_they_stay_text(file: str, model: str, label: str, note: str) -> None:
    plain = page_of(make_evaluation(ClassInfo(1, "x", (1, 2, 3)), truth="x", model="x", notes=("x",)))
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


def test_tables_say_what_belongs_together() -> None:
    rows = [[" ".join(cell.split()) for cell in row] for row in page_of(make_evaluation()).rows]
    assert ["building", "656", "673", "507", "149", "166", "12", "31", "47"] in rows
    assert ["100–500", "411", "351", "0.854", "402", "349", "0.868", "0.863"] in [
        [re.sub(r"(\d)(\d{3}\.\d)", r"\1 \2", cell) for cell in row] for row in rows
    ]
    assert ["background", "1\u202f234\u202f56798.4\u00a0%".replace("\u202f", " ").replace("\u00a0", " ")] == [
        cell.replace("\u202f", " ").replace("\u00a0", " ") for cell in rows[3][:2]
    ]


def test_facts_of_the_header() -> None:
    text = page_of(make_evaluation()).text.replace("\u202f", " ")
    for fact in (
        "buildings.gpkg against footprints.gpkg",
        "EPSG:32632, WGS 84 / UTM zone 32N",
        "3 000 × 1 500 pixels of 0.3001 m",
        "bootstrap over 24 blocks of 75 m, 1 000 draws, seed 7",
        "3 of 656 true polygons were not valid and were repaired.",
        "x 500192.00, y 4999961.60",
    ):
        assert fact in text or fact in page_of(make_evaluation(), [make_tile()] * 2).text, fact
