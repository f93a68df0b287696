"""Selecting scenes by place, date and condition; looking at them once."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import geopandas
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.archive.area import Area, area_of, bounds_in_degrees
from geoseg.archive.entries import Entry, entries_of
from geoseg.archive.facts import look_at
from geoseg.archive.identity import identity_of, same_scene
from geoseg.archive.options import Condition, SelectOptions, moment_of
from geoseg.archive.scene import Scene, check_unchanged
from geoseg.archive.selection import Selection, select
from geoseg.cli import run
from geoseg.errors import GeosegError, InvalidOption
from geoseg.testing import make_scene
from geoseg.values import GeoBox
from tests.raster.serve import served
from tests.runs import bright_model

UTM = (500_000, 5_000_000)


def scene(path: Path, east: float = 0, date: str | None = None, **how: Any) -> Path:
    """A scene of 40 by 40 pixels of 1 m, so many metres east of the meridian 15°."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how = {"transform": (1, 0, UTM[0] + east, 0, -1, UTM[1]), **how}
    make_scene(path, **{"size": (40, 40), **how})
    if date:
        with rasterio.open(path, "r+") as raster:
            raster.update_tags(TIFFTAG_DATETIME=date)
    return path


def chosen(
    folder: Path, entries: list[Entry] | None = None, aoi: Path | None = None, **options: Any
) -> Selection:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    found = entries_of([str(folder)], without=[out]) if entries is None else entries
    return select(found, SelectOptions(**options), out, aoi=None if aoi is None else (aoi, None))


def names(selection: Selection) -> list[str]:
    return [entry.name for entry in selection.entries]


def box_around(east: float, width: float = 40) -> tuple[float, float, float, float]:
    """Degrees around so many metres east of the meridian."""
    bounds = [[UTM[0] + east, UTM[1] - 40, UTM[0] + east + width, UTM[1]]]
    import numpy as np
    import pyproj

    (box,) = bounds_in_degrees(np.array(bounds, float), pyproj.CRS(32633))
    assert box is not None
    return box


def test_a_box_selects_and_clips(tmp_path: Path) -> None:
    for east in (0, 100, 200):
        scene(tmp_path / f"{east}.tif", east)
    found = chosen(tmp_path, bbox=box_around(110, 100))
    assert names(found) == ["100", "200"]
    assert found.left_out == {"outside the area": 1}
    assert found.area is not None
    found.area.write(tmp_path / "area.parquet")
    area = Area.of_file(tmp_path / "area.parquet", None)
    assert (area.areas.wkb, area.digest) == (found.area.areas.wkb, found.area.digest)
    assert area.areas.equals(area_of(box_around(110, 100)))
    in_metres = chosen(tmp_path, bbox=(UTM[0] + 50, 0, UTM[0] + 110, 9e6), bbox_crs="EPSG:32633")
    assert names(in_metres) == ["100"]


def test_polygons_select_by_the_pixels_of_a_scene(tmp_path: Path) -> None:
    """A triangle over the middle scene: the boxes of all three touch its box."""
    for east in (0, 100, 200):
        scene(tmp_path / f"{east}.tif", east)
    x, y = UTM
    triangle = shapely.Polygon([(x - 50, y + 200), (x + 120, y - 20), (x + 300, y + 200)])
    geopandas.GeoSeries([triangle], crs=32633).to_crs(4326).to_file(tmp_path / "area.gpkg")
    found = chosen(tmp_path, aoi=tmp_path / "area.gpkg")
    assert names(found) == ["100"]
    assert found.area is not None
    found.area.write(tmp_path / "copy.parquet")
    assert Area.of_file(tmp_path / "copy.parquet", None).digest == found.area.digest


def test_selecting_changes_nothing_that_a_run_beside_it_clips_by(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif")
    first = chosen(tmp_path, bbox=box_around(0))
    (tmp_path / "out" / "bbox.geojson").unlink(missing_ok=True)
    second = chosen(tmp_path, bbox=box_around(10, 5))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".facts.sqlite"}
    assert first.area is not None
    assert second.area is not None
    assert first.area.digest != second.area.digest


def test_scenes_that_cannot_be_placed_or_read(tmp_path: Path) -> None:
    scene(tmp_path / "good.tif")
    scene(tmp_path / "nowhere.tif", crs=None)
    (tmp_path / "broken.tif").write_text("what")
    found = chosen(tmp_path, bbox=box_around(0))
    assert names(found) == ["broken", "good"]
    assert found.left_out == {"without a CRS": 1}
    assert "not a raster" in found.entries[0].problem


