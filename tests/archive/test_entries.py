"""Folders, globs and files become entries that are named after their source alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from geoseg.archive.entries import entries_of
from geoseg.errors import InvalidOption, UnreadableScene


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/one.tif", "a.TIFF", "b/c/two.jp2", ".hidden/x.tif", "b/.y.tif", "notes.txt"):
        path = tmp_path / "scenes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "scenes"


def test_a_folder_gives_the_rasters_below_it(folder: Path) -> None:
    found = entries_of([str(folder)])
    assert [entry.name for entry in found] == ["a", "b/c/two", "b/one"]
    assert found[0].location == str(folder / "a.TIFF")


def test_a_glob_names_results_below_what_is_fixed_of_it(folder: Path) -> None:
    assert [entry.name for entry in entries_of([f"{folder}/b/**/*.*"])] == ["c/two", "one"]
    assert [entry.name for entry in entries_of([f"{folder}/*/one.tif"])] == ["b/one"]


def test_a_scene_named_twice_counts_once(folder: Path) -> None:
    one = str(folder / "b" / "one.tif")
    assert [entry.name for entry in entries_of([one, one, f"{folder}/b/*.tif"])] == ["one"]


def test_a_url_is_named_by_its_last_part() -> None:
    (entry,) = entries_of(["https://host/a/b.tif?key=1"])
    assert (entry.name, entry.location) == ("b", "https://host/a/b.tif?key=1")


def test_two_scenes_of_one_name_are_told(folder: Path) -> None:
    (folder / "b" / "one.png").touch()
    with pytest.raises(
        InvalidOption, match=r"one\.png and .*one\.tif would share the result b/one|one\.tif and"
    ):
        entries_of([str(folder)])


def test_a_path_that_is_no_utf8_is_a_problem_of_that_scene_alone(folder: Path) -> None:
    for ending in (b"\xe9", b"\xe8"):
        Path(os.fsdecode(os.fsencode(folder) + b"/caf" + ending + b".tif")).touch()
    problems = {entry.name: entry.problem for entry in entries_of([str(folder)])}
    assert [name for name, problem in problems.items() if not problem] == ["a", "b/c/two", "b/one"]
    bad = problems["caf_udce9"]
    assert bad == f"{folder}/caf\\udce9.tif: its path is not UTF-8; rename it"
    assert "caf_udce8" in problems


def test_a_source_without_scenes_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableScene, match="names no scene"):
        entries_of([str(tmp_path)])
    with pytest.raises(UnreadableScene, match="names no scene"):
        entries_of([f"{tmp_path}/*.tif"])
