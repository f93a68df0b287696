"""How long a run will take and how much memory, before it is run. Pure; see `calibration` for measuring.

A run takes as long as its start, the forward passes of its tiles, and what reading, blending, tracing
and writing cost for each pixel of the working grid. A `Pace` holds these for one model on one machine:
measured on a few tiles at first, corrected by every real run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from geoseg.grid import TileGrid
from geoseg.values import Window

START_SECONDS = 1.5
"""Opening scene and model, and loading libraries, before the model is compiled."""

PIXEL_SECONDS = 40e-9
"""Reading, blending, tracing and writing of a pixel, before a run has shown better: 25 MPix/s."""

TRUST = 0.5
"""Weight of the newest run against all before it, on the logarithm of the pace."""

LARGEST_STEP = 8.0
"""A run that took this many times longer than expected was disturbed; more is not believed of it."""

QUICKEST, SLOWEST = 1e-9, 1e6
"""Seconds of a tile that are believed, and the most of anything; beyond, a note of a pace is damaged."""

ENOUGH_TILES = 8
"""Tiles from which on a run says something of the pace; in fewer the start is all."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a machine works a model.

    Parameters
    ----------
    start : float
        Seconds before the first tile is done.
    tile : float
        Seconds of the forward pass of a tile, all threads at work.
    pixel : float
        Seconds that all else takes for a pixel of the working grid.
    runs : int
        Real runs that it has learned from; 0: only measured on a few tiles.
    """

    start: float
    tile: float
    pixel: float
    runs: int = 0

    def __post_init__(self) -> None:
        seconds = (self.start, self.tile, self.pixel)
        if not (all(0 <= value <= SLOWEST for value in seconds) and self.tile >= QUICKEST):
            raise ValueError(f"a pace is made of times up to {SLOWEST:g} s, that of a tile above 0: {self}")
        if self.runs < 0:
            raise ValueError(f"no negative number of runs: {self.runs}")

    def seconds(self, tiles: int, pixels: int) -> float:
        """Return the wall time of a run.

        Parameters
        ----------
        tiles : int
            Tiles that are inferred.
        pixels : int
            Pixels of the working grid under them.
        """
        return self.start + tiles * self.tile + pixels * self.pixel


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run is expected to take.

    Parameters
    ----------
    seconds : float or None
        Wall time; None: nothing is known of this model on this machine.
    memory : int or None
        Largest resident size in bytes.
    source : {"none", "measured", "runs"}
        What the time is known from: nothing, a few tiles, or earlier runs.
    """

    seconds: float | None
    memory: int | None
    source: Literal["none", "measured", "runs"]


def make_forecast(pace: Pace | None, tiles: int, pixels: int, memory: int | None) -> Forecast:
    """Return what a run of so many tiles and pixels will take."""
    if pace is None:
        return Forecast(None, memory, "none")
    return Forecast(pace.seconds(tiles, pixels), memory, "runs" if pace.runs else "measured")


def learn(pace: Pace | None, tiles: int, pixels: int, seconds: float) -> Pace | None:
    """Return the pace corrected by a real run; as it was where the run says nothing.

    One time cannot tell two costs apart: those of tiles and of pixels are scaled by one factor, the
    first run's wholly (what was measured on a few tiles is a guess of the rest), later ones' to the
    power of `TRUST`, so that one disturbed run is forgotten after a few.

    Parameters
    ----------
    pace : Pace or None
        What was known; None: nothing, as after a first run that nothing was measured for.
    tiles, pixels : int
        As for `Pace.seconds`.
    seconds : float
        What the run took.
    """
    if tiles < ENOUGH_TILES:
        return pace
    if pace is None:
        work = seconds - START_SECONDS
        rest = min(pixels * PIXEL_SECONDS, work / 2)
        if work <= 0:
            return None
        return Pace(START_SECONDS, _believed((work - rest) / tiles), rest / max(1, pixels), 1)
    work = seconds - pace.start
    if work <= 0:  # whatever the tiles took, the start was no longer than that
        return replace(pace, start=max(0.0, seconds))
    # Not by way of pace.seconds: beside a long start, short work would be lost to rounding.
    factor = work / (tiles * pace.tile + pixels * pace.pixel)
    factor = min(max(factor, 1 / LARGEST_STEP), LARGEST_STEP) ** (TRUST if pace.runs else 1.0)
    pixel = min(pace.pixel * factor, SLOWEST)
    return replace(pace, tile=_believed(pace.tile * factor), pixel=pixel, runs=pace.runs + 1)


def count_empty(grid: TileGrid, empty: Callable[[Window], bool]) -> int:
    """Return how many tiles are certainly empty, asking about large windows first.

    Parameters
    ----------
    grid : TileGrid
    empty : callable
        Whether a window of the grid is certainly empty; what it says of a window it says of any part.
    """
    count = 0
    waiting = [(range(len(grid.rows)), range(len(grid.cols)))]
    while waiting:
        rows, cols = waiting.pop()
        first, last = grid.tile(rows[0], cols[0]).window, grid.tile(rows[-1], cols[-1]).window
        whole = Window(first.row, first.col, last.row_stop - first.row, last.col_stop - first.col)
        if empty(whole.intersection(grid.window)):
            count += len(rows) * len(cols)
        elif len(rows) > 1 or len(cols) > 1:
            waiting += [(down, across) for down in _halves(rows) for across in _halves(cols)]
    return count


def tile_count(grid: TileGrid) -> int:
    """Return the number of tiles of a grid."""
    return len(grid.rows) * len(grid.cols)


def forward_ratio(grid: TileGrid, passes: int = 1) -> float:
    """Return the pixels that the model sees for each pixel of the grid: what the overlap costs.

    Parameters
    ----------
    grid : TileGrid
    passes : int
        Forward passes over each tile.
    """
    return passes * tile_count(grid) * grid.rows.size * grid.cols.size / (grid.rows.n * grid.cols.n)


def _believed(tile: float) -> float:
    return min(max(tile, QUICKEST), SLOWEST)


def _halves(span: range) -> list[range]:
    middle = (len(span) + 1) // 2
    return [part for part in (span[:middle], span[middle:]) if part]
