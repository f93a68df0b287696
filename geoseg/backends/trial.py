"""How many times as fast INT8 is here as what a model would compute in otherwise: measured once, noted.

No rule over the instructions of a CPU can tell. Where it has AMX units, a U-Net of depthwise
convolutions ran at 0.8 times its speed in bf16, one with a ResNet-34 at 2.7 times, and a PSPNet was
not taken by OpenVINO at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Predictor, usable_cores
from geoseg.errors import InvalidModel
from geoseg.notes import Note

if TYPE_CHECKING:
    from geoseg.backends.precision import Precision
    from geoseg.models.bundle import Bundle

SECONDS = 1.0
"""For how long the two take turns, after the first pass of each, which compiles."""

TURNS = 3
"""Turns of each, at least."""

TILES_A_CORE = 2
"""Tiles in a turn: one that is worked, and one that waits behind it."""


def int8_gain(
    bundle: Bundle,
    usual: Precision,
    load: Callable[[Precision], Predictor],
    facts: dict[str, object],
    say: Callable[[str], None],
) -> float:
    """Return how many times as fast INT8 is, by a note or by measuring; 0: it does not run here.

    Parameters
    ----------
    bundle : Bundle
        With an INT8 file.
    usual : str
        The other precision.
    load : callable
        Returns a predictor of a precision that nothing else holds: its memory is given back.
    facts : dict
        All about this machine that speed depends on.
    say : callable
        Told what is being done, where something is measured.

    Raises
    ------
    InvalidModel
        If the network does not run in the other precision.
    """
    note = Note("int8", {"model": bundle.card.digest, "beside": usual, **facts})
    known = note.read()
    if isinstance(known, float) and 0 < known < math.inf:
        return known
    say(f"trying once whether {bundle.card.name} is faster in INT8 or {usual} on this machine")
    tiles = _noise(bundle)
    try:
        small = load("int8")
        small(tiles)
    except InvalidModel:  # not noted: it may have been for want of memory
        return 0.0
    other = load(usual)
    other(tiles)
    gain = compare_speed(lambda: other(tiles), lambda: small(tiles))
    note.write(gain)
    return gain


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


def _noise(bundle: Bundle) -> NDArray[np.uint8]:
    """Return tiles of noise as they are stored; how long a pass takes does not depend on values."""
    card = bundle.card
    shape = (TILES_A_CORE * usable_cores(), len(card.inputs.bands), card.tile, card.tile)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
