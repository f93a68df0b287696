"""What is kept of a run to look at: rows, and pictures that can be looked at."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geoseg.labels.classes import IGNORE
from geoseg.training.logs import Picture, append_row, draw_sheet, keep_rows, read_rows


@given(st.lists(st.integers(1, 20), max_size=8).map(sorted), st.integers(0, 21))
def test_rows_of_later_steps_are_dropped_and_no_others(tmp_path_factory, steps, last):
    path = tmp_path_factory.mktemp("rows") / "t.csv"
    for step in steps:
        append_row(path, {"step": step, "loss": step / 7})
    keep_rows(path, last)
    assert [int(row["step"]) for row in read_rows(path)] == [step for step in steps if step <= last]
    append_row(path, {"step": 99, "loss": 1.0})
    assert read_rows(path)[-1] == {"step": "99", "loss": "1"}


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_a_sheet_shows_found_missed_wrong_and_unknown(tmp_path, bands):
    labels = np.zeros((40, 60), np.uint8)
    found = np.zeros((40, 60), np.uint8)
    labels[:20, :30] = found[:20, :30] = 1
    labels[:20, 30:] = 1
    found[20:, :30] = 1
    labels[20:, 30:] = IGNORE
    picture = Picture(np.full((bands, 40, 60), 90, np.uint8), labels, found)
    draw_sheet([picture, picture], tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 320 + 4, 4 * 320 + 3 * 4, 3)
    colors = {
        "found": (0, 114, 178),
        "missed": (230, 159, 0),
        "wrong": (204, 121, 167),
        "unknown": (128,) * 3,
    }
    left, (height, width) = 3 * 324, (213, 320)
    quarters = {
        "found": (height // 4, width // 4),
        "missed": (height // 4, 3 * width // 4),
        "wrong": (3 * height // 4, width // 4),
        "unknown": (3 * height // 4, 3 * width // 4),
    }
    for name, (row, col) in quarters.items():
        assert tuple(sheet[row, left + col].tolist()) == colors[name], name


def test_another_class_in_place_of_the_true_one_is_missed(tmp_path):
    labels, found = np.full((8, 8), 1, np.uint8), np.full((8, 8), 2, np.uint8)
    draw_sheet([Picture(np.zeros((3, 8, 8), np.uint8), labels, found)], tmp_path / "s.png")
    assert tuple(np.asarray(Image.open(tmp_path / "s.png"))[100, 3 * 324 + 100].tolist()) == (230, 159, 0)