def test_dates_come_from_the_source_else_from_the_file(tmp_path: Path) -> None:
    scene(tmp_path / "old.tif", date="2020:01:02 03:04:05")
    scene(tmp_path / "new.tif", date="2024:05:31 23:00:00")
    scene(tmp_path / "undated.tif")
    assert names(found := chosen(tmp_path, since="2024-05-31")) == ["new"]
    assert found.left_out == {"of another date": 1, "undated": 1}
    assert found.entries[0].datetime == "2024-05-31T23:00:00+00:00"
    assert names(chosen(tmp_path, until="2020-01-02")) == ["old"]
    assert names(chosen(tmp_path, until="2024-05-31")) == ["new", "old"]
    (tmp_path / "list.csv").write_text(
        "location,datetime\nold.tif,2025-01-01\nundated.tif,2025-02-01\nnew.tif,\n"
    )
    listed = entries_of([str(tmp_path / "list.csv")])
    assert names(chosen(tmp_path, listed, since="2024-06-01")) == ["old", "undated"]


def test_conditions_on_what_the_sources_say(tmp_path: Path) -> None:
    for name in "abc":
        scene(tmp_path / f"{name}.tif")
    (tmp_path / "list.csv").write_text("location,cloud,town name\na.tif,5,Ulm\nb.tif,50,Bonn\nc.tif,,Ulm\n")
    listed = entries_of([str(tmp_path / "list.csv")])
    found = chosen(tmp_path, listed, where="cloud < 10")
    assert names(found) == ["a"]
    assert found.left_out == {"not as --where asks": 1, "not known by --where": 1}
    assert names(chosen(tmp_path, listed, where="cloud > 10 OR \"town name\" LIKE 'U%'")) == ["a", "b", "c"]
    assert names(chosen(tmp_path, listed, where="cloud IS NULL")) == ["c"]
    for where, words in {
        "cloud <": "does not parse at column 8",
        "cloud < 10 garbage": "does not parse at column 12",
        "__import__('os').system('true')": "does not parse",
        "clouds < 10": "no property clouds; did you mean 'cloud'?",
        "cloud < 'x'": "cannot be decided for",
        "(" * 5000 + "cloud < 1" + ")" * 5000: "nested too deeply",
    }.items():
        with pytest.raises(InvalidOption, match="--where") as caught:
            chosen(tmp_path, listed, where=where)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InvalidOption, match="the sources say nothing of their scenes"):
        chosen(tmp_path, entries_of([str(tmp_path / "a.tif")]), where="cloud < 10")


