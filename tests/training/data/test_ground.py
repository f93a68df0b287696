"""Mirrors and windows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoseg.training.data.ground import mirrored, read_mirrored, source_window
from geoseg.values import Window


@given(st.integers(1, 30), st.integers(-60, 30), st.integers(1, 90))
def test_mirrored_is_numpy_reflect(size, start, span):
    padded = np.pad(np.arange(size), (100, 200), mode="reflect" if size > 1 else "edge")
    assert mirrored(size, start, span).tolist() == padded[100 + start : 100 + start + span].tolist()


@given(st.integers(2, 20), st.integers(2, 20), st.integers(-15, 15), st.integers(-15, 15), st.integers(1, 40))
def test_a_mirrored_window_is_read_once_and_only_where_there_is_ground(rows, cols, row, col, side):
    whole = np.arange(rows * cols, dtype=np.uint8).reshape(1, rows, cols)
    reads = []

    def read(window):
        reads.append(window)
        place = window.within(Window(0, 0, rows, cols))
        return whole[:, *place], whole[0][place]

    window = Window(row, col, side, side)
    pixels, labels = read_mirrored(read, window, (rows, cols))
    padded = np.pad(whole[0], 60, mode="reflect")
    assert np.array_equal(labels, padded[60 + row : 60 + row + side, 60 + col : 60 + col + side])
    assert np.array_equal(pixels[0], labels)
    assert reads == [source_window(window, (rows, cols))]
