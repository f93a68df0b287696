"""How many times as fast INT8 is here as what a model would compute in otherwise: measured once, noted.

No rule over the instructions of a CPU can tell. Where it has AMX units, a U-Net of depthwise
convolutions ran at 0.8 times its speed in bf16, one with a ResNet-34 at 2.7 times, and a PSPNet was
not taken by OpenVINO at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Predictor
from geoseg.errors import InvalidModel
from geoseg.notes import Note

if TYPE_CHECKING:
    from geoseg.backends.precision import Precision
    from geoseg.models.bundle import Bundle

SECONDS = 1.0
"""For how long the two take turns, after the first pass of each, which compiles."""

TURNS = 3
"""Turns of each, at least."""

TILE = 384
"""Side of the tiles, unless the model takes another only: large enough to be like those of a run."""

TILES = 2
"""Tiles in a turn, one after the other on a single thread: more threads would take more memory, and the
choice, which changes results, had better not hang on the number of cores."""

_done: dict[str, float] = {}
"""What has been tried in this process, where notes cannot be kept."""


@dataclass(frozen=True, slots=True)
class Trial:
    """INT8 against another precision of a model, on this machine.

    Parameters
    ----------
    bundle : Bundle
        With an INT8 file.
    usual : str
        The other precision.
    machine : mapping of str to JSON
        All about this machine that speed depends on.
    """

    bundle: Bundle
    usual: Precision
    machine: Mapping[str, object]

    def known(self) -> float | None:
        """Return what an earlier trial has measured; None: there was none."""
        noted = self._note().read()
        if isinstance(noted, float) and 0 < noted < math.inf:
            return noted
        return _done.get(self._key())

    def run(self, load: Callable[[Precision], Predictor]) -> float:
        """Measure how many times as fast INT8 is, and note it; 0: it does not run here.

        Of processes that measure side by side, the first one's note counts for all.

        Parameters
        ----------
        load : callable
            Returns a predictor of a precision, with one thread, that nothing else holds: its memory is
            given back.

        Raises
        ------
        InvalidModel
            If the network does not run in the other precision.
        """
        tiles = self._noise()
        try:
            small = load("int8")
            small(tiles)
        except InvalidModel:  # not noted: it may have been for want of memory
            return _done.setdefault(self._key(), 0.0)
        other = load(self.usual)
        other(tiles)
        gain = compare_speed(lambda: other(tiles), lambda: small(tiles))
        if (first := self.known()) is not None:
            return first
        _done[self._key()] = gain
        self._note().write(gain)
        return gain

    def _note(self) -> Note:
        return Note("int8", {"model": self.bundle.card.digest, "beside": self.usual, **self.machine})

    def _key(self) -> str:
        return f"{self.bundle.card.digest} {self.usual}"

    def _noise(self) -> NDArray[np.uint8]:
        """Return tiles of noise as they are stored; how long a pass takes does not depend on values."""
        side = tile_of(self.bundle)
        shape = (TILES, len(self.bundle.card.inputs.bands), side, side)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def tile_of(bundle: Bundle) -> int:
    """Return the side of the tiles that a model is tried on, in pixels."""
    card = bundle.card
    return card.tile if card.fixed_tile else min(TILE, card.tile)


def compare_speed(
    usual: Callable[[], object],
    small: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return how many times as fast `small` is, by the best turn of each: what disturbs only slows.

    Parameters
    ----------
    usual, small : callable
        A turn of each; they alternate, so that a change of the machine's load meets both.
    clock : callable
        Returns seconds.
    """
    began = clock()
    times: list[tuple[float, float]] = []
    while len(times) < TURNS or clock() - began < SECONDS:
        start = clock()
        usual()
        middle = clock()
        small()
        times.append((middle - start, clock() - middle))
    return min(first for first, _ in times) / max(min(second for _, second in times), 1e-9)