def test_where_nothing_matches_it_is_said_why(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif")
    scene(tmp_path / "b.tif", date="2020:01:02 03:04:05")
    with pytest.raises(InvalidOption) as caught:
        chosen(tmp_path, since="2021-01-01")
    assert str(caught.value) == "no scene matches: of 2 scenes 1 is undated, 1 is of another date"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bbox": (0, 5, 1, 5)}, "must be WEST SOUTH EAST NORTH"),
        ({"bbox": (500_000, 0, 600_000, 1)}, "--bbox-crs EPSG:CODE"),
        ({"bbox": (0, 0, 1, 1), "bbox_crs": "EPSG:999999"}, "--bbox-crs EPSG:999999: is no CRS"),
        ({"bbox": (2, 0, 1, 1), "bbox_crs": "EPSG:32633"}, "must be WEST SOUTH EAST NORTH"),
        ({"bbox": "1,2,3"}, "the four numbers W S E N"),
        ({"since": "soon"}, "--since must be a date such as"),
        ({"since": "2024-05-02", "until": "2024-05-01"}, "--until 2024-05-01: is before --since"),
    ],
)
def test_options_that_say_nothing(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    scene(tmp_path / "a.tif")
    with pytest.raises(GeosegError) as caught:
        chosen(tmp_path, **options)
    assert words in str(caught.value)


def test_boxes_of_lists_spare_opening(tmp_path: Path) -> None:
    far = Entry("far", str(tmp_path / "missing.tif"), bbox=(100.0, 1.0, 101.0, 2.0))
    near = Entry("near", str(scene(tmp_path / "near.tif")), bbox=box_around(0))
    assert names(chosen(tmp_path, [far, near], bbox=box_around(0))) == ["near"]


@given(st.floats(-180, 180), st.floats(0.001, 150), st.floats(-80, 80), st.floats(0.001, 5))
def test_a_box_touches_itself_wherever_it_lies(
    west: float, width: float, south: float, height: float
) -> None:
    east = west + width
    box = (west, south, east - 360 if east > 180 else east, south + height)
    area = Area.of_box(box, None)
    assert area.may_touch(box)
    grid = GeoBox(10, 10, (width / 10, 0, west, 0, -height / 10, south + height), "OGC:CRS84")
    assert area.touches(grid) or east > 180  # as of a single scene, longitudes are not wrapped
    away = GeoBox(10, 10, (0.1, 0, (west + width + 100) % 360 - 180, 0, -0.1, south), "OGC:CRS84")
    assert not area.touches(away) or width > 90


def test_an_area_across_180_degrees(tmp_path: Path) -> None:
    area = Area.of_box((170, 10, -170, 20), None)
    assert area.may_touch((175, 11, 176, 12))
    assert area.may_touch((-176, 11, -175, 12))
    assert area.may_touch((179, 11, -179, 12))
    assert not area.may_touch((0, 11, 1, 12))
    same = Area.of_box((170, 10, 190, 20), None)
    assert same.areas.equals(area.areas)
    fiji = GeoBox(100, 100, (1000, 0, 2_000_000, 0, -1000, 4_000_000), "EPSG:3460")
    assert Area.of_box((177, -20, -179, -16), None).touches(fiji)


def test_what_was_seen_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scene(tmp_path / "a.tif", date="2020:01:02 03:04:05")
    entries = entries_of([str(path)])
    (first,) = look_at(entries, tmp_path).values()
    assert first.facts is not None
    assert (first.facts.height, first.facts.bands[0]) == (40, ("red", "uint8"))
    assert first.facts.bbox == pytest.approx(box_around(0), abs=1e-6)
    with monkeypatch.context() as patched:
        patched.setattr("geoseg.archive.facts.identity_of", lambda _: pytest.fail("read again"))
        patched.setattr("geoseg.archive.facts._opened", lambda *_: pytest.fail("opened again"))
        assert look_at(entries, tmp_path) == {"a": first}
    scene(path, east=5)
    (second,) = look_at(entries, tmp_path).values()
    assert second.identity != first.identity
    assert second.facts != first.facts
    (tmp_path / ".facts.sqlite").write_bytes(b"no database")
    assert look_at(entries, tmp_path) == {"a": second}


def test_the_identity_survives_copying_and_tells_changes(tmp_path: Path) -> None:
    path = scene(tmp_path / "a.tif", block=16, compress="deflate")
    copy = tmp_path / "b/c.tif"
    copy.parent.mkdir()
    shutil.copyfile(path, copy)
    before = identity_of(path)
    assert identity_of(copy) == before
    (tmp_path / "a.tif.msk").write_bytes(b"mask")
    assert identity_of(path) != before
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert identity_of(copy) != before


def test_verifying_finds_a_byte_that_samples_miss(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    scene(path, compress="none", bands=1)
    content = bytearray(path.read_bytes()) + bytes(1 << 20)  # trailing bytes, which GDAL ignores
    path.write_bytes(content)
    entries = entries_of([str(path)])
    (whole,) = look_at(entries, tmp_path, opening=False, verify=True).values()
    content[100_001] ^= 1
    path.write_bytes(content)
    (quick,) = look_at(entries, tmp_path, opening=False).values()
    assert same_scene(quick.identity, whole.identity)
    (again,) = look_at(entries, tmp_path, opening=False, verify=True).values()
    assert not same_scene(again.identity, whole.identity)


@pytest.mark.parametrize(
    "head", [b"II*\0\xff\xff\xff\x7f", b"II+\0\x08\0\0\0" + b"\xff" * 8, b"MM\0*" + b"\0" * 12]
)
def test_damaged_tiffs_have_an_identity(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(head + b"\xff" * 40)
    assert len(identity_of(path)) == 32


@given(st.text(max_size=30))
def test_any_text_is_a_moment_or_none(text: str) -> None:
    found = moment_of(text)
    assert found is None or found.tzinfo is not None


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidOption):
        condition = Condition(text)
        condition.holds(dict.fromkeys(condition.properties, 1), "a.tif")


def test_a_scene_on_a_server_that_was_replaced_while_it_was_read_fails(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        scene(tmp_path / "a.tif")
        url = f"{server.url}/a.tif"
        seen = Scene("a", url, look_at([Entry("a", url)], tmp_path, opening=False)["a"].identity)
        check_unchanged(seen, frozenset())
        scene(tmp_path / "a.tif", size=(80, 80))
        os.utime(tmp_path / "a.tif", (1, 1))
        with pytest.raises(GeosegError, match="changed during this run"):
            check_unchanged(seen, frozenset())


def test_bands_that_no_scene_has_are_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        scene(tmp_path / "scenes" / f"{name}.tif")
    command = ["batch", str(tmp_path / "scenes"), "--out", str(tmp_path / "out"), "--dry-run"]
    assert run([*command, "--model", str(bright_model()), "--bands", "1,2,9"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith("--bands 1,2,9: no scene has so many; they have 3 at most")
